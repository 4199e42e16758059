//! Training with workers elsewhere, over a real nats-server that each test starts: what is trained is, to the bit, what one process trains,
//! whoever is killed on the way.
//!
//! `RAO_NATS_SERVER` names the server's binary, otherwise `nats-server` is looked for (Debian: `apt-get install nats-server`); where there is
//! none, the tests say that they are skipped.
#![cfg(all(feature = "nats", feature = "candle", unix))]

mod accounts;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "nothing here asks for memory")]
mod common;
mod damage;
mod deaths;
mod place;
#[cfg(feature = "openai")]
mod server;
mod workers;

use place::{Place, Running};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(180);

/// A run of seconds, of 16 trees a step.
const SETTINGS: [&str; 14] = [
    "model.hidden=32",
    "warmstart.steps=30",
    "warmstart.trees=300",
    "rao.steps=6",
    "rao.tasks=4",
    "rao.trees=4",
    "checkpoint.every=1",
    "eval.difficulties=[\"easy\"]",
    "eval.easy=3",
    "record.groups=2",
    "flat.enabled=false",
    // Longer than a busy machine stands still; where somebody dies it is shorter.
    "nats.ack_wait=30",
    "nats.patience=120",
    "seed=5",
];

/// Trees of all steps.
const TREES: u64 = 6 * 16;

/// Waits for something that a process does.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a run came to, without what it took: equal for runs that are equal to the last bit.
#[derive(Debug, PartialEq)]
struct Trained {
    metrics: Vec<Value>,
    policy: BTreeMap<String, Vec<u8>>,
}

impl Trained {
    fn of(run: &Path) -> Self {
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().retain(|key, _| !key.contains("second"));
            line
        };
        let files = std::fs::read_dir(run.join("recursive")).unwrap();
        let file = |file: std::io::Result<std::fs::DirEntry>| {
            let file = file.unwrap();
            let bytes = std::fs::read(file.path()).unwrap();
            (file.file_name().into_string().unwrap(), bytes)
        };
        Self {
            metrics: metrics.lines().map(line).collect(),
            policy: files.map(file).collect(),
        }
    }

    /// What one process trains.
    fn alone(here: &Path, more: &[&str]) -> Self {
        let mut arguments = vec!["train", "--run", "alone"];
        for setting in SETTINGS.iter().chain(more) {
            arguments.extend(["--set", setting]);
        }
        common::stdout(&common::rao(here, &arguments));
        Self::of(&here.join("alone"))
    }
}

/// Steps of the recursive arm that have been taken.
fn steps(run: &Path) -> usize {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.matches("\"phase\":\"recursive\"").count()
}

/// Trees that a worker says it has rolled out, once it was asked to stop.
fn trees_of(worker: &mut Running) -> u64 {
    worker.terminate();
    trees_said(worker)
}

/// The same of one that was asked already.
fn trees_said(worker: &mut Running) -> u64 {
    assert!(worker.end().success(), "{}", worker.said());
    let said = worker.said();
    let line = said.lines().find(|line| line.ends_with("nothing was lost")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn workers_of_any_number_train_what_one_process_trains() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &[]);
    for count in [1, 2, 4] {
        let name = format!("w{count}");
        let mut workers: Vec<Running> = (0..count).map(|_| place.worker(&name, &[])).collect();
        let mut trainer = place.train(&name, &[]);
        assert!(trainer.end().success(), "{}", trainer.said());
        assert_eq!(Trained::of(&place.path().join(&name)), expected, "{count} workers");
        // As many were rolled out as were trained on: none twice, none for nothing.
        let trees: Vec<u64> = workers.iter_mut().map(trees_of).collect();
        assert_eq!(trees.iter().sum::<u64>(), TREES, "{trees:?}");
        assert!(place.is_empty(&name));
    }
}
