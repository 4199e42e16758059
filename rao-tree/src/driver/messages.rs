//! What the driver says and what it is told.

#[cfg(doc)]
use super::Driver;
use crate::environment::Answer;
use crate::policy::Stop;
use crate::tree::TreeError;
use rao_proto::{Limit, LogprobError, NodeId, NodeStatus, Success, Token, WeightsVersion};

/// What the driver wants done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Make the environment of this launch and call [`Driver::handle_spawn`], then [`Driver::handle_prompt`], or
    /// [`Driver::handle_broken`] where it cannot be made. Stays on offer until it is spawned.
    Open {
        /// Who asked for it; `None` for the root.
        parent: Option<NodeId>,
        /// Which of its delegation.
        index: u8,
    },
    /// Draw an action of at most `room` tokens and call [`Driver::handle_action`].
    Sample {
        /// Who acts.
        node: NodeId,
        /// Tokens reserved for this action; what is not used is refunded.
        room: u32,
    },
    /// All launches of the node's delegation have ended ([`Driver::launch`] tells how): call `Environment::resume`, then
    /// [`Driver::handle_outcome`].
    Resume {
        /// Who goes on.
        node: NodeId,
        /// How many launches it asked for.
        launches: u8,
    },
    /// The node met a limit or its deadline and has ended; nothing more is asked of its environment.
    Retire {
        /// Who ended.
        node: NodeId,
    },
}

/// An action as the policy drew it.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// What was drawn.
    pub tokens: &'a [Token],
    /// Log-probability of each.
    pub logprobs: &'a [f32],
    /// The weights that drew it.
    pub weights: WeightsVersion,
    /// Why it ended.
    pub stop: Stop,
}

/// What came of one launch of a delegation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Launch {
    /// It became a node, which has ended.
    Ended {
        /// Which.
        node: NodeId,
        /// How.
        status: NodeStatus,
        /// Its own success; zero unless it finished and its environment graded it. A verdict on what was
        /// [submitted](crate::Outcome::Submit) is never in it, so that what a parent sees does not depend on how fast a judge is.
        success: Success,
        /// Whether its environment ended it, in [`Driver::handle_outcome`], and so handed its answer over. A node that a limit, a clock or a
        /// fault ended hands over nothing: what its environment would still say is in no log.
        answered: bool,
    },
    /// It never existed.
    Refused(Limit),
}

impl Launch {
    /// The node that it became.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        match *self {
            Self::Ended { node, .. } => Some(node),
            Self::Refused(_) => None,
        }
    }

    /// What its parent is shown, as the event log has it. `value` is what the environment of the child says now.
    #[must_use]
    pub const fn answer<'v>(&self, value: &'v [u8]) -> Answer<'v> {
        match *self {
            Self::Ended {
                status,
                success,
                answered,
                ..
            } => Answer::Ended {
                status,
                success,
                value: if answered { value } else { &[] },
            },
            Self::Refused(limit) => Answer::Refused(limit),
        }
    }
}

/// A call that the driver did not ask for, or with something that it cannot take. Nothing has changed: the node is still where it was, and
/// one that is with the caller may be tried again or given up with [`Driver::handle_broken`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The node is not at the stage that the call is for.
    #[error("node {node:?} is {stage}, the call needs a node that is {needed}")]
    OutOfTurn {
        /// Which node.
        node: NodeId,
        /// Where it is.
        stage: &'static str,
        /// Where it should be.
        needed: &'static str,
    },
    /// No such node, or no such launch is due.
    #[error("nothing of that name is due: {0:?}")]
    NotDue(NodeId),
    /// A delegation of no children.
    #[error("node {0:?} delegates to no child at all")]
    EmptyDelegation(NodeId),
    /// The action is longer than the room that was reserved.
    #[error("node {node:?} acted with {tokens} tokens in a room of {room}")]
    OverRoom {
        /// Which node.
        node: NodeId,
        /// Tokens of the action.
        tokens: u32,
        /// Tokens reserved.
        room: u32,
    },
    /// An action without exactly one log-probability for each token.
    #[error("node {node:?} acted with {tokens} tokens and {logprobs} log-probabilities")]
    Unpaired {
        /// Which node.
        node: NodeId,
        /// Tokens of the action.
        tokens: usize,
        /// Log-probabilities of the action.
        logprobs: usize,
    },
    /// A log-probability of the action is above 0 or not finite.
    #[error(transparent)]
    Logprob(#[from] LogprobError),
    /// The tree refused the event.
    #[error(transparent)]
    Tree(#[from] TreeError),
}
