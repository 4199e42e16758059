//! The execution tree: an arena in which a parent always precedes its children, and a fold over the events of a run.

use rao_proto::{Budget, Depth, Event, Limit, NodeId, NodeStatus, Success, Tokens};

/// Where the nodes of a tree live. `heapless::Vec<Node, N>` is one, and so is a `&mut` to it, for memory that is set aside elsewhere; a
/// program with an allocator brings its own.
pub trait Arena: AsRef<[Node]> + AsMut<[Node]> {
    /// Appends a node.
    ///
    /// # Errors
    /// [`ArenaFull`] when there is no room; the arena is unchanged.
    fn push(&mut self, node: Node) -> Result<(), ArenaFull>;

    /// How many nodes it can hold; the driver admits no more. Unlimited by default.
    fn capacity(&self) -> usize {
        usize::MAX
    }
}

/// The arena has no room for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the arena of the tree is full")]
pub struct ArenaFull;

impl<const N: usize> Arena for heapless::Vec<Node, N> {
    fn push(&mut self, node: Node) -> Result<(), ArenaFull> {
        heapless::Vec::push(self, node).map_err(|_| ArenaFull)
    }

    fn capacity(&self) -> usize {
        N
    }
}

/// Lends an arena: a tree is too large for the stack of a small device.
impl<A: Arena + ?Sized> Arena for &mut A {
    fn push(&mut self, node: Node) -> Result<(), ArenaFull> {
        (**self).push(node)
    }

    fn capacity(&self) -> usize {
        (**self).capacity()
    }
}

/// One agent instance: what is known of it from the events alone. Counts stay at their type's maximum once they have reached it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Who launched it; `None` for the root.
    pub parent: Option<NodeId>,
    /// Distance from the root.
    pub depth: Depth,
    /// What it was given to use, with everything below it.
    pub budget: Budget,
    /// How it ended; `None` while it has not.
    pub status: Option<NodeStatus>,
    /// Its own success s(X); zero until it is scored.
    pub success: Success,
    /// Actions taken.
    pub steps: u16,
    /// Children launched, over its life.
    pub children: u16,
    /// Tokens that it chose.
    pub sampled: u32,
    /// Tokens of its context: prompt, actions, observations, since its last restart.
    pub context: u32,
    /// Times that its context began anew.
    pub restarts: u16,
    /// Tokens of the contexts before.
    pub earlier: u32,
    /// Children that were launched together with another: between two things that this node did or saw.
    pub parallel: u16,
    /// Children launched since the last thing that this node did or saw.
    launched: u16,
    /// Its score was among the events.
    scored: bool,
    /// Sampled tokens on the longest chain of work that had to happen one after the other, up to the last thing that this node did or saw.
    path: u64,
    /// Longest chain among the children that have ended since.
    join: u64,
    pub(crate) work: crate::driver::Work,
}

impl Node {
    fn new(parent: Option<NodeId>, depth: Depth, budget: Budget) -> Self {
        Self {
            parent,
            depth,
            budget,
            status: None,
            success: Success::ZERO,
            steps: 0,
            children: 0,
            sampled: 0,
            context: 0,
            restarts: 0,
            earlier: 0,
            parallel: 0,
            launched: 0,
            scored: false,
            path: 0,
            join: 0,
            work: crate::driver::Work::default(),
        }
    }

    /// How it ended, as far as that says what it was worth: a node that finished and whose score is in no event could not be judged. A driver
    /// writes both; a log may have lost one.
    #[must_use]
    pub fn judged(&self) -> Option<NodeStatus> {
        match self.status {
            Some(NodeStatus::Finished) if !self.scored => Some(NodeStatus::Invalid),
            status => status,
        }
    }

    /// Sampled tokens that had to be drawn one after the other for this node to get where it is: its own, and of each
    /// delegation only the slowest child's. A delegation is over when the node acts or observes again.
    #[must_use]
    pub fn critical_path(&self) -> u64 {
        self.path.saturating_add(self.join)
    }

    /// What the node does or sees now comes after all that its children did.
    fn join_children(&mut self) {
        self.path = self.critical_path();
        self.join = 0;
        self.launched = 0;
    }

    /// One more child. With the second of a delegation, the first turns out to have been launched together with another.
    fn launch(&mut self) {
        self.children = self.children.saturating_add(1);
        self.launched = self.launched.saturating_add(1);
        let parallel = match self.launched {
            1 => 0,
            2 => 2,
            _ => 1,
        };
        self.parallel = self.parallel.saturating_add(parallel);
    }
}

/// An event that does not fit the tree so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A node was announced out of order: identifiers count up from 0 without gaps.
    #[error("node {found:?} announced where {expected:?} was due")]
    OutOfOrder {
        /// The identifier that was due.
        expected: NodeId,
        /// The identifier in the event.
        found: NodeId,
    },
    /// An event names a node that was never announced.
    #[error("unknown node {0:?}")]
    UnknownNode(NodeId),
    /// The root has a parent, or another node has none.
    #[error("node {0:?} has no place: only the root is without a parent")]
    Parentage(NodeId),
    /// The depth in the event is not one more than the parent's.
    #[error("node {0:?} has the wrong depth")]
    WrongDepth(NodeId),
    /// A child was given more than its parent was given: see [`Budget::of_child`].
    #[error("node {0:?} was given more than its parent")]
    WiderBudget(NodeId),
    /// An event names a node that has already ended.
    #[error("node {0:?} had already ended")]
    AlreadyEnded(NodeId),
    /// A score for a node that has not ended.
    #[error("node {0:?} is scored before it ended")]
    ScoredEarly(NodeId),
    /// No room for another node.
    #[error(transparent)]
    Full(#[from] ArenaFull),
}

