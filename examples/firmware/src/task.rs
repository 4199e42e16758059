//! What the agents do: sum a range by handing each half to a child. And who acts: a script.

use core::convert::Infallible;
use core::fmt;
use rao_proto::{Budget, Limits, Success, Token, WeightsVersion};
use rao_tree::{Answer, Constraint, Environment, Mask, Next, Observation, Outcome, Policy, Request, Stop};

/// Nodes of one tree.
pub const NODES: usize = 31;

/// Tokens that one agent can see.
pub const CONTEXT: usize = 16;

/// Numbers stand for themselves; sums stay below.
const SPLIT: Token = Token(127);
const WORDS: usize = Mask::words(128);

/// More than the task takes: 29 nodes and 43 tokens.
pub const LIMITS: Limits = Limits {
    depth_max: 4,
    nodes_max: NODES as u32,
    children_max: 2,
    steps_max: 3,
    tokens_max: 100,
    action_max: 1,
    context_max: CONTEXT as u32,
    concurrent_max: 3,
    deadline_us: None,
};

/// One agent's range: the numbers from `low` to below `high`.
pub struct Sum {
    low: u32,
    high: u32,
    answer: [u8; 1],
    resumed: bool,
}

impl Sum {
    /// The range of a root; at least one number.
    #[must_use]
    pub const fn new(low: u32, high: u32) -> Self {
        Self {
            low,
            high,
            answer: [0],
            resumed: false,
        }
    }

    /// What the whole range takes, with nothing to spare: a leaf for every number and, to join two parts, a node that splits and adds.
    #[must_use]
    pub fn price(&self) -> Budget {
        let numbers = self.high - self.low;
        Budget {
            nodes: 2 * numbers - 2,
            tokens: u64::from(3 * numbers - 2),
            ..Budget::UNLIMITED
        }
    }

    fn half(&self, index: u8) -> Self {
        let middle = (self.low + self.high) / 2;
        match index {
            0 => Self::new(self.low, middle),
            _ => Self::new(middle, self.high),
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
            [SPLIT] => Outcome::Delegate { children: 2 },
            [Token(sum)] => {
                self.answer = [sum as u8];
                let right = (self.low..self.high).sum::<u32>() == sum;
                Outcome::Finish(if right { Success::ONE } else { Success::ZERO })
            }
            _ => Outcome::Continue,
        })
    }

    fn child(&mut self, index: u8) -> Result<Self, Infallible> {
        Ok(self.half(index))
    }

    /// No child may use more than its half takes, whatever the parent has left.
    fn budget(&self, index: u8) -> Budget {
        self.half(index).price()
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

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "sum {}..{}", self.low, self.high)
    }

    fn answer(&self) -> &[u8] {
        &self.answer
    }
}

/// Sums what it sees; mistakes one number for the next where it is told to.
///
/// A real device has its inference engine here: it reads `prompt`, computes logits, drops what the constraint does not allow, draws, and
/// appends token by token. What it keeps of a node's context between two calls goes by [`Request::sequence`].
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
