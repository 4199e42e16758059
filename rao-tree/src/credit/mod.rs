//! Credit assignment: from the successes of the nodes to what each of their action tokens weighs in the gradient.
//!
//! [`Estimator::assign`] is a pure function of slices: a [`Forest`] of [`Member`]s in, one [`Credit`] per node out. It allocates nothing and
//! adds in arena order, so the same batch gives the same bits, wherever it is computed again. Every rule is an option of the
//! [`Estimator`], one file each; the default is Recursive Agent Optimization as published. [`Diagnostics`] says what a batch of trees and
//! its credit look like.
//!
//! ```
//! use rao_tree::credit::{Credit, Estimator, Forest, Member};
//! use rao_tree::{Depth, NodeId, NodeStatus, Success};
//!
//! let node = |parent: Option<u32>, depth, success: f32| Member {
//!     success: Success::new(success).unwrap(),
//!     ..Member::new(parent.map(NodeId), Depth(depth), Some(NodeStatus::Finished))
//! };
//! // Three trees of one root task: one delegates to two children, one to a single child, one works alone.
//! let nodes = [
//!     node(None, 0, 1.0), node(Some(0), 1, 1.0), node(Some(0), 1, 0.0), node(Some(1), 2, 1.0),
//!     node(None, 0, 0.0), node(Some(0), 1, 0.0),
//!     node(None, 0, 1.0),
//! ];
//! // Tree t ends where `tree_ends[t]` says, group g of trees where `group_ends[g]` says.
//! let forest = Forest::new(&nodes, &[4, 6, 7], &[3])?;
//! let mut credits = [Credit::default(); 7];
//! let estimator = Estimator { lambda: 0.4, ..Estimator::default() };
//! assert_eq!(estimator.assign(&forest, &mut credits)?, 1, "one group, and it teaches");
//! // R = 1 + 0.4 * (1 + 0) / 2, compared with the mean of the other roots, (0 + 1) / 2, and weighed by 7 / (3 levels * 3 roots).
//! assert!((credits[0].reward - 1.2).abs() < 1e-6);
//! assert!((credits[0].advantage - 0.7).abs() < 1e-6);
//! assert!((credits[0].weighted - 0.7 * 7.0 / 9.0).abs() < 1e-6);
//! # Ok::<(), rao_tree::credit::CreditError>(())
//! ```
//!
//! Sources: "Recursive Agent Optimization", arXiv 2605.06639, equations 1, 3, 4 and 5, for the default; each [`Rule`] names its own.
//!
//! # What each way of ending counts for
//!
//! | status | own success s | in the parent's child mean | root: in the group's baseline | in the depth count, and trained |
//! |---|---|---|---|---|
//! | [`Finished`](NodeStatus::Finished) | as graded | yes | yes | yes |
//! | [`Failed`](NodeStatus::Failed) | 0 | yes, as 0 | yes, as 0 | yes |
//! | [`Truncated`](NodeStatus::Truncated) | 0: it met a limit that it knew of | yes, as 0 | yes, as 0 | yes |
//! | [`TimedOut`](NodeStatus::TimedOut) | none: a clock is not the policy's doing | no | no | no |
//! | [`Cancelled`](NodeStatus::Cancelled) | none | no | no | no |
//! | [`Invalid`](NodeStatus::Invalid): the judge failed, or its score is in no event ([`Node::judged`]) | none: never a zero | no | no | no |
//! | still running (`None`) | none yet | no | no | no; [`Running::Refuse`] refuses the batch |
//! | a refused launch | is no node at all | no | - | no |
//!
//! And what that means for whole trees and groups:
//!
//! | case | by default | option |
//! |---|---|---|
//! | the root does not count | its tree is out of the baseline; the nodes below train against the other trees' roots | [`LostRoot::DropTree`] trains nothing of the tree |
//! | the same, with [`Rule::Sparse`] or [`Rule::RootBroadcast`] | nothing of the tree is trained: there is nothing to pay with | - |
//! | one root of the group counts | it is compared with itself: its advantage is 0, that of the nodes below R - R(root) | [`LoneRoot::Zero`] skips the group |
//! | no root of the group counts | the group is skipped, whatever the baseline | [`Rule::Pooled`], [`Rule::TreeGrpo`] and [`Rule::TreeRl`] need no root |
//! | nothing in the group has an advantage | the group is skipped: it weighs nothing and is in no depth count | - |
//! | a group of one tree | an error with [`Baseline::LeaveOneOut`] | [`Baseline::Mean`], [`Baseline::None`] |
//! | a node that counts but never acted | counts as a node; no tokens, so no gradient | - |

mod baseline;
mod cost;
mod depth;
mod diagnostics;
mod estimator;
mod forest;
mod moments;
mod reward;
mod tree_rl;

pub use baseline::Baseline;
pub use depth::{DEPTHS, DepthMass, DepthScope, DepthWeights};
pub use diagnostics::{Diagnostics, Level};
pub use estimator::{Estimator, LoneRoot, LostRoot, Rule, Running};
pub use forest::Forest;

