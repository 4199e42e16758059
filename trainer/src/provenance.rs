//! Where a run comes from: `run.json`, with the versions, the machine and the seeds of every attempt.

use crate::config::Config;
use crate::seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Attempts that are kept, the first and the newest: a run that is killed all the time does not grow.
const ATTEMPTS_MAX: usize = 100;

/// One attempt at a run: the first, or one that went on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// Version of this program.
    pub rao: String,
    /// Features that it was built with.
    pub features: Vec<String>,
    /// Versions of what computes: pinned exactly, as they promise no stability.
    pub packages: BTreeMap<String, String>,
    /// Operating system and processor, as Rust calls them.
    pub platform: String,
    /// The widest instructions that the kernels find: results differ in the last bits between them.
    pub simd: String,
    /// Processors that it may use.
    pub processors: usize,
    /// Source of all randomness, and what is derived from it for each stage.
    pub seeds: BTreeMap<String, u64>,
}

impl Attempt {
    /// The one that begins now.
    #[must_use]
    pub fn now(config: &Config) -> Self {
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let features = [
            ("candle", cfg!(feature = "candle")),
            ("llama-cpp", cfg!(feature = "llama-cpp")),
            ("openai", cfg!(feature = "openai")),
            ("code", cfg!(feature = "code")),
            ("cuda", cfg!(feature = "cuda")),
            ("metal", cfg!(feature = "metal")),
        ];
        let packages = [
            ("candle-core", CANDLE, cfg!(feature = "candle")),
            ("llama-cpp-2", LLAMA_CPP, cfg!(feature = "llama-cpp")),
            ("llama-cpp-sys-2", LLAMA_CPP_SYS, cfg!(feature = "llama-cpp")),
        ];
        let seeds = [
            ("run", config.seed),
            ("world", config.world.seed),
            ("warmstart", seed::derive(config.seed, &[seed::WARMSTART])),
            ("recursive", seed::derive(config.seed, &[seed::RECURSIVE])),
            ("flat", seed::derive(config.seed, &[seed::FLAT])),
            ("evaluation", seed::derive(config.seed, &[seed::EVALUATION])),
        ];
        Self {
            began,
            rao: env!("CARGO_PKG_VERSION").into(),
            features: features
                .into_iter()
                .filter(|(_, built)| *built)
                .map(|(name, _)| name.to_owned())
                .collect(),
            packages: packages
                .into_iter()
                .filter(|(.., built)| *built)
                .map(|(name, version, _)| (name.to_owned(), version.to_owned()))
                .collect(),
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            simd: simd().into(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            seeds: seeds.into_iter().map(|(name, seed)| (name.to_owned(), seed)).collect(),
        }
    }

    /// `run.json` with this attempt behind those that `before` holds; what does not read back is not kept.
    pub(crate) fn append_to(self, before: &[u8]) -> Vec<u8> {
        let mut attempts: Vec<Self> = serde_json::from_slice(before).unwrap_or_default();
        attempts.push(self);
        if attempts.len() > ATTEMPTS_MAX {
            attempts.drain(1..attempts.len() + 1 - ATTEMPTS_MAX);
        }
        let mut text = serde_json::to_vec_pretty(&attempts).expect("strings and numbers have a JSON form");
        text.push(b'\n');
        text
    }
}

/// As the workspace pins them.
const CANDLE: &str = "0.11.1";
/// See [`CANDLE`].
const LLAMA_CPP: &str = "0.1.160";
/// See [`CANDLE`]: llama.cpp itself.
const LLAMA_CPP_SYS: &str = "0.1.161";

fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return "avx2";
        }
    }
    if cfg!(target_arch = "aarch64") {
        "neon"
    } else {
        "baseline"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_are_pinned() {
        let manifest = include_str!("../../Cargo.toml");
        for (name, version) in [
            ("candle-core", CANDLE),
            ("llama-cpp-2", LLAMA_CPP),
            ("llama-cpp-sys-2", LLAMA_CPP_SYS),
        ] {
            assert!(
                manifest.contains(&format!("{name} = {{ version = \"={version}\"")),
                "{name}"
            );
        }
    }

    #[test]
    fn attempts_are_kept_up_to_a_number_the_first_of_them_always() {
        let config = Config::default();
        let mut text = b"not JSON".to_vec();
        for began in 0..120 {
            let attempt = Attempt {
                began,
                ..Attempt::now(&config)
            };
            text = attempt.append_to(&text);
        }
        let attempts: Vec<Attempt> = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            (attempts.len(), attempts[0].began, attempts[1].began, attempts[99].began),
            (100, 0, 21, 119)
        );
        assert_eq!(attempts[0].seeds["run"], config.seed);
    }
}
