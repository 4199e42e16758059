//! The run directory: everything a run leaves behind.
//!
//! ```text
//! runs/train-001/
//!   config.toml       the resolved configuration
//!   run.json          versions, machine and seeds, of every attempt
//!   run.lock          held by the process that trains; empty
//!   metrics.jsonl     one object per step, as it ended
//!   tensorboard/      the same numbers as event files of TensorBoard, a directory per phase
//!   base/             the policy after the warm start: config.json, model.safetensors
//!   recursive/        the policy after recursive agent optimization
//!   flat/             its flat twin
//!   checkpoints/      what an interrupted run goes on from: weights, optimizer and counters
//!   traces/           recorded trees: event logs, and the credit that training used
//!   summary.json      what evaluation found, and what it took
//! ```

use crate::config::Config;
use crate::environments::EnvironmentName;
use crate::evaluate::Scores;
use crate::provenance::Attempt;
use rao_backends::files;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file that a process holds while it writes to the run.
const LOCK: &str = "run.lock";
/// Name of the file that says where the run comes from.
const PROVENANCE: &str = "run.json";
/// Ends the names of files that are being written.
const PARTIAL: &str = ".partial";
/// Name of the file that makes a directory a run.
pub(crate) const CONFIG: &str = "config.toml";

/// A run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held as long as somebody may write: the system gives it back, however the process ends. None where the run is only read.
    _lock: Option<Arc<File>>,
}

/// A run directory that cannot be made, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Something of that name is already there.
    #[error("{0} already exists and is not empty: name another directory with --run, or remove it")]
    Exists(PathBuf),
    /// Another process trains there.
    #[error("{0} is in use by another process, which trains there: wait for it, or stop it")]
    Locked(PathBuf),
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
    /// Something in the directory lies elsewhere.
    #[error("{0} is a link: what belongs to a run lies in its directory, and is written there alone")]
    Link(PathBuf),
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

/// Refuses a directory with a link anywhere in it: whoever goes on with the run would write where it leads.
fn no_links(path: &Path) -> Result<(), RunError> {
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let kind = entry.file_type().map_err(at(&entry.path()))?;
            if kind.is_symlink() {
                return Err(RunError::Link(entry.path()));
            }
            if kind.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
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
        let path = match named {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(at(path))?;
                check_empty(path)?;
                path.to_owned()
            }
            None => first_free(Path::new("runs"))?,
        };
        let lock = lock(&path, LOCK)?;
        // Somebody may have been here in between, and be gone again.
        check_empty(&path)?;
        let run = Self { path, _lock: lock };
        run.write(CONFIG, config.to_toml()?.as_bytes())?;
        run.begin(config)?;
        Ok(run)
    }

    /// Opens the directory of an earlier run, to go on with it.
    ///
    /// # Errors
    /// [`RunError::NotARun`]; [`RunError::Link`]; [`RunError::Locked`] while another process trains there; [`RunError::Io`].
    pub fn resume(path: &Path) -> Result<Self, RunError> {
        let run = Self::open(path)?;
        no_links(path)?;
        let lock = lock(path, LOCK)?;
        let run = Self { _lock: lock, ..run };
        run.begin(&run.config()?)?;
        Ok(run)
    }

    /// Writes down who trains here now.
    fn begin(&self, config: &Config) -> Result<(), RunError> {
        let path = self.path.join(PROVENANCE);
        let before = match files::read(&path, files::SETTINGS_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            before => before.map_err(at(&path))?,
        };
        self.write(PROVENANCE, &Attempt::now(config).append_to(&before))
    }

    /// Opens the directory of an earlier run, to read it.
    ///
    /// # Errors
    /// [`RunError::NotARun`].
    pub fn open(path: &Path) -> Result<Self, RunError> {
        if path.join(CONFIG).is_file() {
            Ok(Self {
                path: path.to_owned(),
                _lock: None,
            })
        } else {
            Err(RunError::NotARun {
                path: path.to_owned(),
                missing: CONFIG,
            })
        }
    }

    /// The configuration of the run.
    ///
    /// # Errors
    /// [`RunError::Config`].
    pub fn config(&self) -> Result<Config, RunError> {
        Ok(Config::resolve(Some(&self.path.join(CONFIG)), &[])?)
    }

    /// What the run came to; `None` where it has not ended.
    ///
    /// # Errors
    /// [`RunError::Io`], [`RunError::Json`].
    pub fn summary(&self) -> Result<Option<Summary>, RunError> {
        let path = self.path.join("summary.json");
        match files::read(&path, files::SETTINGS_MAX) {
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
        &self.path
    }

    /// Where a policy of this run lies.
    #[must_use]
    pub fn policy(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes `summary.json`.
    ///
    /// # Errors
    /// [`RunError::Io`]; a file that was there is still whole then.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), RunError> {
        let path = self.path.join("summary.json");
        let mut text = serde_json::to_vec_pretty(summary).map_err(|source| RunError::Json { path, source })?;
        text.push(b'\n');
        self.write("summary.json", &text)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        write_whole(&self.path.join(name), bytes)
    }
}

fn first_free(parent: &Path) -> Result<PathBuf, RunError> {
    std::fs::create_dir_all(parent).map_err(at(parent))?;
    for number in 1_u32.. {
        let path = parent.join(format!("train-{number:03}"));
        // `create_dir` fails when somebody else was faster: two runs never share a directory.
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(RunError::Io { path, source }),
        }
    }
    unreachable!("there are more numbers than directories")
}

/// Nothing is there but what a process leaves that was killed before it began.
fn check_empty(path: &Path) -> Result<(), RunError> {
    for entry in std::fs::read_dir(path).map_err(at(path))? {
        let name = entry.map_err(at(path))?.file_name();
        if name != LOCK && !name.to_string_lossy().ends_with(PARTIAL) {
            return Err(RunError::Exists(path.to_owned()));
        }
    }
    Ok(())
}

/// Keeps other processes out of a directory for as long as the file of this name is open. None on file systems without locks, where nobody can
/// be kept out.
pub(crate) fn lock(directory: &Path, name: &str) -> Result<Option<Arc<File>>, RunError> {
    let path = directory.join(name);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Arc::new(file))),
        Err(TryLockError::WouldBlock) => Err(RunError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(source)) => Err(RunError::Io { path, source }),
    }
}

/// Writes a file whole or not at all: beside its place first, then renamed. It is on the disk then, under its name.
///
/// # Errors
/// [`RunError::Io`]; a file that was there is as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(PARTIAL);
    let partial = path.with_file_name(name);
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&partial, path))
        .and_then(|()| sync_folder(path.parent().unwrap_or(Path::new(""))));
    written.map_err(|source| {
        let _ = std::fs::remove_file(&partial);
        RunError::Io {
            path: path.to_owned(),
            source,
        }
    })
}

/// Has the system keep the names in a directory, which a file that is on the disk may still lack.
///
/// # Errors
/// The system's.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    // Elsewhere directories are not opened like files, and names are kept with their files.
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_owned();
    move |source| RunError::Io { path, source }
}
