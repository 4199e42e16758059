//! A grid of runs from one small file: cells, each a change to a common configuration, times seeds.
//!
//! ```toml
//! seeds = [0, 1, 2]
//!
//! [common]                       # any key of the configuration; every cell begins with it
//! flat.enabled = false
//!
//! [cells.base]                   # a cell without changes
//!
//! [cells.lambda]
//! rao.estimator.lambda = 0.4
//! ```
//!
//! The run of a cell and a seed lies in `CELL-seedN` of the experiment's directory. What has come to its end there is not run again.

use crate::config::{Config, ConfigError, TEXT_MAX};
use crate::run::{RunDir, RunError};
use rao_backends::files;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A grid of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// By cell in the order of their names, `base` first; by seed within a cell.
    pub runs: Vec<Planned>,
}

/// One run of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Name of its cell.
    pub cell: String,
    /// `CELL-seedN`: its directory in that of the experiment.
    pub name: String,
    /// Its configuration.
    pub config: Config,
}

/// What there is of a run already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    New,
    /// It came to its end, with the configuration that is asked for.
    Finished,
    /// It was begun with the configuration that is asked for, and did not come to its end.
    Begun,
}

/// A grid that cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not say what an experiment has to say.
    #[error("{origin}: {message}")]
    Malformed {
        /// The file.
        origin: String,
        /// What is wrong with it.
        message: String,
    },
    /// A configuration in it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A directory in the place of a run that holds another one.
    #[error("{0} is a run of another configuration: move it away, or give the experiment another directory with --dir")]
    Other(PathBuf),
}

/// Longest name of a cell, in bytes.
const CELL_MAX: usize = 128;
/// Most runs of one experiment.
const RUNS_MAX: usize = 10_000;
/// Keys of the file.
const KEYS: [&str; 3] = ["seeds", "common", "cells"];

impl Experiment {
    /// Reads a file and resolves the configuration of every run in it.
    ///
    /// # Errors
    /// [`ExperimentError`]: nothing is run where one cell of many is wrong.
    pub fn read(path: &Path) -> Result<Self, ExperimentError> {
        let text = files::read_text(path, TEXT_MAX).map_err(|source| ExperimentError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// The same from text; `origin` is what errors call it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, origin: &str) -> Result<Self, ExperimentError> {
        let fail = |message: String| ExperimentError::Malformed {
            origin: origin.to_owned(),
            message,
        };
        let file: Table = text
            .parse()
            .map_err(|error: toml::de::Error| fail(error.to_string().trim().to_owned()))?;
        if let Some(key) = file.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(fail(format!(
                "there is no key `{key}`: an experiment has {}",
                KEYS.join(", ")
            )));
        }
        let table = |value: Option<&Value>, what: &str| match value {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table.clone()),
            Some(_) => Err(fail(format!("`{what}` is a table of configuration keys"))),
        };
        let common = table(file.get("common"), "common")?;
        let cells = table(file.get("cells"), "cells")?;
        if cells.is_empty() {
            return Err(fail("`cells` names at least one cell, such as [cells.base]".into()));
        }
        let seeds = seeds(file.get("seeds")).map_err(|message| fail(message.to_owned()))?;
        if cells.len().saturating_mul(seeds.len()) > RUNS_MAX {
            let (cells, seeds) = (cells.len(), seeds.len());
            return Err(fail(format!(
                "{cells} cells of {seeds} seeds each are more than {RUNS_MAX} runs"
            )));
        }
        let mut names: Vec<&String> = cells.keys().collect();
        names.sort_by_key(|name| (name.as_str() != "base", name.as_str()));
        let mut runs = Vec::new();
        for cell in names {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+=".contains(c);
            if !(1..=CELL_MAX).contains(&cell.len()) || cell.starts_with('.') || !cell.chars().all(fits) {
                let message = "names a directory: up to 128 letters, digits and -_.+= are allowed";
                return Err(fail(format!("cell {cell:?} {message}")));
            }
            let change = table(cells.get(cell), &format!("cells.{cell}"))?;
            for &seed in &seeds {
                let layers = [
                    (common.clone(), format!("{origin}, common")),
                    (change.clone(), format!("{origin}, cells.{cell}")),
                    (
                        Table::from_iter([("seed".to_owned(), Value::Integer(seed))]),
                        format!("{origin}, seeds"),
                    ),
                ];
                runs.push(Planned {
                    cell: cell.clone(),
                    name: format!("{cell}-seed{seed}"),
                    config: Config::layered(layers.into())?,
                });
            }
        }
        Ok(Self { runs })
    }
}

