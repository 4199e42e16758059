//! A caller that answers in any order, with anything, and calls what nobody asked for.

use rao_proto::{Budget, Event, EventSink, Frames, Limit, Limits, Record, encode, encoded_len};
use rao_tree::{
    Action, Driver, Node, NodeId, NodeStatus, Observation, Outcome, Stop, Success, Token, Tree, Want, WeightsVersion,
};

/// Lets `bytes` choose limits, answers and wrong calls, then brings the run to its end. Asserts that a refused call leaves no event, that no
/// cap is passed, and that the log of the closed run is sound: one end for each node, and it folds to the driver's tree.
pub fn driver(bytes: &[u8]) -> u64 {
    let mut caller = Caller::new(Tape(bytes));
    while !caller.driver.is_closed() {
        caller.step();
        caller.check();
        assert!(caller.calls < 1 << 20, "the run does not close");
    }
    caller.check_log();
    caller.calls
}

type Arena = heapless::Vec<Node, 64>;

/// The choices; once they are used up the first way is taken every time, which brings any run to its end.
struct Tape<'a>(&'a [u8]);

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, ways: usize) -> usize {
        usize::from(self.byte()) % ways
    }

    /// Small as a rule, and now and then as large as the type.
    fn number(&mut self) -> u32 {
        match self.byte() {
            255 => u32::MAX,
            number => number.into(),
        }
    }

    fn budget(&mut self) -> Budget {
        if self.below(2) == 0 {
            return Budget::UNLIMITED;
        }
        Budget {
            depth: self.byte(),
            nodes: self.number(),
            children: self.number() as u16,
            steps: self.number() as u16,
            tokens: self.number().into(),
            deadline_us: (self.below(4) == 3).then(|| self.number().into()),
        }
    }
}

/// Every event as the bytes of the trace.
#[derive(Default)]
struct Log(Vec<u8>);

impl EventSink for Log {
    fn record(&mut self, record: &Record<'_>) {
        let start = self.0.len();
        self.0.resize(start + encoded_len(record).expect("a driver's event"), 0);
        encode(record, &mut self.0[start..]).expect("room for it");
    }
}

struct Caller<'a> {
    tape: Tape<'a>,
    driver: Driver<Arena>,
    log: Log,
    limits: Limits,
    /// What the driver wanted and has not been answered.
    wants: Vec<Want>,
    /// Nodes whose verdict is due.
    judging: Vec<NodeId>,
    now_us: u64,
    calls: u64,
}

impl<'a> Caller<'a> {
    fn new(mut tape: Tape<'a>) -> Self {
        let limits = Limits {
            depth_max: tape.byte(),
            nodes_max: tape.number(),
            children_max: tape.number() as u16,
            steps_max: tape.number() as u16,
            tokens_max: tape.number().into(),
            action_max: tape.number(),
            context_max: tape.number(),
            concurrent_max: tape.number(),
            deadline_us: (tape.below(4) == 3).then(|| tape.number().into()),
        };
        let mut log = Log::default();
        let driver = Driver::open(Arena::new(), limits, "a task", 0, WeightsVersion(0), &mut log);
        Self {
            tape,
            driver,
            log,
            limits,
            wants: Vec::new(),
            judging: Vec::new(),
            now_us: 0,
            calls: 0,
        }
    }

    fn step(&mut self) {
        self.calls += 1;
        match self.tape.below(16) {
            0..6 => self.poll(),
            6..11 if !self.wants.is_empty() => {
                let want = self.tape.below(self.wants.len());
                let want = self.wants.remove(want);
                self.answer(want);
            }
            11..14 => self.disturb(),
            14 => self.now_us += u64::from(self.tape.byte()),
            15 if self.tape.byte() == 255 => {
                let (now_us, log) = (self.now_us, &mut self.log);
                match self.tape.below(2) {
                    0 => self.driver.handle_deadline(now_us, log).expect("always taken"),
                    _ => self.driver.handle_cancel(now_us, log).expect("always taken"),
                }
            }
            _ => self.poll(),
        }
    }

