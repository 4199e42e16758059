//! Policies for recursive agents.
//!
//! | feature | what it adds |
//! |---|---|
//! | (always) | [`scripted`]: policies without a model |
//! | `candle` | training, and sampling in full precision |

#[cfg(feature = "candle")]
pub mod candle;
mod random;
pub mod scripted;
