//! Whoever is killed, nothing that was trained changes.

use super::*;
use async_nats::jetstream::consumer::PullConsumer;
use futures::StreamExt;

/// Steps enough to be disturbed among, and workers that are soon taken for dead.
const LONG: [&str; 2] = ["rao.steps=20", "nats.ack_wait=2"];
/// Those steps.
const STEPS: usize = 20;

/// Trees of this training that the trainer has not taken yet, or that workers have not ended.
fn under_way(place: &Place, name: &str) -> bool {
    place.messages(name, "tasks") > 0
}

#[test]
fn a_worker_that_is_killed_among_its_trees_gives_them_back() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &LONG);
    let mut trainer = place.train("t", &LONG);
    let run = place.path().join("t");
    for step in 1..=3 {
        let mut doomed = place.worker("t", &[]);
        wait_until("a step", || steps(&run) >= step);
        wait_until("trees under way", || under_way(&place, "t") || steps(&run) >= STEPS);
        doomed.kill();
    }
    // Nobody is there any more; the trainer waits, and goes on when somebody is.
    assert!(steps(&run) < STEPS, "it was too fast to be disturbed");
    let mut last = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&run), expected);
    assert!(trees_of(&mut last) > 0);
    assert!(place.is_empty("t"));
}

#[test]
fn a_server_that_is_killed_and_comes_back_has_lost_nothing() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &LONG);
    let mut trainer = place.train("t", &LONG);
    let mut workers = [place.worker("t", &[]), place.worker("t", &[])];
    let run = place.path().join("t");
    for step in [1, 3, 4] {
        wait_until("a step", || steps(&run) >= step);
        place.restart_server();
    }
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&run), expected);
    let trees: u64 = workers.iter_mut().map(trees_of).sum();
    assert!(trees >= 16 * STEPS as u64, "{trees}");
    // Of a tree that was taken when the server died it may have forgotten so.
    assert_eq!((place.messages("t", "tasks"), place.messages("t", "dead")), (0, 0));
}

#[test]
fn a_trainer_that_is_killed_and_resumed_ends_as_if_it_had_not_been() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &LONG);
    let mut worker = place.worker("t", &[]);
    let run = place.path().join("t");
    let mut trainer = place.train("t", &LONG);
    wait_until("two steps", || steps(&run) >= 2);
    wait_until("trees under way", || under_way(&place, "t") || steps(&run) >= STEPS);
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
    let expected = Trained::alone(place.path(), &LONG);
    let mut slow = place.worker("t", &[]);
    let mut trainer = place.train("t", &LONG);
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

#[test]
fn a_tree_that_nobody_survives_counts_as_failed_and_is_put_where_people_find_it() {
    let Some(place) = Place::open() else { return };
    let few = ["rao.steps=1", "nats.ack_wait=1", "nats.deliveries=1"];
    let mut trainer = place.train("t", &few);
    wait_until("tasks", || place.messages("t", "tasks") == 16);
    // Somebody takes three of them, and is never heard of again.
    let taken = place.tamper(async |jetstream| {
        let stream = jetstream.get_stream("t-tasks").await.unwrap();
        let workers: PullConsumer = stream.get_consumer("workers").await.unwrap();
        let messages = workers.batch().max_messages(3).messages().await.unwrap();
        messages.count().await
    });
    assert_eq!(taken, 3);
    let mut heir = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    let trained = Trained::of(&place.path().join("t"));
    let step = trained
        .metrics
        .iter()
        .find(|step| step["phase"] == "recursive")
        .unwrap();
    assert_eq!(step["failed"], 3.0 / 16.0);
    assert_eq!(trees_of(&mut heir), 13);
    assert_eq!(place.messages("t", "dead"), 3);
    assert_eq!(place.messages("t", "tasks"), 0);
}
