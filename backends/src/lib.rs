//! Policies for recursive agents.

#[cfg(feature = "candle")]
pub mod candle;
