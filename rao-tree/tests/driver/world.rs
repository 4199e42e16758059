//! A virtual world: the sum of a range, split in two as long as that is allowed and added up by hand where it is not. Nobody sleeps; the
//! clock counts calls of the policy.

use crate::random::mix;
use crate::support::{Log, VecArena};
use rao_tree::{
    Action, Answer, Budget, Completion, Constraint, Driver, Environment, Launch, Limits, NodeId, NodeStatus,
    Observation, Outcome, Policy, Request, SequenceId, Stop, Success, Token, Tree, Want, WeightsVersion,
};
use std::collections::BTreeMap;
use std::convert::Infallible;

// What the tokens mean. Numbers are themselves plus NUMBER.
const RANGE: Token = Token(1);
const SPLIT: Token = Token(2);
const PARTS: Token = Token(3);
const ALONE: Token = Token(4);
const ADD: Token = Token(5);
const SUM: Token = Token(6);
const NUMBER: u32 = 100;

fn number(value: u32) -> Token {
    Token(NUMBER + value)
}

fn write<const N: usize>(out: &mut Observation<'_>, tokens: [Token; N]) {
    tokens.into_iter().for_each(|token| out.push(token));
}

/// How the two parts of a range are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Both at once.
    Concurrent,
    /// The second when the first has ended.
    Sequential,
}

/// One node's range. Where a range is split is drawn from the seed, so that trees are uneven.
pub struct Range {
    mode: Mode,
    seed: u64,
    low: u32,
    high: u32,
    /// Answers of parts that have ended, where they are handed out one after the other.
    parts: Vec<u32>,
    /// By hand: what was added, up to where.
    added: (u32, u32),
    value: [u8; 4],
}

impl Range {
    fn new(mode: Mode, seed: u64, low: u32, high: u32) -> Self {
        Self {
            mode,
            seed,
            low,
            high,
            parts: Vec::new(),
            added: (0, low),
            value: [0; 4],
        }
    }

    fn middle(&self) -> u32 {
        let width = self.high - self.low;
        let bits = mix(self.seed ^ u64::from(self.low) << 32 ^ u64::from(self.high));
        self.low + 1 + (bits % u64::from(width - 1)) as u32
    }

    fn alone(&self, out: &mut Observation<'_>) -> Outcome {
        let (sum, next) = self.added;
        write(out, [ALONE, number(sum), number(next), number(self.high)]);
        Outcome::Continue
    }
}

impl Environment for Range {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        write(out, [RANGE, number(self.low), number(self.high)]);
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        None
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        Ok(match *action {
            [SPLIT] if self.mode == Mode::Concurrent => Outcome::Delegate { children: 2 },
            [SPLIT] => Outcome::Delegate { children: 1 },
            [ADD, Token(value)] => {
                self.added = (self.added.0 + value - NUMBER, self.added.1 + 1);
                self.alone(out)
            }
            [SUM, Token(value)] => {
                let value = value - NUMBER;
                self.value = value.to_le_bytes();
                let right = (self.low..self.high).sum::<u32>() == value;
                Outcome::Finish(if right { Success::ONE } else { Success::ZERO })
            }
            _ => self.alone(out),
        })
    }

    fn child(&mut self, index: u8) -> Result<Self, Infallible> {
        let (low, high) = match usize::from(index) + self.parts.len() {
            0 => (self.low, self.middle()),
            _ => (self.middle(), self.high),
        };
        Ok(Self::new(self.mode, self.seed, low, high))
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        for answer in answers {
            match answer {
                Answer::Ended {
                    status: NodeStatus::Finished,
                    value,
                    ..
                } => {
                    self.parts.push(u32::from_le_bytes((*value).try_into().unwrap()));
                }
                // One part alone is of no use.
                _ => return Ok(self.alone(out)),
            }
        }
        if let [left, right] = self.parts[..] {
            write(out, [PARTS, number(left), number(right)]);
            return Ok(Outcome::Continue);
        }
        Ok(Outcome::Delegate { children: 1 })
    }

    fn describe(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        write!(out, "sum {}..{}", self.low, self.high)
    }

    fn answer(&self) -> &[u8] {
        &self.value
    }
}

