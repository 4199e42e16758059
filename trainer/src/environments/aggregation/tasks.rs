//! Tasks of the compact language: a log, and what is asked about it.

use super::agent::TICK;
use super::ask::Ask;
use super::vocabulary::{NUMBERS, TIMES};
use super::world::{Field, Filter, Record, draw};
use crate::environments::{Difficulty, RootTask};
use rand::{Rng, RngExt};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Answer a question about a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name, unique in its seed.
    pub id: String,
    /// The size class of the log.
    pub difficulty: Difficulty,
    /// The log. Times are whole half days, and no value is that of [`NUMBERS`] records or more: the language could not say it.
    pub log: Arc<[Record]>,
    /// The question.
    pub ask: Ask,
}

impl RootTask for Task {
    fn id(&self) -> &str {
        &self.id
    }

    fn difficulty(&self) -> Difficulty {
        self.difficulty
    }
}

/// Most records of a log: above, logs in which a value is too frequent would be the rule.
pub const RECORDS_MAX: u32 = 256;

/// The tasks of a seed: every index has a log of its own of so many records, at most [`RECORDS_MAX`].
#[must_use]
pub fn generate(seed: u64, difficulty: Difficulty, records: NonZeroU32, count: usize) -> Vec<Task> {
    let task = |index| {
        let seed = crate::seed::derive(seed, &[difficulty as u64, index as u64]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Task {
            id: format!("aggregation.{difficulty}.{index}"),
            difficulty,
            log: log(&mut rng, records.get().min(RECORDS_MAX)),
            ask: ask(&mut rng, index),
        }
    };
    (0..count).map(task).collect()
}

/// Records at whole half days, of which no value has more than two digits can say. Some values are more frequent than others, and logs begin and
/// end at times of their own.
fn log(rng: &mut impl Rng, records: u32) -> Arc<[Record]> {
    loop {
        let weights =
            Field::ALL.map(|field| -> Vec<u32> { field.values().iter().map(|_| rng.random_range(1..=8)).collect() });
        let (begin, end) = (rng.random_range(0..TIMES / 4), rng.random_range(3 * TIMES / 4..TIMES));
        let mut counts = Field::ALL.map(|field| vec![0; field.values().len()]);
        let mut record = || {
            let values = [0, 1, 2].map(|field: usize| draw(rng, &weights[field]));
            for (counts, value) in counts.iter_mut().zip(values) {
                counts[usize::from(value)] += 1;
            }
            Record {
                time: TICK * rng.random_range(begin..=end),
                amount: 1,
                values,
            }
        };
        let log = (0..records).map(|_| record()).collect();
        if counts.iter().flatten().all(|&count| count < NUMBERS) {
            return log;
        }
    }
}

/// The kinds of questions take turns.
fn ask(rng: &mut impl Rng, index: usize) -> Ask {
    let field = Field::ALL[rng.random_range(0..Field::ALL.len())];
    let values = field.values().len() as u8;
    let value = rng.random_range(0..values);
    let filter = Filter { field, value };
    let other = Filter {
        field,
        value: (value + rng.random_range(1..values)) % values,
    };
    match index % 4 {
        0 => Ask::Count(filter),
        1 => Ask::More(filter, other),
        2 => Ask::First(filter),
        _ => Ask::Last(filter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_of_their_size_and_fit_the_language() {
        for records in [1, 16, RECORDS_MAX] {
            let generate = |seed, count| generate(seed, Difficulty::Hard, NonZeroU32::new(records).unwrap(), count);
            let tasks = generate(5, 24);
            for task in &tasks {
                assert_eq!(task.log.len(), records as usize);
                assert!(
                    task.log
                        .iter()
                        .all(|record| record.time % TICK == 0 && record.time / TICK < TIMES)
                );
                for field in Field::ALL {
                    for value in 0..field.values().len() as u8 {
                        let has = |record: &&Record| record.values[field as usize] == value;
                        assert!(task.log.iter().filter(has).count() < NUMBERS as usize);
                    }
                }
            }
            assert_eq!(
                tasks[..7],
                generate(5, 7),
                "a task does not depend on how many there are"
            );
            assert_ne!(tasks, generate(6, 24));
            let kinds: std::collections::HashSet<_> =
                tasks.iter().map(|task| std::mem::discriminant(&task.ask)).collect();
            assert_eq!(kinds.len(), 4);
        }
    }
}