    fn poll(&mut self) {
        match self.driver.poll(self.now_us, &mut self.log).expect("no caller's fault") {
            // Stays on offer until it is taken.
            Some(want @ Want::Open { .. }) if self.wants.contains(&want) => {
                self.wants.retain(|other| *other != want);
                self.answer(want);
            }
            Some(Want::Retire { node }) => assert!(self.driver.tree().node(node).is_some_and(|n| n.status.is_some())),
            Some(want) => {
                if let Want::Resume { node, launches } = want {
                    assert!((0..launches).all(|index| self.driver.launch(node, index).is_some()));
                }
                self.wants.push(want);
            }
            None if self.driver.is_closed() => {}
            None if self.wants.is_empty() => {
                assert!(!self.judging.is_empty(), "nothing is wanted and nothing is under way");
                self.verdict(self.judging[0]);
            }
            None => {
                let want = self.wants.remove(0);
                self.answer(want);
            }
        }
    }

    /// Answers as asked. The node may have been ended by a wrong call meanwhile; then the answer comes too late.
    fn answer(&mut self, want: Want) {
        match want {
            Want::Open { parent, .. } => {
                let (wish, before) = (self.tape.budget(), parent.and_then(|parent| self.driver.left(parent)));
                let node = self.driver.handle_spawn(parent, "", wish, self.now_us, &mut self.log);
                if let Ok(node) = node {
                    let given = self.driver.left(node).expect("it was spawned");
                    assert!(given.within(wish));
                    let tokens =
                        before.is_none_or(|before| given.tokens <= before.tokens && given.depth < before.depth);
                    assert!(tokens, "no child has more than its parent has left");
                    self.prompt(node);
                }
            }
            Want::Sample { node, room } => {
                let tokens = (self.tape.byte() as usize).min(room as usize);
                if self.act(node, tokens) == Some(true) {
                    self.outcome(node);
                }
            }
            Want::Resume { node, .. } => self.outcome(node),
            Want::Retire { .. } => {}
        }
    }

    fn prompt(&mut self, node: NodeId) {
        let mut room = [Token(1); 40];
        let seen = observation(&mut room, self.tape.below(41));
        let (now_us, log) = (self.now_us, &mut self.log);
        if self.tape.byte() == 255 {
            let _ = self.driver.handle_broken(node, now_us, log);
        } else {
            let _ = self.driver.handle_prompt(node, &seen, now_us, log);
        }
    }

    /// Whether the node is still to be stepped; `None` where the call was refused.
    fn act(&mut self, node: NodeId, tokens: usize) -> Option<bool> {
        let logprob = if self.tape.byte() == 255 { f32::NAN } else { -0.5 };
        let unpaired = usize::from(self.tape.byte() == 255);
        let stop = match self.tape.byte() {
            252 => Stop::Failed,
            253 => Stop::Stuck,
            254 => Stop::ContextOverflow,
            255 => Stop::Length,
            _ => Stop::Complete,
        };
        let action = Action {
            tokens: &vec![Token(3); tokens],
            logprobs: &vec![logprob; tokens + unpaired],
            weights: WeightsVersion(self.tape.byte().into()),
            stop,
        };
        let before = self.log.0.len();
        let taken = self.driver.handle_action(node, action, self.now_us, &mut self.log);
        assert!(
            taken.is_ok() || self.log.0.len() == before,
            "a refused call leaves no event"
        );
        if taken.is_err() {
            // It may be tried again or given up.
            let _ = self.driver.handle_broken(node, self.now_us, &mut self.log);
        }
        taken.ok()
    }

