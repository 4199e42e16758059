//! Ctrl-C, and who may train where.

use super::*;

#[test]
fn ctrl_c_finishes_the_step_saves_and_says_how_to_go_on() {
    let home = tempfile::tempdir().unwrap();
    // Nothing is saved between the beginnings of stages but on Ctrl-C; and every stage takes long enough to be stopped in.
    let settings = ["checkpoint.every=0", "warmstart.steps=200", "rao.steps=30"];
    let expected = Result::uninterrupted(home.path(), &settings);
    let here = tempfile::tempdir().unwrap();
    let here = here.path();
    let mut child = begin(here, &arguments(&settings));
    for (stage, next) in [
        ("warmstart", "recursive"),
        ("recursive", "flat"),
        ("flat", "evaluation"),
    ] {
        wait_until(stage, || steps(here, stage) > 0);
        interrupt(&child);
        assert_eq!(end(&mut child).code(), Some(130), "{}", said(here));
        assert!(
            said(here).contains("to go on: rao train --resume run"),
            "{}",
            said(here)
        );
        // Every step that was begun was finished, and is saved: as it was left, or in what comes after the stage's last one.
        let saved = checkpoints(&here.join("run"));
        let step = format!("{stage}-{:06}", steps(here, stage));
        assert!(
            saved.contains(&step) || saved.contains(&format!("{next}-000000")),
            "{step} in {saved:?}"
        );
        child = begin(here, &["train", "--resume", "run"]);
    }
    assert!(end(&mut child).success(), "{}", said(here));
    let mut result = Result::of(&here.join("run"));
    result.check(&expected, "after three times Ctrl-C");
    // Going on with what has ended only says so.
    let again = common::rao(here, &["train", "--resume", "run", "--json"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("has come to its end"));
    result.summary = without_clocks(serde_json::from_slice(&again.stdout).unwrap());
    assert!(result == expected);
}

#[test]
fn an_adapter_goes_on_where_it_stopped() {
    let home = tempfile::tempdir().unwrap();
    Result::uninterrupted(home.path(), &[]);
    // On what that run began with, which is not trained here.
    let path = format!("model.path={}", home.path().join("run/base").display());
    let adapted = [
        path.as_str(),
        "lora.rank=4",
        "dtype=bf16",
        "warmstart.lr=1e-2",
        "warmstart.steps=200",
        "rao.steps=30",
    ];
    let there = tempfile::tempdir().unwrap();
    let expected = Result::uninterrupted(there.path(), &adapted);
    assert!(
        expected
            .policies
            .contains_key(Path::new("recursive/adapter_model.safetensors"))
    );
    let here = tempfile::tempdir().unwrap();
    let here = here.path();
    let mut child = begin(here, &arguments(&adapted));
    for stage in ["warmstart", "recursive", "flat"] {
        wait_until(stage, || steps(here, stage) > 0);
        interrupt(&child);
        assert_eq!(end(&mut child).code(), Some(130), "{}", said(here));
        child = begin(here, &["train", "--resume", "run"]);
    }
    assert!(end(&mut child).success(), "{}", said(here));
    Result::of(&here.join("run")).check(&expected, "after three times Ctrl-C");
}

#[test]
fn a_second_ctrl_c_stops_at_once() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path();
    // A step that takes minutes.
    let long = ["warmstart.steps=0", "rao.tasks=512", "rao.trees=128", "rollout.cache=1"];
    let mut child = begin(here, &arguments(&long));
    wait_until("the first step", || {
        checkpoints(&here.join("run")).contains(&"recursive-000000".into())
    });
    interrupt(&child);
    wait_until("an answer", || said(here).contains("Ctrl-C again stops at once"));
    assert_eq!(child.try_wait().unwrap(), None);
    interrupt(&child);
    assert_eq!(end(&mut child).code(), Some(130));
    assert_eq!(steps(here, "recursive"), 0, "the step was not waited for");
}

#[test]
fn two_processes_do_not_train_in_one_directory() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path();
    let mut child = begin(here, &arguments(&[]));
    wait_until("the first step", || steps(here, "warmstart") > 0);
    let error = common::refused(here, &["train", "--resume", "run"]);
    assert!(error.contains("run is in use by another process"), "{error}");
    let arguments = arguments(&[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let error = common::refused(here, &arguments);
    assert!(error.contains("run already exists"), "{error}");
    child.kill().unwrap();
    end(&mut child);
    // The system gives the lock back, however the process ended.
    common::stdout(&common::rao(here, &["train", "--resume", "run"]));
}
