//! Seeds: every random choice of a run is derived from its one seed and the name of the choice.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Names of what a run's own seed is the source of, as the first number of a path.
pub const WARMSTART: u64 = 0x3a97;
/// The arm that may spawn.
pub const RECURSIVE: u64 = 1;
/// Its flat twin.
pub const FLAT: u64 = 2;
/// Evaluation, of whatever policy.
pub const EVALUATION: u64 = 3;

/// The seed of something that is named by a path of numbers below `seed`.
#[must_use]
pub fn derive(seed: u64, path: &[u64]) -> u64 {
    path.iter()
        .fold(SplitMix64::seed_from_u64(seed).next_u64(), |seed, &step| {
            SplitMix64::seed_from_u64(seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()
        })
}
