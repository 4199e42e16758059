//! The append-only events that describe a run.

use serde::{Deserialize, Serialize, Serializer};

use crate::types::{Budget, CancelReason, Depth, Limit, Limits, NodeId, NodeStatus, Success, WeightsVersion};
use crate::views::{Logprobs, Tokens};

/// One event and when it happened.
///
/// `Serialize` also serves human-readable formats; to read a record, [`decode`](crate::decode) a frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Microseconds since the run was opened, by the caller's clock; 0 where the caller has none.
    pub at_us: u64,
    /// What happened.
    #[serde(borrow)]
    pub event: Event<'a>,
}

/// What happened.
///
/// The order of the variants is the wire format: append only, and the fields of a variant never change. A reader skips variants that are
/// newer than itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event<'a> {
    /// First event of a run.
    RunOpened {
        /// What the root is asked to do.
        task: &'a str,
        /// What every random choice of the run derives from.
        seed: u64,
        /// Caps of the tree.
        limits: Limits,
        /// Weights published when the run began.
        weights: WeightsVersion,
    },
    /// A node was admitted. Every spawn is followed by exactly one `Return` or `Cancel` of the same node.
    Spawn {
        /// The new node.
        node: NodeId,
        /// Who launched it; `None` for the root.
        parent: Option<NodeId>,
        /// Distance from the root.
        depth: Depth,
        /// What it is asked to do.
        task: &'a str,
        /// What it may use, with everything below it.
        budget: Budget,
    },
    /// A launch was refused; the parent is told.
    Refuse {
        /// Who wanted to launch.
        parent: NodeId,
        /// Position within the delegation, from 0.
        index: u8,
        /// What stood against it.
        limit: Limit,
    },
    /// Tokens that the node reads and did not choose. Successive ones append.
    Observe {
        /// The reader.
        node: NodeId,
        /// What it reads.
        tokens: Tokens<'a>,
    },
    /// One action: tokens that the node chose.
    Act {
        /// The chooser.
        node: NodeId,
        /// What it chose.
        tokens: Tokens<'a>,
        /// Natural-log probability of each token under the distribution it was sampled from; as many as there are tokens.
        logprobs: Logprobs<'a>,
        /// Weights that sampled it.
        weights: WeightsVersion,
    },
    /// The node ended of itself.
    Return {
        /// The node that ended.
        node: NodeId,
        /// How.
        status: NodeStatus,
        /// Its answer, as its parent gets it; empty where it has none.
        #[serde(serialize_with = "bytes")]
        value: &'a [u8],
    },
    /// The node was ended from outside.
    Cancel {
        /// The node that ended.
        node: NodeId,
        /// Why.
        reason: CancelReason,
    },
    /// The node's own success s(X). Follows its `Return`; absent when it could not be judged.
    Score {
        /// The node that was judged.
        node: NodeId,
        /// Its success.
        success: Success,
    },
    /// Last event of a run.
    RunClosed {
        /// Nodes admitted, root included.
        nodes: u32,
        /// Tokens sampled, all nodes together.
        tokens: u64,
    },
    /// The node's context begins anew, empty: what it read and chose before is no longer before it. What it observes next is its new prompt.
    Restart {
        /// Whose context.
        node: NodeId,
    },
    /// What was allowed as the tokens of the node's next action were drawn, for who trains on them; absent where nothing was constrained, or
    /// nobody asked. Stands before its `Act`; successive ones append.
    Allow {
        /// Who was constrained.
        node: NodeId,
        /// One set of tokens after the other, as many as the action has tokens and all of one length: bit `t % 8` of byte `t / 8` allows token `t`.
        #[serde(serialize_with = "bytes")]
        masks: &'a [u8],
    },
}

impl Event<'_> {
    /// The number that stands for the variant on the wire.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        match self {
            Self::RunOpened { .. } => 0,
            Self::Spawn { .. } => 1,
            Self::Refuse { .. } => 2,
            Self::Observe { .. } => 3,
            Self::Act { .. } => 4,
            Self::Return { .. } => 5,
            Self::Cancel { .. } => 6,
            Self::Score { .. } => 7,
            Self::RunClosed { .. } => 8,
            Self::Restart { .. } => 9,
            Self::Allow { .. } => 10,
        }
    }
}

/// Kinds below this are known to this version of the crate: one more than that of the last variant.
pub(crate) const KINDS: u32 = Event::Allow {
    node: NodeId::ROOT,
    masks: &[],
}
.kind()
    + 1;

/// serde writes `&[u8]` element by element; this writes the same bytes in one go.
fn bytes<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(value)
}
