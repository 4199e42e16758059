//! What the bench `workers` records and `examples/fleet.rs` simulates with.

use serde::{Deserialize, Serialize};

/// Latencies and sizes of trees, of a training with one worker.
#[derive(Serialize, Deserialize)]
pub struct Recorded {
    /// Seconds of each tree at the worker, from its first event to its last, among others.
    pub tree_seconds: Vec<f64>,
    /// Bytes of its log.
    pub tree_bytes: Vec<usize>,
    /// To make a rollout of a log.
    pub read_seconds: f64,
    /// To learn from a step of 64 trees and to publish the weights.
    pub train_seconds: f64,
    /// Trees per second of the worker, of one thread, while it rolled out.
    pub worker_trees_per_second: f64,
    /// Of the weights, as workers in full precision read them.
    pub weights_bytes: u64,
}
