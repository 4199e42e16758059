//! [`NatsError`].

use super::PROTOCOL;
use std::path::PathBuf;
use std::time::Duration;

/// Trainer and workers could not work together. No message holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// Not the URL of a NATS server.
    #[error("nats.url: {0}; it takes nats://HOST:PORT or tls://HOST:PORT, several separated by commas")]
    Url(String),
    /// Nobody in particular, on a network.
    #[error(
        "{host} is another machine, and nothing says who asks: put user@ into the URL and the password into the environment variable RAO_NATS_PASSWORD, or name a file of credentials (nats.creds, --creds)"
    )]
    Anonymous {
        /// Where.
        host: String,
    },
    /// A user without a password.
    #[error(
        "the URL names a user without a password: put it into the environment variable RAO_NATS_PASSWORD, or into the URL behind the name"
    )]
    Password,
    /// A task that is not among those of this worker.
    #[error(
        "there is no task {task:?} here: world.source must be the same on every machine; its trees go to other workers"
    )]
    Task {
        /// Which.
        task: String,
    },
    /// The file of credentials.
    #[error("credentials {path}: {source}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server does not answer, or refuses.
    #[error(
        "cannot reach the NATS server at {servers}: {reason}. It needs JetStream: nats-server -js -sd DIRECTORY; see docs/deploy.md"
    )]
    Unreachable {
        /// Its addresses.
        servers: String,
        /// Why.
        reason: String,
    },
    /// The server would not do what it was asked.
    #[error("NATS, {what}: {reason}")]
    Server {
        /// What it was asked.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// No trainer has said anything.
    #[error("no trainer has announced weights at {place:?} for {:.0} s: start one with --set rollout.engine=nats --set nats.name={place}", .waited.as_secs_f64())]
    NoTrainer {
        /// Where.
        place: String,
        /// How long.
        waited: Duration,
    },
    /// A worker has nothing to do.
    #[error("no task has come for {:.0} s (--patience), and no tree is under way", .waited.as_secs_f64())]
    Idle {
        /// How long.
        waited: Duration,
    },
    /// Nothing comes from any worker.
    #[error(
        "no worker has sent a tree for {:.0} s (nats.patience); {missing} of {trees} are missing. Start some with `rao worker --nats URL`, and go on with `rao train --resume`",
        .waited.as_secs_f64()
    )]
    Deserted {
        /// How long.
        waited: Duration,
        /// Trees that are missing.
        missing: usize,
        /// Trees of the step.
        trees: usize,
    },
    /// Another trainer has announced itself at the same place.
    #[error("another trainer has taken over at nats.name={place:?}: give each training a name of its own")]
    TakenOver {
        /// Where.
        place: String,
    },
    /// The other side speaks another version.
    #[error(
        "{who} speaks protocol {theirs} (rao {rao}), this is protocol {PROTOCOL} (rao {}): {}",
        env!("CARGO_PKG_VERSION"),
        if *.theirs > PROTOCOL { "upgrade this one" } else { "upgrade the other" }
    )]
    Protocol {
        /// The other side.
        who: &'static str,
        /// Its protocol.
        theirs: u32,
        /// Its version.
        rao: String,
    },
    /// What a trainer announces makes no sense.
    #[error("the announcement of the weights: {0}")]
    Announcement(String),
    /// The trainer does not publish what this worker samples.
    #[error(
        "the trainer publishes weights as {published}, and this worker samples {needed}: add {needed:?} to nats.weights of the training, or take another --policy-backend"
    )]
    Format {
        /// What there is.
        published: String,
        /// What is needed.
        needed: &'static str,
    },
    /// A backend that cannot take part.
    #[error("{0}")]
    Backend(String),
    /// The policy that trees are drawn from.
    #[error(transparent)]
    Rollout(#[from] crate::rollout::RolloutError),
    /// The tasks that the trainer's configuration names.
    #[error(transparent)]
    Benchmark(#[from] crate::environments::BenchmarkError),
    /// A file between the server and a backend.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl NatsError {
    /// What the server would not do.
    pub(super) fn server(what: &'static str, reason: impl ToString) -> Self {
        Self::Server {
            what,
            reason: reason.to_string(),
        }
    }
}