/// How many launches each limit refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    by: [u32; Limit::ALL.len()],
}

impl Refusals {
    /// Launches that this limit refused.
    #[must_use]
    pub fn by(&self, limit: Limit) -> u32 {
        Limit::ALL
            .iter()
            .position(|&other| other == limit)
            .map_or(0, |at| self.by[at])
    }

    /// All refused launches.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by.iter().map(|&count| u64::from(count)).sum()
    }

    fn add(&mut self, limit: Limit) {
        if let Some(at) = Limit::ALL.iter().position(|&other| other == limit) {
            self.by[at] = self.by[at].saturating_add(1);
        }
    }
}

impl core::ops::AddAssign for Refusals {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.by.iter_mut().zip(other.by) {
            *count = count.saturating_add(more);
        }
    }
}

/// A tree as the events so far describe it.
#[derive(Clone, Debug, Default)]
pub struct Tree<A> {
    nodes: A,
    refusals: Refusals,
}

impl<A: Arena> Tree<A> {
    /// A tree without nodes over an empty arena.
    pub fn new(arena: A) -> Self {
        Self {
            nodes: arena,
            refusals: Refusals::default(),
        }
    }

    /// All nodes; position is the [`NodeId`].
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        self.nodes.as_ref()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes().get(id.index())
    }

    /// Launches that never became nodes.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Gives the arena back.
    #[must_use]
    pub fn into_arena(self) -> A {
        self.nodes
    }

    /// Folds one event in. Events that say nothing of the tree's shape are accepted and change nothing; a later score of a node replaces
    /// an earlier one. Nothing that the events say makes it panic.
    ///
    /// # Errors
    /// [`TreeError`] when the event contradicts those before it; the tree is unchanged.
    pub fn apply(&mut self, event: &Event<'_>) -> Result<(), TreeError> {
        match *event {
            Event::Spawn {
                node,
                parent,
                depth,
                budget,
                ..
            } => self.spawn(node, parent, depth, budget),
            Event::Observe { node, tokens } => {
                let node = self.live(node)?;
                node.context = node.context.saturating_add(count(tokens));
                node.join_children();
                Ok(())
            }
            Event::Restart { node } => {
                let node = self.live(node)?;
                node.restarts = node.restarts.saturating_add(1);
                node.earlier = node.earlier.saturating_add(node.context);
                node.context = 0;
                Ok(())
            }
            Event::Act { node, tokens, .. } => self.act(node, tokens),
            Event::Allow { node, .. } => self.live(node).map(drop),
            Event::Return { node, status, .. } => self.end(node, status),
            Event::Cancel { node, .. } => self.end(node, NodeStatus::Cancelled),
            Event::Score { node, success } => {
                let node_ref = self
                    .nodes
                    .as_mut()
                    .get_mut(node.index())
                    .ok_or(TreeError::UnknownNode(node))?;
                if node_ref.status.is_none() {
                    return Err(TreeError::ScoredEarly(node));
                }
                node_ref.success = success;
                node_ref.scored = true;
                Ok(())
            }
            Event::Refuse { parent, limit, .. } => {
                self.live(parent)?;
                self.refusals.add(limit);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.as_mut().get_mut(id.index())
    }

    fn spawn(&mut self, node: NodeId, parent: Option<NodeId>, depth: Depth, budget: Budget) -> Result<(), TreeError> {
        let expected = NodeId(self.nodes().len() as u32);
        if node != expected {
            return Err(TreeError::OutOfOrder { expected, found: node });
        }
        match parent {
            None if node == NodeId::ROOT && depth == Depth(0) => {}
            None => return Err(TreeError::Parentage(node)),
            Some(_) if node == NodeId::ROOT => return Err(TreeError::Parentage(node)),
            Some(parent) => {
                let parent = self.live(parent)?;
                if parent.depth.0.checked_add(1) != Some(depth.0) {
                    return Err(TreeError::WrongDepth(node));
                }
                if parent.budget.depth == 0 || !budget.within(parent.budget.of_child()) {
                    return Err(TreeError::WiderBudget(node));
                }
            }
        }
        self.nodes.push(Node::new(parent, depth, budget))?;
        if let Some(parent) = parent.and_then(|id| self.node_mut(id)) {
            parent.launch();
        }
        Ok(())
    }

    fn act(&mut self, node: NodeId, tokens: Tokens<'_>) -> Result<(), TreeError> {
        let node = self.live(node)?;
        let count = count(tokens);
        node.steps = node.steps.saturating_add(1);
        node.sampled = node.sampled.saturating_add(count);
        node.context = node.context.saturating_add(count);
        node.join_children();
        node.path = node.path.saturating_add(u64::from(count));
        Ok(())
    }

    fn end(&mut self, id: NodeId, status: NodeStatus) -> Result<(), TreeError> {
        let node = self.live(id)?;
        node.status = Some(status);
        let (parent, path) = (node.parent, node.critical_path());
        if let Some(parent) = parent.and_then(|id| self.node_mut(id)) {
            parent.join = parent.join.max(path);
        }
        Ok(())
    }

    fn live(&mut self, id: NodeId) -> Result<&mut Node, TreeError> {
        let node = self
            .nodes
            .as_mut()
            .get_mut(id.index())
            .ok_or(TreeError::UnknownNode(id))?;
        if node.status.is_some() {
            Err(TreeError::AlreadyEnded(id))
        } else {
            Ok(node)
        }
    }
}

fn count(tokens: Tokens<'_>) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}
