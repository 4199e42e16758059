//! [`Ask`]: what a node of the compact language is asked, and the numbers that answers to it are made of.

use super::world::{Answer, Filter, Question, Record, Reply, answer};
use rao_tree::Success;

/// What is asked about some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// How many have the value.
    Count(Filter),
    /// How many have the first value, and how many the second.
    Both(Filter, Filter),
    /// Which of the two values more of them have. A part of it is asked for [`Both`](Self::Both): which is more frequent in a part says little.
    More(Filter, Filter),
    /// When the first with the value was.
    First(Filter),
    /// When the last with the value was.
    Last(Filter),
}

/// Something that was found out about some records: numbers of records, or a time; `None` where there is no such record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// How many.
    Number(u32),
    /// How many of either.
    Numbers(u32, u32),
    /// When.
    Time(Option<u32>),
}

/// What a node says in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// What it found out.
    Finding(Finding),
    /// The more frequent value; `None`: they are equally frequent.
    More(Option<Filter>),
}

impl Ask {
    /// The values that it is about.
    pub fn values(self) -> impl Iterator<Item = Filter> {
        let (one, other) = match self {
            Self::Count(value) | Self::First(value) | Self::Last(value) => (value, None),
            Self::Both(one, other) | Self::More(one, other) => (one, Some(other)),
        };
        std::iter::once(one).chain(other)
    }

    /// What is asked about a part of the records.
    #[must_use]
    pub fn of_a_part(self) -> Self {
        match self {
            Self::More(one, other) => Self::Both(one, other),
            same => same,
        }
    }

    /// What is right for these records, as far as a node finds it out by reading.
    #[must_use]
    pub fn find(self, records: &[Record]) -> Finding {
        let count = |filter| match answer(records, Question::Count(filter, 0)) {
            Answer::Number(number) => number,
            _ => 0,
        };
        let time = |question| match answer(records, question) {
            Answer::Time(time) => Finding::Time(time),
            _ => Finding::Time(None),
        };
        match self {
            Self::Count(filter) => Finding::Number(count(filter)),
            Self::Both(one, other) | Self::More(one, other) => Finding::Numbers(count(one), count(other)),
            Self::First(filter) => time(Question::Earliest(filter)),
            Self::Last(filter) => time(Question::Latest(filter)),
        }
    }

    /// What it is worth to say this of these records: as [`Answer::score`] has it, and for two numbers the mean of both.
    #[must_use]
    pub fn score(self, records: &[Record], said: Said) -> Success {
        let number = |right: u32, given: u32| Answer::Number(right).score(&Reply::Number(i64::from(given)));
        match (self.find(records), said) {
            (Finding::Number(right), Said::Finding(Finding::Number(given))) => number(right, given),
            (Finding::Numbers(one, other), Said::Finding(Finding::Numbers(first, second))) if !self.is_more() => {
                let mean = (number(one, first).value() + number(other, second).value()) / 2.0;
                // A mean of two numbers in 0..=1.
                Success::new(mean).unwrap_or(Success::ZERO)
            }
            (Finding::Numbers(one, other), Said::More(named)) if self.is_more() => {
                exact(self.more(one, other) == named)
            }
            (Finding::Time(right), Said::Finding(Finding::Time(given))) => exact(right == given),
            _ => Success::ZERO,
        }
    }

    /// The value of which there are more.
    #[must_use]
    pub fn more(self, one: u32, other: u32) -> Option<Filter> {
        match self {
            Self::More(first, second) | Self::Both(first, second) => match one.cmp(&other) {
                std::cmp::Ordering::Greater => Some(first),
                std::cmp::Ordering::Less => Some(second),
                std::cmp::Ordering::Equal => None,
            },
            _ => None,
        }
    }

    fn is_more(self) -> bool {
        matches!(self, Self::More(..))
    }
}

fn exact(right: bool) -> Success {
    if right { Success::ONE } else { Success::ZERO }
}
