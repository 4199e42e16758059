//! Steps of which too much failed.

use super::*;
use common::{rao, refused};

/// No time at all, in the microseconds that deadlines are kept in: however fast the machine is, no tree ends in it.
const HASTE: &str = "limits.seconds=1e-7";

/// What `train` does with these settings.
fn train(here: &Path, more: &[&str], does: fn(&Path, &[&str]) -> String) -> String {
    let arguments = arguments(more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    does(here, &arguments)
}

#[test]
fn a_run_of_which_too_much_fails_stops_and_says_why() {
    let here = tempfile::tempdir().unwrap();
    let error = train(here.path(), &[HASTE], refused);
    let expected = "400 of 400 trees of step 0 of warmstart failed, more than rao.failed_max=0.5 allows";
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("limits.seconds"), "{error}");

    let here = tempfile::tempdir().unwrap();
    let error = train(here.path(), &[HASTE, "warmstart.steps=0"], refused);
    let expected = "16 of 16 trees of step 0 of recursive failed, more than rao.failed_max=0.5 allows";
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("rao train --resume run"), "{error}");
    assert_eq!(steps(here.path(), "recursive"), 0, "nothing is learned from it");
}

#[test]
fn what_may_fail_is_counted() {
    let here = tempfile::tempdir().unwrap();
    let lenient = [HASTE, "warmstart.steps=0", "rao.failed_max=1", "rao.steps=2"];
    train(here.path(), &lenient, |here, arguments| {
        common::stdout(&rao(here, arguments))
    });
    let metrics = std::fs::read_to_string(here.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(steps(here.path(), "recursive"), 2);
    let failed = metrics.matches("\"failed\":1.0").count();
    assert_eq!(failed, steps(here.path(), "recursive") + steps(here.path(), "flat"));
}
