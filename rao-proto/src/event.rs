//! The append-only events that describe a run.

use crate::types::{CancelReason, Depth, Limit, Limits, NodeId, NodeStatus, Success, Token, WeightsVersion};

/// One event and when it happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// Microseconds since the run was opened, by the caller's clock; 0 where the caller has none.
    pub at_us: u64,
    /// What happened.
    pub event: Event<'a>,
}

/// What happened. The order of the variants is the wire format: append only.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// First event of a run.
    RunOpened { task: &'a str, seed: u64, limits: Limits, weights: WeightsVersion },
    /// A node was admitted. The root has no parent.
    Spawn { node: NodeId, parent: Option<NodeId>, depth: Depth, task: &'a str },
    /// A launch was refused; the parent is told. `index` counts within the delegation.
    Refuse { parent: NodeId, index: u8, limit: Limit },
    /// Tokens that the node reads and did not choose.
    Observe { node: NodeId, tokens: Tokens<'a> },
    /// Tokens that the node chose, with the log-probability of each under the distribution it was sampled from.
    Act { node: NodeId, tokens: Tokens<'a>, logprobs: Logprobs<'a>, weights: WeightsVersion },
    /// The node ended of itself.
    Return { node: NodeId, status: NodeStatus, value: &'a [u8] },
    /// The node was ended from outside.
    Cancel { node: NodeId, reason: CancelReason },
    /// The node's own success s(X). Follows its `Return`; absent when it could not be judged.
    Score { node: NodeId, success: Success },
    /// Last event of a run.
    RunClosed { nodes: u32, tokens: u64 },
}

/// Tokens borrowed from memory or from a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tokens<'a>(pub &'a [Token]);

/// Natural-log probabilities borrowed from memory or from a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logprobs<'a>(pub &'a [f32]);
