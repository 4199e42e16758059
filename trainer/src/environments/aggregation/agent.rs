//! One agent of aggregation: what a single node has left to read, what it has found out, what it may say, and what comes of it.

use super::ask::{Ask, Finding, Said};
use super::tasks::Task;
use super::vocabulary::Word;
use super::world::{Field, Filter, Record};
use crate::environments::Seating;
use crate::environments::rest::Rest;
use rao_tree::{Answer, Constraint, Environment, Mask, Next, NodeStatus, Observation, Outcome, Success, Token};
use std::sync::Arc;

/// Tokens of a record.
pub const RECORD: u32 = 4;
/// The smallest window that lets an agent hear the answers of four children (each `OK` and two numbers), add up and answer.
pub const WINDOW_MIN: u32 = OVERHEAD + 2 + 4 * 5;
/// Minutes of a unit of time: half a day.
pub const TICK: u32 = 12 * 60;

/// The environment of one node: the records that are its own, some of which it reads, and some of which its children do.
#[derive(Debug)]
pub struct Agent {
    task: Arc<Task>,
    ask: Ask,
    seating: Seating,
    depth: u8,
    /// Records that fit into a window.
    reach: usize,
    /// Records that nobody has read.
    rest: Rest,
    /// All records that the node was given.
    given: Vec<u32>,
    /// The record that was read and has no label yet.
    on_view: Option<u32>,
    /// What the labels of records say, and what children answered.
    findings: Vec<Finding>,
    /// What the latest tool said.
    result: Option<Said>,
    answer: Vec<u8>,
}

/// A child was asked for that no delegation named.
#[derive(Debug, thiserror::Error)]
#[error("no launch {0} in the delegation under way")]
pub struct AgentError(u8);

/// Tokens of a context that go to no record, where the question takes most: prompt (5), `END`, `SUM` and its result (6), `ANSWER`.
const OVERHEAD: u32 = 13;
/// Tokens that reading a record takes: `READ`, the record, two values that are asked about, and a label.
const READING: u32 = 1 + RECORD + 2 + 1;

impl Agent {
    /// The root agent of a task, in a window of so many tokens.
    #[must_use]
    pub fn root(task: &Task, window: u32, seating: Seating) -> Self {
        let rest = Rest::new(0..task.log.len() as u32);
        let reach = (window.saturating_sub(OVERHEAD) / READING).max(1);
        Self::seated(Arc::new(task.clone()), task.ask, seating, 0, reach as usize, rest)
    }

    fn seated(task: Arc<Task>, ask: Ask, seating: Seating, depth: u8, reach: usize, rest: Rest) -> Self {
        Self {
            task,
            ask,
            seating,
            depth,
            reach,
            given: rest.pieces().collect(),
            rest,
            on_view: None,
            findings: Vec::new(),
            result: None,
            answer: Vec::new(),
        }
    }

    fn is_deep(&self) -> bool {
        self.depth >= self.seating.depth_max
    }

    fn record(&self, number: u32) -> Record {
        // Records are numbered by the log they come from.
        self.task.log[number as usize]
    }

    fn is_long(&self) -> bool {
        self.rest.len() > self.reach
    }

    /// Most parts that children may take: none of what fits into one window. Otherwise a policy learns to hand on single records: many children
    /// succeed then, and nothing pays for them.
    fn parts_max(&self) -> u8 {
        if self.is_deep() || !self.is_long() {
            0
        } else {
            self.rest.parts_max()
        }
    }

    /// What may follow; nothing where the action is complete.
    fn allowed(&self, said: &[Word]) -> Vec<Word> {
        match said {
            [] if self.on_view.is_some() => self.ask.values().map(Word::Value).chain([Word::None]).collect(),
            [] => {
                let mut words = Vec::new();
                words.extend((!self.rest.is_empty()).then_some(Word::Read));
                words.extend((self.parts_max() > 0).then_some(Word::Spawn));
                if !self.findings.is_empty() {
                    words.extend_from_slice(self.tools());
                }
                words.extend(self.result.map(|_| Word::Answer));
                words
            }
            [Word::Spawn] => (2..=self.parts_max()).map(Word::Parts).collect(),
            _ => Vec::new(),
        }
    }

