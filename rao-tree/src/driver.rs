//! The run of one tree as a state machine without I/O: [`Driver::poll`] says what it wants, `handle_*` takes the answers.
//!
//! It owns no environment, no policy, no clock and no buffer; it decides who may exist, who is due, and when a node has ended, and
//! writes each of these decisions to an [`EventSink`]. A blocking loop over it is the edge runtime; the trainer batches many of them.
//!
//! A node is in exactly one place at any moment: due (in the queue that `poll` empties), with the caller, waiting for its
//! children, or ended. A waiting parent holds no slot, so a tree deeper or wider than the machine cannot deadlock it.

use crate::environment::{Observation, Outcome};
use crate::policy::Stop;
use crate::tree::{Arena, Tree, TreeError};
use rao_proto::{
    CancelReason, Depth, Event, EventSink, Limit, Limits, LogprobError, Logprobs, NodeId, NodeStatus, Record, Success,
    Token, Tokens, WeightsVersion,
};

/// What the driver wants done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Make the environment of this launch and call [`Driver::handle_spawn`], then [`Driver::handle_prompt`].
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
    /// The node met a limit and has ended; nothing more is asked of its environment.
    Retire {
        /// Who ended.
        node: NodeId,
    },
}

/// What came of one launch of a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// It became this node, which has ended.
    Ended(NodeId),
    /// It never existed.
    Refused(Limit),
}

/// A call that the driver did not ask for.
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
    /// A log-probability of the action is above 0 or not finite.
    #[error(transparent)]
    Logprob(#[from] LogprobError),
    /// The tree refused the event.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Where a node stands with the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Spawned; its opening context is due from the caller.
    #[default]
    Opening,
    /// In the queue, or held back by nothing: an action is wanted.
    DueSample,
    /// The caller draws an action.
    Sampling,
    /// The caller steps (or resumes) the environment.
    Stepping,
    /// Waits for children.
    Waiting,
    /// In the queue: its children have ended.
    DueResume,
    /// Ended.
    Ended,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::DueSample => "due to be sampled",
            Self::Sampling => "being sampled",
            Self::Stepping => "being stepped",
            Self::Waiting => "waiting for its children",
            Self::DueResume => "due to be resumed",
            Self::Ended => "ended",
        }
    }
}

/// The driver's private share of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Work {
    stage: Stage,
    /// Next in whichever list the node is in.
    next: Option<NodeId>,
    /// Tokens reserved for the action under way.
    room: u32,
    /// Current delegation: asked for, admitted, already opened, not yet ended.
    launches: u8,
    admitted: u8,
    opened: u8,
    pending: u8,
    refusal: Option<Limit>,
    last_child: Option<NodeId>,
    /// As a child: position in the parent's delegation, and the sibling opened before.
    index: u8,
    previous: Option<NodeId>,
}

/// One tree under way.
#[derive(Clone, Debug)]
pub struct Driver<A> {
    tree: Tree<A>,
    limits: Limits,
    /// First-in first-out list of nodes that are due.
    due: Option<NodeId>,
    due_last: Option<NodeId>,
    /// Last-in first-out list of parents with admitted launches that are not open yet: depth first, so that the tree stays narrow.
    opening: Option<NodeId>,
    root_due: bool,
    /// Nodes at work: spawned, not waiting, not ended.
    live: u32,
    /// Nodes spawned or promised.
    reserved: u32,
    tokens_left: u64,
    tokens_spent: u64,
    closed: bool,
}

