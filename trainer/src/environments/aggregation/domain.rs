//! Aggregation as a [`Domain`] to train on.

use super::agent::{Agent, RECORD};
use super::tasks::{self, Task};
use super::{teacher, vocabulary};
use crate::environments::{Difficulty, Domain, Flaws, Language, Seating, SizeError, Sizes};
use rao_tree::Policy;
use std::convert::Infallible;

/// Tasks whose logs are written in records of four tokens.
#[derive(Clone, Debug)]
pub struct Aggregation {
    train: Vec<Task>,
    val: Vec<Task>,
    window: u32,
    sizes: Sizes,
}

/// Training tasks of each difficulty.
const TRAIN: usize = 2_000;
/// Held-out tasks of each difficulty.
const VAL: usize = 100;
impl Aggregation {
    /// Tasks of a seed, for agents whose window has so many tokens: the records of a task fill it as often as `sizes` says.
    ///
    /// # Errors
    /// [`SizeError`]: more records than numbers of two digits can count.
    pub fn new(seed: u64, window: u32, sizes: Sizes) -> Result<Self, SizeError> {
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for difficulty in Difficulty::ALL {
            let records = sizes.units(difficulty, window, ("records", RECORD), tasks::RECORDS_MAX)?;
            for (stream, name, split, count) in [(0, "train", &mut train, TRAIN), (1, "val", &mut val, VAL)] {
                let seed = crate::seed::derive(seed, &[stream]);
                let tasks = tasks::generate(seed, difficulty, records, count).into_iter();
                split.extend(tasks.map(|task| Task {
                    id: format!("{}.{name}", task.id),
                    ..task
                }));
            }
        }
        Ok(Self {
            train,
            val,
            window,
            sizes,
        })
    }
}

impl Domain for Aggregation {
    type Task = Task;
    type Agent = Agent;

    const LANGUAGE: Language = vocabulary::LANGUAGE;

    fn train(&self) -> &[Task] {
        &self.train
    }

    fn val(&self) -> &[Task] {
        &self.val
    }

    fn root(&self, task: &Task, seating: Seating, _seed: u64) -> Agent {
        Agent::root(task, self.window, seating)
    }

    fn windows(&self, difficulty: Difficulty) -> Option<f64> {
        Some(self.sizes.of(difficulty))
    }

    fn teacher(&self, flaws: Flaws, vocab: usize) -> impl Policy<Error = Infallible> + Send + 'static + use<> {
        teacher::teacher(flaws, vocab)
    }
}
