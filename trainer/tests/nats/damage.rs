//! Messages that no trainer and no worker of this version sends.

use super::*;
use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use futures::StreamExt;
use rao_trainer::nats::Announcement;

/// Takes a task away from the workers, and answers in their place.
async fn answer(jetstream: &Context, payload: impl Fn(&[u8]) -> Vec<u8>, protocol: &str) {
    let stream = jetstream.get_stream("t-tasks").await.unwrap();
    let workers: async_nats::jetstream::consumer::PullConsumer = stream.get_consumer("workers").await.unwrap();
    let mut messages = workers.batch().max_messages(1).messages().await.unwrap();
    let task = messages.next().await.unwrap().unwrap();
    let mut headers = task.headers.clone().unwrap();
    headers.insert("Nats-Msg-Id", "a stranger's");
    headers.insert("Rao-Protocol", protocol);
    let sent = jetstream.publish_with_headers("rao.t.trees", headers, payload(&task.payload).into());
    sent.await.unwrap().await.unwrap();
    task.double_ack().await.unwrap();
}

/// What a training that was answered so says, and that it ends as if it had not been.
fn survives(payload: impl Fn(&[u8]) -> Vec<u8>, protocol: &str) -> String {
    let Some(place) = Place::open() else {
        return String::new();
    };
    let expected = Trained::alone(place.path(), &[]);
    let mut trainer = place.train("t", &[]);
    wait_until("tasks", || place.messages("t", "tasks") > 0);
    place.tamper(async |jetstream| answer(&jetstream, payload, protocol).await);
    let mut worker = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&place.path().join("t")), expected);
    assert_eq!(trees_of(&mut worker), TREES);
    assert!(place.is_empty("t"));
    trainer.said()
}

#[test]
fn a_corrupt_frame_is_refused_and_its_tree_asked_for_anew() {
    let said = survives(
        |task| {
            let mut bytes = task.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        },
        "1",
    );
    assert!(
        said.is_empty() || said.contains("was no tree: at byte 0: checksum"),
        "{said}"
    );
}

#[test]
fn half_a_tree_is_none() {
    let said = survives(<[u8]>::to_vec, "1");
    assert!(
        said.is_empty() || said.contains("was no tree: the run was not closed"),
        "{said}"
    );
}

#[test]
fn a_worker_of_another_version_is_not_believed() {
    let said = survives(<[u8]>::to_vec, "7");
    assert!(said.is_empty() || said.contains("a worker speaks protocol 7"), "{said}");
    assert!(said.is_empty() || said.contains("upgrade this one"), "{said}");
}

#[test]
fn a_worker_refuses_a_trainer_of_another_version_and_says_what_to_upgrade() {
    let Some(place) = Place::open() else { return };
    place.tamper(async |jetstream| {
        let config = async_nats::jetstream::stream::Config {
            name: "t-weights".into(),
            subjects: vec!["rao.t.weights".into()],
            ..Default::default()
        };
        jetstream.create_stream(config).await.unwrap();
        let json = r#"{"protocol": 9, "rao": "3.1.4", "manifest": "elsewhere"}"#;
        jetstream
            .publish("rao.t.weights", json.into())
            .await
            .unwrap()
            .await
            .unwrap();
    });
    let mut worker = place.worker("t", &[]);
    assert_eq!(worker.end().code(), Some(1));
    let said = worker.said();
    assert!(
        said.contains("the trainer speaks protocol 9 (rao 3.1.4)") && said.contains("upgrade this one"),
        "{said}"
    );
}

#[test]
fn a_task_that_nobody_can_end_is_put_where_people_find_it() {
    let Some(place) = Place::open() else { return };
    let mut trainer = place.train("t", &["rao.steps=1"]);
    wait_until("tasks", || place.messages("t", "tasks") == 16);
    // One more, which is no frame at all, and one of a task that there is not.
    let epoch = place.tamper(async |jetstream| {
        let stream = jetstream.get_stream("t-weights").await.unwrap();
        let message = stream.get_last_raw_message_by_subject("rao.t.weights").await.unwrap();
        let epoch = Announcement::read(&message.payload).unwrap().epoch;
        let mut headers = HeaderMap::new();
        headers.insert("Rao-Protocol", "1");
        headers.insert("Rao-Epoch", epoch.as_str());
        headers.insert("Rao-Job", "1.900.0");
        let sent = jetstream
            .publish_with_headers("rao.t.tasks", headers, "no frame".into())
            .await;
        sent.unwrap().await.unwrap();
        epoch
    });
    let mut worker = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(trees_of(&mut worker), 16);
    assert_eq!(place.messages("t", "dead"), 1);
    let (reason, of) = place.tamper(async |jetstream| {
        let stream = jetstream.get_stream("t-dead").await.unwrap();
        let message = stream.get_last_raw_message_by_subject("rao.t.dead").await.unwrap();
        let header = |name: &str| message.headers.get(name).unwrap().to_string();
        (header("Rao-Reason"), header("Rao-Epoch"))
    });
    assert!(reason.contains("version 110, expected 1"), "{reason}");
    assert_eq!(of, epoch);
}

#[test]
fn a_training_that_another_one_takes_the_place_of_ends() {
    let Some(place) = Place::open() else { return };
    let mut first = place.train("t", &["rao.steps=1000"]);
    let _worker = place.worker("t", &[]);
    wait_until("a step", || steps(&place.path().join("t")) >= 1);
    let mut second = place.train("u", &["nats.name=t"]);
    assert_eq!(first.end().code(), Some(1));
    assert!(
        first
            .said()
            .contains("another trainer has taken over at nats.name=\"t\""),
        "{}",
        first.said()
    );
    assert!(second.end().success(), "{}", second.said());
}
