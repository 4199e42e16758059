//! How a node gets from one stage to the next, and how it ends.

use super::queue::{Due, Opening, Stage, Work};
use super::{Driver, DriverError, REFUSED_MAX};
use crate::environment::Observation;
use crate::tree::Arena;
use rao_proto::{Event, EventSink, Limit, NodeId, NodeStatus, Record, Success, Tokens};

/// What a node that is due to act gets.
pub(super) enum Room {
    /// So many tokens.
    Granted(u32),
    /// Nothing yet: others hold tokens that they may give back.
    Held,
    /// Nothing ever again.
    Exhausted(Limit),
}

impl<A: Arena> Driver<A> {
    /// Less than a whole action is granted only when no other node can refund anything: how much a node gets does not depend on who
    /// happens to be drawing at the moment.
    pub(super) fn room(&self, node: NodeId) -> Room {
        let (steps, context) = self
            .tree
            .node(node)
            .map_or((0, 0), |entry| (entry.steps, entry.context));
        let context_left = self.limits.context_max.saturating_sub(context);
        if steps >= self.limits.steps_max {
            return Room::Exhausted(Limit::Steps);
        }
        if context_left == 0 {
            return Room::Exhausted(Limit::Context);
        }
        let wanted = self.limits.action_max.min(context_left);
        let taken = self.tokens_spent.saturating_add(self.tokens_reserved);
        let left = self.limits.tokens_max.saturating_sub(taken);
        let granted = u32::try_from(left).unwrap_or(u32::MAX).min(wanted);
        if granted < wanted && self.tokens_reserved > 0 {
            Room::Held
        } else if left == 0 {
            Room::Exhausted(Limit::Tokens)
        } else {
            Room::Granted(granted)
        }
    }

    /// Takes back what was reserved for the action under way.
    pub(super) fn refund(&mut self, node: NodeId) {
        if let Some(entry) = self.tree.node_mut(node) {
            self.tokens_reserved -= u64::from(core::mem::take(&mut entry.work.room));
        }
    }

    pub(super) fn delegate<S: EventSink>(
        &mut self,
        node: NodeId,
        children: u8,
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        let (room, limit) = self.launches(node);
        let admitted = u8::try_from(room).unwrap_or(u8::MAX).min(children);
        for index in admitted..children {
            let refuse = Event::Refuse {
                parent: node,
                index,
                limit,
            };
            self.emit(at_us, refuse, sink)?;
        }
        let mut refused = 0;
        if let Some(entry) = self.tree.node_mut(node) {
            if admitted == 0 {
                refused = entry.work.refused.saturating_add(1);
            }
            entry.work = Work {
                stage: Stage::Waiting,
                refused,
                launches: children,
                admitted,
                pending: admitted,
                refusal: (admitted < children).then_some(limit),
                index: entry.work.index,
                previous: entry.work.previous,
                ..Work::default()
            };
        }
        if refused == REFUSED_MAX {
            return self.end(node, NodeStatus::Truncated(limit), None, &[], at_us, sink);
        }
        self.live -= 1;
        self.nodes_reserved += u32::from(admitted);
        if admitted == 0 {
            self.due.push(&mut self.tree, node, Stage::DueResume);
        } else {
            self.opening.push(&mut self.tree, node);
        }
        Ok(())
    }

    /// How many children the node may still launch, and what stands against more. Limits only shrink within a delegation, so what is
    /// admitted is always its head.
    fn launches(&self, node: NodeId) -> (u32, Limit) {
        let entry = self.tree.node(node);
        let (depth, launched) = entry.map_or((u8::MAX, u16::MAX), |entry| (entry.depth.0, entry.children));
        let by_children = u32::from(self.limits.children_max.saturating_sub(launched));
        let by_nodes = self.nodes_max.saturating_sub(self.nodes_reserved);
        if depth >= self.limits.depth_max {
            (0, Limit::Depth)
        } else if by_children <= by_nodes {
            (by_children, Limit::Children)
        } else {
            (by_nodes, Limit::Nodes)
        }
    }

