//! How a node gets from one stage to the next, and how it ends.

use super::queue::{Due, Opening, Stage, Work};
use super::{Driver, DriverError, REFUSED_MAX};
use crate::environment::Observation;
use crate::tree::Arena;
use rao_proto::{Event, EventSink, NodeId, NodeStatus, Record, Success, Tokens};

/// What a node that ends is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Worth {
    /// It was graded.
    Known(Success),
    /// Somebody will say.
    Due,
    /// It did not finish.
    Nothing,
}

impl<A: Arena> Driver<A> {
    pub(super) fn delegate<S: EventSink>(
        &mut self,
        node: NodeId,
        children: u8,
        value: &[u8],
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
                pots: entry.work.pots,
                index: entry.work.index,
                previous: entry.work.previous,
                ..Work::default()
            };
        }
        if refused == REFUSED_MAX {
            return self.end(
                node,
                NodeStatus::Truncated(limit),
                Worth::Nothing,
                Some(value),
                at_us,
                sink,
            );
        }
        self.live -= 1;
        self.reserve_nodes(node, admitted.into());
        if admitted == 0 {
            self.due.push(&mut self.tree, node, Stage::DueResume);
        } else {
            self.opening.push(&mut self.tree, node);
        }
        Ok(())
    }

    /// The one place where a node ends of itself: exactly one terminal event, the parent told. `answer` is what its environment hands over
    /// where it ends the node. A node whose score is due keeps the run open.
    pub(super) fn end<S: EventSink>(
        &mut self,
        node: NodeId,
        status: NodeStatus,
        worth: Worth,
        answer: Option<&[u8]>,
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        let value = answer.unwrap_or_default();
        self.emit(at_us, Event::Return { node, status, value }, sink)?;
        if let Worth::Known(success) = worth {
            self.emit(at_us, Event::Score { node, success }, sink)?;
        }
        self.live -= 1;
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.stage = match worth {
                Worth::Due => Stage::Judging,
                Worth::Known(_) | Worth::Nothing => Stage::Ended,
            };
            entry.work.answered = answer.is_some();
            entry.work.submitted = worth == Worth::Due;
        }
        self.verdicts += u32::from(worth == Worth::Due);
        let Some(parent) = self.tree.node(node).and_then(|entry| entry.parent) else {
            return self.close_if_judged(at_us, sink);
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
            }
            // What was still to be judged stays without a score.
            self.set_stage(node, Stage::Ended);
        }
        self.verdicts = 0;
        self.due = Due::default();
        self.opening = Opening::default();
        self.root_due = false;
        self.offer = None;
        self.live = 0;
        self.close(at_us, sink)
    }

    /// Closes the run if the root has ended and no verdict is due.
    pub(super) fn close_if_judged<S: EventSink>(&mut self, at_us: u64, sink: &mut S) -> Result<(), DriverError> {
        let ended = self.tree.node(NodeId::ROOT).is_some_and(|root| root.status.is_some());
        if ended && self.verdicts == 0 {
            self.close(at_us, sink)
        } else {
            Ok(())
        }
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
        if seen.restarts() {
            self.emit(at_us, Event::Restart { node }, sink)?;
        }
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