    fn outcome(&mut self, node: NodeId) {
        let outcome = match self.tape.below(16) {
            1..4 => Outcome::Continue,
            4..12 => Outcome::Delegate {
                children: self.tape.byte(),
            },
            12 => Outcome::Truncate(Limit::Steps),
            13 => Outcome::Fail,
            14 => Outcome::Submit,
            _ => Outcome::Finish(Success::ONE),
        };
        let mut room = [Token(1); 8];
        let mut seen = observation(&mut room, self.tape.below(9));
        if self.tape.byte() == 255 {
            seen.restart();
        }
        let before = self.log.0.len();
        let taken = self
            .driver
            .handle_outcome(node, outcome, &seen, b"", self.now_us, &mut self.log);
        if taken.is_ok() && outcome == Outcome::Submit {
            self.judging.push(node);
        }
        if taken.is_err() {
            assert_eq!(self.log.0.len(), before, "a refused call leaves no event");
            let _ = self.driver.handle_broken(node, self.now_us, &mut self.log);
        }
    }

    /// A verdict, which is taken exactly where it is due.
    fn verdict(&mut self, node: NodeId) {
        let verdict = (self.tape.below(2) == 0).then_some(Success::ONE);
        let before = self.log.0.len();
        let taken = self.driver.handle_verdict(node, verdict, self.now_us, &mut self.log);
        let due = self.judging.contains(&node) && !(before == self.log.0.len() && taken.is_err());
        assert_eq!(taken.is_ok(), due, "a refused call leaves no event");
        self.judging.retain(|judged| *judged != node);
    }

    /// A call for a node that may not exist, or is not where the call would need it.
    fn disturb(&mut self) {
        let node = NodeId(self.tape.number());
        match self.tape.below(6) {
            0 => self.prompt(node),
            1 => drop(self.act(node, 3)),
            2 => self.outcome(node),
            3 => drop(self.driver.handle_broken(node, self.now_us, &mut self.log)),
            4 => self.verdict(node),
            _ => {
                let (wish, before) = (self.tape.budget(), self.log.0.len());
                let spawned = self
                    .driver
                    .handle_spawn(Some(node), "", wish, self.now_us, &mut self.log);
                match spawned {
                    Ok(node) => self.prompt(node),
                    Err(_) => assert_eq!(self.log.0.len(), before, "a refused call leaves no event"),
                }
            }
        }
    }

    fn check(&self) {
        let (driver, limits) = (&self.driver, &self.limits);
        let nodes = driver.tree().nodes();
        assert!(driver.live() <= limits.concurrent_max.max(1));
        assert!(driver.tokens_spent() <= limits.tokens_max);
        assert!(nodes.len() as u64 <= u64::from(limits.nodes_max.max(1)));
        if let Some(node) = nodes.last() {
            assert!(node.depth.0 <= limits.depth_max && node.children <= limits.children_max);
        }
    }

    fn check_log(&self) {
        let mut tree = Tree::new(Arena::new());
        let mut ends = vec![0; self.driver.tree().nodes().len()];
        let mut closed = 0;
        for record in Frames::new(&self.log.0) {
            let event = record.expect("a driver's frame").event;
            assert_eq!(closed, 0, "nothing after the run was closed");
            tree.apply(&event).expect("a driver's event");
            match event {
                Event::Return { node, .. } | Event::Cancel { node, .. } => ends[node.index()] += 1,
                Event::RunClosed { nodes, tokens } => {
                    assert_eq!((nodes as usize, tokens), (ends.len(), self.driver.tokens_spent()));
                    closed += 1;
                }
                _ => {}
            }
        }
        assert_eq!(closed, 1);
        assert!(ends.iter().all(|ends| *ends == 1), "{ends:?}");
        let visible = |node: &Node| -> (Option<NodeId>, Option<NodeStatus>, u16, u16, u32, u32, u64) {
            let (path, counts) = (node.critical_path(), (node.steps, node.children));
            (
                node.parent,
                node.status,
                counts.0,
                counts.1,
                node.sampled,
                node.context,
                path,
            )
        };
        let folded = tree.nodes().iter().map(visible);
        assert!(folded.eq(self.driver.tree().nodes().iter().map(visible)));
    }
}

fn observation(room: &mut [Token], tokens: usize) -> Observation<'_> {
    let mut seen = Observation::new(room);
    for _ in 0..tokens {
        seen.push(Token(2));
    }
    seen
}
