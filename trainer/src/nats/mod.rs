//! Rollouts by workers on other machines, met at a NATS server with JetStream.
//!
//! Nothing is invented but names: a task is the first frame of its event log, a tree is its event log ([SPEC.md]), weights are the files that
//! `rao export` writes. Under the place `P` ([`config::Nats::name`](crate::config::Nats::name)) lie
//!
//! | what | kind | from, to | holds |
//! |---|---|---|---|
//! | `P-tasks` | work-queue stream, subject `rao.P.tasks` | trainer, workers | a `run opened` frame for each tree of the step |
//! | `P-trees` | work-queue stream, subject `rao.P.trees` | workers, trainer | the frames of each tree |
//! | `P-dead` | stream, subject `rao.P.dead` | workers, people | tasks that nobody could end, with the reason |
//! | `P-weights` | stream of one message, subject `rao.P.weights` | trainer, workers | the [`Announcement`]: version, configuration, files |
//! | `P-weights` | object store | trainer, workers | the files of the last two versions |
//! | `P-logs` | object store | workers, trainer | logs that are too long for a message |
//!
//! Headers say what a frame does not: `Rao-Protocol` ([`PROTOCOL`]), `Rao-Epoch` (which trainer process), `Rao-Job` (which tree of it), `Rao-Faults`
//! (what broke, as a JSON list of texts), `Rao-Object` (where a long log lies).
//!
//! # What holds
//! - A task leaves its stream when its tree has been stored; a worker that dies gives its tasks back by saying nothing for
//!   `nats.ack_wait`. A tree counts once, whoever sends it how often: the server drops a second message of one identifier, and the
//!   trainer takes one tree for each of its tasks.
//! - A tree is sampled under one version of the weights, at least the one that its task names: a worker swaps them when it has no tree
//!   under way.
//! - The server may be killed at any time, as streams are files. A trainer that is killed and resumed begins its step anew under an epoch of
//!   its own, so that no tree of the old one is taken for one of its own.
//!
//! [SPEC.md]: https://docs.rs/crate/rao-proto/latest/source/SPEC.md

mod announcement;
#[cfg(feature = "candle")]
mod engine;
mod error;
#[cfg(feature = "candle")]
mod lay_out;
mod link;
mod store;
mod wire;
mod worker;

pub use announcement::{Announcement, Published};
#[cfg(feature = "candle")]
pub use engine::Distributed;
pub use error::NatsError;
pub use link::Link;
#[cfg(feature = "openai")]
pub use worker::WorkerServer;
pub use worker::{WorkerOptions, work};

/// What samples at a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerBackend {
    /// In full precision.
    Candle,
    /// From a GGUF file, quantised as the trainer publishes it.
    LlamaCpp,
    /// A server beside it, asked for one distribution after the other: what is drawn is drawn by the worker.
    #[cfg(feature = "openai")]
    OpenAi(Box<WorkerServer>),
}

/// Version of what trainers and workers say to each other. One more with every change that an older one would misread.
pub const PROTOCOL: u32 = 1;