impl<A: Arena> Driver<A> {
    /// Opens a run. `arena` must be empty.
    pub fn open<S: EventSink>(
        arena: A,
        limits: Limits,
        task: &str,
        seed: u64,
        weights: WeightsVersion,
        sink: &mut S,
    ) -> Self {
        sink.record(&Record {
            at_us: 0,
            event: Event::RunOpened {
                task,
                seed,
                limits,
                weights,
            },
        });
        Self {
            tree: Tree::new(arena),
            limits,
            due: None,
            due_last: None,
            opening: None,
            root_due: true,
            live: 0,
            reserved: 1,
            tokens_left: limits.tokens_max,
            tokens_spent: 0,
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

    /// The root has ended and nothing is under way.
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

    /// The next thing to do, or `None` when everything is with the caller, held back by [`Limits::concurrent_max`], or the run is closed.
    /// Nodes that are due come first, in the order in which they became so; then new nodes, deepest first.
    pub fn poll<S: EventSink>(&mut self, at_us: u64, sink: &mut S) -> Result<Option<Want>, DriverError> {
        while let Some(node) = self.pop_due() {
            let Some(entry) = self.tree.node_mut(node) else {
                continue;
            };
            match entry.work.stage {
                Stage::DueResume => {
                    entry.work.stage = Stage::Stepping;
                    self.live += 1;
                    return Ok(Some(Want::Resume {
                        node,
                        launches: entry.work.launches,
                    }));
                }
                Stage::DueSample => {
                    let context_left = self.limits.context_max.saturating_sub(entry.context);
                    let exhausted = if entry.steps >= self.limits.steps_max {
                        Some(Limit::Steps)
                    } else if context_left == 0 {
                        Some(Limit::Context)
                    } else if self.tokens_left == 0 {
                        Some(Limit::Tokens)
                    } else {
                        None
                    };
                    if let Some(limit) = exhausted {
                        self.end(node, NodeStatus::Truncated(limit), None, &[], at_us, sink)?;
                        return Ok(Some(Want::Retire { node }));
                    }
                    let tokens_left = u32::try_from(self.tokens_left).unwrap_or(u32::MAX);
                    let room = self.limits.action_max.min(context_left).min(tokens_left);
                    entry.work.room = room;
                    entry.work.stage = Stage::Sampling;
                    self.tokens_left -= u64::from(room);
                    return Ok(Some(Want::Sample { node, room }));
                }
                _ => {}
            }
        }
        if self.live >= self.limits.concurrent_max.max(1) {
            return Ok(None);
        }
        if self.root_due {
            return Ok(Some(Want::Open { parent: None, index: 0 }));
        }
        let Some(parent) = self.opening else { return Ok(None) };
        let index = self.tree.node(parent).map_or(0, |node| node.work.opened);
        Ok(Some(Want::Open {
            parent: Some(parent),
            index,
        }))
    }

    /// The launch that [`Want::Open`] named now exists. `task` is what it was handed, for people to read.
    ///
    /// # Errors
    /// [`DriverError::NotDue`] when `poll` did not ask for it; [`DriverError::Tree`] when the arena is full.
    pub fn handle_spawn<S: EventSink>(
        &mut self,
        parent: Option<NodeId>,
        task: &str,
        at_us: u64,
        sink: &mut S,
    ) -> Result<NodeId, DriverError> {
        let node = NodeId(self.tree.nodes().len() as u32);
        let depth = match parent {
            None if self.root_due => Depth(0),
            Some(id) if self.opening == Some(id) => {
                Depth(self.tree.node(id).map_or(0, |parent| parent.depth.0.saturating_add(1)))
            }
            _ => return Err(DriverError::NotDue(parent.unwrap_or(NodeId::ROOT))),
        };
        self.emit(
            at_us,
            Event::Spawn {
                node,
                parent,
                depth,
                task,
            },
            sink,
        )?;
        self.live += 1;
        let Some(parent) = parent else {
            self.root_due = false;
            return Ok(node);
        };
        let (mut index, mut previous, mut opened_all) = (0, None, None);
        if let Some(entry) = self.tree.node_mut(parent) {
            index = entry.work.opened;
            previous = entry.work.last_child.replace(node);
            entry.work.opened += 1;
            if entry.work.opened == entry.work.admitted {
                opened_all = Some(entry.work.next.take());
            }
        }
        if let Some(next) = opened_all {
            self.opening = next;
        }
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.index = index;
            entry.work.previous = previous;
        }
        Ok(node)
    }

    /// The opening context of a node that was just spawned.
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
        self.expect(node, Stage::Opening)?;
        self.observe(node, prompt, at_us, sink)?;
        if prompt.overflowed() {
            return self.end(node, NodeStatus::Truncated(Limit::Context), None, &[], at_us, sink);
        }
        self.push_due(node, Stage::DueSample);
        Ok(())
    }

