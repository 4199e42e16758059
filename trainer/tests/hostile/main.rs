//! Files and words of strangers: whatever is in them, readers say what is wrong, nothing panics, and nothing is written where it does not belong.

#[path = "../common/mod.rs"]
#[cfg(feature = "candle")]
#[expect(dead_code, reason = "nothing here asks for memory")]
mod common;
mod configurations;
#[path = "../../../tests/support/counting.rs"]
mod counting;
mod logs;
#[path = "../../../tests/support/mutate.rs"]
mod mutate;
#[cfg(feature = "candle")]
mod runs;
mod tasks;

use counting::most_taken;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a reader may take besides 128 times what it reads: a byte may stand for a node of a tree, or be a bracket in a file of TOML.
const SMALL: usize = 8 << 20;

/// One test at a time: what is taken is counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of reading so many bytes; it took no more memory than they warrant.
#[track_caller]
fn bounded<T>(bytes: usize, read: impl FnOnce() -> T) -> T {
    let (read, most) = most_taken(read);
    let allowed = 128 * bytes + SMALL;
    assert!(most <= allowed, "{most} bytes were taken for {bytes}");
    read
}
