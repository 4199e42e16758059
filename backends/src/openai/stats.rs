//! What a server cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What was asked of a server so far, by every handle on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that were begun.
    pub requests: u64,
    /// Tries beyond each request's first.
    pub retries: u64,
    /// Requests that failed for good.
    pub failures: u64,
    /// Tokens of the prompts, as the server counts them; by its own count where it says nothing, 0 for messages.
    pub tokens_in: u64,
    /// Tokens of the answers, in the same way.
    pub tokens_out: u64,
    /// How long the server took for its answers, all tries added up.
    pub asking: Duration,
    /// How long it was left alone before tries were repeated.
    pub pausing: Duration,
}

/// The same, counted from several tasks.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) tokens_in: AtomicU64,
    pub(super) tokens_out: AtomicU64,
    asking_us: AtomicU64,
    pausing_us: AtomicU64,
}

impl Counters {
    pub(super) fn add_asking(&self, time: Duration) {
        add(&self.asking_us, micros(time));
    }

    pub(super) fn add_pausing(&self, time: Duration) {
        add(&self.pausing_us, micros(time));
    }

    pub(super) fn snapshot(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            requests: read(&self.requests),
            retries: read(&self.retries),
            failures: read(&self.failures),
            tokens_in: read(&self.tokens_in),
            tokens_out: read(&self.tokens_out),
            asking: Duration::from_micros(read(&self.asking_us)),
            pausing: Duration::from_micros(read(&self.pausing_us)),
        }
    }
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
