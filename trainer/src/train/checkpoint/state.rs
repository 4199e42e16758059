//! `state.json`: where a run stood, and what its files looked like.

use super::ResumeError;
use crate::train::optimize::Spent;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use rao_backends::files;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Name of the file.
pub(super) const STATE: &str = "state.json";
/// What this version writes and reads.
pub(super) const FORMAT: u64 = 1;
/// The longest that is read, in bytes: hundreds of times what is written.
const LONGEST: u64 = 1 << 20;

/// The stages of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The warm start.
    Warmstart,
    /// Recursive agent optimization.
    Recursive,
    /// Its flat twin.
    Flat,
    /// Evaluation of both.
    Evaluation,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Warmstart, Self::Recursive, Self::Flat, Self::Evaluation];

    /// What metrics call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warmstart => "warmstart",
            Self::Recursive => "recursive",
            Self::Flat => "flat",
            Self::Evaluation => "evaluation",
        }
    }

    /// The directory of the policy that it ends with.
    #[must_use]
    pub fn policy(self) -> &'static str {
        match self {
            Self::Warmstart => "base",
            other => other.name(),
        }
    }
}

/// Where a stage stands: about to take the step after those that were taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Which stage.
    pub stage: Stage,
    /// What it has taken so far.
    pub spent: Spent,
    /// The generator that it draws from at every step.
    pub random: Xoshiro256PlusPlus,
    /// Groups of trees that were recorded.
    pub recorded: usize,
    /// The mismatch that was warned of last, in nats.
    pub warned: Option<f64>,
    /// Incidents of samplers that were told.
    pub told: Vec<String>,
}

impl Cursor {
    /// The beginning of a stage that draws from this seed.
    #[must_use]
    pub fn new(stage: Stage, seed: u64) -> Self {
        Self {
            stage,
            spent: Spent::default(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            recorded: 0,
            warned: None,
            told: Vec::new(),
        }
    }
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Within which stage, and where.
    pub cursor: Cursor,
    /// Version of the weights: updates of the policy.
    pub weights: u64,
    /// What the recursive arm came to, once it has ended: the flat twin gets as many tokens.
    pub recursive: Option<Spent>,
    /// Policies that are finished.
    pub finished: Vec<Stage>,
    /// Wall clock so far, of all attempts.
    pub seconds: f64,
    /// Length of the metrics, in bytes.
    pub metrics: u64,
    /// Length of TensorBoard's event files, in bytes.
    pub events: BTreeMap<Stage, u64>,
}

impl State {
    /// The stages whose policies a run needs that goes on from here.
    pub(super) fn policies(&self) -> impl Iterator<Item = Stage> {
        self.finished.iter().copied()
    }
}

/// A file as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    bytes: u64,
    crc32c: u32,
}

/// The files of a directory, without [`STATE`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Files(BTreeMap<String, Mark>);

impl Files {
    /// Whether `found` in `folder` is what was written.
    pub(super) fn check(&self, found: &Self, folder: &Path, checkpoint: &Path) -> Result<(), ResumeError> {
        let damaged = |name: &str, what: String| ResumeError::Damaged {
            path: folder.join(name),
            what,
            checkpoint: checkpoint.to_owned(),
        };
        for (name, mark) in &self.0 {
            match found.0.get(name) {
                None => return Err(damaged(name, "is missing".into())),
                Some(now) if now.bytes != mark.bytes => {
                    let what = format!("has {} bytes, {} were written", now.bytes, mark.bytes);
                    return Err(damaged(name, what));
                }
                Some(now) if now != mark => return Err(damaged(name, "is not what was written".into())),
                Some(_) => {}
            }
        }
        match found.0.keys().find(|name| !self.0.contains_key(*name)) {
            Some(name) => Err(damaged(name, "does not belong there".into())),
            None => Ok(()),
        }
    }
}

/// The files of a directory as they are; none where there is no directory.
pub(super) fn files_of(folder: &Path) -> io::Result<Files> {
    let mut files = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::default()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == STATE || !entry.file_type()?.is_file() {
            continue;
        }
        let mut file = File::open(entry.path())?;
        let mut piece = vec![0; 1 << 20];
        let mut mark = Mark { bytes: 0, crc32c: 0 };
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                break;
            }
            mark.bytes += length as u64;
            mark.crc32c = crc32c::crc32c_append(mark.crc32c, &piece[..length]);
        }
        files.insert(name, mark);
    }
    Ok(Files(files))
}

/// All of the file but its envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// Version of the program.
    pub by: String,
    /// Checksum of the run's configuration.
    pub config: u32,
    /// Root success since the last checkpoint of the arm.
    pub score: Option<f64>,
    /// Where the run stood.
    pub state: State,
    /// The checkpoint's files.
    pub files: Files,
    /// Those of the policies that are finished.
    pub policies: BTreeMap<Stage, Files>,
}

/// What a reader needs before it can read the rest.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u64,
    #[serde(default)]
    by: String,
    crc32c: u32,
    #[serde(borrow)]
    written: &'a RawValue,
}

impl Written {
    pub(super) fn to_text(&self) -> String {
        let written = serde_json::value::to_raw_value(self).expect("strings, numbers, and maps with names as keys");
        let envelope = Envelope {
            format: FORMAT,
            by: self.by.clone(),
            crc32c: crc32c::crc32c(written.get().as_bytes()),
            written: &written,
        };
        serde_json::to_string(&envelope).expect("a raw value and three fields") + "\n"
    }

    /// Reads that of a checkpoint.
    pub(super) fn read(checkpoint: &Path) -> Result<Self, ResumeError> {
        let path = checkpoint.join(STATE);
        let damaged = |what: String| ResumeError::Damaged {
            path: path.clone(),
            what,
            checkpoint: checkpoint.to_owned(),
        };
        let text = match files::read_text(&path, LONGEST) {
            Ok(text) => text,
            Err(source) => {
                return Err(match source.kind() {
                    io::ErrorKind::FileTooLarge => damaged("is too long".into()),
                    io::ErrorKind::NotFound => damaged("is missing".into()),
                    io::ErrorKind::InvalidData => damaged("is not text".into()),
                    _ => ResumeError::Io { path, source },
                });
            }
        };
        let envelope: Envelope<'_> = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if envelope.format != FORMAT {
            return Err(ResumeError::Format {
                path,
                found: envelope.format,
                by: envelope.by,
            });
        }
        let raw = envelope.written.get();
        if crc32c::crc32c(raw.as_bytes()) != envelope.crc32c {
            return Err(damaged("is not what was written".into()));
        }
        serde_json::from_str(raw).map_err(|error| damaged(error.to_string()))
    }
}
