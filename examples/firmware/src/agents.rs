//! The blocking loop of a device: one agent acts at a time, in memory that the caller has set aside.

use heapless::{String, Vec, VecView};
use rao_proto::{Budget, EventSink, Limits, NodeId, Token};
use rao_tree::{
    Action, Answer, Arena, Completion, Driver, DriverError, Environment, Observation, Outcome, Policy, PolicyExt as _,
    Request, SequenceId, Stop, Want,
};

/// Tokens of one action, whatever [`Limits::action_max`] grants. The buffers for it are on the stack.
const ACTION: usize = 8;

/// Launches of one delegation whose answers a parent can be shown.
const ANSWERS: usize = 4;

/// Bytes of a node's task in the trace.
const DESCRIPTION: usize = 32;

/// What one agent has beside its node: its world and what it has seen. Its place among the seats is its [`NodeId`].
pub struct Seat<E, const CONTEXT: usize> {
    /// `None` where it could not be made.
    pub world: Option<E>,
    /// Prompt, actions and observations, oldest first.
    pub context: Vec<Token, CONTEXT>,
}

/// Why a run cannot go on. What befalls one node only is its status.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The loop called the driver out of turn: a mistake in this file.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The inference engine failed.
    #[error("the policy cannot act")]
    Policy,
    /// A limit of the run is above what was set aside for it.
    #[error("{0} have no more room")]
    Full(&'static str),
    /// A node without a place: the seats were not empty when the run was opened.
    #[error("node {0:?} has no seat")]
    Seat(NodeId),
}

/// One tree of agents under way.
pub struct Run<'m, A, E, P, S, const CONTEXT: usize> {
    driver: Driver<A>,
    seats: &'m mut VecView<Seat<E, CONTEXT>>,
    policy: &'m mut P,
    sink: &'m mut S,
    /// Until the driver asks for it.
    root: Option<E>,
}

impl<'m, A: Arena, E: Environment, P: Policy, S: EventSink, const CONTEXT: usize> Run<'m, A, E, P, S, CONTEXT> {
    /// Opens a run of `root` in an empty arena and empty seats.
    pub fn open(
        root: E,
        limits: Limits,
        arena: A,
        seats: &'m mut VecView<Seat<E, CONTEXT>>,
        policy: &'m mut P,
        sink: &'m mut S,
    ) -> Self {
        let task = describe(&root);
        Self {
            driver: Driver::open(arena, limits, &task, 0, policy.weights(), sink),
            seats,
            policy,
            sink,
            root: Some(root),
        }
    }

    /// Does the next thing that the driver wants; returns whether there was one. `now_us` is the time since the run was opened: it goes
    /// into the trace, and deadlines are held against it.
    ///
    /// # Errors
    /// [`RunError`]: the run cannot go on.
    pub fn step(&mut self, now_us: u64) -> Result<bool, RunError> {
        let Some(want) = self.driver.poll(now_us, self.sink)? else {
            return Ok(false);
        };
        let node = match want {
            Want::Open { parent, index } => self.launch(parent, index, now_us)?,
            Want::Sample { node, room } => self.act(node, room, now_us)?,
            Want::Resume { node, launches } => self.resume(node, launches, now_us)?,
            Want::Retire { node } => node,
        };
        if self.driver.tree().node(node).is_some_and(|node| node.status.is_some()) {
            self.policy.forget(sequence(node));
        }
        Ok(true)
    }

    /// The driver, with the tree.
    pub fn into_driver(self) -> Driver<A> {
        self.driver
    }

    /// A new agent takes the next seat.
    fn launch(&mut self, parent: Option<NodeId>, index: u8, now_us: u64) -> Result<NodeId, RunError> {
        let (mut world, wish) = match parent {
            None => (self.root.take(), Budget::UNLIMITED),
            Some(parent) => match &mut seat(self.seats, parent)?.world {
                Some(above) => (above.child(index).ok(), above.budget(index)),
                None => (None, Budget::UNLIMITED),
            },
        };
        let task = world.as_ref().map(describe).unwrap_or_default();
        let node = self.driver.handle_spawn(parent, &task, wish, now_us, self.sink)?;
        let mut room = [Token(0); CONTEXT];
        let mut seen = Observation::new(&mut room);
        // A world that breaks costs this node alone.
        match world.as_mut().map(|world| world.observe(&mut seen)) {
            Some(Ok(())) => self.driver.handle_prompt(node, &seen, now_us, self.sink)?,
            _ => self.driver.handle_broken(node, now_us, self.sink)?,
        }
        let context = Vec::from_slice(seen.tokens()).map_err(|_| RunError::Full("the contexts"))?;
        let taken = self.seats.push(Seat { world, context });
        taken.map_err(|_| RunError::Full("the seats"))?;
        Ok(node)
    }

