//! A recursive task with a scripted policy: sum a range by handing each half to a child. Everything lives in arrays.
#![forbid(unsafe_code)]

use core::convert::Infallible;
use heapless::Vec;
use rao_proto::{Budget, EncodeError, EventSink, Limits, NodeId, Record, Success, Token, WeightsVersion, encode};
use rao_tree::{
    Action, Answer, Completion, Constraint, Driver, DriverError, Environment, Launch, Mask, Next, Node, Observation,
    Outcome, Policy, PolicyExt, Request, SequenceId, Stop, Want,
};

pub const NODES: usize = 31;
const CONTEXT: usize = 16;
const CHILDREN: usize = 2;
/// Numbers stand for themselves; sums stay below.
const SPLIT: Token = Token(127);
const WORDS: usize = Mask::words(128);

pub type Arena = Vec<Node, NODES>;

pub const LIMITS: Limits = Limits {
    depth_max: 4,
    nodes_max: NODES as u32,
    children_max: CHILDREN as u16,
    steps_max: 3,
    tokens_max: 100,
    action_max: 1,
    context_max: CONTEXT as u32,
    concurrent_max: 3,
    deadline_us: None,
};

/// One node's range.
struct Sum {
    low: u32,
    high: u32,
    answer: [u8; 1],
    resumed: bool,
}

impl Sum {
    fn new(low: u32, high: u32) -> Self {
        Self {
            low,
            high,
            answer: [0],
            resumed: false,
        }
    }
}

/// Only what has more than one number, and only once, may be split.
impl Constraint for Sum {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if !completion.is_empty() {
            return Next::Complete;
        }
        if self.high - self.low > 1 && !self.resumed {
            mask.allow(SPLIT);
        } else {
            (0..SPLIT.0).for_each(|number| mask.allow(Token(number)));
        }
        Next::Draw
    }
}

impl Environment for Sum {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        out.push(Token(self.low));
        out.push(Token(self.high));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, action: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        Ok(match *action {
            [SPLIT] => Outcome::Delegate {
                children: CHILDREN as u8,
            },
            [Token(sum)] => {
                self.answer = [sum as u8];
                let right = (self.low..self.high).sum::<u32>() == sum;
                Outcome::Finish(if right { Success::ONE } else { Success::ZERO })
            }
            _ => Outcome::Continue,
        })
    }

    fn child(&mut self, index: u8) -> Result<Self, Infallible> {
        let middle = (self.low + self.high) / 2;
        Ok(match index {
            0 => Self::new(self.low, middle),
            _ => Self::new(middle, self.high),
        })
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        self.resumed = true;
        for answer in answers {
            let part = match answer {
                Answer::Ended { value: [part], .. } => u32::from(*part),
                _ => 0,
            };
            out.push(Token(part));
        }
        Ok(Outcome::Continue)
    }

    fn answer(&self) -> &[u8] {
        &self.answer
    }
}

/// Sums what it sees; mistakes one number for the next where it is told to.
pub struct Script {
    /// The number that it gets wrong.
    pub mistake: Option<u32>,
}

impl Policy for Script {
    type Error = Infallible;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Infallible> {
        for request in batch.iter_mut().filter(|request| request.stop.is_none()) {
            let wanted = match *request.prompt {
                [low, high] if high.0 - low.0 > 1 => SPLIT,
                [low, _] if self.mistake == Some(low.0) => Token(low.0 + 1),
                [low, _] => low,
                [.., left, right] => Token(left.0 + right.0),
                _ => SPLIT,
            };
            let mut words = [0; WORDS];
            let mut mask = Mask::cleared(&mut words);
            let next = match &mut request.constraint {
                Some(constraint) => constraint.next(request.completion.tokens(), &mut mask),
                None => Next::Draw,
            };
            request.stop = match next {
                Next::Complete => Some(Stop::Complete),
                Next::Draw if !mask.allows(wanted) => Some(Stop::Stuck),
                Next::Draw if request.completion.push(wanted, -0.5, Some(mask.as_words())) => None,
                Next::Draw => Some(Stop::Length),
            };
        }
        Ok(batch.iter().filter(|request| request.stop.is_some()).count())
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(1)
    }
}

/// A trace in a fixed buffer.
pub struct Trace<const N: usize> {
    buffer: [u8; N],
    len: usize,
    error: Option<EncodeError>,
}

impl<const N: usize> Trace<N> {
    pub fn new() -> Self {
        Self {
            buffer: [0; N],
            len: 0,
            error: None,
        }
    }

    pub fn bytes(&self) -> Result<&[u8], &'static str> {
        match self.error {
            None => Ok(&self.buffer[..self.len]),
            Some(_) => Err("the trace does not fit its buffer"),
        }
    }
}

impl<const N: usize> EventSink for Trace<N> {
    fn record(&mut self, record: &Record<'_>) {
        if self.error.is_none() {
            match encode(record, &mut self.buffer[self.len..]) {
                Ok(len) => self.len += len,
                Err(error) => self.error = Some(error),
            }
        }
    }
}

