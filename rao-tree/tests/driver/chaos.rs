//! Random callers: answers in any order, of any kind, some of them wrong, some too late.

use crate::budgets::assert_within_budgets;
use crate::random::Random;
use crate::support::*;
use proptest::prelude::*;
use rao_tree::{Budget, DriverError, Launch, Limit, Limits, NodeId, NodeStatus, Outcome, Stop, Success, Want};

/// The caller's choices. Once they are used up it takes the first way every time, which brings any run to its end.
struct Tape {
    choices: Vec<u16>,
    at: usize,
}

impl Tape {
    fn below(&mut self, ways: usize) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(choice) % ways
    }
}

/// What the caller has of a node.
#[derive(Clone, Copy, Debug)]
enum Hand {
    Opening,
    Sampling { room: u32 },
    Stepping,
}

struct Caller {
    run: Run,
    limits: Limits,
    tape: Tape,
    hands: Vec<(NodeId, Hand)>,
    /// Nodes that have delegated and have not been resumed.
    waiting: Vec<NodeId>,
    spent: u64,
    /// Microseconds, by a clock that the tape moves on.
    now: u64,
    /// How many nodes were spawned with less than everything, and how many were timed out alone.
    narrowed: u32,
    late: u32,
}

impl Caller {
    fn drive(limits: Limits, choices: Vec<u16>) -> Self {
        let tape = Tape { choices, at: 0 };
        let mut caller = Self {
            run: Run::open(limits),
            limits,
            tape,
            hands: Vec::new(),
            waiting: Vec::new(),
            spent: 0,
            now: 0,
            narrowed: 0,
            late: 0,
        };
        for _ in 0..1_000_000 {
            if caller.run.driver.is_closed() {
                caller.run.assert_closed();
                assert_within_budgets(&caller.run.log);
                return caller;
            }
            caller.step();
            caller.check();
        }
        panic!("the run does not close");
    }

    fn step(&mut self) {
        match self.tape.below(16) {
            0..8 => self.poll(),
            8..14 if !self.hands.is_empty() => {
                let hand = self.tape.below(self.hands.len());
                self.answer(hand);
            }
            14 => self.disturb(),
            15 if self.tape.below(32) == 31 => self.stop(),
            _ => self.poll(),
        }
    }

    fn poll(&mut self) {
        self.now += self.tape.below(3) as u64;
        let want = self.run.driver.poll(self.now, &mut self.run.log).unwrap();
        match want {
            None if self.run.driver.is_closed() => self.too_late(),
            None => {
                assert!(!self.hands.is_empty(), "nothing is wanted and nothing is under way");
                self.answer(0);
            }
            Some(Want::Open { parent, index }) => {
                // Sometimes something else happens first.
                if self.tape.below(4) == 3 && !self.hands.is_empty() {
                    self.answer(0);
                    if self.run.driver.is_closed() {
                        return;
                    }
                }
                let wish = self.wish();
                let node = self.spawn(parent, wish);
                assert_eq!(parent.is_none(), node == NodeId::ROOT);
                let launched = self
                    .run
                    .driver
                    .tree()
                    .nodes()
                    .iter()
                    .filter(|node| node.parent == parent);
                assert!(launched.count() > usize::from(index));
                self.hands.push((node, Hand::Opening));
            }
            Some(Want::Sample { node, room }) => {
                let context = self.run.driver.tree().node(node).unwrap().context;
                assert!(room <= self.limits.action_max && context + room <= self.limits.context_max);
                self.hands.push((node, Hand::Sampling { room }));
            }
            Some(Want::Resume { node, launches }) => {
                self.assert_answered(node, launches);
                self.waiting.retain(|&waiting| waiting != node);
                self.hands.push((node, Hand::Stepping));
            }
            Some(Want::Retire { node }) => {
                let status = self.run.status(node.0);
                match status {
                    Some(NodeStatus::TimedOut) => {
                        self.waiting.retain(|&waiting| waiting != node);
                        self.late += 1;
                    }
                    status => assert!(matches!(status, Some(NodeStatus::Truncated(_))), "{status:?}"),
                }
            }
        }
    }