    fn tools(&self) -> &'static [Word] {
        match self.ask {
            Ask::Count(_) => &[Word::Sum],
            Ask::Both(..) | Ask::More(..) => &[Word::Sum, Word::Compare],
            Ask::First(_) | Ask::Last(_) => &[Word::Least, Word::Greatest],
        }
    }

    fn read(&mut self, out: &mut Observation<'_>) {
        // The constraint offers no READ where nothing is left.
        let Some(number) = self.rest.take() else { return };
        let record = self.record(number);
        for (field, value) in Field::ALL.into_iter().zip(record.values) {
            out.push(Word::Value(Filter { field, value }).token());
        }
        out.push(Word::time(Some(record.time / TICK)).token());
        self.on_view = Some(number);
        for value in self.ask.values() {
            out.push(Word::Value(value).token());
        }
    }

    /// Takes the label of the record on view: the value that it has of those that are asked about, or none.
    fn label(&mut self, label: Option<Filter>, out: &mut Observation<'_>) {
        let Some(number) = self.on_view.take() else { return };
        let is = |value| u32::from(label == Some(value));
        self.findings.push(match self.ask {
            Ask::Count(value) => Finding::Number(is(value)),
            Ask::Both(one, other) | Ask::More(one, other) => Finding::Numbers(is(one), is(other)),
            Ask::First(_) | Ask::Last(_) => Finding::Time(label.map(|_| self.record(number).time)),
        });
        self.end(out);
    }

    fn end(&self, out: &mut Observation<'_>) {
        if self.rest.is_empty() {
            out.push(Word::End.token());
        }
    }

    /// What all findings come to.
    fn combine(&mut self, tool: Word, out: &mut Observation<'_>) {
        let (one, other) = self.sums();
        let result = match (tool, self.ask) {
            (Word::Compare, ask) => Said::More(ask.more(one, other)),
            (Word::Least, _) => Said::Finding(Finding::Time(self.times().min())),
            (Word::Greatest, _) => Said::Finding(Finding::Time(self.times().max())),
            (_, Ask::Count(_)) => Said::Finding(Finding::Number(one)),
            _ => Said::Finding(Finding::Numbers(one, other)),
        };
        out.push(Word::Res.token());
        match result {
            Said::Finding(finding) => show(finding, out),
            Said::More(named) => out.push(named.map_or(Word::Same, Word::Value).token()),
        }
        self.result = Some(result);
    }

    fn times(&self) -> impl Iterator<Item = u32> {
        self.findings.iter().filter_map(|finding| match finding {
            Finding::Time(time) => *time,
            _ => None,
        })
    }

    fn sums(&self) -> (u32, u32) {
        self.findings
            .iter()
            .fold((0, 0), |(one, other), finding| match *finding {
                Finding::Number(number) => (one + number, other),
                Finding::Numbers(first, second) => (one + first, other + second),
                Finding::Time(_) => (one, other),
            })
    }

    fn finish(&mut self) -> Outcome {
        // The constraint offers no ANSWER where there is no result.
        let Some(result) = self.result else {
            return Outcome::Finish(Success::ZERO);
        };
        if let Said::Finding(finding) = result {
            self.answer = encode(finding);
        }
        let records: Vec<Record> = self.given.iter().map(|&number| self.record(number)).collect();
        Outcome::Finish(self.ask.score(&records, result))
    }
}

/// As a child hands it over: numbers are below 256, as logs are no longer, and times are counted in half days.
fn encode(finding: Finding) -> Vec<u8> {
    match finding {
        Finding::Number(number) => vec![number as u8],
        Finding::Numbers(one, other) => vec![one as u8, other as u8],
        Finding::Time(time) => time.map(|time| (time / TICK) as u8).into_iter().collect(),
    }
}

