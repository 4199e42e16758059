//! The Candle backend: a Qwen3 decoder that is trained and sampled at full precision.

pub mod sampler;
