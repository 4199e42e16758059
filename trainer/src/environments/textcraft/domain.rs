//! TextCraft-Synth as a [`Domain`] to train on.

use super::agent::{Agent, AgentOptions};
use super::vocabulary::{self, Interface};
use super::{Benchmark, Difficulty, Task, teacher};
use crate::environments::{Domain, Flaws, Language, RootTask, Seating};
use rao_tree::Policy;
use std::convert::Infallible;

/// A benchmark, and how its agents are set up.
#[derive(Clone, Debug)]
pub struct TextCraft {
    /// World and tasks.
    pub benchmark: Benchmark,
    /// Items that one node can tell apart.
    pub slots: u32,
    /// What its agents may say.
    pub interface: Interface,
}

impl RootTask for Task {
    fn id(&self) -> &str {
        &self.id
    }

    fn difficulty(&self) -> Difficulty {
        self.difficulty
    }
}

impl Domain for TextCraft {
    type Task = Task;
    type Agent = Agent;

    const LANGUAGE: Language = vocabulary::LANGUAGE;

    fn train(&self) -> &[Task] {
        &self.benchmark.train
    }

    fn val(&self) -> &[Task] {
        &self.benchmark.val
    }

    fn root(&self, task: &Task, seating: Seating, seed: u64) -> Agent {
        let options = AgentOptions {
            depth_max: seating.depth_max,
            slots: self.slots,
            shuffle_slots: seating.shuffle,
            interface: self.interface,
        };
        Agent::root(&self.benchmark.world, task, options, seed)
    }

    fn action_max(&self) -> u32 {
        self.interface.action_max()
    }

    fn teacher(&self, flaws: Flaws, vocab: usize) -> impl Policy<Error = Infallible> + Send + 'static + use<> {
        teacher::teacher(flaws, self.interface, vocab)
    }
}