struct Seat {
    sum: Sum,
    context: Vec<Token, CONTEXT>,
}

impl Seat {
    fn see(&mut self, tokens: &[Token]) -> Result<(), &'static str> {
        self.context
            .extend_from_slice(tokens)
            .map_err(|_| "a context overflows")
    }
}

/// The blocking runtime of a device: one request at a time, every seat in an array.
pub fn run<S: EventSink>(policy: &mut Script, sink: &mut S) -> Result<Driver<Arena>, &'static str> {
    let refused = |_: DriverError| "the driver refused a call";
    let mut driver = Driver::open(Arena::new(), LIMITS, "sum 0..15", 7, policy.weights(), sink);
    let mut seats: Vec<Seat, NODES> = Vec::new();
    let mut room = [Token(0); CONTEXT];
    let mut now = 0;
    while let Some(want) = driver.poll(now, sink).map_err(refused)? {
        now += 1;
        match want {
            Want::Open { parent, index } => {
                let parent_seat = parent.and_then(|parent| seats.get_mut(parent.index()));
                let Ok(sum) = parent_seat.map_or(Ok(Sum::new(0, 15)), |seat| seat.sum.child(index));
                let mut seat = Seat {
                    sum,
                    context: Vec::new(),
                };
                let mut seen = Observation::new(&mut room);
                let Ok(()) = seat.sum.observe(&mut seen);
                seat.see(seen.tokens())?;
                let node = driver
                    .handle_spawn(parent, "a part", Budget::UNLIMITED, now, sink)
                    .map_err(refused)?;
                driver.handle_prompt(node, &seen, now, sink).map_err(refused)?;
                seats.push(seat).map_err(|_| "more seats than nodes")?;
            }
            Want::Sample { node, .. } => {
                let seat = seats.get_mut(node.index()).ok_or("a node without a seat")?;
                let (mut tokens, mut logprobs, mut masks) = ([Token(0); 1], [0.0; 1], [0; WORDS]);
                let completion = Completion::new(&mut tokens, &mut logprobs, &mut masks, WORDS);
                let mut batch = [Request {
                    sequence: SequenceId(u64::from(node.0)),
                    prompt: &seat.context,
                    seed: 0,
                    temperature: 1.0,
                    constraint: seat.sum.constraint(),
                    completion: completion.map_err(|_| "the buffers of an action disagree")?,
                    stop: None,
                }];
                let Ok(()) = policy.sample_all(&mut batch);
                let [Request { completion, stop, .. }] = batch;
                let (drawn, stop) = (completion.len(), stop.unwrap_or(Stop::Length));
                let action = Action {
                    tokens: &tokens[..drawn],
                    logprobs: &logprobs[..drawn],
                    weights: policy.weights(),
                    stop,
                };
                if driver.handle_action(node, action, now, sink).map_err(refused)? {
                    let mut seen = Observation::new(&mut room);
                    let Ok(outcome) = seat.sum.step(action.tokens, &mut seen);
                    seat.see(action.tokens)?;
                    seat.see(seen.tokens())?;
                    let value = seat.sum.answer();
                    driver
                        .handle_outcome(node, outcome, &seen, value, now, sink)
                        .map_err(refused)?;
                }
            }
            Want::Resume { node, launches } => {
                let mut values = [[0_u8]; CHILDREN];
                let mut answers: Vec<Answer<'_>, CHILDREN> = Vec::new();
                for (index, value) in (0..launches).zip(&mut values) {
                    let answer = answer(&driver, &seats, node, index, value)?;
                    answers.push(answer).map_err(|_| "more answers than launches")?;
                }
                let seat = seats.get_mut(node.index()).ok_or("a node without a seat")?;
                let mut seen = Observation::new(&mut room);
                let Ok(outcome) = seat.sum.resume(&answers, &mut seen);
                seat.see(seen.tokens())?;
                driver
                    .handle_outcome(node, outcome, &seen, &[], now, sink)
                    .map_err(refused)?;
            }
            Want::Retire { .. } => {}
        }
    }
    Ok(driver)
}

fn answer<'v>(
    driver: &Driver<Arena>,
    seats: &[Seat],
    node: NodeId,
    index: u8,
    value: &'v mut [u8; 1],
) -> Result<Answer<'v>, &'static str> {
    match driver.launch(node, index).ok_or("a launch that is not over")? {
        Launch::Refused(limit) => Ok(Answer::Refused(limit)),
        Launch::Ended(child) => {
            let seat = seats.get(child.index()).ok_or("a child without a seat")?;
            let ended = driver.tree().node(child).ok_or("a child without a node")?;
            *value = seat.sum.answer;
            Ok(Answer::Ended {
                status: ended.status.ok_or("a child that has not ended")?,
                success: ended.success,
                value,
            })
        }
    }
}
