//! What a trainer does at the server and a worker never: makes streams, stores and consumers, and looks after them.

use super::NatsError;
use super::link::{Link, WORKERS};
use crate::config;
use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::object_store;
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy};
use std::time::Duration;

/// Tasks and trees that nobody takes are dropped after so long at the soonest.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Most tasks that are kept for people, the oldest first to go.
const DEAD_MAX: i64 = 10_000;
/// How long a second message of the same identifier is dropped.
const DUPLICATES: Duration = Duration::from_secs(600);
/// Most workers that may wait for a task.
const WAITING_MAX: i64 = 16_384;
/// How soon a tree that the trainer did not take comes again: much later than any is taken.
const TAKEN: Duration = Duration::from_secs(10);
/// The trainer's own.
const TRAINER: &str = "trainer";

impl Link {
    /// A name that no other process has.
    pub(super) fn unique(&self) -> String {
        let inbox = self.client.new_inbox();
        inbox.rsplit('.').next().unwrap_or(&inbox).to_owned()
    }

    /// Makes everything that is not there yet, and empties what another trainer left.
    pub(super) async fn prepare(&self, nats: &config::Nats) -> Result<(), NatsError> {
        let failed = |error: &dyn std::fmt::Display| NatsError::server("making a stream", error.to_string());
        let base = |what: &str| stream::Config {
            name: self.name(what),
            subjects: vec![self.subject(what)],
            num_replicas: nats.replicas,
            ..stream::Config::default()
        };
        // Longer than anybody waits for it.
        let kept = DAY.max(Duration::from_secs_f64(nats.patience) * 2);
        let queue = |what: &str| stream::Config {
            retention: RetentionPolicy::WorkQueue,
            max_age: kept,
            duplicate_window: DUPLICATES,
            ..base(what)
        };
        let dead = stream::Config {
            max_messages: DEAD_MAX,
            discard: DiscardPolicy::Old,
            ..base("dead")
        };
        let weights = stream::Config {
            max_messages_per_subject: 1,
            ..base("weights")
        };
        for config in [queue("tasks"), queue("trees"), dead, weights] {
            self.jetstream
                .get_or_create_stream(config)
                .await
                .map_err(|error| failed(&error))?;
        }
        for what in ["weights", "logs"] {
            // What is in it is of a trainer that is no more.
            let _ = self.jetstream.delete_object_store(self.name(what)).await;
            let config = object_store::Config {
                bucket: self.name(what),
                num_replicas: nats.replicas,
                max_age: if what == "logs" { kept } else { Duration::ZERO },
                ..object_store::Config::default()
            };
            let made = self.jetstream.create_object_store(config).await;
            made.map_err(|error| failed(&error))?;
        }
        let ack_wait = Duration::from_secs_f64(nats.ack_wait);
        for (what, durable, ack_wait, max_deliver) in [
            // One more than are wanted: whoever is given it the last time puts it away.
            ("tasks", WORKERS, ack_wait, i64::from(nats.deliveries) + 1),
            ("trees", TRAINER, TAKEN, -1),
        ] {
            let stream = self.stream(what).await?;
            stream.purge().await.map_err(|error| failed(&error))?;
            // It may have been made with another configuration, or not at all.
            let _ = stream.delete_consumer(durable).await;
            let config = pull::Config {
                durable_name: Some(durable.to_owned()),
                ack_policy: AckPolicy::Explicit,
                ack_wait,
                max_deliver,
                // As many as a step may have trees, and more than there may be workers.
                max_ack_pending: -1,
                max_waiting: WAITING_MAX,
                ..pull::Config::default()
            };
            stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Puts this in the place of what was announced before; with `last`, only if that is still the number of what was. Says its own.
    pub(super) async fn announce(&self, json: Vec<u8>, last: Option<u64>) -> Result<u64, NatsError> {
        let mut headers = HeaderMap::new();
        if let Some(last) = last {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
        }
        self.publish("weights", headers, json).await
    }

    /// Removes all messages.
    pub(super) async fn empty(&self, what: &'static str) -> Result<(), NatsError> {
        let purged = self.stream(what).await?.purge().await;
        purged
            .map(drop)
            .map_err(|error| NatsError::server("emptying a stream", error))
    }

    /// Whether no worker has a task or could get one, and no tree waits to be taken.
    pub(super) async fn is_idle(&self) -> Result<bool, NatsError> {
        for consumer in [self.tasks().await?, self.trees().await?] {
            let info = consumer.get_info().await;
            let info = info.map_err(|error| NatsError::server("asking for tasks", error))?;
            if info.num_pending > 0 || info.num_ack_pending > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the trainer takes trees from.
    pub(super) async fn trees(&self) -> Result<PullConsumer, NatsError> {
        self.consumer("trees", TRAINER).await
    }
}
