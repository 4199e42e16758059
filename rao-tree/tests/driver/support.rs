//! An arena, a log, and a caller that takes one step at a time.

use rao_proto::{Event, EventSink, Frames, Record, encode, encoded_len};
use rao_tree::{
    Action, Arena, ArenaFull, Budget, Driver, DriverError, Launch, Limits, Node, NodeId, NodeStatus, Observation,
    Outcome, Stop, Success, Token, Tree, Want, WeightsVersion,
};

/// Grows on the heap.
#[derive(Clone, Debug, Default)]
pub struct VecArena(Vec<Node>);

impl AsRef<[Node]> for VecArena {
    fn as_ref(&self) -> &[Node] {
        &self.0
    }
}

impl AsMut<[Node]> for VecArena {
    fn as_mut(&mut self) -> &mut [Node] {
        &mut self.0
    }
}

impl Arena for VecArena {
    fn push(&mut self, node: Node) -> Result<(), ArenaFull> {
        self.0.push(node);
        Ok(())
    }
}

/// Every event of a run as the bytes that would be its trace file.
#[derive(Clone, Debug, Default)]
pub struct Log(pub Vec<u8>);

impl EventSink for Log {
    fn record(&mut self, record: &Record<'_>) {
        let start = self.0.len();
        self.0.resize(start + encoded_len(record).unwrap(), 0);
        encode(record, &mut self.0[start..]).unwrap();
    }
}

impl Log {
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        Frames::new(&self.0).map(Result::unwrap)
    }

    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.records().map(|record| record.event)
    }

    /// The tree that the log describes.
    pub fn fold(&self) -> Tree<VecArena> {
        let mut tree = Tree::new(VecArena::default());
        for event in self.events() {
            tree.apply(&event).unwrap();
        }
        tree
    }
}

/// What a reader of the log knows of a node.
pub fn visible(node: &Node) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (node.parent, node.depth, node.status, node.success),
        (node.steps, node.children, node.sampled, node.context),
        (node.restarts, node.earlier),
        node.critical_path(),
    )
}

/// Asserts what every log of a closed run must show.
#[track_caller]
pub fn assert_sound<A: Arena>(log: &Log, tree: &Tree<A>) {
    let mut terminals = vec![0; tree.nodes().len()];
    let mut closed = 0;
    for event in log.events() {
        assert_eq!(closed, 0, "an event after the run was closed: {event:?}");
        match event {
            Event::Return { node, .. } | Event::Cancel { node, .. } => terminals[node.index()] += 1,
            Event::RunClosed { nodes, tokens } => {
                closed += 1;
                assert_eq!(nodes as usize, tree.nodes().len());
                assert_eq!(tokens, tree.nodes().iter().map(|node| u64::from(node.sampled)).sum());
            }
            _ => {}
        }
    }
    assert_eq!(closed, 1, "the run is closed once");
    assert!(
        terminals.iter().all(|&count| count == 1),
        "terminal events by node: {terminals:?}"
    );
    let folded = log.fold();
    assert!(folded.nodes().iter().map(visible).eq(tree.nodes().iter().map(visible)));
}

/// Limits that no short test meets.
pub const WIDE: Limits = Limits {
    depth_max: 8,
    nodes_max: 1000,
    children_max: 100,
    steps_max: 50,
    tokens_max: 1_000_000,
    action_max: 100,
    context_max: 1000,
    concurrent_max: 100,
    deadline_us: None,
};

/// A caller that takes one step at a time and fails the test where the driver does not want it.
pub struct Run<A = VecArena> {
    pub driver: Driver<A>,
    pub log: Log,
}

impl Run {
    pub fn open(limits: Limits) -> Self {
        Self::over(VecArena::default(), limits)
    }

    /// A run whose root has its prompt and is due.
    pub fn with_root(limits: Limits) -> Self {
        let mut run = Self::open(limits);
        assert_eq!(run.spawn(None), NodeId::ROOT);
        run
    }
}

