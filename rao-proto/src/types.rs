//! What is counted, and how things end: newtypes and closed enums shared by every crate of the workspace.

use core::fmt;
use serde::{Deserialize, Serialize};

/// One vocabulary entry of the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u32);

/// A node of one execution tree, numbered from 0 (the root) in the order of admission: a parent precedes its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The root of every tree.
    pub const ROOT: Self = Self(0);

    /// Position in the arena.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Distance from the root, which is at depth 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Depth(pub u8);

/// Counts published updates of the policy's weights; 0 is what the run began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WeightsVersion(pub u64);

/// A node's own success s(X), checked to lie in 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Success(f32);

/// A success outside 0..=1, or not a number.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("success must lie in 0..=1, got {0}")]
pub struct SuccessError(pub f32);

impl Success {
    /// Nothing achieved.
    pub const ZERO: Self = Self(0.0);
    /// Everything achieved.
    pub const ONE: Self = Self(1.0);

    /// Checks the range.
    ///
    /// # Errors
    /// [`SuccessError`] outside 0..=1 and for NaN.
    pub const fn new(value: f32) -> Result<Self, SuccessError> {
        if value >= 0.0 && value <= 1.0 {
            Ok(Self(value))
        } else {
            Err(SuccessError(value))
        }
    }

    /// The number in 0..=1.
    #[must_use]
    pub const fn value(self) -> f32 {
        self.0
    }
}

impl TryFrom<f32> for Success {
    type Error = SuccessError;
    fn try_from(value: f32) -> Result<Self, SuccessError> {
        Self::new(value)
    }
}

impl From<Success> for f32 {
    fn from(success: Success) -> Self {
        success.0
    }
}

/// How a node ended. Exactly one per node. The table of effects on credit is in `rao_tree::credit`.
///
/// The order of the variants is part of the wire format: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeStatus {
    /// It said it was done and was graded: its success is what the environment gave.
    Finished,
    /// Its environment ended it for something it did: success 0.
    Failed,
    /// It met one of its own limits before it finished: success 0.
    Truncated(Limit),
    /// The caller's clock ran out: says nothing about the policy.
    TimedOut,
    /// Ended from outside because its parent or its tree ended.
    Cancelled,
    /// It could not be judged, or its environment broke: never counted as a zero.
    Invalid,
}

/// What was exhausted.
///
/// The order of the variants is part of the wire format: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Limit {
    /// Depth below the root.
    Depth,
    /// Nodes of the tree.
    Nodes,
    /// Children of one node, over its life.
    Children,
    /// Actions of one node.
    Steps,
    /// Sampled tokens of the tree.
    Tokens,
    /// Context window of one node.
    Context,
}

impl Limit {
    /// Every limit, in wire order.
    pub const ALL: [Self; 6] = [
        Self::Depth,
        Self::Nodes,
        Self::Children,
        Self::Steps,
        Self::Tokens,
        Self::Context,
    ];
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Depth => "depth",
            Self::Nodes => "nodes",
            Self::Children => "children",
            Self::Steps => "steps",
            Self::Tokens => "tokens",
            Self::Context => "context",
        })
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed => f.write_str("failed"),
            Self::Truncated(limit) => write!(f, "cut off by its limit of {limit}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Invalid => f.write_str("could not be judged"),
        }
    }
}

/// Why a node was cancelled.
///
/// The order of the variants is part of the wire format: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CancelReason {
    /// An ancestor ended first. Reserved: with the driver of `rao-tree` a parent outlives its children.
    ParentEnded,
    /// The caller stopped the run.
    Caller,
}

/// Caps of one tree. Every one is inclusive: `depth_max: 2` allows nodes at depth 0, 1 and 2.
///
/// The fields and their order are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Deepest node; 0 forbids delegation.
    pub depth_max: u8,
    /// Nodes of the tree, root included.
    pub nodes_max: u32,
    /// Children of one node over its life.
    pub children_max: u16,
    /// Actions of one node.
    pub steps_max: u16,
    /// Tokens that the policy may sample in the whole tree.
    pub tokens_max: u64,
    /// Tokens of one action.
    pub action_max: u32,
    /// Tokens of one node's context, prompt and observations included.
    pub context_max: u32,
    /// Nodes of the tree that may be at work at once; waiting parents do not count. Bounds memory, never refuses.
    pub concurrent_max: u32,
    /// When the whole tree is timed out, in microseconds since the run was opened; `None` for never.
    pub deadline_us: Option<u64>,
}

impl Limits {
    /// What the root may use of them, itself not counted.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        Budget {
            depth: self.depth_max,
            nodes: self.nodes_max.saturating_sub(1),
            children: self.children_max,
            steps: self.steps_max,
            tokens: self.tokens_max,
            deadline_us: self.deadline_us,
        }
    }
}

/// What a node was given to use, with everything below it. A child's is never above what its parent had left: see
/// [`within`](Self::within).
///
/// `nodes` and `tokens` are one pot for the node and all of its descendants; `children` and `steps` are caps that each of them has for
/// itself. The fields and their order are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Levels that may be spawned below the node; 0 forbids delegation.
    pub depth: u8,
    /// Nodes that may be spawned below it, all levels together.
    pub nodes: u32,
    /// Children of one node over its life.
    pub children: u16,
    /// Actions of one node.
    pub steps: u16,
    /// Tokens that it and its descendants may sample.
    pub tokens: u64,
    /// When it is timed out, in microseconds since the run was opened; `None` for never.
    pub deadline_us: Option<u64>,
}

impl Budget {
    /// No cap at all: as a wish, it takes whatever the parent has left.
    pub const UNLIMITED: Self = Self {
        depth: u8::MAX,
        nodes: u32::MAX,
        children: u16::MAX,
        steps: u16::MAX,
        tokens: u64::MAX,
        deadline_us: None,
    };

    /// The smaller of the two, field by field; the earlier of two deadlines.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            depth: self.depth.min(other.depth),
            nodes: self.nodes.min(other.nodes),
            children: self.children.min(other.children),
            steps: self.steps.min(other.steps),
            tokens: self.tokens.min(other.tokens),
            deadline_us: match (self.deadline_us, other.deadline_us) {
                (Some(one), Some(another)) => Some(one.min(another)),
                (one, another) => one.or(another),
            },
        }
    }

    /// The most that a child of a node with this budget may be given: one level less, the rest as it is.
    #[must_use]
    pub const fn of_child(self) -> Self {
        Self {
            depth: self.depth.saturating_sub(1),
            ..self
        }
    }

    /// Whether no field is above that of `other`.
    #[must_use]
    pub fn within(self, other: Self) -> bool {
        self.min(other) == self
    }
}
