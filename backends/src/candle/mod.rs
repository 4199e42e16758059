//! Training and full-precision sampling of one decoder architecture, Qwen3, with Candle.
//!
//! One code for models of 100 thousand parameters trained from scratch and for checkpoints of Qwen3: [`Weights`] are read from and written to
//! Hugging Face directories, in f32, bf16 or f16, in one file or in shards. All weights learn, in f32, or an [`Adapter`] does (LoRA, as PEFT
//! has it) on a base that may be kept in half precision. What is computed at once is bounded by tokens, not by the batch, and
//! [checkpointing](Qwen3::with_checkpointing) keeps only what enters a block; [`Footprint`] says what it will take. Nothing is quantised or
//! offloaded while it is in use, and the [`sampler`] runs on the CPU only. [`gguf`] writes files for llama.cpp, quantised ones too.
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

pub use adapter::{Adapter, AdapterError, LoraConfig, Target};
pub use batch::{Action, BatchError, PackedBatch};
pub use candle_core::{DType, Device, Var};
pub use config::{ConfigError, ModelConfig, RopeScaling, RopeScalingError, Yarn};
pub use learner::Learner;
pub use loss::{Objective, SequenceRatio, StepReport};
pub use memory::{Footprint, Update};
pub use model::{Kernels, Qwen3, TrainError};
pub use optim::{AdamW, AdamWConfig};
pub use weights::{Weights, WeightsError};
