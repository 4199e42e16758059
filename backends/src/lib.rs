//! Policies for recursive agents. Feature `candle`: training and full-precision sampling.

#[cfg(feature = "candle")]
pub mod candle;
