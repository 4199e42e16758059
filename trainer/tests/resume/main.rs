//! Runs that are interrupted and go on: killed at any moment, stopped by Ctrl-C, out of space, on damaged checkpoints.
#![cfg(all(feature = "candle", unix))]

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "nothing here asks for memory")]
mod common;
mod damage;
mod disk;
mod failures;
mod interrupt;
mod kill;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(120);

/// A run of all stages that takes seconds, with a checkpoint after every step.
const SETTINGS: [&str; 13] = [
    "model.hidden=32",
    "warmstart.steps=40",
    "warmstart.trees=400",
    "rao.steps=8",
    "rao.tasks=4",
    "rao.trees=4",
    "checkpoint.every=1",
    "eval.difficulties=[\"easy\", \"medium\"]",
    "eval.easy=5",
    "eval.medium=3",
    "eval.nodes.medium=100",
    "record.groups=2",
    "seed=5",
];

/// `train` with these settings, and more of them, in the directory `run` of `here`.
fn arguments(more: &[&str]) -> Vec<String> {
    let mut arguments = vec!["train".to_owned(), "--run".into(), "run".into()];
    for setting in SETTINGS.iter().chain(more) {
        arguments.extend(["--set".into(), (*setting).into()]);
    }
    arguments
}

/// Begins a command, whose standard error goes to a file.
fn begin(here: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Child {
    let said = std::fs::File::create(here.join("stderr")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_rao"))
        .current_dir(here)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .unwrap()
}

fn said(here: &Path) -> String {
    std::fs::read_to_string(here.join("stderr")).unwrap()
}

/// Waits for something that a process does.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How a process ended.
fn end(child: &mut Child) -> std::process::ExitStatus {
    let mut status = None;
    wait_until("the end of the process", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Ctrl-C.
fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Steps of a stage that the metrics speak of.
fn steps(here: &Path, stage: &str) -> usize {
    let text = std::fs::read_to_string(here.join("run/metrics.jsonl")).unwrap_or_default();
    text.matches(&format!("\"phase\":\"{stage}\"")).count()
}

fn checkpoints(run: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// What a run came to, without what it took: equal for runs that are equal to the last bit.
#[derive(Debug, PartialEq)]
struct Result {
    metrics: Vec<Value>,
    summary: Value,
    /// Files of the policies, by path.
    policies: BTreeMap<PathBuf, Vec<u8>>,
    /// Lengths of TensorBoard's files, by stage: only the times in them differ.
    events: BTreeMap<String, u64>,
}

impl Result {
    fn of(run: &Path) -> Self {
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let summary = std::fs::read(run.join("summary.json")).unwrap();
        let mut policies = BTreeMap::new();
        for policy in ["base", "recursive", "flat"] {
            // The flat twin may be switched off.
            let Ok(entries) = std::fs::read_dir(run.join(policy)) else {
                continue;
            };
            for entry in entries {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                policies.insert(path.strip_prefix(run).unwrap().to_owned(), bytes);
            }
        }
        let mut events = BTreeMap::new();
        for entry in std::fs::read_dir(run.join("tensorboard")).unwrap() {
            let stage = entry.unwrap();
            let files: Vec<_> = std::fs::read_dir(stage.path())
                .unwrap()
                .map(|file| file.unwrap())
                .collect();
            assert_eq!(files.len(), 1, "{:?}", stage.path());
            let name = stage.file_name().into_string().unwrap();
            events.insert(name, files[0].metadata().unwrap().len());
        }
        Self {
            metrics: metrics
                .lines()
                .map(|line| without_clocks(serde_json::from_str(line).unwrap()))
                .collect(),
            summary: without_clocks(serde_json::from_slice(&summary).unwrap()),
            policies,
            events,
        }
    }

    /// A run that nobody interrupted.
    fn uninterrupted(here: &Path, more: &[&str]) -> Self {
        let arguments = arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        common::stdout(&common::rao(here, &arguments));
        let result = Self::of(&here.join("run"));
        let steps = |stage: &str| result.metrics.iter().filter(|line| line["phase"] == stage).count();
        assert!(steps("warmstart") > 1 && steps("recursive") > 1 && result.policies.len() >= 4);
        result
    }

    /// Says where two differ: all of them would be too much to read.
    fn check(&self, expected: &Self, what: &str) {
        for (found, expected) in self.metrics.iter().zip(&expected.metrics) {
            assert_eq!(found, expected, "{what}");
        }
        assert_eq!(self.metrics.len(), expected.metrics.len(), "{what}");
        for (path, bytes) in &expected.policies {
            assert!(self.policies[path] == *bytes, "{what}: {}", path.display());
        }
        assert!(self == expected, "{what}");
    }
}

/// Without wall clocks and what the system says of memory.
fn without_clocks(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| !name.ends_with("seconds") && !name.starts_with("memory"))
            .map(|(name, value)| (name, without_clocks(value)))
            .collect(),
        other => other,
    }
}
