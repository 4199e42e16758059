//! Credit assignment: from the successes of the nodes to what each of their action tokens weighs in the gradient.
//!
//! Pure functions over slices, one file per rule; the scope of each is in its signature: one tree ([`local_rewards`]), one group of
//! trees of the same root task ([`baselines`]), one batch of groups ([`DepthCounts`]). [`Estimator`] chains them. Summation runs in
//! arena order, in f32, without square roots and without allocation: the same bytes give the same bits.
//!
//! Source: "Recursive Agent Optimization", arXiv 2605.06639, equations 1, 3, 4 and 5.
//!
//! # What each way of ending counts for
//!
//! | status | own success s | in the parent's child mean | root: in the group's baseline | in the depth count, and trained |
//! |---|---|---|---|---|
//! | [`Finished`](NodeStatus::Finished) | as graded | yes | yes | yes |
//! | [`Failed`](NodeStatus::Failed) | 0 | yes, as 0 | yes | yes |
//! | [`Truncated`](NodeStatus::Truncated) | 0: it met a limit that it knew of | yes, as 0 | yes | yes |
//! | [`TimedOut`](NodeStatus::TimedOut) | none: a clock is not the policy's doing | no | no | no |
//! | [`Cancelled`](NodeStatus::Cancelled) | none | no | no | no |
//! | [`Invalid`](NodeStatus::Invalid) | none: never a zero | no | no | no |
//!
//! A refused launch never became a node: it is in none of these. A tree whose root does not count still trains the nodes that do,
//! against the baseline of the other trees; with [`Signal::Sparse`] it trains nothing. A group without any valid root has no baseline and
//! must not be trained: [`baselines`] returns how many are valid.

mod baseline;
mod depth;
mod estimator;
mod reward;

pub use baseline::{Baseline, baselines};
pub use depth::{DEPTHS, DepthCounts, DepthWeights};
pub use estimator::{Credit, Estimator, Signal};
pub use reward::local_rewards;

use crate::tree::Node;
use rao_proto::{Depth, NodeId, NodeStatus, Success};

/// What credit needs to know of one node. A tree is a slice of these in arena order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Who launched it; `None` for the root.
    pub parent: Option<NodeId>,
    /// Distance from the root.
    pub depth: Depth,
    /// How it ended.
    pub status: NodeStatus,
    /// Its own success; zero unless it finished.
    pub success: Success,
}

impl Member {
    /// Whether the node counts: see the table of the [module](self).
    #[must_use]
    pub const fn counts(&self) -> bool {
        matches!(
            self.status,
            NodeStatus::Finished | NodeStatus::Failed | NodeStatus::Truncated(_)
        )
    }

    /// The success that credit works with: zero unless it finished.
    #[must_use]
    pub fn success(&self) -> f32 {
        if self.status == NodeStatus::Finished {
            self.success.value()
        } else {
            0.0
        }
    }
}

impl From<&Node> for Member {
    /// A node that has not ended is [`NodeStatus::Invalid`] to credit: a snapshot of unfinished work judges nobody.
    fn from(node: &Node) -> Self {
        Self {
            parent: node.parent,
            depth: node.depth,
            status: node.status.unwrap_or(NodeStatus::Invalid),
            success: node.success,
        }
    }
}

/// Credit cannot be computed from these arrays.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CreditError {
    /// Two slices that describe the same nodes have different lengths.
    #[error("{what}: {found} entries where the tree has {expected} nodes")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The number of nodes.
        expected: usize,
    },
    /// A tree without nodes.
    #[error("a tree without nodes")]
    EmptyTree,
    /// A group without trees.
    #[error("a group without trees")]
    EmptyGroup,
    /// Leave-one-out needs another tree of the same task to compare with.
    #[error("a group of one tree has no leave-one-out baseline: roll out at least two trees per task")]
    GroupOfOne,
    /// A node that does not come after its parent.
    #[error("node {0:?} does not come after its parent")]
    ParentOrder(NodeId),
    /// Deeper than [`DEPTHS`].
    #[error("node {node:?} is at depth {depth}, deeper than {DEPTHS} levels can hold")]
    TooDeep {
        /// Which node.
        node: NodeId,
        /// Its depth.
        depth: u8,
    },
    /// An option outside its range.
    #[error("{what} must be a finite number of at least 0, got {value}")]
    Option {
        /// Which option.
        what: &'static str,
        /// Its value.
        value: f32,
    },
}
