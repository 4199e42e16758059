//! Number search as a [`Domain`] to train on.

use super::agent::{Agent, LOOK};
use super::teacher;
use super::vocabulary::{self, NUMBERS};
use super::world::{self, Task};
use crate::environments::{Difficulty, Domain, Flaws, Language, Seating, SizeError, Sizes};
use rao_tree::Policy;
use std::convert::Infallible;

/// Tasks whose looks cover one number each.
#[derive(Clone, Debug)]
pub struct NumberSearch {
    train: Vec<Task>,
    val: Vec<Task>,
    window: u32,
    sizes: Sizes,
}

impl NumberSearch {
    /// Tasks of a seed, for agents whose window has so many tokens: the looks of a task fill it as often as `sizes` says.
    ///
    /// # Errors
    /// [`SizeError`]: numbers have three digits.
    pub fn new(seed: u64, window: u32, sizes: Sizes) -> Result<Self, SizeError> {
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for difficulty in Difficulty::ALL {
            let numbers = sizes.units(difficulty, window, ("looks", LOOK), NUMBERS)?;
            let tasks = |split: &str, seed, count| {
                let tasks = world::sized(seed, difficulty, numbers, NUMBERS, count).into_iter();
                let named = |task: Task| Task {
                    id: format!("{}.{split}", task.id),
                    ..task
                };
                tasks.map(named).collect::<Vec<_>>()
            };
            let known = tasks("train", crate::seed::derive(seed, &[0]), TRAIN);
            // There are not so many small tasks that the two splits would never have one in common.
            let is_new = |task: &Task| {
                !known
                    .iter()
                    .any(|known| (&known.range, known.hidden) == (&task.range, task.hidden))
            };
            let fresh = tasks("val", crate::seed::derive(seed, &[1]), 2 * VAL).into_iter();
            val.extend(fresh.filter(is_new).take(VAL));
            train.extend(known);
        }
        Ok(Self {
            train,
            val,
            window,
            sizes,
        })
    }
}

/// Training tasks of each difficulty.
const TRAIN: usize = 2_000;
/// Held-out tasks of each difficulty.
const VAL: usize = 100;

impl Domain for NumberSearch {
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