    /// An agent draws an action, and its world answers.
    fn act(&mut self, node: NodeId, room: u32, now_us: u64) -> Result<NodeId, RunError> {
        let Seat { world, context } = seat(self.seats, node)?;
        let world = world.as_mut().ok_or(RunError::Seat(node))?;
        let room = ACTION.min(room as usize);
        let (mut tokens, mut logprobs) = ([Token(0); ACTION], [0.0; ACTION]);
        // Masks are for who trains on the action: not kept here.
        let completion = Completion::new(&mut tokens[..room], &mut logprobs[..room], &mut [], 0);
        let mut batch = [Request {
            sequence: sequence(node),
            prompt: context,
            seed: node.0.into(),
            temperature: 1.0,
            constraint: world.constraint(),
            completion: completion.map_err(|_| RunError::Full("the actions"))?,
            stop: None,
        }];
        // The inference. This is where the device spends its time.
        self.policy.sample_all(&mut batch).map_err(|_| RunError::Policy)?;
        let [Request { completion, stop, .. }] = batch;
        let drawn = completion.len();
        let action = Action {
            tokens: &tokens[..drawn],
            logprobs: &logprobs[..drawn],
            weights: self.policy.weights(),
            stop: stop.unwrap_or(Stop::Length),
        };
        if self.driver.handle_action(node, action, now_us, self.sink)? {
            remember(context, action.tokens)?;
            let mut room = [Token(0); CONTEXT];
            let mut seen = Observation::new(&mut room[context.len()..]);
            let outcome = world.step(action.tokens, &mut seen).ok();
            self.hear(node, outcome, &seen, now_us)?;
        }
        Ok(node)
    }

    /// A parent is shown what came of its delegation.
    fn resume(&mut self, node: NodeId, launches: u8, now_us: u64) -> Result<NodeId, RunError> {
        let (driver, first) = (&self.driver, node.index() + 1);
        // Children sit after their parents.
        let (above, below) = self.seats.split_at_mut_checked(first).ok_or(RunError::Seat(node))?;
        let Seat { world, context } = above.last_mut().ok_or(RunError::Seat(node))?;
        let mut answers: Vec<Answer<'_>, ANSWERS> = Vec::new();
        for launch in (0..launches).filter_map(|index| driver.launch(node, index)) {
            let child = launch.node().and_then(|child| below.get(child.index() - first));
            let answer = launch.answer(child.map_or(&[], Seat::answer));
            answers.push(answer).map_err(|_| RunError::Full("the answers"))?;
        }
        let mut room = [Token(0); CONTEXT];
        let mut seen = Observation::new(&mut room[context.len()..]);
        let outcome = world.as_mut().and_then(|world| world.resume(&answers, &mut seen).ok());
        drop(answers);
        self.hear(node, outcome, &seen, now_us)?;
        Ok(node)
    }

    /// What a world said. One that broke (`None`) costs its node alone.
    fn hear(
        &mut self,
        node: NodeId,
        outcome: Option<Outcome>,
        seen: &Observation<'_>,
        now_us: u64,
    ) -> Result<(), RunError> {
        let seat = seat(self.seats, node)?;
        remember(&mut seat.context, seen.tokens())?;
        match outcome {
            Some(outcome) => self
                .driver
                .handle_outcome(node, outcome, seen, seat.answer(), now_us, self.sink)?,
            None => self.driver.handle_broken(node, now_us, self.sink)?,
        }
        Ok(())
    }
}

impl<E: Environment, const CONTEXT: usize> Seat<E, CONTEXT> {
    fn answer(&self) -> &[u8] {
        self.world.as_ref().map_or(&[], E::answer)
    }
}

fn seat<E, const CONTEXT: usize>(
    seats: &mut VecView<Seat<E, CONTEXT>>,
    node: NodeId,
) -> Result<&mut Seat<E, CONTEXT>, RunError> {
    seats.get_mut(node.index()).ok_or(RunError::Seat(node))
}

fn remember<const CONTEXT: usize>(context: &mut Vec<Token, CONTEXT>, tokens: &[Token]) -> Result<(), RunError> {
    let kept = context.extend_from_slice(tokens);
    kept.map_err(|_| RunError::Full("the contexts"))
}

/// A prefix cache keeps one node's context apart from another's by this.
fn sequence(node: NodeId) -> SequenceId {
    SequenceId(node.0.into())
}

/// A description too long for the trace is left out of it.
fn describe<E: Environment>(world: &E) -> String<DESCRIPTION> {
    let mut text = String::new();
    match world.describe(&mut text) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}