    /// The one place where a node ends of itself: exactly one terminal event, the parent told.
    pub(super) fn end<S: EventSink>(
        &mut self,
        node: NodeId,
        status: NodeStatus,
        success: Option<Success>,
        value: &[u8],
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        self.emit(at_us, Event::Return { node, status, value }, sink)?;
        if let Some(success) = success {
            self.emit(at_us, Event::Score { node, success }, sink)?;
        }
        self.live -= 1;
        self.set_stage(node, Stage::Ended);
        let Some(parent) = self.tree.node(node).and_then(|entry| entry.parent) else {
            return self.close(at_us, sink);
        };
        let mut all_ended = false;
        if let Some(entry) = self.tree.node_mut(parent) {
            entry.work.pending -= 1;
            all_ended = entry.work.pending == 0;
        }
        if all_ended {
            self.due.push(&mut self.tree, parent, Stage::DueResume);
        }
        Ok(())
    }

    /// Ends every node that has not ended, and the run.
    pub(super) fn abandon<S: EventSink>(
        &mut self,
        at_us: u64,
        sink: &mut S,
        terminal: impl Fn(NodeId) -> Event<'static>,
    ) -> Result<(), DriverError> {
        if self.closed {
            return Ok(());
        }
        // Later in the arena means deeper or younger: children end before their parents.
        for index in (0..self.tree.nodes().len()).rev() {
            let node = NodeId(index as u32);
            if self.tree.node(node).is_some_and(|entry| entry.status.is_none()) {
                self.emit(at_us, terminal(node), sink)?;
                self.set_stage(node, Stage::Ended);
            }
        }
        self.due = Due::default();
        self.opening = Opening::default();
        self.root_due = false;
        self.offer = None;
        self.live = 0;
        self.tokens_reserved = 0;
        self.close(at_us, sink)
    }

    fn close<S: EventSink>(&mut self, at_us: u64, sink: &mut S) -> Result<(), DriverError> {
        self.closed = true;
        let nodes = self.tree.nodes().len() as u32;
        let tokens = self.tokens_spent;
        self.emit(at_us, Event::RunClosed { nodes, tokens }, sink)
    }

    /// Records what the node sees; returns whether that is more than its window holds.
    pub(super) fn observe<S: EventSink>(
        &mut self,
        node: NodeId,
        seen: &Observation<'_>,
        at_us: u64,
        sink: &mut S,
    ) -> Result<bool, DriverError> {
        // A node that goes on without having seen anything leaves a mark all the same: without it, the log could not tell two
        // delegations, one after the other, from one.
        if !seen.tokens().is_empty() || self.stage(node)? == Stage::Resuming {
            let tokens = Tokens::new(seen.tokens());
            self.emit(at_us, Event::Observe { node, tokens }, sink)?;
        }
        let context = self.tree.node(node).map_or(0, |entry| entry.context);
        Ok(seen.overflowed() || context > self.limits.context_max)
    }

    /// Folds the event into the tree and, if the tree accepts it, hands it to the sink.
    pub(super) fn emit<S: EventSink>(&mut self, at_us: u64, event: Event<'_>, sink: &mut S) -> Result<(), DriverError> {
        self.tree.apply(&event)?;
        sink.record(&Record { at_us, event });
        Ok(())
    }

    pub(super) fn stage(&self, node: NodeId) -> Result<Stage, DriverError> {
        let entry = self.tree.node(node).ok_or(DriverError::NotDue(node))?;
        Ok(entry.work.stage)
    }

    pub(super) fn set_stage(&mut self, node: NodeId, stage: Stage) {
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.stage = stage;
        }
    }

    /// The stage of a node that is at one of `stages`.
    pub(super) fn expect(&self, node: NodeId, stages: &[Stage], needed: &'static str) -> Result<Stage, DriverError> {
        let stage = self.stage(node)?;
        if stages.contains(&stage) {
            return Ok(stage);
        }
        Err(DriverError::OutOfTurn {
            node,
            stage: stage.name(),
            needed,
        })
    }
}
