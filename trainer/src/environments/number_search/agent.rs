//! One agent of number search: what a single node has left to look at, what it may say, and what comes of it.

use super::vocabulary::Word;
use super::world::Task;
use crate::environments::Seating;
use crate::environments::rest::Rest;
use rao_tree::{Answer, Constraint, Environment, Mask, Next, NodeStatus, Observation, Outcome, Success, Token};
use std::sync::Arc;

/// The environment of one node: the numbers that are its own, some of which it looks at, and some of which its children do.
#[derive(Debug)]
pub struct Agent {
    task: Arc<Task>,
    seating: Seating,
    depth: u8,
    /// Looks that fit into a window.
    reach: usize,
    /// Numbers that nobody has looked at, counted from the lowest of the task.
    rest: Rest,
    /// Whether the hidden number is one of those that the node was given.
    right: Option<i64>,
    answer: Vec<u8>,
}

/// A child was asked for that no delegation named.
#[derive(Debug, thiserror::Error)]
#[error("no launch {0} in the delegation under way")]
pub struct AgentError(u8);

/// Tokens of a context that are not looks: the prompt (3), `END`, a number that was hit (3) and the answer (4).
const OVERHEAD: u32 = 11;
/// Tokens of a look: `PROBE MISS`.
pub(super) const LOOK: u32 = 2;
/// The smallest window that lets an agent hear the answers of four children (each `OK` and a number), and answer.
pub const WINDOW_MIN: u32 = OVERHEAD + 2 + 4 * 4;

impl Agent {
    /// The root agent of a task whose looks cover one number each, in a window of so many tokens.
    #[must_use]
    pub fn root(task: &Task, window: u32, seating: Seating) -> Self {
        let numbers = (task.range.end() - task.range.start() + 1).max(0);
        let rest = Rest::new(0..u32::try_from(numbers).unwrap_or(u32::MAX));
        let reach = window.saturating_sub(OVERHEAD) / LOOK;
        Self::seated(Arc::new(task.clone()), seating, 0, reach as usize, rest)
    }

    fn seated(task: Arc<Task>, seating: Seating, depth: u8, reach: usize, rest: Rest) -> Self {
        let hidden = task.hidden - task.range.start();
        let right = rest.pieces().any(|number| i64::from(number) == hidden);
        Self {
            right: right.then_some(task.hidden),
            task,
            seating,
            depth,
            reach,
            rest,
            answer: Vec::new(),
        }
    }

    fn is_deep(&self) -> bool {
        self.depth >= self.seating.depth_max
    }

    fn is_long(&self) -> bool {
        self.rest.len() > self.reach
    }

    /// Most parts that children may take: none of what fits into one window.
    fn parts_max(&self) -> u8 {
        if self.is_deep() || !self.is_long() {
            0
        } else {
            self.rest.parts_max()
        }
    }

    /// What may follow; `None` where the action is complete.
    fn allowed(&self, said: &[Word]) -> Option<Vec<Word>> {
        let digits = |place| (0..10).map(move |digit| Word::Digit(place, digit));
        let parts = self.parts_max();
        match *said {
            [] => {
                let mut words = vec![Word::Answer];
                words.extend((!self.rest.is_empty()).then_some(Word::Probe));
                words.extend((parts > 0).then_some(Word::Spawn));
                Some(words)
            }
            [Word::Spawn] => Some((2..=parts).map(Word::Parts).collect()),
            [Word::Answer] => Some(digits(0).chain([Word::None]).collect()),
            [Word::Answer, Word::Digit(..)] => Some(digits(1).collect()),
            [Word::Answer, Word::Digit(..), Word::Digit(..)] => Some(digits(2).collect()),
            _ => None,
        }
    }

    fn end(&self, out: &mut Observation<'_>) {
        if self.rest.is_empty() {
            out.push(Word::End.token());
        }
    }

    fn probe(&mut self, out: &mut Observation<'_>) {
        // The constraint offers no PROBE where nothing is left.
        let Some(number) = self.rest.take() else { return };
        if i64::from(number) == self.task.hidden - self.task.range.start() {
            out.push(Word::Hit.token());
            show(self.task.hidden, out);
        } else {
            out.push(Word::Miss.token());
        }
        self.end(out);
    }

    fn finish(&mut self, said: &[Word]) -> Outcome {
        let named = Word::read(said).map(i64::from);
        self.answer = named.map_or(Vec::new(), |number| number.to_le_bytes().to_vec());
        Outcome::Finish(if named == self.right {
            Success::ONE
        } else {
            Success::ZERO
        })
    }
}

fn show(number: i64, out: &mut Observation<'_>) {
    // Tasks of the compact language have numbers of three digits.
    for digit in Word::number(u32::try_from(number).unwrap_or(0)) {
        out.push(digit.token());
    }
}

impl Environment for Agent {
    type Error = AgentError;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), AgentError> {
        out.push(Word::Find.token());
        if self.is_long() {
            out.push(Word::Long.token());
        }
        if self.is_deep() {
            out.push(Word::Deep.token());
        }
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, AgentError> {
        let said: Option<Vec<Word>> = action.iter().map(|&token| Word::parse(token)).collect();
        match said.as_deref() {
            Some([Word::Probe]) => self.probe(out),
            Some(&[Word::Spawn, Word::Parts(parts)]) if (2..=self.parts_max()).contains(&parts) => {
                self.rest.split(parts);
                return Ok(Outcome::Delegate { children: parts });
            }
            Some([Word::Answer, Word::None]) => return Ok(self.finish(&[])),
            Some([Word::Answer, digits @ ..]) if Word::read(digits).is_some() => return Ok(self.finish(digits)),
            // Only an action that the window cut short gets here: the constraint allows no other malformed one.
            _ => out.push(Word::Err.token()),
        }
        Ok(Outcome::Continue)
    }

    fn child(&mut self, index: u8) -> Result<Self, AgentError> {
        let rest = self.rest.child(index).ok_or(AgentError(index))?;
        let depth = self.depth.saturating_add(1);
        Ok(Self::seated(
            Arc::clone(&self.task),
            self.seating,
            depth,
            self.reach,
            rest,
        ))
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, AgentError> {
        let finished = |answer: &Answer<'_>| match *answer {
            Answer::Ended {
                status: NodeStatus::Finished,
                value,
                ..
            } => Some(value.try_into().ok().map(i64::from_le_bytes)),
            _ => None,
        };
        for answer in answers.iter().map(finished) {
            match answer {
                Some(Some(number)) => {
                    out.push(Word::Ok.token());
                    show(number, out);
                }
                Some(None) => {
                    out.push(Word::Ok.token());
                    out.push(Word::None.token());
                }
                None => out.push(Word::Fail.token()),
            }
        }
        self.rest
            .settle(answers.iter().map(|answer| finished(answer).is_some()));
        self.end(out);
        Ok(Outcome::Continue)
    }

    fn describe(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        write!(
            out,
            "search {} of {} to {}",
            self.rest.len(),
            self.task.range.start(),
            self.task.range.end()
        )
    }

    fn answer(&self) -> &[u8] {
        &self.answer
    }
}

impl Constraint for Agent {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        let said: Vec<Word> = completion.iter().filter_map(|&token| Word::parse(token)).collect();
        let Some(words) = self.allowed(&said) else {
            return Next::Complete;
        };
        words.into_iter().for_each(|word| mask.allow(word.token()));
        Next::Draw
    }
}

#[cfg(test)]
mod tests;
