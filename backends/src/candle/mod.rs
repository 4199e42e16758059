//! Training and full-precision sampling of one decoder architecture, Qwen3, with Candle.
//!
//! Made for small models trained from scratch: 100 thousand to some millions of parameters. A checkpoint of Qwen3 loads if it is f32 and one
//! `model.safetensors` beside its `config.json`; other types and sharded files are refused. Nothing is quantised or offloaded while it is
//! in use: on the CPU, training keeps weights, two moments and up to eight partial gradients, all f32. The [`sampler`] runs on the CPU
//! only. [`gguf`] writes files for llama.cpp, quantised ones too.
//!
//! On the CPU training runs on fused kernels ([`Kernels::Fused`]), elsewhere on Candle's operations ([`Kernels::Composite`]); tests
//! hold the two together.

mod batch;
mod composite;
mod config;
mod file;
mod fused;
pub mod gguf;
mod learner;
mod logits;
mod loss;
mod model;
mod ops;
mod optim;
mod parts;
pub mod sampler;
mod weights;

#[cfg(test)]
mod correction_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

pub use batch::{Action, BatchError, PackedBatch};
pub use candle_core::Device;
pub use config::{ConfigError, ModelConfig};
pub use learner::Learner;
pub use loss::{Objective, SequenceRatio, StepReport};
pub use model::{Kernels, Qwen3, TrainError};
pub use optim::{AdamW, AdamWConfig, OptimState};
pub use weights::{Weights, WeightsError};