    /// What a parent lets a child use: everything, more often than not.
    fn wish(&mut self) -> Budget {
        let mut wish = Budget::UNLIMITED;
        if self.tape.below(3) == 2 {
            let some = |tape: &mut Tape, below| tape.below(below) as u32;
            match self.tape.below(6) {
                0 => wish.depth = some(&mut self.tape, 3) as u8,
                1 => wish.nodes = some(&mut self.tape, 6),
                2 => wish.children = some(&mut self.tape, 4) as u16,
                3 => wish.steps = some(&mut self.tape, 4) as u16,
                4 => wish.tokens = some(&mut self.tape, 60).into(),
                _ => wish.deadline_us = Some(self.now + u64::from(some(&mut self.tape, 40))),
            }
        }
        wish
    }

    /// Spawns, and asserts that the child has no more than its parent had left by the driver's own account; `assert_within_budgets` keeps
    /// the books from the log, without the driver.
    fn spawn(&mut self, parent: Option<NodeId>, wish: Budget) -> NodeId {
        let above = parent.map(|parent| {
            let given = self.run.driver.tree().node(parent).unwrap().budget;
            let left = self.run.driver.left(parent).unwrap();
            // Of its own actions and children a node has used some: these are caps that its child has for itself.
            let caps = Budget {
                children: given.children,
                steps: given.steps,
                ..left
            };
            caps.of_child()
        });
        let log = &mut self.run.log;
        let node = self.run.driver.handle_spawn(parent, "", wish, self.now, log).unwrap();
        let given = self.run.driver.tree().node(node).unwrap().budget;
        assert!(
            given.within(above.unwrap_or(self.limits.budget())),
            "{given:?} of {above:?}"
        );
        assert!(given.within(wish));
        assert_eq!(self.run.driver.left(node), Some(given), "nothing is used yet");
        self.narrowed += u32::from(wish != Budget::UNLIMITED);
        node
    }

    /// Every launch of the delegation is over: the head as nodes in order, the tail refused.
    fn assert_answered(&self, node: NodeId, launches: u8) {
        let driver = &self.run.driver;
        let mut last = None;
        let mut refused = false;
        for index in 0..launches {
            match driver.launch(node, index).expect("a launch that is over") {
                Launch::Refused(_) => refused = true,
                Launch::Ended {
                    node: child,
                    status,
                    success,
                    answered,
                } => {
                    let entry = driver.tree().node(child).unwrap();
                    assert!(entry.parent == Some(node) && entry.status == Some(status) && entry.success == success);
                    assert!(answered || status != NodeStatus::Finished);
                    assert!(!refused && last < Some(child));
                    last = Some(child);
                }
            }
        }
        assert_eq!(driver.launch(node, launches), None);
    }

    fn answer(&mut self, hand: usize) {
        let (node, hand) = self.hands.remove(hand);
        match hand {
            Hand::Opening => self.open(node),
            Hand::Sampling { room } => self.act(node, room),
            Hand::Stepping => self.outcome(node),
        }
    }

    fn open(&mut self, node: NodeId) {
        match self.tape.below(32) {
            31 => self.run.driver.handle_broken(node, 0, &mut self.run.log).unwrap(),
            30 => self.run.prompt(node, 100).unwrap(),
            tokens => self.run.prompt(node, tokens / 4).unwrap(),
        }
    }

    fn act(&mut self, node: NodeId, room: u32) {
        let room = room.min(50) as usize;
        let some = self.tape.below(room + 1);
        let (tokens, stop) = match self.tape.below(64) {
            32..48 => (room, Stop::Length),
            60 => (some, Stop::Failed),
            61 => (some, Stop::Stuck),
            62 => (some, Stop::ContextOverflow),
            63 => return self.run.driver.handle_broken(node, 0, &mut self.run.log).unwrap(),
            _ => (some, Stop::Complete),
        };
        self.spent += tokens as u64;
        let goes_on = self.run.act(node.0, tokens, stop).unwrap();
        assert_eq!(goes_on, self.run.status(node.0).is_none());
        if goes_on {
            self.hands.push((node, Hand::Stepping));
        }
    }

