//! Whether a worker still moves.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doing {
    /// It has nothing to do.
    Nothing,
    /// It is in the environments of its trees, or waits for judges.
    Environments,
    /// It is in its policy.
    Sampling,
}

/// When a worker last took a step, and what it did then.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Milliseconds of [`clock`].
    at: AtomicU64,
    doing: AtomicU8,
}

impl Pulse {
    /// It begins to do this now.
    pub(super) fn is(&self, doing: Doing) {
        self.at.store(clock(), Ordering::Relaxed);
        self.doing.store(doing as u8, Ordering::Relaxed);
    }

    /// What it has been doing for at least so long without a step in between.
    pub(super) fn stalled(&self, limit: Duration) -> Option<(Doing, Duration)> {
        let doing = match self.doing.load(Ordering::Relaxed) {
            doing if doing == Doing::Environments as u8 => Doing::Environments,
            doing if doing == Doing::Sampling as u8 => Doing::Sampling,
            _ => return None,
        };
        let since = Duration::from_millis(clock().saturating_sub(self.at.load(Ordering::Relaxed)));
        (since >= limit).then_some((doing, since))
    }
}

/// Milliseconds since somebody asked first: a clock that fits into an atomic.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}