    /// The action that [`Want::Sample`] asked for. Afterwards the caller steps the node's environment and calls
    /// [`handle_outcome`](Self::handle_outcome), unless the node has ended: returns whether it is still to be stepped.
    ///
    /// # Errors
    /// [`DriverError::OutOfTurn`]; [`DriverError::OverRoom`] when the action is longer than the room reserved.
    pub fn handle_action<S: EventSink>(
        &mut self,
        node: NodeId,
        action: Action<'_>,
        at_us: u64,
        sink: &mut S,
    ) -> Result<bool, DriverError> {
        self.expect(node, Stage::Sampling)?;
        let room = self.tree.node(node).map_or(0, |entry| entry.work.room);
        let tokens = action.tokens.len() as u32;
        if tokens > room {
            return Err(DriverError::OverRoom { node, tokens, room });
        }
        if tokens > 0 {
            let event = Event::Act {
                node,
                tokens: Tokens::new(action.tokens),
                logprobs: Logprobs::new(action.logprobs)?,
                weights: action.weights,
            };
            self.emit(at_us, event, sink)?;
        }
        self.tokens_left += u64::from(room - tokens);
        self.tokens_spent += u64::from(tokens);
        match action.stop {
            Stop::ContextOverflow => {
                self.end(node, NodeStatus::Truncated(Limit::Context), None, &[], at_us, sink)?;
                Ok(false)
            }
            Stop::Stuck => {
                self.end(node, NodeStatus::Invalid, None, &[], at_us, sink)?;
                Ok(false)
            }
            Stop::Complete | Stop::Length => {
                self.set_stage(node, Stage::Stepping);
                Ok(true)
            }
        }
    }

