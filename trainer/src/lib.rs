//! Recursive Agent Optimization.

pub mod config;
pub mod environments;
pub mod evaluate;
pub mod rollout;
pub mod seed;
pub mod train;
