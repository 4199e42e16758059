//! Run directories as arms: runs that differ in nothing but their seed are one cell of a grid, and each cell has an arm or two.

use super::ReportError;
use crate::config::Config;
use crate::environments::{Difficulty, EnvironmentName};
use crate::evaluate::{Score, Scores};
use crate::run::{RunDir, Summary};
use rao_backends::files;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use toml::Table;

/// One arm of one cell, with its seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Arm {
    /// `cell, kind`.
    pub name: String,
    /// Name of the cell.
    pub cell: String,
    /// `recursive` or `flat`.
    pub kind: String,
    /// `key=value` of what differs, the seed aside: in the first cell, or the one called `base`, from the defaults of its environment, in the others
    /// from that cell.
    pub settings: Vec<String>,
    /// By seed.
    pub runs: Vec<ArmRun>,
}

/// One seed of an arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ArmRun {
    /// Seed of the run.
    pub seed: u64,
    /// Where it lies.
    pub path: String,
    /// It came to its end.
    pub finished: bool,
    /// Metrics by step.
    pub steps: Steps,
    /// What evaluation found, by difficulty.
    pub scores: Vec<Scored>,
    /// Wall clock of warm start and training, all arms of the run.
    pub train_seconds: Option<f64>,
    /// Wall clock of the run.
    pub total_seconds: Option<f64>,
    /// The most memory that it took, in bytes.
    pub memory_peak: Option<u64>,
}

/// A score with its difficulty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// Of these tasks.
    pub difficulty: Difficulty,
    /// What was reached.
    #[serde(flatten)]
    pub score: Score,
}

/// Metrics of an arm by step: equally long columns; null where a step has no such number.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Steps {
    /// Environment tokens so far.
    pub tokens: Vec<Option<f64>>,
    /// Seconds of rollouts and updates so far.
    pub seconds: Vec<Option<f64>>,
    /// The rest, by name.
    #[serde(flatten)]
    pub columns: std::collections::BTreeMap<&'static str, Vec<Option<f64>>>,
}

/// Metrics that are drawn.
const COLUMNS: [&str; 9] = [
    "root_success",
    "root_credit",
    "node_success",
    "nodes_per_tree",
    "delegation",
    "parallel",
    "critical_path",
    "entropy",
    "mismatch",
];

impl Steps {
    fn push(&mut self, line: &Value) {
        let number = |key: &str| line.get(key).and_then(Value::as_f64);
        let spent = number("rollout_seconds").unwrap_or(0.0) + number("train_seconds").unwrap_or(0.0);
        let before = self.seconds.last().copied().flatten().unwrap_or(0.0);
        self.tokens.push(number("tokens_total"));
        self.seconds.push(Some(before + spent));
        for name in COLUMNS {
            self.columns.entry(name).or_default().push(number(name));
        }
    }
}

/// A run that was read, on its way into arms.
pub(super) struct Read {
    name: String,
    config: Config,
    path: String,
    recursive: Steps,
    flat: Steps,
    summary: Option<Summary>,
}

/// Most bytes of metrics that are read: those of a million steps.
const METRICS_MAX: u64 = 1 << 30;

/// Reads one run directory.
pub(super) fn read(path: &Path, notes: &mut Vec<String>) -> Result<Read, ReportError> {
    let run = RunDir::open(path)?;
    let config = run.config()?;
    let mut found = Read {
        name: cell_name(path),
        config,
        path: path.display().to_string(),
        recursive: Steps::default(),
        flat: Steps::default(),
        summary: run.summary()?,
    };
    let metrics = path.join("metrics.jsonl");
    let text = match files::read_text(&metrics, METRICS_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(ReportError::Read { path: metrics, source }),
    };
    let mut damaged = 0;
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            damaged += 1;
            continue;
        };
        match line.get("phase").and_then(Value::as_str) {
            Some("recursive") => found.recursive.push(&line),
            Some("flat") => found.flat.push(&line),
            _ => {}
        }
    }
    if damaged > 0 {
        notes.push(format!(
            "{}: {damaged} lines are damaged and were left out",
            metrics.display()
        ));
    }
    if found.summary.is_none() {
        notes.push(format!("{} did not come to its end", path.display()));
    }
    Ok(found)
}

/// Runs by cell, in the order in which the first of each was named.
pub(super) fn arms(runs: Vec<Read>) -> Result<Vec<Arm>, ReportError> {
    let mut cells: Vec<(Table, Vec<Read>)> = Vec::new();
    for run in runs {
        let mut table = flat_table(&run.config)?;
        table.remove("seed");
        match cells.iter_mut().find(|(known, _)| *known == table) {
            Some((_, members)) => members.push(run),
            None => cells.push((table, vec![run])),
        }
    }
    let mut arms: Vec<Arm> = Vec::new();
    // What a grid has in common says nothing about a cell: that of the first, or of the one called base, is told from the defaults, the others
    // from it.
    let first = cells
        .iter()
        .position(|(_, members)| members[0].name == "base")
        .unwrap_or(0);
    let base = cells.get(first).map(|(table, _)| table.clone()).unwrap_or_default();
    for (index, (table, mut members)) in cells.into_iter().enumerate() {
        members.sort_by_key(|run| run.config.seed);
        let defaults = flat_table(&Config::of(members[0].config.environment))?;
        let known = if index == first { &defaults } else { &base };
        let settings = table
            .iter()
            .filter(|(key, value)| known.get(*key) != Some(*value))
            .map(|(key, value)| format!("{key}={}", written(value)));
        let settings: Vec<String> = settings.collect();
        let mut cell = members[0].name.clone();
        // Two cells of one name are told apart by their place.
        while arms.iter().any(|arm| arm.cell == cell) {
            cell.push('\'');
        }
        for kind in ["recursive", "flat"] {
            let runs: Vec<ArmRun> = members.iter().filter_map(|run| run.arm(kind)).collect();
            if !runs.is_empty() {
                arms.push(Arm {
                    name: format!("{cell}, {kind}"),
                    cell: cell.clone(),
                    kind: kind.to_owned(),
                    settings: settings.clone(),
                    runs,
                });
            }
        }
    }
    Ok(arms)
}

