//! Training and full-precision sampling of one decoder architecture, Qwen3, with Candle.
//!
//! The same code serves a model of 80 thousand parameters trained from scratch and checkpoints of billions. On the CPU it runs on
//! fused kernels ([`Kernels::Fused`]), elsewhere on Candle's operations ([`Kernels::Composite`]); tests hold the two together.

mod batch;
mod composite;
mod config;
mod fused;
mod learner;
mod loss;
mod model;
mod ops;
mod optim;
mod parts;
pub mod sampler;
mod weights;

#[cfg(test)]
mod tests;

pub use batch::{Action, BatchError, PackedBatch};
pub use candle_core::Device;
pub use config::{ConfigError, ModelConfig};
pub use learner::Learner;
pub use loss::{Objective, StepReport};
pub use model::{Gradients, Kernels, Qwen3, TrainError};
pub use optim::{AdamW, AdamWConfig, OptimState};
pub use weights::{Weights, WeightsError};
