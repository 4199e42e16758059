//! The shape of a decoder, as far as sampling needs it.

use super::simd::PANEL;
use crate::candle::{RopeScaling, RopeScalingError};
use crate::sampling::softmax::LANES;

/// The shape of a Qwen3 decoder. [`Geometry::validate`] says what must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even, not necessarily `hidden / heads`.
    pub head_dim: usize,
    /// Width of the gated feed-forward layer.
    pub ff: usize,
    /// Base of the rotary angles; above 0.
    pub rope_theta: f64,
    /// How they are stretched.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square under the root of every RMSNorm; above 0.
    pub rms_eps: f64,
    /// The output projection is the embedding.
    pub tied: bool,
    /// Positions the model was made for.
    pub max_positions: usize,
}

/// A shape that no decoder has.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// A size is zero.
    #[error("`{0}` must not be zero")]
    Zero(&'static str),
    /// Query heads do not share key heads evenly.
    #[error("{heads} query heads cannot share {kv_heads} key heads evenly")]
    Heads {
        /// Query heads.
        heads: usize,
        /// Key heads.
        kv_heads: usize,
    },
    /// Rotary embedding turns pairs.
    #[error("head_dim must be even, got {0}")]
    OddHead(usize),
    /// RoPE scaling outside its range.
    #[error(transparent)]
    RopeScaling(#[from] RopeScalingError),
    /// A constant is not a positive finite number.
    #[error("`{name}` must be finite and above 0, got {value}")]
    Constant {
        /// Its name.
        name: &'static str,
        /// What it was.
        value: f64,
    },
}

impl Geometry {
    /// Checks what packing and sampling rely on.
    ///
    /// # Errors
    /// [`GeometryError`] names the first thing that does not hold.
    pub fn validate(&self) -> Result<(), GeometryError> {
        let sizes = [
            ("vocab", self.vocab),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("ff", self.ff),
            ("max_positions", self.max_positions),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(GeometryError::Zero(name));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(GeometryError::Heads {
                heads: self.heads,
                kv_heads: self.kv_heads,
            });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(GeometryError::OddHead(self.head_dim));
        }
        for (name, value) in [("rope_theta", self.rope_theta), ("rms_eps", self.rms_eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(GeometryError::Constant { name, value });
            }
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.validate()?;
        }
        Ok(())
    }

    /// Floats from one row of the residual stream to the next.
    pub(super) fn hidden_stride(&self) -> usize {
        self.hidden.next_multiple_of(PANEL)
    }

    /// Floats from one head to the next, in projections and in the cache.
    pub(super) fn head_stride(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Floats from one row of queries, keys and values to the next.
    pub(super) fn qkv_stride(&self) -> usize {
        ((self.heads + 2 * self.kv_heads) * self.head_stride()).next_multiple_of(PANEL)
    }

    /// Floats from one row of gathered heads to the next.
    pub(super) fn heads_stride(&self) -> usize {
        self.heads * self.head_stride()
    }

    /// Floats from one row of gates to the next half, which holds the ups.
    pub(super) fn ff_stride(&self) -> usize {
        self.ff.next_multiple_of(PANEL)
    }
}

impl From<&crate::candle::ModelConfig> for Geometry {
    fn from(config: &crate::candle::ModelConfig) -> Self {
        Self {
            vocab: config.vocab_size,
            hidden: config.hidden_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            ff: config.intermediate_size,
            rope_theta: config.rope_theta,
            rope_scaling: config.rope_scaling,
            rms_eps: config.rms_norm_eps,
            tied: config.tie_word_embeddings,
            max_positions: config.max_position_embeddings,
        }
    }
}
