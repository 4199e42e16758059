//! What learns, and how.

use serde::{Deserialize, Serialize};

/// How numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits, the exponent of f32.
    Bf16,
    /// 16 bits, up to 65,504.
    F16,
}

/// The policy: a Qwen3 decoder, trained from scratch in the shape given here, or a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Hugging Face directory of a checkpoint to start from: its shape counts, and the keys below do not. Empty: from scratch.
    pub path: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub ff: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
}

/// Low-rank adaptation (LoRA, arXiv 2106.09685): two narrow matrices beside every projection learn, and the weights stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Width of the passage; 0 trains all weights instead.
    pub rank: usize,
    /// What the passage adds is scaled by alpha / rank; 0 takes twice the rank.
    pub alpha: f64,
    /// The projections that learn, among `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj` and `down_proj`.
    pub targets: Vec<String>,
}

/// How an update is computed: none of this changes what is learnt, but for the last bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learner {
    /// Tokens that are computed at once, in whole sequences (at least one): gradients of a larger minibatch are accumulated. 0 chooses.
    pub tokens: usize,
    /// Keep only what enters a block, and compute it again on the way back: a fraction of the memory for a third more time.
    pub checkpointing: bool,
    /// Memory that a run may take, in GiB: one that is predicted to need more is refused. 0 takes what the machine has to spare.
    pub memory: f64,
}
