//! LoRA adapters: what is written, what llama.cpp makes of it, and what is refused.
#![cfg(feature = "candle")]

mod file;
#[cfg(feature = "llama-cpp")]
mod sampled;

use rao_backends::candle::ModelConfig;
use rao_backends::candle::gguf::{Adapter, AdapterTensor};
use rao_tree::WeightsVersion;

const VOCAB: usize = 113;

fn shape(tied: bool) -> ModelConfig {
    ModelConfig {
        num_key_value_heads: 2,
        tie_word_embeddings: tied,
        max_position_embeddings: 256,
        ..ModelConfig::tiny(VOCAB)
    }
}

/// The numbers of an adapter, of every matrix that can be adapted: module, A and B.
struct Numbers {
    rank: usize,
    alpha: f32,
    parts: Vec<(String, Vec<f32>, Vec<f32>)>,
}

impl Numbers {
    /// Numbers within `size` of 0, other ones for every seed.
    fn new(config: &ModelConfig, rank: usize, seed: u64, size: f32) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        // Xorshift, of which the upper 24 bits are used.
        let mut number = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * size
        };
        let parts = config
            .tensors()
            .into_iter()
            .filter(|(name, shape)| shape.len() == 2 && !name.contains("embed"))
            .map(|(name, shape)| {
                let a = (0..rank * shape[1]).map(|_| number()).collect();
                let b = (0..shape[0] * rank).map(|_| number()).collect();
                (name.strip_suffix(".weight").unwrap().to_owned(), a, b)
            });
        Self {
            rank,
            alpha: 2.0 * rank as f32,
            parts: parts.collect(),
        }
    }

    fn tensors(&self) -> Vec<AdapterTensor<'_>> {
        let parts = self.parts.iter();
        parts.map(|(module, a, b)| AdapterTensor { module, a, b }).collect()
    }

    fn adapter<'a>(&self, tensors: &'a [AdapterTensor<'a>], fingerprint: Option<&'a str>) -> Adapter<'a> {
        Adapter {
            tensors,
            rank: self.rank,
            alpha: self.alpha,
            version: WeightsVersion(7),
            fingerprint,
        }
    }
}
