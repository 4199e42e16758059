//! The run directory: everything a run leaves behind.
//!
//! ```text
//! runs/train-001/
//!   config.toml       the resolved configuration
//!   metrics.jsonl     one object per step, as it ended
//!   tensorboard/      the same numbers as event files of TensorBoard, a directory per phase
//!   base/             the policy after the warm start: config.json, model.safetensors
//!   recursive/        the policy after recursive agent optimization
//!   flat/             its flat twin
//!   traces/           recorded trees: event logs, and the credit that training used
//!   summary.json      what evaluation found, and what it took
//! ```

use crate::config::Config;
use crate::environments::EnvironmentName;
use crate::evaluate::Scores;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A run directory.
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

/// A run directory that cannot be made, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Something of that name is already there.
    #[error("{0} already exists and is not empty: name another directory with --run, or remove it")]
    Exists(PathBuf),
    /// No run there.
    #[error("{path} is not a run of `rao train`: {missing} is missing")]
    NotARun {
        /// Where.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// The disk or its permissions.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration of the run does not read back.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A file of the run does not read back.
    #[error("{path}: {source}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// What a run came to: `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What was trained on.
    #[serde(default)]
    pub environment: EnvironmentName,
    /// The agent that may spawn.
    pub recursive: Scores,
    /// Its flat twin; absent when it was switched off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flat: Option<Scores>,
    /// Wall clock of warm start and training, both arms.
    pub train_seconds: f64,
    /// Wall clock of everything.
    pub total_seconds: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Bytes of memory that the run was predicted to take.
    #[serde(default)]
    pub memory_predicted: u64,
    /// The most that it took, in bytes, on systems that tell.
    #[serde(default)]
    pub memory_peak: Option<u64>,
}

impl RunDir {
    /// Makes the directory: the one that is named, or the first free `runs/train-NNN`. Writes the resolved configuration into it.
    ///
    /// # Errors
    /// [`RunError::Exists`] when it is there and not empty; [`RunError::Io`].
    pub fn create(named: Option<&Path>, config: &Config) -> Result<Self, RunError> {
        let run = match named {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(at(path))?;
                if std::fs::read_dir(path).map_err(at(path))?.next().is_some() {
                    return Err(RunError::Exists(path.to_owned()));
                }
                Self(path.to_owned())
            }
            None => Self::first_free(Path::new("runs"))?,
        };
        run.write("config.toml", config.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// Opens the directory of an earlier run.
    ///
    /// # Errors
    /// [`RunError::NotARun`].
    pub fn open(path: &Path) -> Result<Self, RunError> {
        if path.join("config.toml").is_file() {
            Ok(Self(path.to_owned()))
        } else {
            Err(RunError::NotARun {
                path: path.to_owned(),
                missing: "config.toml",
            })
        }
    }

    /// The configuration of the run.
    ///
    /// # Errors
    /// [`RunError::Config`].
    pub fn config(&self) -> Result<Config, RunError> {
        Ok(Config::resolve(Some(&self.0.join("config.toml")), &[])?)
    }

    /// What the run came to; `None` where it has not ended.
    ///
    /// # Errors
    /// [`RunError::Io`], [`RunError::Json`].
    pub fn summary(&self) -> Result<Option<Summary>, RunError> {
        let path = self.0.join("summary.json");
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RunError::Json { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RunError::Io { path, source }),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a policy of this run lies.
    #[must_use]
    pub fn policy(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes `summary.json`.
    ///
    /// # Errors
    /// [`RunError::Io`]; a file that was there is still whole then.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), RunError> {
        let path = self.0.join("summary.json");
        let mut text = serde_json::to_vec_pretty(summary).map_err(|source| RunError::Json { path, source })?;
        text.push(b'\n');
        self.write("summary.json", &text)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        write_whole(&self.0.join(name), bytes)
    }

    fn first_free(parent: &Path) -> Result<Self, RunError> {
        std::fs::create_dir_all(parent).map_err(at(parent))?;
        for number in 1_u32.. {
            let path = parent.join(format!("train-{number:03}"));
            // `create_dir` fails when somebody else was faster: two runs never share a directory.
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(RunError::Io { path, source }),
            }
        }
        unreachable!("there are more numbers than directories")
    }
}

/// Writes a file whole or not at all: beside its place first, then renamed.
///
/// # Errors
/// [`RunError::Io`]; a file that was there is as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let written = std::fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|source| {
        let _ = std::fs::remove_file(&partial);
        RunError::Io {
            path: path.to_owned(),
            source,
        }
    })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::Io { path, source }
}
