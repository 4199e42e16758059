//! What a trainer says to all workers: which weights there are, and under which configuration to sample them.

use super::{NatsError, PROTOCOL};
use crate::config::{Config, WeightsFormat};
use rao_tree::WeightsVersion;
use serde::{Deserialize, Serialize};
use toml::Table;

/// Where the announcement says that it comes from, in errors about its configuration.
const ORIGIN: &str = "the trainer's configuration";

/// The newest weights of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// What the trainer speaks.
    pub protocol: u32,
    /// Its version.
    pub rao: String,
    /// Which process it is: one that was resumed is another.
    pub epoch: String,
    /// Version of the weights.
    pub version: u64,
    /// Tokens of the policy's vocabulary.
    pub vocab: usize,
    /// The configuration as TOML, without what concerns the trainer alone.
    pub config: String,
    /// The weights.
    pub files: Vec<Published>,
}

/// A file in the object store of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Whom it is for.
    pub format: WeightsFormat,
    /// Its name on a disk.
    pub name: String,
    /// Its name in the store.
    pub object: String,
}

/// What every version of an announcement says.
#[derive(Deserialize)]
struct Speaker {
    protocol: u32,
    #[serde(default)]
    rao: String,
}

impl Announcement {
    /// Reads one.
    ///
    /// # Errors
    /// [`NatsError::Protocol`] if its trainer is of another version, [`NatsError::Announcement`] if it makes no sense.
    pub fn read(bytes: &[u8]) -> Result<Self, NatsError> {
        let failed = |error: serde_json::Error| NatsError::Announcement(error.to_string());
        let speaker: Speaker = serde_json::from_slice(bytes).map_err(failed)?;
        if speaker.protocol != PROTOCOL {
            return Err(NatsError::Protocol {
                who: "the trainer",
                theirs: speaker.protocol,
                rao: speaker.rao,
            });
        }
        let announcement: Self = serde_json::from_slice(bytes).map_err(failed)?;
        // They are made into paths.
        let plain =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        match announcement
            .files
            .iter()
            .find(|file| !plain(&file.name) || file.name.starts_with('.'))
        {
            Some(file) => Err(NatsError::Announcement(format!("{:?} is no name of a file", file.name))),
            None => Ok(announcement),
        }
    }

    /// The configuration that trees are rolled out under.
    ///
    /// # Errors
    /// [`NatsError::Announcement`].
    pub fn config(&self) -> Result<Config, NatsError> {
        let failed = |error: String| NatsError::Announcement(error);
        let table: Table = self
            .config
            .parse()
            .map_err(|error: toml::de::Error| failed(error.to_string()))?;
        Config::layered(vec![(table, ORIGIN.to_owned())]).map_err(|error| failed(error.to_string()))
    }

    /// The version of its weights.
    #[must_use]
    pub fn weights(&self) -> WeightsVersion {
        WeightsVersion(self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_is_refused_and_says_what_to_upgrade() {
        let said = |json: &str| Announcement::read(json.as_bytes()).unwrap_err().to_string();
        let newer = said(r#"{"protocol": 2, "rao": "0.9.0", "weights": "somewhere else"}"#);
        assert!(
            newer.starts_with("the trainer speaks protocol 2 (rao 0.9.0), this is protocol 1"),
            "{newer}"
        );
        assert!(newer.ends_with("upgrade this one"), "{newer}");
        assert!(said(r#"{"protocol": 0}"#).ends_with("upgrade the other"));
        assert!(said("{}").contains("missing field `protocol`"));
        let upwards = r#"{"protocol":1,"rao":"","epoch":"","version":0,"vocab":9,"config":"","files":[{"format":"gguf","name":"../x","object":""}]}"#;
        assert!(said(upwards).contains("is no name of a file"));
    }
}
