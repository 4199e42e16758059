//! What each node may still use.
//!
//! Nodes and tokens are pots: what a node was given is for itself and all of its descendants, so whatever one of them takes is taken from
//! every pot above it, too. What a node has left is therefore the least that is left on its way to the root, and a child can never have
//! more than its parent. Taking walks that way, at most [`Limits::depth_max`](rao_proto::Limits::depth_max) steps, instead of dividing a
//! pot among children beforehand: nothing lies idle with a child that does not need it.

use super::Driver;
use crate::tree::{Arena, Node, Tree};
use rao_proto::{Budget, Limit, NodeId};

/// What a node that is due to act gets.
pub(super) enum Room {
    /// So many tokens.
    Granted(u32),
    /// Nothing yet: others hold tokens that they may give back.
    Held,
    /// Nothing ever again.
    Exhausted(Limit),
}

/// What is left of a node's own pots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pots {
    nodes: u32,
    /// Tokens that are not spent.
    tokens: u64,
    /// Those of them that are reserved for actions under way, its own and those of its descendants.
    reserved: u64,
}

impl<A: Arena> Driver<A> {
    /// What a node has left, with everything below it; `None` for a node that does not exist. Tokens are spent when an action is handed in:
    /// until then they are only reserved, and what an action does not use was never gone. `children` and `steps` are those of the node
    /// itself.
    #[must_use]
    pub fn left(&self, node: NodeId) -> Option<Budget> {
        let entry = self.tree.node(node)?;
        let left = Budget {
            children: entry.budget.children.saturating_sub(entry.children),
            steps: entry.budget.steps.saturating_sub(entry.steps),
            ..entry.budget
        };
        Some(way_up(&self.tree, node).fold(left, |left, entry| Budget {
            nodes: left.nodes.min(entry.work.pots.nodes),
            tokens: left.tokens.min(entry.work.pots.tokens),
            ..left
        }))
    }

    /// What a new child of `parent` (`None`: the root) is given: what was wished for, as far as it is there.
    pub(super) fn give(&self, parent: Option<NodeId>, wish: Budget) -> Budget {
        let Some(parent) = parent else {
            // No more nodes than the arena has room for.
            let capacity = u32::try_from(self.tree.capacity()).unwrap_or(u32::MAX);
            let budget = self.limits.budget();
            let nodes = budget.nodes.min(capacity.saturating_sub(1));
            return wish.min(Budget { nodes, ..budget });
        };
        // What a node has used of its own actions and children is nothing to its child: these are caps, not pots.
        let caps = self.tree.node(parent).map_or(Budget::UNLIMITED, |entry| entry.budget);
        let left = self.left(parent).unwrap_or(Budget::UNLIMITED);
        let (children, steps) = (caps.children, caps.steps);
        wish.min(
            Budget {
                children,
                steps,
                ..left
            }
            .of_child(),
        )
    }

    /// Fills the pots of a node that was just spawned.
    pub(super) fn fill(&mut self, node: NodeId, given: Budget) {
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.pots = Pots {
                nodes: given.nodes,
                tokens: given.tokens,
                reserved: 0,
            };
        }
    }

    /// How many children the node may still launch, and what stands against more. Limits only shrink within a delegation, so what is
    /// admitted is always its head.
    pub(super) fn launches(&self, node: NodeId) -> (u32, Limit) {
        let Some(left) = self.left(node) else {
            return (0, Limit::Nodes);
        };
        if left.depth == 0 {
            (0, Limit::Depth)
        } else if u32::from(left.children) <= left.nodes {
            (left.children.into(), Limit::Children)
        } else {
            (left.nodes, Limit::Nodes)
        }
    }

    /// Takes nodes out of every pot on the way up. They are spent: what was admitted is spawned.
    pub(super) fn reserve_nodes(&mut self, node: NodeId, nodes: u32) {
        self.take(node, |pots| pots.nodes = pots.nodes.saturating_sub(nodes));
    }

    /// Less than a whole action is granted only when no other node can refund anything: how much a node gets does not depend on who
    /// happens to be drawing at the moment.
    pub(super) fn room(&self, node: NodeId) -> Room {
        let Some((entry, left)) = self.tree.node(node).zip(self.left(node)) else {
            return Room::Exhausted(Limit::Steps);
        };
        let context_left = self.limits.context_max.saturating_sub(entry.context);
        if left.steps == 0 {
            return Room::Exhausted(Limit::Steps);
        }
        if context_left == 0 {
            return Room::Exhausted(Limit::Context);
        }
        let wanted = u64::from(self.limits.action_max.min(context_left));
        let free =
            way_up(&self.tree, node).map(|above| above.work.pots.tokens.saturating_sub(above.work.pots.reserved));
        let granted = free.fold(wanted, u64::min);
        if granted < left.tokens.min(wanted) {
            Room::Held
        } else if left.tokens == 0 {
            Room::Exhausted(Limit::Tokens)
        } else {
            // At most `wanted`, which came from 32 bits.
            Room::Granted(granted as u32)
        }
    }

    /// Reserves the whole room of an action.
    pub(super) fn reserve_tokens(&mut self, node: NodeId, room: u32) {
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.room = room;
        }
        self.take(node, |pots| pots.reserved = pots.reserved.saturating_add(room.into()));
    }

    /// Gives back what was reserved for the action under way and spends what it used.
    pub(super) fn refund_tokens(&mut self, node: NodeId, used: u32) {
        let room = self
            .tree
            .node_mut(node)
            .map_or(0, |entry| core::mem::take(&mut entry.work.room));
        self.take(node, |pots| {
            pots.tokens = pots.tokens.saturating_sub(used.into());
            pots.reserved = pots.reserved.saturating_sub(room.into());
        });
        self.tokens_spent += u64::from(used);
    }

    /// Whether the node's time is up.
    pub(super) fn is_late(&self, node: NodeId, at_us: u64) -> bool {
        let deadline = self.tree.node(node).and_then(|entry| entry.budget.deadline_us);
        deadline.is_some_and(|deadline_us| at_us >= deadline_us)
    }

    fn take(&mut self, node: NodeId, from: impl Fn(&mut Pots)) {
        let mut next = Some(node);
        while let Some(entry) = next.and_then(|id| self.tree.node_mut(id)) {
            from(&mut entry.work.pots);
            next = entry.parent;
        }
    }
}

/// The node and its ancestors, up to the root.
fn way_up<A: Arena>(tree: &Tree<A>, node: NodeId) -> impl Iterator<Item = &Node> {
    core::iter::successors(tree.node(node), |entry| tree.node(entry.parent?))
}
