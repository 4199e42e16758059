//! Whoever is killed, nothing that was trained changes.

use super::*;

/// Trees of this training that the trainer has not taken yet, or that workers have not ended.
fn under_way(place: &Place, name: &str) -> bool {
    place.messages(name, "tasks") > 0
}

#[test]
fn a_worker_that_is_killed_among_its_trees_gives_them_back() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &[]);
    let mut trainer = place.train("t", &[]);
    let run = place.path().join("t");
    for step in 1..=3 {
        let mut doomed = place.worker("t", &[]);
        wait_until("a step", || steps(&run) >= step);
        wait_until("trees under way", || under_way(&place, "t") || steps(&run) >= 6);
        doomed.kill();
    }
    // Nobody is there any more; the trainer waits, and goes on when somebody is.
    assert!(steps(&run) < 6, "it was too fast to be disturbed");
    let mut last = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&run), expected);
    assert!(trees_of(&mut last) > 0);
    assert!(place.is_empty("t"));
}

#[test]
fn a_server_that_is_killed_and_comes_back_has_lost_nothing() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &[]);
    let mut trainer = place.train("t", &[]);
    let mut workers = [place.worker("t", &[]), place.worker("t", &[])];
    let run = place.path().join("t");
    for step in [1, 3, 4] {
        wait_until("a step", || steps(&run) >= step);
        place.restart_server();
    }
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&run), expected);
    let trees: u64 = workers.iter_mut().map(trees_of).sum();
    assert!(trees >= TREES, "{trees}");
    assert!(place.is_empty("t"));
}

#[test]
fn a_trainer_that_is_killed_and_resumed_ends_as_if_it_had_not_been() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &[]);
    let mut worker = place.worker("t", &[]);
    let run = place.path().join("t");
    let mut trainer = place.train("t", &[]);
    wait_until("two steps", || steps(&run) >= 2);
    wait_until("trees under way", || under_way(&place, "t") || steps(&run) >= 6);
    trainer.kill();
    assert!(!run.join("summary.json").exists(), "it was too fast to be killed");
    let mut trainer = place.resume("t");
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&run), expected);
    trees_of(&mut worker);
    assert!(place.is_empty("t"));
}

#[test]
fn a_worker_that_stands_still_is_done_without_and_changes_nothing_when_it_wakes() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &[]);
    let mut slow = place.worker("t", &[]);
    let mut trainer = place.train("t", &[]);
    let run = place.path().join("t");
    wait_until("a step", || steps(&run) >= 1);
    wait_until("trees under way", || under_way(&place, "t"));
    slow.freeze();
    let frozen = steps(&run);
    let mut other = place.worker("t", &[]);
    wait_until("a step without it", || steps(&run) > frozen + 1);
    slow.wake();
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&run), expected);
    assert!(trees_of(&mut other) > 0);
    trees_of(&mut slow);
    wait_until("what it sent late to be counted or dropped", || {
        place.messages("t", "tasks") == 0
    });
}
