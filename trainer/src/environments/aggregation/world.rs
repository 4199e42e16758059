//! Logs, what can be asked about them, and what an answer is worth.

use crate::environments::{Difficulty, RootTask};
use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rao_tree::Success;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

/// One entry of a log. Entries are in no order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Minutes since the beginning of day 1; below 30 days.
    pub time: u32,
    /// How much, 1 to 99.
    pub amount: u32,
    /// Position of its value among [`Field::values`], by field.
    pub values: [u8; 3],
}

/// What a record has one of several names for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Who.
    User,
    /// What.
    Kind,
    /// Where.
    Place,
}

impl Field {
    /// In the order of [`Record::values`].
    pub const ALL: [Self; 3] = [Self::User, Self::Kind, Self::Place];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        ["user", "kind", "place"][self as usize]
    }

    /// The names that a record may have.
    #[must_use]
    pub const fn values(self) -> &'static [&'static str] {
        match self {
            Self::User => &["ada", "ben", "cleo", "dov", "eva", "finn", "gus", "hana"],
            Self::Kind => &["order", "refund", "login", "transfer", "complaint"],
            Self::Place => &["oslo", "lima", "cairo", "osaka", "perth", "turin"],
        }
    }
}

impl Record {
    /// Its name for the field.
    #[must_use]
    pub fn value(&self, field: Field) -> &'static str {
        field.values()[usize::from(self.values[field as usize])]
    }
}

/// Which records a question is about: those whose field has this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The field.
    pub field: Field,
    /// Position among its values.
    pub value: u8,
}

impl Filter {
    /// The filter for a value by name.
    #[must_use]
    pub fn find(field: Field, value: &str) -> Option<Self> {
        let value = field.values().iter().position(|known| *known == value)?;
        Some(Self {
            field,
            value: value as u8,
        })
    }

    /// The value's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.field.values()[usize::from(self.value)]
    }

    fn accepts(self, record: &Record) -> bool {
        record.values[self.field as usize] == self.value
    }
}

/// What can be asked of any part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// How many such records there are with an amount above the second; all of them above 0.
    Count(Filter, u32),
    /// How many records there are of every value.
    Tally(Field),
    /// Of which of two values (of one field) there are more, or `same`.
    Compare(Filter, Filter),
    /// The value that most records have; of several, any.
    MostCommon(Field),
    /// When the first such record was, or `none`.
    Earliest(Filter),
    /// When the last such record was, or `none`.
    Latest(Filter),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |filter: Filter| format!("{} {}", filter.field.name(), filter.name());
        match *self {
            Self::Count(filter, 0) => write!(f, "How many records have {}? Answer with a number.", of(filter)),
            Self::Count(filter, above) => {
                let filter = of(filter);
                write!(
                    f,
                    "How many records have {filter} and an amount above {above}? Answer with a number."
                )
            }
            Self::Tally(field) => {
                let field = field.name();
                write!(
                    f,
                    "How many records are there of every {field}? Answer with the numbers by {field}."
                )
            }
            Self::Compare(one, other) => {
                let (field, one, other) = (one.field.name(), one.name(), other.name());
                write!(
                    f,
                    "Do more records have {field} {one} or {field} {other}? Answer with {one}, {other} or same."
                )
            }
            Self::MostCommon(field) => write!(f, "Which {} do most records have? Answer with one.", field.name()),
            Self::Earliest(filter) => write!(f, "When was the earliest record with {}? {TIME_FORMAT}", of(filter)),
            Self::Latest(filter) => write!(f, "When was the latest record with {}? {TIME_FORMAT}", of(filter)),
        }
    }
}

const TIME_FORMAT: &str = "Answer with its time, such as day 07 15:20, or none.";