    fn outcome(&mut self, node: NodeId) {
        let outcome = match self.tape.below(32) {
            0..3 => Outcome::Finish(Success::new(self.tape.below(5) as f32 / 4.0).unwrap()),
            3..9 => Outcome::Continue,
            9..29 => delegate(1 + self.tape.below(5) as u8),
            29 if self.tape.below(4) == 3 => delegate(u8::MAX),
            30 => Outcome::Truncate(Limit::Steps),
            _ => return self.run.driver.handle_broken(node, 0, &mut self.run.log).unwrap(),
        };
        let seen = self.tape.below(4);
        self.run.outcome(node.0, outcome, seen).unwrap();
        if self.run.status(node.0).is_none() && matches!(outcome, Outcome::Delegate { .. }) {
            self.waiting.push(node);
        }
    }

    /// Calls that nobody asked for.
    fn disturb(&mut self) {
        let nodes = self.run.driver.tree().nodes().len();
        let node = NodeId(self.tape.below(nodes + 2) as u32);
        let hand = self.hands.iter().find(|(id, _)| *id == node).map(|(_, hand)| *hand);
        let len = self.run.log.0.len();
        let mut results = Vec::new();
        match hand {
            Some(Hand::Sampling { room }) => {
                if room < 50 {
                    results.push(self.run.act(node.0, room as usize + 1, Stop::Complete).map(drop));
                }
                results.push(self.run.outcome(node.0, DONE, 0));
            }
            Some(Hand::Stepping) => results.push(self.run.outcome(node.0, delegate(0), 0)),
            Some(Hand::Opening) => results.push(self.run.act(node.0, 1, Stop::Complete).map(drop)),
            None => {
                results.push(self.run.prompt(node, 1));
                results.push(self.run.act(node.0, 0, Stop::Complete).map(drop));
                results.push(self.run.outcome(node.0, DONE, 0));
                results.push(self.run.driver.handle_broken(node, 0, &mut self.run.log));
                let nobody = NodeId(nodes as u32 + 1);
                results.push(
                    self.run
                        .driver
                        .handle_spawn(Some(nobody), "", Budget::UNLIMITED, 0, &mut self.run.log)
                        .map(drop),
                );
            }
        }
        assert!(
            results
                .iter()
                .all(|result| !matches!(result, Ok(()) | Err(DriverError::Tree(_)))),
            "{results:?}"
        );
        assert_eq!(self.run.log.0.len(), len, "a refused call leaves no trace");
    }

    fn stop(&mut self) {
        let driver = &mut self.run.driver;
        match self.tape.below(2) {
            0 => driver.handle_deadline(1, &mut self.run.log).unwrap(),
            _ => driver.handle_cancel(1, &mut self.run.log).unwrap(),
        }
        self.too_late();
    }

    /// The run was closed from outside: what was under way comes too late.
    fn too_late(&mut self) {
        self.waiting.clear();
        for (node, _) in std::mem::take(&mut self.hands) {
            self.run.outcome(node.0, DONE, 0).unwrap_err();
        }
    }

    fn check(&self) {
        let (driver, limits) = (&self.run.driver, &self.limits);
        let nodes = driver.tree().nodes();
        let working = nodes.iter().filter(|node| node.status.is_none()).count() - self.waiting.len();
        assert_eq!(driver.live() as usize, working);
        assert!(driver.live() <= limits.concurrent_max.max(1));
        assert!(nodes.len() as u64 <= u64::from(limits.nodes_max.max(1)));
        let rooms = self.hands.iter().map(|(_, hand)| match hand {
            Hand::Sampling { room } => u64::from(*room),
            _ => 0,
        });
        assert_eq!(driver.tokens_spent(), self.spent);
        assert!(u128::from(self.spent) + u128::from(rooms.sum::<u64>()) <= u128::from(limits.tokens_max));
        for node in nodes {
            assert!(node.depth.0 <= limits.depth_max);
            assert!(node.children <= node.budget.children && node.steps <= node.budget.steps);
        }
    }
}

