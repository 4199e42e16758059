//! SIGKILL, at random moments.

use super::*;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::os::unix::process::ExitStatusExt;

/// How often processes are killed.
const KILLS: usize = 20;

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let home = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let expected = Result::uninterrupted(home.path(), &[]);
    let whole = started.elapsed();

    let mut random = Xoshiro256PlusPlus::seed_from_u64(8);
    let mut kills = 0;
    let mut from_checkpoints = 0;
    let mut runs = 0;
    while kills < KILLS {
        let here = tempfile::tempdir().unwrap();
        let run = here.path().join("run");
        loop {
            // Killed before it had written its configuration, it had not begun.
            from_checkpoints += usize::from(!checkpoints(&run).is_empty());
            let mut child = if run.join("config.toml").exists() {
                begin(here.path(), &["train", "--resume", "run"])
            } else {
                begin(here.path(), &arguments(&[]))
            };
            if kills < KILLS {
                // A fifth of the whole at most, so that one run takes several.
                std::thread::sleep(whole.mul_f64(random.random_range(0.0..0.2)));
                child.kill().unwrap();
            }
            let status = end(&mut child);
            if status.signal().is_none() {
                assert!(status.success(), "after {kills} kills: {}", said(here.path()));
                break;
            }
            kills += 1;
        }
        runs += 1;
        Result::of(&run).check(&expected, &format!("run {runs}, after {kills} kills"));
        // The newest two, and the best of both arms.
        let kept = checkpoints(&run);
        assert!(
            (2..=4).contains(&kept.len()) && kept.contains(&"evaluation-000000".into()),
            "{kept:?}"
        );
    }
    assert!(
        from_checkpoints >= KILLS / 2,
        "{from_checkpoints} of {kills} went on from a checkpoint"
    );
}

#[test]
fn of_the_checkpoints_the_newest_and_the_best_are_kept_and_any_is_a_policy() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path();
    let expected = Result::uninterrupted(
        here,
        &[
            "rao.steps=12",
            "checkpoint.every=3",
            "checkpoint.keep=1",
            "flat.enabled=false",
        ],
    );
    let successes = expected.metrics.iter().filter(|line| line["phase"] == "recursive");
    let successes: Vec<f64> = successes.map(|line| line["root_success"].as_f64().unwrap()).collect();
    let means: Vec<f64> = successes
        .chunks(3)
        .map(|steps| steps.iter().sum::<f64>() / 3.0)
        .collect();
    let best = (0..4).max_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap();
    let best = format!("recursive-{:06}", 3 * (best + 1));
    assert_eq!(
        checkpoints(&here.join("run")),
        ["evaluation-000000", &best],
        "{means:?}"
    );

    let eval = |checkpoint: &str| {
        let arguments = [
            "eval",
            "--policy",
            "run",
            "--tasks",
            "easy",
            "--json",
            "--checkpoint",
            checkpoint,
        ];
        common::rao(here, &arguments)
    };
    let step = best.trim_start_matches("recursive-").trim_start_matches('0');
    assert_eq!(
        without_clocks(serde_json::from_str(&common::stdout(&eval("best"))).unwrap()),
        without_clocks(serde_json::from_str(&common::stdout(&eval(step))).unwrap())
    );
    let error = String::from_utf8(eval("7").stderr).unwrap();
    assert!(
        error.contains(&format!("run has no checkpoint 7 of recursive: there are {step}")),
        "{error}"
    );
    let path = format!("run/checkpoints/{best}");
    common::stdout(&common::rao(
        here,
        &["export", &path, "--quant", "f32", "-o", "best.gguf"],
    ));
}