/// What is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This number, more or less.
    Number(u32),
    /// These numbers, more or less, by the position of the value.
    Tally(Field, Vec<u32>),
    /// Any of these words.
    AnyOf(Vec<&'static str>),
    /// This time, or that there is none.
    Time(Option<u32>),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A number.
    Number(i64),
    /// Words.
    Text(&'a str),
    /// Numbers by value.
    Tally(Vec<(&'a str, i64)>),
}

/// The answer to a question about these records.
#[must_use]
pub fn answer(records: &[Record], question: Question) -> Answer {
    let count = |filter: Filter| records.iter().filter(|record| filter.accepts(record)).count() as u32;
    let times = |filter: Filter| {
        records
            .iter()
            .filter(move |record| filter.accepts(record))
            .map(|record| record.time)
    };
    let tally = |field: Field| -> Vec<u32> {
        (0..field.values().len() as u8)
            .map(|value| count(Filter { field, value }))
            .collect()
    };
    match question {
        Question::Count(filter, above) => {
            let counted = records
                .iter()
                .filter(|record| filter.accepts(record) && record.amount > above);
            Answer::Number(counted.count() as u32)
        }
        Question::Tally(field) => Answer::Tally(field, tally(field)),
        Question::Compare(one, other) => Answer::AnyOf(vec![match count(one).cmp(&count(other)) {
            std::cmp::Ordering::Greater => one.name(),
            std::cmp::Ordering::Less => other.name(),
            std::cmp::Ordering::Equal => SAME,
        }]),
        Question::MostCommon(field) => {
            let tally = tally(field);
            let most = tally.iter().max();
            let named = field
                .values()
                .iter()
                .zip(&tally)
                .filter(|(_, count)| Some(*count) == most);
            Answer::AnyOf(named.map(|(&name, _)| name).collect())
        }
        Question::Earliest(filter) => Answer::Time(times(filter).min()),
        Question::Latest(filter) => Answer::Time(times(filter).max()),
    }
}

/// What two values that are equally frequent are.
pub const SAME: &str = "same";
/// What is answered when there is no such record.
pub const NONE: &str = "none";

impl Answer {
    /// What a reply is worth: 0.75^|error| for a number, as Oolong scores them; the mean of that over all values for a tally, in
    /// which what is left out is 0 and a word that is no value is worth nothing; 1 or 0 for words and times, whatever their case.
    #[must_use]
    pub fn score(&self, reply: &Reply<'_>) -> Success {
        let exact = |right: bool| if right { Success::ONE } else { Success::ZERO };
        match (self, reply) {
            (Self::Number(right), Reply::Number(number)) => checked(credit(*right, *number)),
            (Self::Number(right), Reply::Text(text)) => {
                checked(text.trim().parse().map_or(0.0, |number| credit(*right, number)))
            }
            (Self::Tally(field, right), Reply::Tally(given)) => {
                let named = |name: &str| {
                    given
                        .iter()
                        .find(|(known, _)| *known == name)
                        .map_or(0, |&(_, count)| count)
                };
                let values = field.values().iter().zip(right);
                let sum: f32 = values.map(|(name, &right)| credit(right, named(name))).sum();
                let strange = given.iter().filter(|(name, _)| !field.values().contains(name)).count();
                checked(sum / (right.len() + strange) as f32)
            }
            (Self::AnyOf(right), Reply::Text(text)) => {
                exact(right.iter().any(|right| right.eq_ignore_ascii_case(text.trim())))
            }
            (Self::Time(right), Reply::Text(text)) => {
                let right = right.map_or_else(|| NONE.to_owned(), clock);
                exact(right.eq_ignore_ascii_case(text.trim()))
            }
            _ => Success::ZERO,
        }
    }
}

fn credit(right: u32, given: i64) -> f32 {
    let error = i64::from(right).abs_diff(given);
    // Beyond a few hundred nothing is left of it.
    0.75_f32.powi(error.min(1_000) as i32)
}

/// Means of numbers in 0..=1, but for rounding.
fn checked(score: f32) -> Success {
    Success::new(score.min(1.0)).unwrap_or(Success::ZERO)
}

/// A time as logs have it: `day 07 15:20`.
#[must_use]
pub fn clock(time: u32) -> String {
    let (day, minute) = (time / DAY + 1, time % DAY);
    format!("day {day:02} {:02}:{:02}", minute / 60, minute % 60)
}

/// The line of a record: its number, and then what is known of it.
#[must_use]
pub fn line(number: usize, record: &Record) -> String {
    let [user, kind, place] = Field::ALL.map(|field| record.value(field));
    let (time, amount) = (clock(record.time), record.amount);
    format!("{number}: {time}, {user}, {kind}, amount {amount}, {place}")
}

const DAY: u32 = 24 * 60;
const DAYS: u32 = 30;

/// Answer a question about a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name, unique in its seed and specification.
    pub id: String,
    /// The size class of the log, see [`Spec::difficulty`].
    pub difficulty: Difficulty,
    /// The log.
    pub log: Arc<[Record]>,
    /// The question.
    pub question: Question,
    /// The most records that one look shows.
    pub read_max: NonZeroU32,
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Characters that an agent can be expected to keep in view; a token of English is about four.
    pub window: NonZeroU32,
    /// How many times the window the text of a log fills: 1 to 16 in the benchmark.
    pub times: NonZeroU32,
    /// The most records that one look shows. A record's line has about 45 characters.
    pub read_max: NonZeroU32,
}

impl Spec {
    /// Easy up to once the window, medium up to 4 times, hard up to 8 times, extreme beyond.
    #[must_use]
    pub const fn difficulty(&self) -> Difficulty {
        match self.times.get() {
            ..=1 => Difficulty::Easy,
            2..=4 => Difficulty::Medium,
            5..=8 => Difficulty::Hard,
            _ => Difficulty::Extreme,
        }
    }
}

/// The tasks of a seed: every index has a log of its own, and the kinds of questions take turns.
#[must_use]
pub fn generate(seed: u64, spec: &Spec, count: usize) -> Vec<Task> {
    let (window, times) = (spec.window.get(), spec.times.get());
    let task = |index| {
        let seed = crate::seed::derive(seed, &[u64::from(window), u64::from(times), index as u64]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Task {
            id: format!("aggregation.{window}x{times}.{index}"),
            difficulty: spec.difficulty(),
            log: log(&mut rng, u64::from(window) * u64::from(times)),
            question: question(&mut rng, index),
            read_max: spec.read_max,
        }
    };
    (0..count).map(task).collect()
}

/// Records whose lines have that many characters, or one record more.
fn log(rng: &mut impl Rng, characters: u64) -> Arc<[Record]> {
    // Some values are more frequent than others, each log in its own way.
    let weights =
        Field::ALL.map(|field| -> Vec<u32> { field.values().iter().map(|_| rng.random_range(1..=8)).collect() });
    let mut records = Vec::new();
    let mut length = 0;
    while length < characters {
        let record = Record {
            time: rng.random_range(0..DAYS * DAY),
            amount: rng.random_range(1..=AMOUNT_MAX),
            values: weights.each_ref().map(|weights| draw(rng, weights)),
        };
        length += line(records.len(), &record).len() as u64 + 1;
        records.push(record);
    }
    records.into()
}

const AMOUNT_MAX: u32 = 99;

pub(super) fn draw(rng: &mut impl Rng, weights: &[u32]) -> u8 {
    let mut at = rng.random_range(0..weights.iter().sum());
    let drawn = weights.iter().position(|&weight| {
        let is_here = at < weight;
        at = at.saturating_sub(weight);
        is_here
    });
    drawn.unwrap_or(0) as u8
}

fn question(rng: &mut impl Rng, index: usize) -> Question {
    let field = Field::ALL[rng.random_range(0..Field::ALL.len())];
    let values = field.values().len() as u8;
    let filter = Filter {
        field,
        value: rng.random_range(0..values),
    };
    let other = Filter {
        field,
        value: (filter.value + rng.random_range(1..values)) % values,
    };
    match index % 6 {
        0 => Question::Count(filter, 0),
        1 => Question::Compare(filter, other),
        2 => Question::MostCommon(field),
        3 => Question::Earliest(filter),
        4 => Question::Latest(filter),
        _ => Question::Count(filter, rng.random_range(1..AMOUNT_MAX)),
    }
}

impl Task {
    /// What is right for a part of the log.
    ///
    /// # Panics
    /// When the part is not within the log.
    #[must_use]
    pub fn answer(&self, part: Range<usize>, question: Question) -> Answer {
        answer(&self.log[part], question)
    }
}

impl RootTask for Task {
    fn id(&self) -> &str {
        &self.id
    }

    fn difficulty(&self) -> Difficulty {
        self.difficulty
    }
}

#[cfg(test)]
mod tests;
