//! Checkpoints: what an interrupted run goes on from, so that it ends as it would have without the interruption, to the last bit on the CPU.
//!
//! ```text
//! checkpoints/recursive-000040/    about to take step 40 of the recursive arm
//!   config.json, model.safetensors   the policy (or the adapter, as PEFT has it)
//!   optimizer.safetensors            the optimizer's moments and steps
//!   state.json                       everything else, and the length and checksum of every file
//! ```
//!
//! One is written beside its place, every file of it brought to the disk, and renamed: it is there whole or not at all. What the order of tasks,
//! the lessons and the seeds of trees need is in the configuration and the step, so that only the generators that go on from step to step
//! are kept. `metrics.jsonl` and the event files of TensorBoard are cut back to where they were.

mod session;
mod state;

pub use session::Session;
pub use state::{Cursor, Stage, State};

use crate::backend::{BackendError, Trainee};
use crate::config::Checkpoint;
use crate::run::{CONFIG, RunDir, RunError, at, sync_folder, write_whole};
use rao_backends::files;
use state::{Files, STATE, Written, files_of};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where they lie, in the run directory.
const FOLDER: &str = "checkpoints";
/// Begins the names of what is on its way in or out.
const HIDDEN: &str = ".";
const PARTIAL: &str = ".partial";
const REMOVED: &str = ".removed";

/// A run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The disk or its permissions.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not as it was written.
    #[error(
        "{path}: {what}; remove {checkpoint} to go on from the one before it, or from the beginning where there is none"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The checkpoint that it belongs to.
        checkpoint: PathBuf,
    },
    /// A policy that was finished is not as it was: what came after began with it.
    #[error("{path}: {what}; every checkpoint after it needs it: put it back, or train anew in another directory")]
    Lost {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Written by a version of this program that keeps other things.
    #[error(
        "{path} has format {found}, this version reads {}: go on with rao {by}, which wrote it",
        state::FORMAT
    )]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The version that wrote it.
        by: String,
    },
    /// Of another configuration.
    #[error(
        "{checkpoint} was written under another config.toml than {run} has now: put the old one back, or train anew in another directory (what may be changed is {})",
        FREE.join(", ")
    )]
    Foreign {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The run.
        run: PathBuf,
    },
}

impl ResumeError {
    /// The same of a file that belongs to the run, not to one checkpoint.
    fn of_the_run(self) -> Self {
        match self {
            Self::Damaged { path, what, .. } => Self::Lost { path, what },
            other => other,
        }
    }
}

/// Keys that may be changed between two attempts: they say how long to wait and how much to bear or to keep. What is computed depends on them only
/// where something runs into them.
const FREE: [&str; 9] = [
    "limits.seconds",
    "rollout.stall",
    "rao.failed_max",
    "checkpoint.keep",
    "nats.url",
    "nats.creds",
    "nats.ack_wait",
    "nats.deliveries",
    "nats.patience",
];

/// Of what a configuration says, but for the keys that are [`FREE`], and for comments and order.
fn checksum(text: &str) -> u32 {
    let Ok(mut table) = text.parse::<Table>() else {
        return crc32c::crc32c(text.as_bytes());
    };
    for (section, key) in FREE.iter().filter_map(|path| path.split_once('.')) {
        if let Some(section) = table.get_mut(section).and_then(Value::as_table_mut) {
            section.remove(key);
        }
    }
    crc32c::crc32c(table.to_string().as_bytes())
}

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    run: PathBuf,
    folder: PathBuf,
    keep: usize,
    /// Checksum of the run's configuration.
    config: u32,
    /// What was read of the policies that no longer change.
    policies: RefCell<BTreeMap<Stage, Files>>,
}

/// A checkpoint, as those see it who choose among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its stage.
    pub stage: Stage,
    /// Steps of the stage that were taken.
    pub step: usize,
    /// Mean root success of the steps since the one before it, in 0..=1; `None` where a stage begins, and where it cannot be read.
    pub score: Option<f64>,
    /// Where it lies.
    pub path: PathBuf,
}

/// The checkpoints of a run, the oldest first.
///
/// # Errors
/// [`RunError::Io`].
pub fn list(run: &RunDir) -> Result<Vec<Entry>, RunError> {
    let folder = run.path().join(FOLDER);
    entries(&folder).map_err(at(&folder))
}

/// The one of a stage with the highest score, the newest of several.
#[must_use]
pub fn best(entries: &[Entry], stage: Stage) -> Option<&Entry> {
    let scored = entries
        .iter()
        .filter(|entry| entry.stage == stage && entry.score.is_some());
    scored.max_by(|a, b| a.score.partial_cmp(&b.score).unwrap_or(Ordering::Equal))
}

fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let places = places(folder)?.into_iter().map(|place| {
        let path = folder.join(name(place));
        let (stage, step) = place;
        let score = Written::read(&path).ok().and_then(|written| written.score);
        Entry {
            stage,
            step,
            score,
            path,
        }
    });
    Ok(places.collect())
}

/// A checkpoint that is whole.
#[derive(Debug)]
pub struct Saved {
    /// Where it lies.
    pub path: PathBuf,
    /// Where the run stood.
    pub state: State,
    /// The version of this program that wrote it.
    pub by: String,
}

impl Checkpoints {
    /// Those of a run.
    ///
    /// # Errors
    /// [`RunError::Io`]: its configuration cannot be read.
    pub fn new(run: &RunDir, config: &Checkpoint) -> Result<Self, RunError> {
        let path = run.path().join(CONFIG);
        let text = files::read_text(&path, files::SETTINGS_MAX).map_err(at(&path))?;
        Ok(Self {
            run: run.path().to_owned(),
            folder: run.path().join(FOLDER),
            keep: config.keep,
            config: checksum(&text),
            policies: RefCell::default(),
        })
    }