/// Tight more often than not, and now and then as wide as the type.
fn limits() -> impl Strategy<Value = Limits> {
    fn cap(tight: u32) -> impl Strategy<Value = u32> {
        prop_oneof![1 => Just(0), 70 => 1..=tight, 9 => Just(u32::MAX)]
    }
    let deadline = prop::option::weighted(0.1, 0..2_000_u64);
    let counts = (cap(5), cap(60), cap(20), cap(12), cap(400), cap(20), cap(200), cap(6));
    (counts, deadline).prop_map(
        |((depth, nodes, children, steps, tokens, action, context, concurrent), deadline_us)| Limits {
            depth_max: u8::try_from(depth).unwrap_or(u8::MAX),
            nodes_max: nodes,
            children_max: u16::try_from(children).unwrap_or(u16::MAX),
            steps_max: u16::try_from(steps).unwrap_or(u16::MAX),
            tokens_max: if tokens == u32::MAX { u64::MAX } else { tokens.into() },
            action_max: action,
            context_max: context,
            concurrent_max: concurrent,
            deadline_us,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every spawn has one terminal event, no cap is ever passed, the log folds to the driver's tree, and the run closes.
    #[test]
    fn any_caller_gets_a_sound_run(limits in limits(), choices in prop::collection::vec(any::<u16>(), 0..2000)) {
        Caller::drive(limits, choices);
    }

    #[test]
    fn the_same_caller_gets_the_same_bytes(limits in limits(), choices in prop::collection::vec(any::<u16>(), 0..1000)) {
        let (once, again) = (Caller::drive(limits, choices.clone()), Caller::drive(limits, choices));
        prop_assert_eq!(once.run.log.0, again.run.log.0);
    }
}

/// The same caller over a hundred thousand trees, without shrinking: most of them small, every way of ending among them.
#[test]
fn a_hundred_thousand_random_trees() {
    let mut seen = [0_u64; 6];
    for seed in 0..100_000_u64 {
        let mut random = Random(seed);
        let choices = (0..random.below(500)).map(|_| random.bits() as u16).collect();
        let caller = Caller::drive(random_limits(&mut random), choices);
        let nodes = caller.run.driver.tree().nodes();
        let ended =
            |wanted: fn(NodeStatus) -> bool| nodes.iter().filter(|node| node.status.is_some_and(wanted)).count() as u64;
        let counts = [
            nodes.len() as u64,
            ended(|status| status == NodeStatus::Invalid),
            ended(|status| status == NodeStatus::TimedOut),
            ended(|status| status == NodeStatus::Cancelled),
            caller.narrowed.into(),
            caller.late.into(),
        ];
        for (seen, count) in seen.iter_mut().zip(counts) {
            *seen += count;
        }
    }
    let [nodes, ..] = seen;
    assert!(nodes > 400_000, "{nodes} nodes");
    assert!(seen.iter().all(|&count| count > 1_000), "{seen:?}");
}

fn random_limits(random: &mut Random) -> Limits {
    let mut cap = |tight: u64| match random.below(40) {
        0 => 0,
        1..5 => u32::MAX,
        _ => 1 + random.below(tight) as u32,
    };
    Limits {
        depth_max: u8::try_from(cap(5)).unwrap_or(u8::MAX),
        nodes_max: cap(40),
        children_max: u16::try_from(cap(8)).unwrap_or(u16::MAX),
        steps_max: u16::try_from(cap(10)).unwrap_or(u16::MAX),
        tokens_max: cap(300).into(),
        action_max: cap(20),
        context_max: cap(200),
        concurrent_max: cap(6),
        deadline_us: (random.below(10) == 0).then(|| random.below(200)),
    }
}
