//! Runs and event logs as one page of HTML that needs nothing else: no network, no server, no second file.
//!
//! [`Report::gather`] reads run directories, directories of runs, and event logs; [`Report::render`] puts what was found into the page, as JSON
//! beside the program that draws it. What agents said is data and never markup: it is escaped where it is embedded, the page only ever makes
//! text of it, and its content policy lets nothing be loaded or sent.

mod runs;
pub mod tree;

pub use runs::{Arm, ArmRun, Scored, Steps};

use crate::environments::EnvironmentName;
use crate::run::RunError;
use crate::table;
use crate::trace::LOG_MAX;
use rao_backends::files;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tree::{Credits, Drawing};

/// What a page shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Of the data's layout.
    version: u32,
    /// Heading.
    pub title: String,
    /// The day on which it was made, `YYYY-MM-DD`, in UTC.
    pub generated: String,
    /// Version of this crate.
    rao: &'static str,
    /// By cell and kind.
    pub arms: Vec<Arm>,
    /// Published figures of the same benchmark.
    paper: Vec<table::Published>,
    /// Recorded trees; those of one group had the same root task.
    pub groups: Vec<Group>,
    /// What was left out.
    pub notes: Vec<String>,
}

/// Trees of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// Where in the run they were recorded.
    pub name: String,
    /// Their file.
    pub source: String,
    /// The trees.
    pub trees: Vec<Drawing>,
}

/// A report cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file or directory cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither a run, nor a directory of runs, nor an event log.
    #[error(
        "{0} holds no run of `rao train`: name a run directory, the directory of `rao experiment`, or an event log of `rao rollout --trace`"
    )]
    Nothing(PathBuf),
    /// A configuration that cannot be written down.
    #[error("configuration: {0}")]
    Config(String),
    /// The data cannot be written down.
    #[error("cannot write the report's data: {0}")]
    Json(#[from] serde_json::Error),
}

/// What is taken into a page at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Nodes of one tree; larger ones are left out and counted.
    pub nodes: usize,
    /// Nodes of all trees; groups beyond are left out and named.
    pub nodes_in_all: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            nodes: 20_000,
            nodes_in_all: 60_000,
        }
    }
}

impl Report {
    /// Reads what `paths` name. A directory that is no run stands for the runs in it, by name.
    ///
    /// # Errors
    /// [`ReportError`]. What is damaged within a run is no error but one of the [`notes`](Self::notes).
    pub fn gather(paths: &[PathBuf], title: &str, caps: Caps) -> Result<Self, ReportError> {
        let mut report = Self {
            version: 1,
            title: title.to_owned(),
            generated: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            rao: env!("CARGO_PKG_VERSION"),
            paper: table::published(),
            ..Self::default()
        };
        let mut found = Vec::new();
        let mut logs = Vec::new();
        for path in paths {
            if path.is_file() {
                logs.push(path.clone());
                continue;
            }
            let runs = runs_in(path)?;
            if runs.is_empty() {
                return Err(ReportError::Nothing(path.clone()));
            }
            for run in runs {
                found.push(runs::read(&run, &mut report.notes)?);
                logs.extend(logs_in(&run.join("traces"))?);
            }
        }
        // Its tasks are called easy and hard as others are; its figures are about nothing else.
        if found.iter().any(|run| run.environment() != EnvironmentName::TextCraft) {
            report.paper.clear();
        }
        report.arms = runs::arms(found)?;
        let mut nodes = 0;
        let mut left_out = 0;
        for log in logs {
            let group = group(&log, caps, &mut report.notes)?;
            let size: usize = group.trees.iter().map(|tree| tree.parent.len()).sum();
            if size == 0 {
                continue;
            }
            if nodes + size > caps.nodes_in_all {
                left_out += 1;
                continue;
            }
            nodes += size;
            report.groups.push(group);
        }
        if left_out > 0 {
            let cap = caps.nodes_in_all;
            report.notes.push(format!(
                "{left_out} groups of trees were left out: all trees together may have {cap} nodes (--nodes-in-all). Name an event log by itself to see it"
            ));
        }
        Ok(report)
    }