/// Says what follows from the last thing it read, one token per call.
#[derive(Default)]
pub struct Script {
    calls: u64,
    peak: usize,
}

fn script(prompt: &[Token]) -> Vec<Token> {
    let marker = |token: &Token| [RANGE, PARTS, ALONE].contains(token);
    let last = prompt.iter().rposition(marker).unwrap();
    let numbers: Vec<_> = prompt[last + 1..]
        .iter()
        .map(|token| token.0.wrapping_sub(NUMBER))
        .collect();
    match (prompt[last], &numbers[..]) {
        (RANGE, [low, high]) if high - low == 1 => vec![SUM, number(*low)],
        (RANGE, _) => vec![SPLIT],
        (PARTS, [left, right]) => vec![SUM, number(left + right)],
        (ALONE, [sum, next, high]) if next == high => vec![SUM, number(*sum)],
        (ALONE, [_, next, _]) => vec![ADD, number(*next)],
        _ => panic!("nothing to say to {prompt:?}"),
    }
}

impl Policy for Script {
    type Error = Infallible;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Infallible> {
        self.calls += 1;
        self.peak = self.peak.max(batch.len());
        for request in batch.iter_mut().filter(|request| request.stop.is_none()) {
            let action = script(request.prompt);
            if let Some(token) = action.get(request.completion.len()) {
                request.completion.push(*token, -0.25, None);
            }
            if request.completion.len() == action.len() {
                request.stop = Some(Stop::Complete);
            } else if request.completion.is_full() {
                request.stop = Some(Stop::Length);
            }
        }
        Ok(batch.iter().filter(|request| request.stop.is_some()).count())
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(0)
    }
}

/// A node's environment, its context, and the action that it is drawing.
struct Seat {
    range: Range,
    context: Vec<Token>,
    tokens: Vec<Token>,
    logprobs: Vec<f32>,
    drawn: usize,
}

/// One run: a driver, a policy, the environments, and the blocking loop that brings them together.
pub struct World {
    limits: Limits,
    driver: Driver<VecArena>,
    policy: Script,
    root: Option<Range>,
    seats: BTreeMap<NodeId, Seat>,
    drawing: Vec<NodeId>,
    pub log: Log,
    /// Most nodes at work at once.
    pub live_peak: u32,
    /// Most environments that existed at once, those of waiting parents included.
    pub seats_peak: usize,
}

impl World {
    pub fn new(mode: Mode, seed: u64, width: u32, limits: Limits) -> Self {
        let mut log = Log::default();
        let task = format!("sum 0..{width}");
        Self {
            limits,
            driver: Driver::open(VecArena::default(), limits, &task, seed, WeightsVersion(0), &mut log),
            policy: Script::default(),
            root: Some(Range::new(mode, seed, 0, width)),
            seats: BTreeMap::new(),
            drawing: Vec::new(),
            log,
            live_peak: 0,
            seats_peak: 0,
        }
    }

    pub fn run(&mut self) {
        while !self.driver.is_closed() {
            match self.driver.poll(self.policy.calls, &mut self.log).unwrap() {
                Some(Want::Open { parent, index }) => self.open(parent, index),
                Some(Want::Sample { node, room }) => {
                    let seat = self.seats.get_mut(&node).unwrap();
                    seat.tokens = vec![Token(0); room as usize];
                    seat.logprobs = vec![0.0; room as usize];
                    seat.drawn = 0;
                    self.drawing.push(node);
                }
                Some(Want::Resume { node, launches }) => self.resume(node, launches),
                Some(Want::Retire { .. }) => {}
                None => self.draw(),
            }
            self.live_peak = self.live_peak.max(self.driver.live());
            self.seats_peak = self.seats_peak.max(self.seats.len());
        }
    }

    pub fn tree(&self) -> &Tree<VecArena> {
        self.driver.tree()
    }

    /// Calls of the policy, and its largest batch.
    pub fn calls(&self) -> (u64, usize) {
        (self.policy.calls, self.policy.peak)
    }

