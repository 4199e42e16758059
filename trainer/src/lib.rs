//! Recursive Agent Optimization: rollouts, training and evaluation of one policy that delegates to new instances of itself.

#[cfg(feature = "candle")]
pub mod backend;
pub mod config;
pub mod display;
pub mod environments;
pub mod evaluate;
pub mod rollout;
pub mod run;
pub mod seed;
pub mod table;
pub mod trace;
pub mod train;