    /// The page.
    ///
    /// # Errors
    /// [`ReportError::Json`].
    pub fn render(&self) -> Result<String, ReportError> {
        // The markup around it must not end early, whatever the data says.
        let data = serde_json::to_string(self)?
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026");
        let title = self
            .title
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let app = APP.concat();
        let style = STYLE.concat();
        let mut page = String::with_capacity(PAGE.len() + PLOTS.len() + app.len() + style.len() + data.len());
        // In one pass: what is put in may look like a placeholder itself.
        let mut rest = PAGE;
        while let Some((before, after)) = rest.split_once("{{") {
            page.push_str(before);
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            page.push_str(match name {
                "title" => &title,
                "style" => &style,
                "plots" => PLOTS,
                "app" => &app,
                "data" => &data,
                _ => "",
            });
            rest = after;
        }
        page.push_str(rest);
        Ok(page)
    }
}

const PAGE: &str = include_str!("page/page.html");
/// uPlot 1.6 (MIT), whose licence lies beside it.
const PLOTS: &str = include_str!("page/vendor/uPlot.iife.min.js");
const STYLE: [&str; 2] = [
    include_str!("page/vendor/uPlot.min.css"),
    include_str!("page/style.css"),
];
/// In the order in which they build upon each other.
const APP: [&str; 9] = [
    include_str!("page/data.js"),
    include_str!("page/results.js"),
    include_str!("page/curves.js"),
    include_str!("page/ablations.js"),
    include_str!("page/model.js"),
    include_str!("page/tree.js"),
    include_str!("page/timeline.js"),
    include_str!("page/detail.js"),
    include_str!("page/main.js"),
];

/// The directory itself if it is a run, or the runs in it, by name.
fn runs_in(path: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let is_run = |path: &Path| path.join("config.toml").is_file();
    if is_run(path) {
        return Ok(vec![path.to_owned()]);
    }
    let mut runs: Vec<PathBuf> = entries(path)?.into_iter().filter(|entry| is_run(entry)).collect();
    runs.sort();
    Ok(runs)
}

/// The event logs of a directory, by name; none where there is no such directory.
fn logs_in(folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rao");
    let mut logs: Vec<PathBuf> = entries(folder)?.into_iter().filter(is_log).collect();
    // The agents that delegate are looked at first.
    let is_flat = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("flat"))
    };
    logs.sort_by_cached_key(|path| (is_flat(path), path.clone()));
    Ok(logs)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let at = |source| ReportError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(folder).map_err(at)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(at))
        .collect()
}

fn group(log: &Path, caps: Caps, notes: &mut Vec<String>) -> Result<Group, ReportError> {
    let source = log.display().to_string();
    let bytes = files::read(log, LOG_MAX).map_err(|source| ReportError::Read {
        path: log.to_owned(),
        source,
    })?;
    let (mut trees, losses) = tree::read(&bytes, caps.nodes);
    if losses.damaged > 0 {
        notes.push(format!(
            "{source}: {} places are damaged or contradict the rest",
            losses.damaged
        ));
    }
    if losses.too_large > 0 {
        notes.push(format!(
            "{source}: {} trees have more than {} nodes and were left out (--nodes)",
            losses.too_large, caps.nodes
        ));
    }
    let beside = log.with_extension("json");
    if losses == tree::Losses::default() && beside.is_file() {
        let credits = files::read(&beside, LOG_MAX).map_err(|source| ReportError::Read {
            path: beside.clone(),
            source,
        })?;
        match serde_json::from_slice::<Vec<Credits>>(&credits) {
            Ok(credits) if fits(&trees, &credits) => {
                for (tree, credit) in trees.iter_mut().zip(credits) {
                    tree.credit = credit;
                }
            }
            _ => notes.push(format!("{} does not fit to its event log", beside.display())),
        }
    }
    let stem = log.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let task = trees.first().map_or("", |tree| tree.task.as_str());
    let run = log.parent().and_then(Path::parent).and_then(Path::file_name);
    let run = run
        .map(|run| format!("{}, ", run.to_string_lossy()))
        .unwrap_or_default();
    let name = format!("{run}{stem}: {task}");
    Ok(Group { name, source, trees })
}

fn fits(trees: &[Drawing], credits: &[Credits]) -> bool {
    let fits = |(tree, credit): (&Drawing, &Credits)| {
        [&credit.reward, &credit.advantage, &credit.weighted]
            .into_iter()
            .flatten()
            .all(|column| column.len() == tree.parent.len())
    };
    trees.len() == credits.len() && trees.iter().zip(credits).all(fits)
}