use crate::tree::Node;
use rao_proto::{Depth, NodeId, NodeStatus, Success};

/// What credit needs to know of one node. A tree is a slice of these in arena order: the root first, a parent before its children.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Who launched it, by position within its own tree; `None` for the root.
    pub parent: Option<NodeId>,
    /// Distance from the root.
    pub depth: Depth,
    /// How it ended; `None` while it is still running.
    pub status: Option<NodeStatus>,
    /// Its own success; zero unless it finished.
    pub success: Success,
    /// Action tokens: those that it chose and that are trained.
    pub tokens: u32,
    /// Action tokens that had to be drawn one after the other, in it and below it; see [`Node::critical_path`].
    pub path: u32,
    /// Training sequences that its transcript is cut into: one, unless its context was rewritten on the way.
    pub datums: u16,
}

impl Member {
    /// A node of one datum, without success and without tokens.
    #[must_use]
    pub const fn new(parent: Option<NodeId>, depth: Depth, status: Option<NodeStatus>) -> Self {
        Self {
            parent,
            depth,
            status,
            success: Success::ZERO,
            tokens: 0,
            path: 0,
            datums: 1,
        }
    }

    /// Whether the node counts: see the table of the [module](self).
    #[must_use]
    pub const fn counts(&self) -> bool {
        matches!(
            self.status,
            Some(NodeStatus::Finished | NodeStatus::Failed | NodeStatus::Truncated(_))
        )
    }

    /// The success that credit works with: zero unless it finished.
    #[must_use]
    pub fn success(&self) -> f32 {
        if self.status == Some(NodeStatus::Finished) {
            self.success.value()
        } else {
            0.0
        }
    }
}

impl From<&Node> for Member {
    fn from(node: &Node) -> Self {
        Self {
            success: node.success,
            tokens: node.sampled,
            path: u32::try_from(node.critical_path()).unwrap_or(u32::MAX),
            ..Self::new(node.parent, node.depth, node.judged())
        }
    }
}

/// What credit assignment gives one node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Credit {
    /// What the node earned: R(X) of equation 1; with [`Rule::TreeRl`], the value V(X).
    pub reward: f32,
    /// A(X), equation 3; 0 for a node that does not count, and in a group that is skipped.
    pub advantage: f32,
    /// w_d * A(X), equation 5: what each of the node's action tokens weighs.
    pub weighted: f32,
}

/// Credit cannot be computed from these slices or with these options. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CreditError {
    /// Two slices that describe the same nodes have different lengths.
    #[error("{what}: {found} entries where there are {expected} nodes")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The number of nodes.
        expected: usize,
    },
    /// The ends of the trees or of the groups are not what they must be: each above the one before it, the last one the number of nodes or of
    /// trees. A tree without nodes and a group without trees are such.
    #[error("{what} {index} ends at {end}, after {after} and within {within}")]
    Ends {
        /// `tree` or `group`.
        what: &'static str,
        /// Which one.
        index: usize,
        /// Where it is said to end.
        end: usize,
        /// Where the one before it ends: this one must end later.
        after: usize,
        /// Where the last one must end, and no other may pass.
        within: usize,
    },
    /// A tree whose first node has a parent, or another node that has none or does not come after it.
    #[error("tree {tree}: node {node:?} has no place: the root comes first, every other node after its parent")]
    ParentOrder {
        /// Which tree.
        tree: usize,
        /// Which node.
        node: NodeId,
    },
    /// A node whose depth is not one more than its parent's, or a root below depth 0.
    #[error("tree {tree}: node {node:?} is at depth {depth}, not one below its parent")]
    Depth {
        /// Which tree.
        tree: usize,
        /// Which node.
        node: NodeId,
        /// Its depth.
        depth: u8,
    },
    /// Deeper than [`DEPTHS`] levels.
    #[error("tree {tree}: node {node:?} is at depth {depth}, deeper than {DEPTHS} levels can hold")]
    TooDeep {
        /// Which tree.
        tree: usize,
        /// Which node.
        node: NodeId,
        /// Its depth.
        depth: u8,
    },
    /// A node that has not ended, with [`Running::Refuse`].
    #[error("tree {tree}: node {node:?} is still running")]
    StillRunning {
        /// Which tree.
        tree: usize,
        /// Which node.
        node: NodeId,
    },
    /// Leave-one-out needs another tree of the same task to compare with.
    #[error("group {group} is a single tree and has no leave-one-out baseline: roll out at least two trees per task")]
    GroupOfOne {
        /// Which group.
        group: usize,
    },
    /// An option outside its range.
    #[error("{option} must be {range}, got {value}")]
    Option {
        /// Which field of the [`Estimator`].
        option: &'static str,
        /// What it takes.
        range: &'static str,
        /// Its value.
        value: f32,
    },
}
