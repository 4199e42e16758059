//! Training: the warm start, recursive agent optimization, and the flat twin.

#[cfg(feature = "candle")]
pub mod checkpoint;
pub mod credit;
#[cfg(feature = "candle")]
mod failures;
#[cfg(feature = "candle")]
mod incident;
#[cfg(feature = "candle")]
pub mod metrics;
#[cfg(feature = "candle")]
mod mismatch;
#[cfg(feature = "candle")]
pub mod optimize;
#[cfg(feature = "candle")]
mod quickstart;
#[cfg(feature = "candle")]
mod rollouts;
pub mod schedule;
mod tasks;
#[cfg(feature = "candle")]
mod tensorboard;
#[cfg(feature = "candle")]
mod warmstart;

#[cfg(feature = "candle")]
pub use quickstart::{Outcome, Plan, quickstart, reach};
pub use tasks::TaskOrder;
#[cfg(feature = "candle")]
pub use warmstart::{begin as begin_warm_start, warm_start};

use crate::environments::Difficulty;

/// Training could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Rolling out failed.
    #[error(transparent)]
    Rollout(#[from] crate::rollout::RolloutError),
    /// Credit could not be assigned.
    #[error(transparent)]
    Credit(#[from] rao_tree::credit::CreditError),
    /// The backend failed.
    #[cfg(feature = "candle")]
    #[error(transparent)]
    Backend(#[from] crate::backend::BackendError),
    /// Workers elsewhere.
    #[cfg(all(feature = "nats", feature = "candle"))]
    #[error(transparent)]
    Nats(#[from] crate::nats::NatsError),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// There is nothing to go on from as it was left.
    #[cfg(feature = "candle")]
    #[error(transparent)]
    Resume(#[from] checkpoint::ResumeError),
    /// A checkpoint could not be written.
    #[cfg(feature = "candle")]
    #[error("cannot write a checkpoint: {0}")]
    Checkpoint(#[from] checkpoint::WriteError),
    /// The benchmark could not be made or read.
    #[error(transparent)]
    Benchmark(#[from] crate::environments::BenchmarkError),
    /// The metrics could not be written.
    #[error("cannot write metrics: {0}")]
    Metrics(#[from] std::io::Error),
    /// Too much of a step failed to learn from the rest.
    #[error(
        "{failed} of {trees} trees of step {step} of {arm} failed, more than rao.failed_max={max} allows; {}. Nothing was learned from that step: remove the cause, or change rao.failed_max or limits.seconds in the run's config.toml, and go on from the last checkpoint",
        .cause.as_deref().map_or("none says why: they were still under way after limits.seconds".to_owned(), |cause| format!("most often: {cause}"))
    )]
    Failures {
        /// Which arm.
        arm: &'static str,
        /// Which of its steps.
        step: usize,
        /// Trees whose root could not be judged.
        failed: usize,
        /// All trees of the step.
        trees: usize,
        /// The limit.
        max: f64,
        /// The most frequent fault, in its own words.
        cause: Option<String>,
    },
    /// Nothing to train on.
    #[error("the benchmark has no {} task to train on", .difficulty.name())]
    NoTasks {
        /// Of which difficulty.
        difficulty: Difficulty,
    },
}