fn seeds(value: Option<&Value>) -> Result<Vec<i64>, &'static str> {
    let wrong = "`seeds` is a list of different whole numbers from 0, such as [0, 1, 2]";
    let Some(value) = value else {
        return Ok(vec![0, 1, 2]);
    };
    let listed = value.as_array().ok_or(wrong)?;
    let seeds: Vec<i64> = listed
        .iter()
        .map(|seed| seed.as_integer().ok_or(wrong))
        .collect::<Result<_, _>>()?;
    let mut sorted = seeds.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if seeds.is_empty() || sorted.len() < seeds.len() || sorted[0] < 0 {
        return Err(wrong);
    }
    Ok(seeds)
}

impl Planned {
    /// What there is of it in `folder`.
    ///
    /// # Errors
    /// [`ExperimentError::Other`] where its directory holds the run of another configuration.
    pub fn state(&self, folder: &Path) -> Result<State, ExperimentError> {
        let path = folder.join(&self.name);
        if !path.exists() {
            return Ok(State::New);
        }
        let other = || ExperimentError::Other(path.clone());
        let run = RunDir::open(&path).map_err(|_| other())?;
        if run.config()? != self.config {
            return Err(other());
        }
        Ok(match run.summary()? {
            Some(_) => State::Finished,
            None => State::Begun,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: &str = "
        seeds = [3, 1]
        [common]
        rao.steps = 7
        flat.enabled = false
        [cells.alone]
        [cells.base]
        [cells.bonus]
        rao = { steps = 9, estimator.lambda = 0.4 }
    ";

    #[test]
    fn cells_change_what_is_common() {
        let grid = Experiment::parse(GRID, "grid.toml").unwrap();
        let names: Vec<&str> = grid.runs.iter().map(|run| run.name.as_str()).collect();
        let expected = [
            "base-seed3",
            "base-seed1",
            "alone-seed3",
            "alone-seed1",
            "bonus-seed3",
            "bonus-seed1",
        ];
        assert_eq!(names, expected);
        let last = &grid.runs[5].config;
        assert_eq!((last.seed, last.rao.steps, last.flat.enabled), (1, 9, false));
        assert!((last.rao.estimator.lambda - 0.4).abs() < 1e-6);
        assert_eq!(grid.runs[0].config.rao.steps, 7);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| Experiment::parse(text, "grid.toml").unwrap_err().to_string();
        for (text, named) in [
            ("", "at least one cell"),
            ("cell.base = {}", "no key `cell`"),
            (
                "cells.base.rao.stepz = 3",
                "grid.toml, cells.base: unknown key `rao.stepz`",
            ),
            ("cells.base = 3", "`cells.base` is a table"),
            ("cells.\"../up\" = {}", "names a directory"),
            ("seeds = [1, 1]\ncells.base = {}", "different whole numbers"),
            ("seeds = [-1]\ncells.base = {}", "different whole numbers"),
            ("seeds = 3\ncells.base = {}", "different whole numbers"),
            ("common.rao.trees = 1\ncells.base = {}", "rao.trees"),
            ("[cells", "grid.toml"),
        ] {
            let found = error(text);
            assert!(found.contains(named), "{text}: {found}");
        }
    }

    #[test]
    fn a_run_is_known_by_its_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let grid = Experiment::parse(GRID, "grid.toml").unwrap();
        let (run, other) = (&grid.runs[0], &grid.runs[5]);
        assert_eq!(run.state(folder.path()).unwrap(), State::New);
        let path = folder.path().join(&run.name);
        RunDir::create(Some(&path), &run.config).unwrap();
        assert_eq!(run.state(folder.path()).unwrap(), State::Begun);
        std::fs::rename(&path, folder.path().join(&other.name)).unwrap();
        assert!(matches!(other.state(folder.path()), Err(ExperimentError::Other(_))));
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(run.state(folder.path()), Err(ExperimentError::Other(_))));
    }
}
