//! The randomness of draws, shared by all policies.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The uniform number of draw `index` of a request: 53 bits in `[0, 1)`.
pub(crate) fn uniform(seed: u64, index: usize) -> f64 {
    (bits(seed, index) >> 11) as f64 / (1u64 << 53) as f64
}

/// The 64 bits behind it.
pub(crate) fn bits(seed: u64, index: usize) -> u64 {
    // Seeds are mixed before the index is added, so that neighbouring seeds do not share their streams, shifted.
    let mixed = SplitMix64::seed_from_u64(seed).next_u64();
    SplitMix64::seed_from_u64(mixed.wrapping_add(index as u64)).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniforms_differ_by_seed_and_index() {
        let mut seen: Vec<u64> = (0..64)
            .flat_map(|s| (0..64).map(move |i| uniform(s, i).to_bits()))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 64 * 64);
        assert!(seen.iter().all(|bits| (0.0..1.0).contains(&f64::from_bits(*bits))));
    }
}
