//! The order in which root tasks are drawn.

use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// Draws tasks without end: every task once in random order, then all of them again in another.
pub struct TaskOrder<'a, T> {
    tasks: Vec<&'a T>,
    next: usize,
    random: Xoshiro256PlusPlus,
}

impl<'a, T> TaskOrder<'a, T> {
    /// An order over `tasks`, of which there must be one at least.
    ///
    /// # Panics
    /// Without a task.
    #[must_use]
    pub fn new(tasks: Vec<&'a T>, seed: u64) -> Self {
        assert!(!tasks.is_empty(), "an order needs a task");
        Self {
            next: tasks.len(),
            tasks,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    /// The next task.
    pub fn next_task(&mut self) -> &'a T {
        if self.next == self.tasks.len() {
            self.tasks.shuffle(&mut self.random);
            self.next = 0;
        }
        self.next += 1;
        self.tasks[self.next - 1]
    }
}
