//! A hidden number, and the tasks of a seed.

use crate::environments::{Difficulty, RootTask};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

/// Find the number that is hidden in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name, unique in its seed.
    pub id: String,
    /// The size class of the range, see [`widths`].
    pub difficulty: Difficulty,
    /// Where the number is, both ends included.
    pub range: RangeInclusive<i64>,
    /// The most numbers that one look covers.
    pub width: NonZeroU32,
    /// The number.
    pub hidden: i64,
}

impl Task {
    /// What is right for a part of the range: the number, or that it is not there.
    #[must_use]
    pub fn answer(&self, part: &RangeInclusive<i64>) -> Option<i64> {
        part.contains(&self.hidden).then_some(self.hidden)
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

/// How many looks it takes to cover the range of a task: 4, 16, 64 or 256. Once a look has hit, log2 of the width more say which it is. So an
/// agent of 25 steps, with looks of 16 numbers, is through with an easy range, may be with a medium one, and sees a part of the others.
#[must_use]
pub const fn widths(difficulty: Difficulty) -> u32 {
    4_u32.pow(difficulty as u32 + 1)
}

/// The tasks of a seed: number, range and hidden number are drawn anew for every index.
#[must_use]
pub fn generate(seed: u64, difficulty: Difficulty, width: NonZeroU32, count: usize) -> Vec<Task> {
    let numbers = i64::from(widths(difficulty)) * i64::from(width.get());
    tasks(seed, difficulty, width, (numbers, LOW_MAX), count)
}

/// The tasks of a seed whose range has so many numbers, all of them below `below`, and whose looks cover one each.
#[must_use]
pub fn sized(seed: u64, difficulty: Difficulty, numbers: NonZeroU32, below: u32, count: usize) -> Vec<Task> {
    let numbers = i64::from(numbers.get());
    let low_max = (i64::from(below) - numbers + 1).max(1);
    tasks(seed, difficulty, NonZeroU32::MIN, (numbers, low_max), count)
}

/// Tasks whose range has so many numbers, the lowest below `low_max`.
fn tasks(
    seed: u64,
    difficulty: Difficulty,
    width: NonZeroU32,
    (numbers, low_max): (i64, i64),
    count: usize,
) -> Vec<Task> {
    let task = |index| {
        let seed = crate::seed::derive(seed, &[difficulty as u64, index as u64]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let low = rng.random_range(0..low_max);
        let high = low + numbers - 1;
        Task {
            id: format!("number-search.{difficulty}.{index}"),
            difficulty,
            range: low..=high,
            width,
            hidden: rng.random_range(low..=high),
        }
    };
    (0..count).map(task).collect()
}

/// Ranges begin below this: numbers stay short.
const LOW_MAX: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_of_their_size_and_their_seed() {
        let width = NonZeroU32::new(8).unwrap();
        for difficulty in Difficulty::ALL {
            let tasks = generate(7, difficulty, width, 50);
            for task in &tasks {
                let size = task.range.end() - task.range.start() + 1;
                assert_eq!(size, 8 * i64::from(widths(difficulty)));
                assert_eq!(task.answer(&task.range), Some(task.hidden));
                assert_eq!(task.answer(&(task.hidden + 1..=i64::MAX)), None);
            }
            assert_eq!(tasks, generate(7, difficulty, width, 50));
            assert_eq!(
                tasks[..20],
                generate(7, difficulty, width, 20),
                "a task does not depend on how many there are"
            );
            assert_ne!(tasks, generate(8, difficulty, width, 50));
        }
        assert_eq!(Difficulty::ALL.map(widths), [4, 16, 64, 256]);
    }

    #[test]
    fn sized_tasks_stay_below_their_bound() {
        for (numbers, below) in [(1, 1), (16, 1_000), (1_000, 1_000)] {
            for task in sized(3, Difficulty::Hard, NonZeroU32::new(numbers).unwrap(), below, 50) {
                let (low, high) = (*task.range.start(), *task.range.end());
                assert_eq!(high - low + 1, i64::from(numbers));
                assert!(low >= 0 && high < i64::from(below) && task.range.contains(&task.hidden));
            }
        }
    }
}
