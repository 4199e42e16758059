//! Run directories: what `rao report`, `rao eval` and `--resume` read.

use crate::common::{rao, refused, stdout};
use crate::logs::EVIL;
use crate::mutate::mutated;
use crate::{alone, bounded};
use rao_trainer::config::Config;
use rao_trainer::report::{Caps, Report};
use rao_trainer::run::RunDir;
use rao_trainer::train::checkpoint::{Checkpoints, list};
use std::fs;
use std::path::{Path, PathBuf};

/// A run that takes a second.
fn train(here: &Path) -> PathBuf {
    let mut arguments = vec!["train", "--run", "run"];
    for setting in [
        "model.hidden=32",
        "warmstart.steps=3",
        "warmstart.trees=40",
        "rao.steps=2",
        "rao.tasks=2",
        "rao.trees=2",
        "checkpoint.every=1",
        "eval.difficulties=[\"easy\"]",
        "eval.easy=2",
        "record.groups=1",
    ] {
        arguments.extend(["--set", setting]);
    }
    stdout(&rao(here, &arguments));
    here.join("run")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn damaged_runs_are_reported_as_far_as_they_go() {
    let _alone = alone();
    let here = tempfile::tempdir().unwrap();
    let run = train(here.path());
    let mut found = Vec::new();
    files(&run, &mut found);
    let known = ["config.toml", "metrics.jsonl", "summary.json", "run.json"];
    found.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.parent() == Some(&run) && known.contains(&name) || path.parent() == Some(&run.join("traces"))
    });
    assert!(found.len() >= known.len() + 2, "{found:?}");
    let report = || {
        let report = Report::gather(std::slice::from_ref(&run), EVIL, Caps::default());
        report
            .map(|report| report.render().unwrap())
            .map_err(|error| error.to_string())
    };
    let tags = |page: &str| (page.matches("<script").count(), page.matches("</script").count());
    let whole = tags(&report().unwrap());
    for path in found {
        let bytes = fs::read(&path).unwrap();
        for case in 0..150 {
            let damaged = mutated(&bytes, case);
            fs::write(&path, &damaged).unwrap();
            match bounded(4 * bytes.len() + damaged.len() + (1 << 20), report) {
                Ok(page) => assert_eq!(tags(&page), whole),
                Err(error) => assert!(!error.is_empty()),
            }
            let run = RunDir::open(&run).unwrap();
            let _ = (run.config(), run.summary(), list(&run));
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn no_damage_to_a_checkpoint_passes_for_a_checkpoint() {
    let _alone = alone();
    let here = tempfile::tempdir().unwrap();
    let run = train(here.path());
    let dir = RunDir::open(&run).unwrap();
    let config = dir.config().unwrap();
    let newest = || {
        let checkpoints = Checkpoints::new(&dir, &config.checkpoint).unwrap();
        checkpoints.newest().map(|saved| saved.map(|saved| saved.state))
    };
    let (entries, whole) = (list(&dir).unwrap(), newest().unwrap().unwrap());
    assert!(!entries.is_empty());
    let mut states = Vec::new();
    files(&run.join("checkpoints"), &mut states);
    states.retain(|path| path.ends_with("state.json"));
    states.sort();
    for path in states {
        let bytes = fs::read(&path).unwrap();
        for case in 0..500 {
            let damaged = mutated(&bytes, case);
            if damaged == bytes {
                continue;
            }
            fs::write(&path, &damaged).unwrap();
            // Another checkpoint than the newest may be the one that is damaged.
            if let Ok(Some(state)) = bounded(damaged.len() + (4 << 20), newest) {
                assert!(state == whole);
            }
            let _ = list(&dir);
        }
        fs::write(&path, bytes).unwrap();
    }
}

/// Whatever a key is set to that takes a word, nothing is written outside of the run directory.
#[test]
fn no_setting_leads_out_of_the_run_directory() {
    let table: toml::Table = toml::to_string(&Config::default()).unwrap().parse().unwrap();
    let mut keys = Vec::new();
    for (key, value) in &table {
        match value {
            toml::Value::String(_) => keys.push(key.clone()),
            toml::Value::Table(table) => {
                let words = table.iter().filter(|(_, value)| value.is_str());
                keys.extend(words.map(|(inner, _)| format!("{key}.{inner}")));
            }
            _ => {}
        }
    }
    assert!(keys.len() > 5, "{keys:?}");
    let home = tempfile::tempdir().unwrap();
    for up in ["../escape", "/nonexistent/escape", "../../escape\\u0000"] {
        for key in &keys {
            let here = home.path().join("here");
            fs::create_dir(&here).unwrap();
            let setting = format!("{key}=\"{up}\"");
            refused(&here, &["train", "--run", "run", "--set", &setting]);
            assert_eq!(
                fs::read_dir(&here).unwrap().count(),
                0,
                "{setting} left something behind"
            );
            fs::remove_dir(&here).unwrap();
            assert_eq!(
                fs::read_dir(home.path()).unwrap().count(),
                0,
                "{setting} left something behind"
            );
        }
    }
}

/// The same for a run that goes through: its directory is all that there is afterwards.
#[test]
fn a_run_writes_into_its_directory_alone() {
    let here = tempfile::tempdir().unwrap();
    train(here.path());
    let left: Vec<_> = fs::read_dir(here.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["run"]);
}