/// What a child that was asked this has handed over.
fn decode(ask: Ask, value: &[u8]) -> Option<Finding> {
    match (ask, value) {
        (Ask::Count(_), &[number]) => Some(Finding::Number(number.into())),
        (Ask::Both(..) | Ask::More(..), &[one, other]) => Some(Finding::Numbers(one.into(), other.into())),
        (Ask::First(_) | Ask::Last(_), []) => Some(Finding::Time(None)),
        (Ask::First(_) | Ask::Last(_), &[time]) => Some(Finding::Time(Some(u32::from(time) * TICK))),
        _ => None,
    }
}

fn show(finding: Finding, out: &mut Observation<'_>) {
    let words = match finding {
        Finding::Number(number) => Word::number(number).to_vec(),
        Finding::Numbers(one, other) => [Word::number(one), Word::number(other)].concat(),
        Finding::Time(time) => vec![Word::time(time.map(|time| time / TICK))],
    };
    words.into_iter().for_each(|word| out.push(word.token()));
}

impl Environment for Agent {
    type Error = AgentError;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), AgentError> {
        let word = match self.ask {
            Ask::Count(_) => Word::Count,
            Ask::Both(..) => Word::Both,
            Ask::More(..) => Word::More,
            Ask::First(_) => Word::First,
            Ask::Last(_) => Word::Last,
        };
        out.push(word.token());
        for value in self.ask.values() {
            out.push(Word::Value(value).token());
        }
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
        let said: Vec<Word> = action.iter().filter_map(|&token| Word::parse(token)).collect();
        let is_whole = said.len() == action.len()
            && !said.is_empty()
            && (0..said.len()).all(|len| self.allowed(&said[..len]).contains(&said[len]))
            && self.allowed(&said).is_empty();
        if !is_whole {
            // Only an action that the window cut short gets here: the constraint allows no other malformed one.
            out.push(Word::Err.token());
            return Ok(Outcome::Continue);
        }
        match said.as_slice() {
            [Word::Read] => self.read(out),
            &[Word::Spawn, Word::Parts(children)] => {
                self.rest.split(children);
                return Ok(Outcome::Delegate { children });
            }
            &[Word::Value(value)] => self.label(Some(value), out),
            [Word::None] => self.label(None, out),
            [Word::Answer] => return Ok(self.finish()),
            &[tool] => self.combine(tool, out),
            _ => {}
        }
        Ok(Outcome::Continue)
    }

    fn child(&mut self, index: u8) -> Result<Self, AgentError> {
        let rest = self.rest.child(index).ok_or(AgentError(index))?;
        let (task, ask, depth) = (
            Arc::clone(&self.task),
            self.ask.of_a_part(),
            self.depth.saturating_add(1),
        );
        Ok(Self::seated(task, ask, self.seating, depth, self.reach, rest))
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, AgentError> {
        let found = |answer: &Answer<'_>| match *answer {
            Answer::Ended {
                status: NodeStatus::Finished,
                value,
                ..
            } => decode(self.ask, value),
            _ => None,
        };
        let found: Vec<Option<Finding>> = answers.iter().map(found).collect();
        for &finding in &found {
            match finding {
                Some(finding) => {
                    out.push(Word::Ok.token());
                    show(finding, out);
                }
                None => out.push(Word::Fail.token()),
            }
        }
        self.rest.settle(found.iter().map(Option::is_some));
        self.findings.extend(found.into_iter().flatten());
        self.end(out);
        Ok(Outcome::Continue)
    }

    fn describe(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        match self.ask {
            Ask::Count(value) => write!(out, "count {}", value.name()),
            Ask::Both(one, other) => write!(out, "count {} and {}", one.name(), other.name()),
            Ask::More(one, other) => write!(out, "more {} or {}", one.name(), other.name()),
            Ask::First(value) => write!(out, "first {}", value.name()),
            Ask::Last(value) => write!(out, "last {}", value.name()),
        }?;
        write!(out, " in {} records", self.given.len())
    }

    fn answer(&self) -> &[u8] {
        &self.answer
    }
}

impl Constraint for Agent {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        let said: Vec<Word> = completion.iter().filter_map(|&token| Word::parse(token)).collect();
        let words = self.allowed(&said);
        if words.is_empty() {
            return Next::Complete;
        }
        words.into_iter().for_each(|word| mask.allow(word.token()));
        Next::Draw
    }
}

#[cfg(test)]
mod tests;