impl<A: Arena> Run<A> {
    pub fn over(arena: A, limits: Limits) -> Self {
        let mut log = Log::default();
        let driver = Driver::open(arena, limits, "a task", 0, WeightsVersion(0), &mut log);
        Self { driver, log }
    }

    #[track_caller]
    pub fn poll(&mut self) -> Option<Want> {
        self.driver.poll(0, &mut self.log).unwrap()
    }

    /// Polls, expects this launch to be on offer, spawns it and gives it a prompt of one token.
    #[track_caller]
    pub fn spawn(&mut self, parent: Option<u32>) -> NodeId {
        let parent = parent.map(NodeId);
        let want = self.poll();
        assert!(
            matches!(want, Some(Want::Open { parent: p, .. }) if p == parent),
            "{want:?}"
        );
        let node = self
            .driver
            .handle_spawn(parent, "", Budget::UNLIMITED, 0, &mut self.log)
            .unwrap();
        self.prompt(node, 1).unwrap();
        node
    }

    pub fn prompt(&mut self, node: NodeId, tokens: usize) -> Result<(), DriverError> {
        with_observation(tokens, |seen| self.driver.handle_prompt(node, seen, 0, &mut self.log))
    }

    /// Polls and expects this node to be asked for an action; returns its room.
    #[track_caller]
    pub fn sample(&mut self, node: u32) -> u32 {
        match self.poll() {
            Some(Want::Sample { node: id, room }) if id == NodeId(node) => room,
            want => panic!("node {node} is not sampled, but {want:?}"),
        }
    }

    pub fn act(&mut self, node: u32, tokens: usize, stop: Stop) -> Result<bool, DriverError> {
        let action = Action {
            tokens: &vec![Token(1); tokens],
            logprobs: &vec![-0.5; tokens],
            weights: WeightsVersion(0),
            stop,
        };
        self.driver.handle_action(NodeId(node), action, 0, &mut self.log)
    }

    pub fn outcome(&mut self, node: u32, outcome: Outcome, seen: usize) -> Result<(), DriverError> {
        with_observation(seen, |seen| {
            self.driver
                .handle_outcome(NodeId(node), outcome, seen, b"", 0, &mut self.log)
        })
    }

    /// One whole turn: sampled, an action of `tokens`, the outcome.
    #[track_caller]
    pub fn turn(&mut self, node: u32, tokens: usize, outcome: Outcome) {
        self.sample(node);
        assert_eq!(self.act(node, tokens, Stop::Complete), Ok(true));
        self.outcome(node, outcome, 0).unwrap();
    }

    /// Polls and expects this node to be resumed; returns what came of its launches.
    #[track_caller]
    pub fn resume(&mut self, node: u32) -> Vec<Launch> {
        match self.poll() {
            Some(Want::Resume { node: id, launches }) if id == NodeId(node) => {
                let launches = (0..launches).map(|index| self.driver.launch(id, index));
                launches.map(Option::unwrap).collect()
            }
            want => panic!("node {node} is not resumed, but {want:?}"),
        }
    }

    #[track_caller]
    pub fn status(&self, node: u32) -> Option<NodeStatus> {
        self.driver.tree().node(NodeId(node)).unwrap().status
    }

    /// Asserts that the run is closed and its log is sound.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        assert!(self.driver.is_closed());
        assert_eq!(self.driver.live(), 0);
        assert_eq!(self.poll(), None);
        assert_sound(&self.log, self.driver.tree());
    }
}

pub fn with_observation<T>(tokens: usize, f: impl FnOnce(&Observation<'_>) -> T) -> T {
    let mut room = vec![Token(0); tokens];
    let mut seen = Observation::new(&mut room);
    for _ in 0..tokens {
        seen.push(Token(2));
    }
    f(&seen)
}

/// A launch whose node said [`DONE`].
pub fn finished(node: u32) -> Launch {
    Launch::Ended {
        node: NodeId(node),
        status: NodeStatus::Finished,
        success: Success::ONE,
        answered: true,
    }
}

pub const DONE: Outcome = Outcome::Finish(Success::ONE);

pub fn delegate(children: u8) -> Outcome {
    Outcome::Delegate { children }
}