    /// What the environment said to the action, or to the answers of a delegation. `value` is what the node hands to its parent if it
    /// has ended.
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
        self.expect(node, Stage::Stepping)?;
        if outcome == (Outcome::Delegate { children: 0 }) {
            return Err(DriverError::EmptyDelegation(node));
        }
        self.observe(node, seen, at_us, sink)?;
        match outcome {
            Outcome::Finish(success) => self.end(node, NodeStatus::Finished, Some(success), value, at_us, sink),
            Outcome::Truncate(limit) => self.end(node, NodeStatus::Truncated(limit), None, value, at_us, sink),
            _ if seen.overflowed() => self.end(node, NodeStatus::Truncated(Limit::Context), None, value, at_us, sink),
            Outcome::Continue => {
                self.push_due(node, Stage::DueSample);
                Ok(())
            }
            Outcome::Delegate { children } => self.delegate(node, children, at_us, sink),
        }
    }

    /// The node's environment broke: the node is invalid, its parent is told, nothing else is lost.
    ///
    /// # Errors
    /// [`DriverError::OutOfTurn`] when the node is not with the caller.
    pub fn handle_broken<S: EventSink>(&mut self, node: NodeId, at_us: u64, sink: &mut S) -> Result<(), DriverError> {
        match self.stage(node)? {
            stage @ (Stage::Opening | Stage::Sampling | Stage::Stepping) => {
                if stage == Stage::Sampling {
                    self.tokens_left += self.tree.node(node).map_or(0, |entry| u64::from(entry.work.room));
                }
                self.end(node, NodeStatus::Invalid, None, &[], at_us, sink)
            }
            stage => Err(DriverError::OutOfTurn {
                node,
                stage: stage.name(),
                needed: "with the caller",
            }),
        }
    }

    /// The caller's clock ran out: every node that has not ended is timed out, children before parents, and the run is closed.
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

    /// What came of launch `index` of the delegation that `node` is resumed from; `None` past its end.
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
            let entry = &self.tree.node(id)?.work;
            if entry.index == index {
                return Some(Launch::Ended(id));
            }
            child = entry.previous;
        }
        None
    }

    fn delegate<S: EventSink>(
        &mut self,
        node: NodeId,
        children: u8,
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        let (depth, launched) = self
            .tree
            .node(node)
            .map_or((0, 0), |entry| (entry.depth.0, entry.children));
        let by_children = u32::from(self.limits.children_max.saturating_sub(launched));
        let by_nodes = self.limits.nodes_max.saturating_sub(self.reserved);
        // Limits only shrink within a delegation, so what is admitted is always its head.
        let (room, limit) = if depth >= self.limits.depth_max {
            (0, Limit::Depth)
        } else if by_children <= by_nodes {
            (by_children, Limit::Children)
        } else {
            (by_nodes, Limit::Nodes)
        };
        let admitted = u8::try_from(room).unwrap_or(u8::MAX).min(children);
        for index in admitted..children {
            self.emit(
                at_us,
                Event::Refuse {
                    parent: node,
                    index,
                    limit,
                },
                sink,
            )?;
        }
        self.reserved += u32::from(admitted);
        self.live -= 1;
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work = Work {
                stage: Stage::Waiting,
                launches: children,
                admitted,
                pending: admitted,
                refusal: (admitted < children).then_some(limit),
                index: entry.work.index,
                previous: entry.work.previous,
                ..Work::default()
            };
        }
        if admitted == 0 {
            self.push_due(node, Stage::DueResume);
        } else {
            let below = self.opening.replace(node);
            if let Some(entry) = self.tree.node_mut(node) {
                entry.work.next = below;
            }
        }
        Ok(())
    }

    /// The one place where a node ends of itself: exactly one terminal event, the parent told.
    fn end<S: EventSink>(
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
            self.push_due(parent, Stage::DueResume);
        }
        Ok(())
    }

    fn abandon<S: EventSink>(
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
        self.due = None;
        self.due_last = None;
        self.opening = None;
        self.root_due = false;
        self.live = 0;
        self.close(at_us, sink)
    }

    fn close<S: EventSink>(&mut self, at_us: u64, sink: &mut S) -> Result<(), DriverError> {
        self.closed = true;
        let nodes = self.tree.nodes().len() as u32;
        self.emit(
            at_us,
            Event::RunClosed {
                nodes,
                tokens: self.tokens_spent,
            },
            sink,
        )
    }

    fn observe<S: EventSink>(
        &mut self,
        node: NodeId,
        seen: &Observation<'_>,
        at_us: u64,
        sink: &mut S,
    ) -> Result<(), DriverError> {
        if seen.tokens().is_empty() {
            return Ok(());
        }
        self.emit(
            at_us,
            Event::Observe {
                node,
                tokens: Tokens::new(seen.tokens()),
            },
            sink,
        )
    }

    /// Folds the event into the tree and, if the tree accepts it, hands it to the sink.
    fn emit<S: EventSink>(&mut self, at_us: u64, event: Event<'_>, sink: &mut S) -> Result<(), DriverError> {
        self.tree.apply(&event)?;
        sink.record(&Record { at_us, event });
        Ok(())
    }

    fn push_due(&mut self, node: NodeId, stage: Stage) {
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.stage = stage;
            entry.work.next = None;
        }
        match self.due_last.replace(node).and_then(|last| self.tree.node_mut(last)) {
            Some(last) => last.work.next = Some(node),
            None => self.due = Some(node),
        }
    }

    fn pop_due(&mut self) -> Option<NodeId> {
        let node = self.due?;
        self.due = self.tree.node_mut(node).and_then(|entry| entry.work.next.take());
        if self.due.is_none() {
            self.due_last = None;
        }
        Some(node)
    }

    fn stage(&self, node: NodeId) -> Result<Stage, DriverError> {
        self.tree
            .node(node)
            .map(|entry| entry.work.stage)
            .ok_or(DriverError::NotDue(node))
    }

    fn set_stage(&mut self, node: NodeId, stage: Stage) {
        if let Some(entry) = self.tree.node_mut(node) {
            entry.work.stage = stage;
        }
    }

    fn expect(&self, node: NodeId, needed: Stage) -> Result<(), DriverError> {
        let stage = self.stage(node)?;
        if stage == needed {
            Ok(())
        } else {
            Err(DriverError::OutOfTurn {
                node,
                stage: stage.name(),
                needed: needed.name(),
            })
        }
    }
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
