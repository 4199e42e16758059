//! Bytes that somebody has damaged, by a seed: what readers of files are tried on.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What is put in where something is put in: numbers that are too large, deep nesting, paths that lead away, ends of strings.
const PIECES: [&str; 18] = [
    "-1",
    "1e999",
    "NaN",
    "0",
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "null",
    "true",
    "\"",
    "\\u0000",
    "{}",
    "[]",
    "../../up",
    "/root",
    "</script><script>",
    "\u{1b}[2J",
    "\n",
];

/// Numbers that a seed fixes.
pub struct Seeded(SplitMix64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub fn below(&mut self, most: usize) -> usize {
        (self.0.next_u64() % most.max(1) as u64) as usize
    }
}

/// The bytes with one to four damages.
pub fn mutated(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut seeded = Seeded::new(seed);
    let mut bytes = bytes.to_vec();
    for _ in 0..=seeded.below(4) {
        let at = seeded.below(bytes.len() + 1);
        let end = (at + 1 + seeded.below(16)).min(bytes.len());
        match seeded.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << seeded.below(8),
            1 if at < bytes.len() => bytes[at] = seeded.below(256) as u8,
            2 => bytes.truncate(at),
            3 if at < end => drop(bytes.drain(at..end)),
            4 if at < end => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                // A number, where there is one, is another.
                let digit = bytes[at..].iter().position(u8::is_ascii_digit).map(|ahead| at + ahead);
                if let Some(digit) = digit {
                    let digits = bytes[digit..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let other = PIECES[seeded.below(8)].bytes();
                    bytes.splice(digit..digit + digits, other);
                }
            }
            6 => drop(bytes.splice(at..at, [b'[', b'{', b'('][seeded.below(3)..][..1].repeat(300))),
            _ => drop(bytes.splice(at..at, PIECES[seeded.below(PIECES.len())].bytes())),
        }
    }
    bytes
}
