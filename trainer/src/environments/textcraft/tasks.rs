//! What is asked for: [`Task`], the tiers of its [`Difficulty`], and the [`Benchmark`] of a world with its training and held-out tasks.

use super::world::{ItemId, World};
use crate::environments::{Difficulty, DifficultyError};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

impl Difficulty {
    /// The tiers of its targets.
    #[must_use]
    pub const fn tiers(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Easy => 2..=3,
            Self::Medium => 4..=6,
            Self::Hard => 7..=9,
            // Items across domains included.
            Self::Extreme => 10..=12,
        }
    }

    /// The largest number of targets that a task of the benchmark asks for.
    #[must_use]
    pub const fn count_max(self) -> u32 {
        match self {
            Self::Easy | Self::Medium => 3,
            Self::Hard | Self::Extreme => 2,
        }
    }
}

/// Longest name of a task, in bytes.
const ID_MAX: usize = 256;

/// Make `count` of `target` out of `inventory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name, unique in its benchmark.
    pub id: String,
    /// What to make; it has a recipe.
    pub target: ItemId,
    /// How many to make, at least 1.
    pub count: u32,
    /// What is there to begin with: each item once, in the order of the task's source.
    pub inventory: Vec<(ItemId, u32)>,
    /// The band it is reported under.
    pub difficulty: Difficulty,
}

/// Why something is not a task of this world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It names something the world does not have.
    #[error("task {id}: there is no item called {name}")]
    UnknownItem {
        /// The task.
        id: String,
        /// What it names.
        name: String,
    },
    /// It asks for something that cannot be made.
    #[error("task {id}: its target {target} has no recipe")]
    NoRecipe {
        /// The task.
        id: String,
        /// What it asks for.
        target: String,
    },
    /// It asks for nothing.
    #[error("task {id}: it asks for 0 of {target}")]
    ZeroCount {
        /// The task.
        id: String,
        /// What it asks for none of.
        target: String,
    },
    /// It has no target or several; the benchmark's tasks have one.
    #[error("task {id}: it has {targets} targets, not one")]
    Targets {
        /// The task.
        id: String,
        /// How many.
        targets: usize,
    },
    /// Its inventory lists an item twice.
    #[error("task {id}: its inventory lists {name} twice")]
    ListedTwice {
        /// The task.
        id: String,
        /// What is listed twice.
        name: String,
    },
    /// Its name is too long for logs and tables.
    #[error("task {id}...: its name takes {bytes} bytes, the limit is {ID_MAX}")]
    LongName {
        /// How it begins.
        id: String,
        /// What it takes.
        bytes: usize,
    },
    /// Its difficulty is none.
    #[error("task {id}: {fault}")]
    Difficulty {
        /// The task.
        id: String,
        /// The word.
        fault: DifficultyError,
    },
}

impl Task {
    /// Checks a task that is given by names against a world.
    ///
    /// # Errors
    /// [`TaskError`]: an unknown item, a target without a recipe, a count of zero, an item listed twice.
    pub fn from_names<'a>(
        world: &World,
        id: &str,
        target: (&str, u32),
        inventory: impl IntoIterator<Item = (&'a str, u32)>,
        difficulty: Difficulty,
    ) -> Result<Self, TaskError> {
        if id.len() > ID_MAX {
            return Err(TaskError::LongName {
                id: id.chars().take(32).collect(),
                bytes: id.len(),
            });
        }
        let item = |name: &str| {
            world.item(name).ok_or_else(|| TaskError::UnknownItem {
                id: id.into(),
                name: name.into(),
            })
        };
        let (name, count) = target;
        let target = item(name)?;
        if world.recipe(target).is_none() {
            return Err(TaskError::NoRecipe {
                id: id.into(),
                target: name.into(),
            });
        }
        if count == 0 {
            return Err(TaskError::ZeroCount {
                id: id.into(),
                target: name.into(),
            });
        }
        let mut stock: Vec<(ItemId, u32)> = Vec::new();
        for (name, count) in inventory {
            let item = item(name)?;
            if stock.iter().any(|&(known, _)| known == item) {
                return Err(TaskError::ListedTwice {
                    id: id.into(),
                    name: name.into(),
                });
            }
            stock.push((item, count));
        }
        Ok(Self {
            id: id.into(),
            target,
            count,
            inventory: stock,
            difficulty,
        })
    }
}

/// A world with the tasks to train on and those to be judged by: every task has an id of its own, and no target is in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Benchmark {
    /// What can be made of what.
    pub world: Arc<World>,
    /// Tasks to train on.
    pub train: Vec<Task>,
    /// Tasks on held-out items.
    pub val: Vec<Task>,
}

/// Why tasks are not the two halves of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Two tasks of one name, in one half or in both.
    #[error("two tasks are called {id}")]
    DuplicateId {
        /// The name.
        id: String,
    },
    /// What is held out is trained on.
    #[error("{target} is held out by task {val} and trained on by task {train}")]
    SharedTarget {
        /// The item.
        target: String,
        /// The first training task that asks for it.
        train: String,
        /// The first held-out task that does.
        val: String,
    },
}

impl Benchmark {
    /// A benchmark of tasks of this world.
    ///
    /// # Errors
    /// [`SplitError`]: an id that is used twice, a target that is in both halves.
    pub fn new(world: Arc<World>, train: Vec<Task>, val: Vec<Task>) -> Result<Self, SplitError> {
        let mut ids = HashSet::new();
        if let Some(task) = train.iter().chain(&val).find(|task| !ids.insert(task.id.as_str())) {
            return Err(SplitError::DuplicateId { id: task.id.clone() });
        }
        let mut trained = HashMap::new();
        for task in &train {
            trained.entry(task.target).or_insert(task);
        }
        let shared = val.iter().find_map(|task| Some((task, trained.get(&task.target)?)));
        if let Some((val, train)) = shared {
            return Err(SplitError::SharedTarget {
                target: world.name(val.target).into(),
                train: train.id.clone(),
                val: val.id.clone(),
            });
        }
        Ok(Self { world, train, val })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environments::textcraft::WorldBuilder;

    fn task(target: (&str, u32), inventory: &[(&str, u32)]) -> Result<Task, TaskError> {
        let mut builder = WorldBuilder::new();
        builder.recipe("plank", None, 4, [("log", 1)]).unwrap();
        builder.base("log").unwrap();
        let world = builder.build().unwrap();
        Task::from_names(&world, "t.0", target, inventory.iter().copied(), Difficulty::Easy)
    }

    #[test]
    fn what_is_no_task_is_refused_by_name() {
        let message = |target, inventory| task(target, inventory).unwrap_err().to_string();
        assert_eq!(task(("plank", 2), &[("log", 1)]).unwrap().inventory, [(ItemId(0), 1)]);
        assert_eq!(message(("log", 1), &[]), "task t.0: its target log has no recipe");
        assert_eq!(message(("stone", 1), &[]), "task t.0: there is no item called stone");
        assert_eq!(
            message(("plank", 1), &[("stone", 1)]),
            "task t.0: there is no item called stone"
        );
        assert_eq!(message(("plank", 0), &[]), "task t.0: it asks for 0 of plank");
        assert_eq!(
            message(("plank", 1), &[("log", 1), ("log", 2)]),
            "task t.0: its inventory lists log twice"
        );
    }

    #[test]
    fn difficulties_cover_the_tiers() {
        assert!(Difficulty::ALL.into_iter().flat_map(Difficulty::tiers).eq(2..=12));
    }
}