    /// The newest, every byte of it checked; `None` where there is none.
    ///
    /// # Errors
    /// [`ResumeError`]: it is not whole, or not of this run. Nothing is changed.
    pub fn newest(&self) -> Result<Option<Saved>, ResumeError> {
        let Some(place) = places(&self.folder).map_err(io_at(&self.folder))?.pop() else {
            return Ok(None);
        };
        let checkpoint = self.folder.join(name(place));
        let written = Written::read(&checkpoint)?;
        if written.config != self.config {
            let run = self.run.clone();
            return Err(ResumeError::Foreign { checkpoint, run });
        }
        let cursor = &written.state.cursor;
        if (cursor.stage, cursor.spent.steps) != place {
            return Err(ResumeError::Damaged {
                path: checkpoint.join(STATE),
                what: format!("is that of step {} of {}", cursor.spent.steps, cursor.stage.name()),
                checkpoint,
            });
        }
        let read = |path: &Path| files_of(path).map_err(io_at(path));
        written.files.check(&read(&checkpoint)?, &checkpoint, &checkpoint)?;
        for (stage, files) in &written.policies {
            let path = self.run.join(stage.policy());
            files
                .check(&read(&path)?, &path, &checkpoint)
                .map_err(ResumeError::of_the_run)?;
        }
        Ok(Some(Saved {
            path: checkpoint,
            state: written.state,
            by: written.by,
        }))
    }

    /// Writes one, with the policy that is being trained, if one is; and removes those that are not kept. `score` is the root success since the
    /// last one of the arm.
    ///
    /// # Errors
    /// [`BackendError`] or [`RunError`] within the result's error; those that were there before are as they were.
    pub fn write(&self, state: &State, trainee: Option<&Trainee>, score: Option<f64>) -> Result<(), WriteError> {
        std::fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        let partial = self.folder.join(PARTIAL);
        let written = self.write_to(&partial, state, trainee, score);
        if written.is_err() {
            // Best effort: the error that matters is the one being reported.
            let _ = remove(&partial);
            return written;
        }
        let place = (state.cursor.stage, state.cursor.spent.steps);
        let path = self.folder.join(name(place));
        let moved = self
            .discard(&path)
            .and_then(|()| std::fs::rename(&partial, &path))
            .and_then(|()| sync_folder(&self.folder))
            .and_then(|()| sync_folder(&self.run));
        moved.map_err(at(&path))?;
        self.prune(place).map_err(at(&self.folder))?;
        Ok(())
    }

    fn write_to(
        &self,
        partial: &Path,
        state: &State,
        trainee: Option<&Trainee>,
        score: Option<f64>,
    ) -> Result<(), WriteError> {
        remove(partial)
            .and_then(|()| std::fs::create_dir(partial))
            .map_err(at(partial))?;
        if let Some(trainee) = trainee {
            trainee.save_training(partial)?;
        }
        let mut policies = BTreeMap::new();
        for stage in state.policies() {
            let mut known = self.policies.borrow_mut();
            let files = match known.get(&stage) {
                Some(files) => files.clone(),
                None => {
                    let path = self.run.join(stage.policy());
                    let read = sync_folder(&path)
                        .and_then(|()| sync_folder(&self.run))
                        .and_then(|()| files_of(&path));
                    known.entry(stage).or_insert(read.map_err(at(&path))?).clone()
                }
            };
            policies.insert(stage, files);
        }
        let written = Written {
            by: env!("CARGO_PKG_VERSION").into(),
            config: self.config,
            score,
            state: state.clone(),
            files: files_of(partial).map_err(at(partial))?,
            policies,
        };
        write_whole(&partial.join(STATE), written.to_text().as_bytes())?;
        Ok(())
    }

    /// Removes what was on its way in or out when a process ended, and checkpoints beyond those that are kept.
    fn prune(&self, newest: (Stage, usize)) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(HIDDEN) {
                remove(&entry.path())?;
            }
        }
        let entries = entries(&self.folder)?;
        let old = &entries[..entries.len().saturating_sub(self.keep)];
        for entry in old {
            let is_best = best(&entries, entry.stage) == Some(entry);
            if !is_best && (entry.stage, entry.step) != newest {
                self.discard(&entry.path)?;
            }
        }
        Ok(())
    }

    /// Takes a directory away in one step, whatever there is in it.
    fn discard(&self, path: &Path) -> io::Result<()> {
        let away = self.folder.join(REMOVED);
        remove(&away)?;
        match std::fs::rename(path, &away) {
            Ok(()) => remove(&away),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Where there are checkpoints, the oldest first.
fn places(folder: &Path) -> io::Result<Vec<(Stage, usize)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut places = Vec::new();
    for entry in entries {
        places.extend(entry?.file_name().to_str().and_then(place));
    }
    places.sort_unstable();
    Ok(places)
}

/// A checkpoint cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The policy.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Anything else.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// `recursive-000040`.
fn name((stage, step): (Stage, usize)) -> String {
    format!("{}-{step:06}", stage.name())
}

fn place(name: &str) -> Option<(Stage, usize)> {
    let (stage, step) = name.rsplit_once('-')?;
    let stage = Stage::ALL.into_iter().find(|known| known.name() == stage)?;
    let digits = step.len() >= 6 && step.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some((stage, step.parse().ok()?)))?
}

/// Removes a directory, which need not be there.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> ResumeError {
    let path = path.to_owned();
    move |source| ResumeError::Io { path, source }
}
