//! The run of one tree as a state machine without I/O: [`Driver::poll`] says what it wants, `handle_*` takes the answers.
//!
//! It owns no environment, no policy, no clock and no buffer; it decides who may exist, who is due, and when a node has ended, and
//! writes each of these decisions to an [`EventSink`]. A blocking loop over it is the edge runtime; the trainer batches many of them.
//!
//! A node is in exactly one place at any moment: due (in the queue that `poll` empties), with the caller, waiting for its
//! children, or ended. A waiting parent holds no slot, so a tree deeper or wider than the machine cannot deadlock it.

mod budget;
mod messages;
mod queue;
mod stages;

pub use messages::{Action, DriverError, Launch, Want};
pub(crate) use queue::Work;

use crate::environment::{Observation, Outcome};
use crate::policy::Stop;
use crate::tree::{Arena, Tree};
use budget::Room;
use queue::{Due, Opening, Stage};
use rao_proto::{
    Budget, CancelReason, Depth, Event, EventSink, Limit, Limits, Logprobs, NodeId, NodeStatus, Record, Success,
    Tokens, WeightsVersion,
};
use stages::Worth;

/// Delegations that a node may have refused in full, one after the other, without an action in between: as many as one delegation has
/// launches, so that an environment may go through a list one by one. One that asks on and on would keep the run from ever closing; its
/// node is truncated by the limit that refused it.
const REFUSED_MAX: u8 = u8::MAX;

/// One tree under way.
#[derive(Clone, Debug)]
pub struct Driver<A> {
    tree: Tree<A>,
    limits: Limits,
    due: Due,
    opening: Opening,
    root_due: bool,
    /// Whose launch (`None`: the root) the caller has been offered and has not spawned yet.
    offer: Option<Option<NodeId>>,
    /// Nodes at work: spawned, not waiting, not ended.
    live: u32,
    tokens_spent: u64,
    /// Nodes that have ended and whose verdict is due.
    verdicts: u32,
    closed: bool,
}

impl<A: Arena> Driver<A> {
    /// Opens a run over an empty arena; the root is the first thing that [`poll`](Self::poll) wants.
    ///
    /// The root always exists and one node may always work: `nodes_max` and `concurrent_max` of 0 act as 1. No more nodes are admitted than
    /// the arena has room for, whatever `nodes_max` says. Where `tokens_max` is less than `concurrent_max` whole actions, nodes
    /// wait for each other's refunds; it should be well above that.
    pub fn open<S: EventSink>(
        arena: A,
        limits: Limits,
        task: &str,
        seed: u64,
        weights: WeightsVersion,
        sink: &mut S,
    ) -> Self {
        let event = Event::RunOpened {
            task,
            seed,
            limits,
            weights,
        };
        sink.record(&Record { at_us: 0, event });
        Self {
            tree: Tree::new(arena),
            limits,
            due: Due::default(),
            opening: Opening::default(),
            root_due: true,
            offer: None,
            live: 0,
            tokens_spent: 0,
            verdicts: 0,
            closed: false,
        }
    }

    /// The tree so far.
    #[must_use]
    pub fn tree(&self) -> &Tree<A> {
        &self.tree
    }

    /// Gives the tree back.
    #[must_use]
    pub fn into_tree(self) -> Tree<A> {
        self.tree
    }

    /// The root has ended, every verdict is in, and nothing is under way.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Tokens sampled so far in the whole tree.
    #[must_use]
    pub fn tokens_spent(&self) -> u64 {
        self.tokens_spent
    }