    fn open(&mut self, parent: Option<NodeId>, index: u8) {
        let mut range = match parent {
            None => self.root.take().unwrap(),
            Some(parent) => self.seats.get_mut(&parent).unwrap().range.child(index).unwrap(),
        };
        let mut task = String::new();
        range.describe(&mut task).unwrap();
        let now = self.policy.calls;
        let wish = parent.map_or(Budget::UNLIMITED, |parent| self.seats[&parent].range.budget(index));
        let node = self
            .driver
            .handle_spawn(parent, &task, wish, now, &mut self.log)
            .unwrap();
        let mut room = vec![Token(0); self.limits.context_max as usize];
        let mut prompt = Observation::new(&mut room);
        range.observe(&mut prompt).unwrap();
        self.driver.handle_prompt(node, &prompt, now, &mut self.log).unwrap();
        let context = prompt.tokens().to_vec();
        let seat = Seat {
            range,
            context,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            drawn: 0,
        };
        self.seats.insert(node, seat);
    }

    fn draw(&mut self) {
        let mut batch = Vec::new();
        for (node, seat) in self.seats.iter_mut().filter(|(node, _)| self.drawing.contains(node)) {
            let completion = Completion::new(&mut seat.tokens, &mut seat.logprobs, &mut [], 0).unwrap();
            batch.push(Request {
                sequence: SequenceId(u64::from(node.0)),
                prompt: &seat.context,
                seed: 0,
                temperature: 1.0,
                constraint: None,
                completion: completion.resumed(seat.drawn),
                stop: None,
            });
        }
        assert!(!batch.is_empty(), "nothing is wanted and nothing is under way");
        self.policy.sample(&mut batch).unwrap();
        let drawn: Vec<_> = batch
            .iter()
            .map(|request| (request.completion.len(), request.stop))
            .collect();
        drop(batch);
        let mut drawing = std::mem::take(&mut self.drawing);
        drawing.sort();
        for (node, (drawn, stop)) in drawing.into_iter().zip(drawn) {
            self.seats.get_mut(&node).unwrap().drawn = drawn;
            match stop {
                Some(stop) => self.act(node, stop),
                None => self.drawing.push(node),
            }
        }
    }

    fn act(&mut self, node: NodeId, stop: Stop) {
        let seat = self.seats.get_mut(&node).unwrap();
        let action = Action {
            tokens: &seat.tokens[..seat.drawn],
            logprobs: &seat.logprobs[..seat.drawn],
            weights: self.policy.weights(),
            stop,
        };
        let now = self.policy.calls;
        if self.driver.handle_action(node, action, now, &mut self.log).unwrap() {
            seat.context.extend(action.tokens);
            let mut room = vec![Token(0); self.limits.context_max as usize - seat.context.len()];
            let mut seen = Observation::new(&mut room);
            let outcome = seat.range.step(action.tokens, &mut seen).unwrap();
            self.settle(node, outcome, &seen);
        }
    }

    fn resume(&mut self, node: NodeId, launches: u8) {
        let launches: Vec<_> = (0..launches)
            .map(|index| self.driver.launch(node, index).unwrap())
            .collect();
        // A child's seat is read once more, here.
        let seats: Vec<_> = launches
            .iter()
            .map(|launch| match launch {
                Launch::Ended { node, .. } => self.seats.remove(node),
                Launch::Refused(_) => None,
            })
            .collect();
        let answers = launches
            .iter()
            .zip(&seats)
            .map(|(launch, seat)| launch.answer(seat.as_ref().map_or(&[], |seat| seat.range.answer())));
        let answers: Vec<_> = answers.collect();
        let seat = self.seats.get_mut(&node).unwrap();
        let mut room = vec![Token(0); self.limits.context_max as usize - seat.context.len()];
        let mut seen = Observation::new(&mut room);
        let outcome = seat.range.resume(&answers, &mut seen).unwrap();
        self.settle(node, outcome, &seen);
    }

    fn settle(&mut self, node: NodeId, outcome: Outcome, seen: &Observation<'_>) {
        let seat = self.seats.get_mut(&node).unwrap();
        seat.context.extend(seen.tokens());
        let (value, now) = (seat.range.answer(), self.policy.calls);
        self.driver
            .handle_outcome(node, outcome, seen, value, now, &mut self.log)
            .unwrap();
    }
}
