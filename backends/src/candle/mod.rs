//! Training and full-precision sampling of one decoder architecture, Qwen3, with Candle.
//!
//! Made for small models trained from scratch: 100 thousand to some millions of parameters. Checkpoints of dense Qwen3 models load and are
//! written as Hugging Face has them: f32, f16 or bf16, one file or shards. Nothing is quantised or offloaded while it is in use: on the
//! CPU, training keeps weights, two moments and up to eight partial gradients, all f32. The [`sampler`] runs on the CPU only. [`gguf`]
//! writes files for llama.cpp, quantised ones too.
//!
//! On the CPU training runs on fused kernels ([`Kernels::Fused`]), elsewhere on Candle's operations ([`Kernels::Composite`]); tests
//! hold the two together.

mod adapter;
mod batch;
mod composite;
mod config;
mod frequencies;
mod fused;
pub mod gguf;
mod learner;
mod logits;
mod loss;
mod memory;
mod model;
mod ops;
mod optim;
mod parts;
pub mod sampler;
mod weights;

#[cfg(test)]
mod correction_tests;
#[cfg(test)]
mod lora_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

// The files of this module name it as one of theirs.
use crate::file;

pub use adapter::{Adapter, AdapterError, LoraConfig, Target};
pub use batch::{Action, BatchError, PackedBatch};
pub use candle_core::{DType, Device, Var};
pub use config::{ConfigError, ModelConfig, RopeScaling, RopeScalingError, Yarn};
pub use learner::Learner;
pub use loss::{Objective, SequenceRatio, StepReport};
pub use memory::{Footprint, Update};
pub use model::{Kernels, Qwen3, TrainError};
pub use optim::{AdamW, AdamWConfig, OptimState};
pub use weights::{Weights, WeightsError};