impl Read {
    pub(super) fn environment(&self) -> EnvironmentName {
        self.config.environment
    }

    fn arm(&self, kind: &str) -> Option<ArmRun> {
        let (steps, scores) = match kind {
            "recursive" => (&self.recursive, self.summary.as_ref().map(|summary| &summary.recursive)),
            _ => (
                &self.flat,
                self.summary.as_ref().and_then(|summary| summary.flat.as_ref()),
            ),
        };
        if steps.tokens.is_empty() && scores.is_none() {
            return None;
        }
        Some(ArmRun {
            seed: self.config.seed,
            path: self.path.clone(),
            finished: self.summary.is_some(),
            steps: steps.clone(),
            scores: scores.map(scored).unwrap_or_default(),
            train_seconds: self.summary.as_ref().map(|summary| summary.train_seconds),
            total_seconds: self.summary.as_ref().map(|summary| summary.total_seconds),
            memory_peak: self.summary.as_ref().and_then(|summary| summary.memory_peak),
        })
    }
}

fn scored(scores: &Scores) -> Vec<Scored> {
    let of = |difficulty| {
        let score = *scores.of(difficulty)?;
        Some(Scored { difficulty, score })
    };
    Difficulty::ALL.into_iter().filter_map(of).collect()
}

/// The name of the directory without what tells seeds apart: `lambda-seed3` is a run of the cell `lambda`.
fn cell_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.rsplit_once("-seed") {
        Some((cell, seed)) if !cell.is_empty() && seed.bytes().all(|byte| byte.is_ascii_digit()) => cell.to_owned(),
        _ => name.into_owned(),
    }
}

/// A value as somebody would write it: single precision, widened, has digits that nobody meant.
fn written(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(wide) if f64::from(*wide as f32) == *wide => (*wide as f32).to_string(),
        value => value.to_string(),
    }
}

/// The configuration by dotted paths.
fn flat_table(config: &Config) -> Result<Table, ReportError> {
    let table = Table::try_from(config).map_err(|error| ReportError::Config(error.to_string()))?;
    let mut flat = Table::new();
    let mut stack = vec![(String::new(), table)];
    while let Some((prefix, table)) = stack.pop() {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key
            } else {
                format!("{prefix}.{key}")
            };
            match value {
                toml::Value::Table(below) => stack.push((path, below)),
                value => {
                    flat.insert(path, value);
                }
            }
        }
    }
    Ok(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_named_without_its_seed() {
        let name = |path: &str| cell_name(Path::new(path));
        assert_eq!(name("runs/grid/lambda-seed3"), "lambda");
        assert_eq!(name("runs/train-001"), "train-001");
        assert_eq!(name("runs/-seed3"), "-seed3");
        assert_eq!(name("runs/a-seedling"), "a-seedling");
    }

    #[test]
    fn runs_that_differ_in_their_seed_alone_are_one_cell() {
        let run = |name: &str, seed, lambda| {
            let mut config = Config {
                seed,
                ..Config::default()
            };
            config.rao.estimator.lambda = lambda;
            let mut recursive = Steps::default();
            recursive.push(&serde_json::json!({"tokens_total": 9, "rollout_seconds": 1.5, "root_success": 0.5}));
            recursive.push(&serde_json::json!({"tokens_total": 20, "train_seconds": 0.5, "mismatch": null}));
            Read {
                name: name.into(),
                config,
                path: format!("runs/{name}-{seed}"),
                recursive,
                flat: Steps::default(),
                summary: None,
            }
        };
        let found = arms(vec![
            run("base", 2, 0.0),
            run("bonus", 0, 0.4),
            run("base", 1, 0.0),
            run("base", 0, 0.25),
        ]);
        let found = found.unwrap();
        let names: Vec<(&str, &[String])> = found
            .iter()
            .map(|arm| (arm.name.as_str(), arm.settings.as_slice()))
            .collect();
        let bonus = ["rao.estimator.lambda=0.4".to_owned()];
        let other = ["rao.estimator.lambda=0.25".to_owned()];
        assert_eq!(
            names,
            [
                ("base, recursive", &[][..]),
                ("bonus, recursive", &bonus[..]),
                ("base', recursive", &other[..])
            ]
        );
        let seeds: Vec<u64> = found[0].runs.iter().map(|run| run.seed).collect();
        assert_eq!(seeds, [1, 2]);
        let steps = &found[0].runs[0].steps;
        assert_eq!(steps.seconds, [Some(1.5), Some(2.0)]);
        assert_eq!(steps.tokens, [Some(9.0), Some(20.0)]);
        assert_eq!(steps.columns["root_success"], [Some(0.5), None]);
    }
}
