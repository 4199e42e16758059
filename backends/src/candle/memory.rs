//! What training takes of memory, said before it is taken: [`Footprint`].

use super::adapter::LoraConfig;
use super::config::ModelConfig;
use super::model::{micro_tokens, shards};
use super::ops::{attention, head, projection};
use candle_core::DType;

/// What an update is like, as far as its memory depends on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// How matrices are kept.
    pub dtype: DType,
    /// What learns, if not the weights.
    pub lora: Option<LoraConfig>,
    /// Tokens that are computed at once; 0 as [`super::Qwen3`] chooses.
    pub tokens: usize,
    /// Tokens of the longest sequence, which is never cut.
    pub longest: usize,
    /// Tokens of a whole minibatch.
    pub batch: usize,
    /// Whether blocks are computed again on the way back.
    pub checkpointing: bool,
    /// Threads that compute.
    pub threads: usize,
}

/// Bytes that training on the CPU takes at its peak, by part.
///
/// Formed from the shapes of what the fused kernels keep, so that it holds without a run; with Candle's operations, on other devices,
/// intermediates take more. What the program takes without a model comes on top, among it some 5 MiB of `gemm`'s code and buffers. Within
/// 15 % of what Linux measures at five million parameters (`tests/memory.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The model.
    pub weights: u64,
    /// The adapter's factors.
    pub adapter: u64,
    /// Gradients of what learns: a buffer for every share of the batch that is summed apart.
    pub gradients: u64,
    /// Both moments of what learns.
    pub moments: u64,
    /// Intermediates on the way forth and back.
    pub activations: u64,
}

impl Footprint {
    /// Of a model of this shape.
    #[must_use]
    pub fn of(config: &ModelConfig, update: &Update) -> Self {
        let parameters = config.parameters();
        let gains: usize = config
            .tensors()
            .iter()
            .filter(|(_, shape)| shape.len() == 1)
            .map(|(_, shape)| shape[0])
            .sum();
        let adapted = update.lora.as_ref().map(|lora| lora.parameters(config));
        let learning = adapted.unwrap_or(parameters);
        let tokens = match update.tokens {
            0 => micro_tokens(config),
            tokens => tokens,
        };
        let at_once = tokens.min(update.batch).max(update.longest);
        let parts = update.batch.div_ceil(at_once.max(1)).max(1);
        let shares = shards(learning, parts);
        // Whole parts side by side, or one at a time.
        let spaces = if shares >= update.threads {
            update.threads.max(1)
        } else {
            1
        };
        let rank = update.lora.as_ref().map_or(0, |lora| lora.rank);
        let space = activations(config, update, at_once, rank);
        let bytes = |count: usize, each: usize| (count * each) as u64;
        Self {
            weights: bytes(parameters - gains, update.dtype.size_in_bytes()) + bytes(gains, size_of::<f32>()),
            adapter: bytes(adapted.unwrap_or(0), size_of::<f32>()),
            gradients: bytes(shares * learning, size_of::<f32>()),
            moments: bytes(2 * learning, size_of::<f32>()),
            activations: bytes(spaces * space, size_of::<f32>()),
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.adapter + self.gradients + self.moments + self.activations
    }
}

/// Numbers of one workspace for `n` tokens at once: the buffers of `fused::Workspace`, by their names there.
fn activations(config: &ModelConfig, update: &Update, n: usize, rank: usize) -> usize {
    let (h, q, k, f) = (
        config.hidden_size,
        config.query_width(),
        config.key_width(),
        config.intermediate_size,
    );
    let layers = config.num_hidden_layers;
    let shape = attention::Shape {
        query: config.num_attention_heads,
        key: config.num_key_value_heads,
        dim: config.head_dim,
    };
    let kept = attention::kept_most(shape, n, update.longest);
    let tape = n * (3 * h + 3 * q + 3 * k + 2 * f + 2) + kept;
    let tapes = if update.checkpointing { 1 } else { layers };
    let rest = n * (6 * h + 4 * q + 2 * k + f + rank);
    let panel = match update.dtype {
        DType::F32 => 0,
        _ => projection::PANEL.max(head::TILE_VOCAB.min(config.vocab_size) * h),
    };
    let angles = update.longest * config.head_dim;
    layers * n * h + tapes * tape + rest + panel + angles + head::tile(config.vocab_size)
}