    /// Nodes at work: spawned, not waiting for children, not ended. Never above [`Limits::concurrent_max`].
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live
    }

    /// The next thing to do, or `None` when everything is with the caller, held back until something there has ended, or the run is closed.
    /// Nodes that are due come first, in the order in which they became so; then new nodes, deepest first. A node that is held back, because
    /// a pot of its own or above it may get tokens back, holds back those behind it: the order never depends on who is drawing.
    ///
    /// A node whose own deadline has passed is timed out when it is due; what it has with the caller is still taken. When the deadline of the
    /// root has passed, the run ends as with [`handle_deadline`](Self::handle_deadline).
    ///
    /// # Errors
    /// None that a caller could cause: only what the tree refuses.
    pub fn poll<S: EventSink>(&mut self, at_us: u64, sink: &mut S) -> Result<Option<Want>, DriverError> {
        if !self.closed && self.is_late(NodeId::ROOT, at_us) {
            self.handle_deadline(at_us, sink)?;
            return Ok(None);
        }
        let Some(node) = self.due.first() else {
            return Ok(self.offer());
        };
        let resumes = self.stage(node)? == Stage::DueResume;
        // A parent takes its place again to end, too.
        self.live += u32::from(resumes);
        if self.is_late(node, at_us) {
            self.due.pop(&mut self.tree);
            self.end(node, NodeStatus::TimedOut, Worth::Nothing, None, at_us, sink)?;
            return Ok(Some(Want::Retire { node }));
        }
        if resumes {
            self.due.pop(&mut self.tree);
            self.set_stage(node, Stage::Resuming);
            let launches = self.tree.node(node).map_or(0, |entry| entry.work.launches);
            return Ok(Some(Want::Resume { node, launches }));
        }
        match self.room(node) {
            Room::Held => Ok(None),
            Room::Exhausted(limit) => {
                self.due.pop(&mut self.tree);
                self.end(node, NodeStatus::Truncated(limit), Worth::Nothing, None, at_us, sink)?;
                Ok(Some(Want::Retire { node }))
            }
            Room::Granted(room) => {
                self.due.pop(&mut self.tree);
                self.set_stage(node, Stage::Sampling);
                self.reserve_tokens(node, room);
                Ok(Some(Want::Sample { node, room }))
            }
        }
    }

    /// The launch that [`Want::Open`] named now exists. `task` is what it was handed, for people to read. `wish` is what its parent would
    /// let it use; the node is given that as far as the parent has it: no child ever has more than its parent has left. See
    /// [`left`](Self::left); [`Budget::UNLIMITED`] wishes for everything.
    ///
    /// # Errors
    /// [`DriverError::NotDue`] when `poll` did not ask for it; [`DriverError::Tree`] when the arena is full in spite of its
    /// [`capacity`](Arena::capacity), or was not empty.
    pub fn handle_spawn<S: EventSink>(
        &mut self,
        parent: Option<NodeId>,
        task: &str,
        wish: Budget,
        at_us: u64,
        sink: &mut S,
    ) -> Result<NodeId, DriverError> {
        if self.offer != Some(parent) {
            return Err(DriverError::NotDue(parent.unwrap_or(NodeId::ROOT)));
        }
        let node = NodeId(self.tree.nodes().len() as u32);
        let above = parent.and_then(|id| self.tree.node(id));
        let depth = above.map_or(Depth(0), |entry| Depth(entry.depth.0.saturating_add(1)));
        let budget = self.give(parent, wish);
        let spawn = Event::Spawn {
            node,
            parent,
            depth,
            task,
            budget,
        };
        self.emit(at_us, spawn, sink)?;
        self.fill(node, budget);
        self.offer = None;
        self.live += 1;
        let Some(parent) = parent else {
            self.root_due = false;
            return Ok(node);
        };
        let (mut index, mut previous, mut opened_all) = (0, None, false);
        if let Some(entry) = self.tree.node_mut(parent) {
            index = entry.work.opened;
            previous = entry.work.last_child.replace(node);
            entry.work.opened += 1;
            opened_all = entry.work.opened == entry.work.admitted;
        }
        if opened_all {
            self.opening.remove(&mut self.tree, parent);
        }
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.index = index;
            entry.work.previous = previous;
        }
        Ok(node)
    }

    /// The opening context of a node that was just spawned. One that does not fit ends the node.
    ///
    /// # Errors
    /// [`DriverError::OutOfTurn`] when the node is not opening.
    pub fn handle_prompt<S: EventSink>(
        &mut self,
        node: NodeId,
        prompt: &Observation<'_>,
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        self.expect(node, &[Stage::Opening], "opening")?;
        if self.observe(node, prompt, at_us, sink)? {
            return self.end(
                node,
                NodeStatus::Truncated(Limit::Context),
                Worth::Nothing,
                None,
                at_us,
                sink,
            );
        }
        self.due.push(&mut self.tree, node, Stage::DueSample);
        Ok(())
    }

    /// The action that [`Want::Sample`] asked for. Afterwards the caller steps the node's environment and calls
    /// [`handle_outcome`](Self::handle_outcome), unless the node has ended: returns whether it is still to be stepped.
    ///
    /// An action without tokens counts as a step like any other, unless the policy could not act at all.
    ///
    /// # Errors
    /// [`DriverError::OutOfTurn`]; [`DriverError::OverRoom`] when the action is longer than the room reserved; [`DriverError::Unpaired`]
    /// and [`DriverError::Logprob`] when its log-probabilities are not those of an action.
    pub fn handle_action<S: EventSink>(
        &mut self,
        node: NodeId,
        action: Action<'_>,
        at_us: u64,
        sink: &mut S,
    ) -> Result<bool, DriverError> {
        self.expect(node, &[Stage::Sampling], "being sampled")?;
        let room = self.tree.node(node).map_or(0, |entry| entry.work.room);
        let tokens = u32::try_from(action.tokens.len()).unwrap_or(u32::MAX);
        if tokens > room {
            return Err(DriverError::OverRoom { node, tokens, room });
        }
        if action.tokens.len() != action.logprobs.len() {
            return Err(DriverError::Unpaired {
                node,
                tokens: action.tokens.len(),
                logprobs: action.logprobs.len(),
            });
        }
        if tokens > 0 || matches!(action.stop, Stop::Complete | Stop::Length) {
            let act = Event::Act {
                node,
                tokens: Tokens::new(action.tokens),
                logprobs: Logprobs::new(action.logprobs)?,
                weights: action.weights,
            };
            self.emit(at_us, act, sink)?;
        }
        self.refund_tokens(node, tokens);
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.refused = 0;
        }
        match action.stop {
            Stop::ContextOverflow => {
                self.end(
                    node,
                    NodeStatus::Truncated(Limit::Context),
                    Worth::Nothing,
                    None,
                    at_us,
                    sink,
                )?;
                Ok(false)
            }
            Stop::Stuck | Stop::Failed => {
                self.end(node, NodeStatus::Invalid, Worth::Nothing, None, at_us, sink)?;
                Ok(false)
            }
            Stop::Complete | Stop::Length => {
                self.set_stage(node, Stage::Stepping);
                Ok(true)
            }
        }
    }

    /// What the environment said to the action, or to the answers of a delegation. `value` is what the node hands to its parent if it
    /// has ended. The node's status tells afterwards whether it has: a limit may have ended it where the environment would have gone on.
    ///
    /// # Errors
    /// [`DriverError::OutOfTurn`]; [`DriverError::EmptyDelegation`].
    pub fn handle_outcome<S: EventSink>(
        &mut self,
        node: NodeId,
        outcome: Outcome,
        seen: &Observation<'_>,
        value: &[u8],
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        self.expect(node, &[Stage::Stepping, Stage::Resuming], "being stepped or resumed")?;
        if outcome == (Outcome::Delegate { children: 0 }) {
            return Err(DriverError::EmptyDelegation(node));
        }
        let overflows = self.observe(node, seen, at_us, sink)?;
        match outcome {
            Outcome::Finish(success) => {
                let worth = Worth::Known(success);
                self.end(node, NodeStatus::Finished, worth, Some(value), at_us, sink)
            }
            Outcome::Submit => self.end(node, NodeStatus::Finished, Worth::Due, Some(value), at_us, sink),
            Outcome::Fail => self.end(node, NodeStatus::Failed, Worth::Nothing, Some(value), at_us, sink),
            Outcome::Truncate(limit) => self.end(
                node,
                NodeStatus::Truncated(limit),
                Worth::Nothing,
                Some(value),
                at_us,
                sink,
            ),
            _ if overflows => self.end(
                node,
                NodeStatus::Truncated(Limit::Context),
                Worth::Nothing,
                Some(value),
                at_us,
                sink,
            ),
            Outcome::Continue => {
                self.due.push(&mut self.tree, node, Stage::DueSample);
                Ok(())
            }
            Outcome::Delegate { children } => self.delegate(node, children, value, at_us, sink),
        }
    }

    /// What the answer of a node that ended with [`Outcome::Submit`] is worth. `None`: it could not be judged; the node is invalid for all
    /// credit, never a zero. The last verdict closes a run whose root has ended.
    ///
    /// # Errors
    /// [`DriverError::OutOfTurn`] when the node's verdict is not due.
    pub fn handle_verdict<S: EventSink>(
        &mut self,
        node: NodeId,
        verdict: Option<Success>,
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        self.expect(node, &[Stage::Judging], "being judged")?;
        if let Some(success) = verdict {
            self.emit(at_us, Event::Score { node, success }, sink)?;
        }
        self.set_stage(node, Stage::Ended);
        self.verdicts -= 1;
        self.close_if_judged(at_us, sink)
    }

    /// Verdicts that are due.
    #[must_use]
    pub fn verdicts_due(&self) -> u32 {
        self.verdicts
    }

    /// The node's environment broke, or its policy gave something that is no action: the node is invalid, its parent is told, nothing else
    /// is lost.
    ///
    /// # Errors
    /// [`DriverError::OutOfTurn`] when the node is not with the caller.
    pub fn handle_broken<S: EventSink>(&mut self, node: NodeId, at_us: u64, sink: &mut S) -> Result<(), DriverError> {
        let with_caller = [Stage::Opening, Stage::Sampling, Stage::Stepping, Stage::Resuming];
        self.expect(node, &with_caller, "with the caller")?;
        self.refund_tokens(node, 0);
        self.end(node, NodeStatus::Invalid, Worth::Nothing, None, at_us, sink)
    }

    /// The caller's clock ran out: every node that has not ended is timed out, children before parents, and the run is closed.
    /// What the caller still has under way comes too late: handing it in is [`DriverError::OutOfTurn`] and changes nothing.
    ///
    /// # Errors
    /// Only what the tree refuses.
    pub fn handle_deadline<S: EventSink>(&mut self, at_us: u64, sink: &mut S) -> Result<(), DriverError> {
        self.abandon(at_us, sink, |node| Event::Return {
            node,
            status: NodeStatus::TimedOut,
            value: &[],
        })
    }

    /// The caller stops the run: every node that has not ended is cancelled, children before parents, and the run is closed.
    ///
    /// # Errors
    /// Only what the tree refuses.
    pub fn handle_cancel<S: EventSink>(&mut self, at_us: u64, sink: &mut S) -> Result<(), DriverError> {
        self.abandon(at_us, sink, |node| Event::Cancel {
            node,
            reason: CancelReason::Caller,
        })
    }

    /// What came of launch `index` of the delegation that `node` is resumed from; `None` past its end, and for a launch that is not over.
    #[must_use]
    pub fn launch(&self, node: NodeId, index: u8) -> Option<Launch> {
        let work = &self.tree.node(node)?.work;
        if index >= work.launches {
            return None;
        }
        if index >= work.admitted {
            return work.refusal.map(Launch::Refused);
        }
        let mut child = work.last_child;
        while let Some(id) = child {
            let entry = self.tree.node(id)?;
            if entry.work.index == index {
                return Some(Launch::Ended {
                    node: id,
                    status: entry.status?,
                    success: if entry.work.submitted {
                        Success::ZERO
                    } else {
                        entry.success
                    },
                    answered: entry.work.answered,
                });
            }
            child = entry.work.previous;
        }
        None
    }

    /// The launch on offer: the one that the caller has been told of, or a new one if there is a place for it.
    fn offer(&mut self) -> Option<Want> {
        if self.offer.is_none() && self.live < self.limits.concurrent_max.max(1) {
            self.offer = match self.opening.top() {
                _ if self.root_due => Some(None),
                Some(parent) => Some(Some(parent)),
                None => None,
            };
        }
        let parent = self.offer?;
        let index = parent
            .and_then(|id| self.tree.node(id))
            .map_or(0, |entry| entry.work.opened);
        Some(Want::Open { parent, index })
    }
}
