//! Where a node stands with the driver, and the two lists of those whose turn will come. The links are in the nodes: no list needs room
//! of its own.

use super::budget::Pots;
use crate::tree::{Arena, Tree};
use rao_proto::{Limit, NodeId};

/// Where a node stands with the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Spawned; its opening context is due from the caller.
    #[default]
    Opening,
    /// In the queue: an action is wanted.
    DueSample,
    /// The caller draws an action.
    Sampling,
    /// The caller steps the environment.
    Stepping,
    /// Waits for children.
    Waiting,
    /// In the queue: its children have ended.
    DueResume,
    /// The caller resumes the environment.
    Resuming,
    /// Ended; what it was worth is due from the caller.
    Judging,
    /// Ended.
    Ended,
}

impl Stage {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::DueSample => "due to be sampled",
            Self::Sampling => "being sampled",
            Self::Stepping => "being stepped",
            Self::Waiting => "waiting for its children",
            Self::DueResume => "due to be resumed",
            Self::Resuming => "being resumed",
            Self::Judging => "being judged",
            Self::Ended => "ended",
        }
    }
}

/// The driver's private share of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Work {
    pub(super) stage: Stage,
    /// Next in whichever list the node is in.
    pub(super) next: Option<NodeId>,
    /// Tokens reserved for the action under way.
    pub(super) room: u32,
    pub(super) pots: Pots,
    /// Delegations refused in full since the last action.
    pub(super) refused: u8,
    /// Current delegation: asked for, admitted, already opened, not yet ended.
    pub(super) launches: u8,
    pub(super) admitted: u8,
    pub(super) opened: u8,
    pub(super) pending: u8,
    pub(super) refusal: Option<Limit>,
    pub(super) last_child: Option<NodeId>,
    /// As a child: position in the parent's delegation, and the sibling opened before.
    pub(super) index: u8,
    pub(super) previous: Option<NodeId>,
    /// Its environment ended it and handed its answer over.
    pub(super) answered: bool,
    /// Its answer was still to be judged when it ended: its parent sees no success, however soon the verdict is in.
    pub(super) submitted: bool,
}

/// Nodes that are due, first in, first out.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    first: Option<NodeId>,
    last: Option<NodeId>,
}

impl Due {
    pub(super) fn first(&self) -> Option<NodeId> {
        self.first
    }

    pub(super) fn push<A: Arena>(&mut self, tree: &mut Tree<A>, node: NodeId, stage: Stage) {
        if let Some(entry) = tree.node_mut(node) {
            entry.work.stage = stage;
            entry.work.next = None;
        }
        match self.last.replace(node).and_then(|last| tree.node_mut(last)) {
            Some(last) => last.work.next = Some(node),
            None => self.first = Some(node),
        }
    }

    pub(super) fn pop<A: Arena>(&mut self, tree: &mut Tree<A>) {
        let first = self.first.and_then(|first| tree.node_mut(first));
        self.first = first.and_then(|entry| entry.work.next.take());
        if self.first.is_none() {
            self.last = None;
        }
    }
}

/// Parents with admitted launches that are not open yet, last in, first out: depth first, so that the tree stays narrow.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening {
    top: Option<NodeId>,
}

impl Opening {
    pub(super) fn top(&self) -> Option<NodeId> {
        self.top
    }

    pub(super) fn push<A: Arena>(&mut self, tree: &mut Tree<A>, node: NodeId) {
        let below = self.top.replace(node);
        if let Some(entry) = tree.node_mut(node) {
            entry.work.next = below;
        }
    }

    /// Takes out a node that is at or near the top: others come above it only between an offer and its acceptance.
    pub(super) fn remove<A: Arena>(&mut self, tree: &mut Tree<A>, node: NodeId) {
        let below = tree.node_mut(node).and_then(|entry| entry.work.next.take());
        if self.top == Some(node) {
            self.top = below;
            return;
        }
        let mut above = self.top;
        while let Some(entry) = above.and_then(|id| tree.node_mut(id)) {
            if entry.work.next == Some(node) {
                entry.work.next = below;
                return;
            }
            above = entry.work.next;
        }
    }
}
