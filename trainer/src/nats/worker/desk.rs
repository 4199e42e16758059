//! Between the threads that sample and the task that talks to the server.

use crate::rollout::{Job, Next, Rollout, Source};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Trees that wait for a thread; those that have ended go into the channel.
pub(super) struct Desk<E> {
    waiting: Mutex<Waiting<E>>,
    ended: mpsc::UnboundedSender<Rollout>,
}

struct Waiting<E> {
    jobs: VecDeque<(usize, Job<E>)>,
    is_open: bool,
}

impl<E> Desk<E> {
    pub fn new(ended: mpsc::UnboundedSender<Rollout>) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                jobs: VecDeque::new(),
                is_open: true,
            }),
            ended,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<E>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another tree to roll out.
    pub fn put(&self, number: usize, job: Job<E>) {
        self.waiting().jobs.push_back((number, job));
    }

    /// There is nothing more to begin; the numbers of those that were not begun.
    pub fn shut(&self) -> Vec<usize> {
        let mut waiting = self.waiting();
        waiting.is_open = false;
        waiting.jobs.drain(..).map(|(number, _)| number).collect()
    }
}

impl<E: Send> Source<E> for Desk<E> {
    fn next(&self) -> Next<E> {
        let mut waiting = self.waiting();
        match waiting.jobs.pop_front() {
            Some((number, job)) => Next::Job(number, job),
            None if waiting.is_open => Next::Later,
            None => Next::Never,
        }
    }

    fn ended(&self, rollout: Rollout) {
        // Nobody listens only after an error, when the task goes to another worker.
        let _ = self.ended.send(rollout);
    }

    fn close(&self) {
        self.waiting().is_open = false;
    }
}
