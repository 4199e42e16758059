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
    let mut runs = 0;
    while kills < KILLS {
        let here = tempfile::tempdir().unwrap();
        let run = here.path().join("run");
        loop {
            // Killed before it had written its configuration, it had not begun.
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
}
