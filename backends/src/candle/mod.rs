//! Training and full-precision sampling of one decoder architecture, Qwen3, with Candle.

pub mod config;
mod ops;
pub mod weights;

pub use config::{ConfigError, ModelConfig};
pub use weights::{Weights, WeightsError};
