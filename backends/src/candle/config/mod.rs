//! The shape of a Qwen3 decoder: [`ModelConfig`], read from and written as a Hugging Face `config.json`.

mod rope_scaling;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::files;
use serde::{Deserialize, Serialize};

pub use rope_scaling::{RopeScaling, RopeScalingError, Yarn};

/// All fields of a `config.json`, by name.
pub(super) type OtherFields = serde_json::Map<String, serde_json::Value>;

/// Widest layer, and widest row of all heads together.
const WIDTH_MAX: usize = 1 << 20;
/// Most decoder blocks.
const LAYERS_MAX: usize = 1 << 12;
/// Most rows of the embedding.
const VOCAB_MAX: usize = 1 << 24;
/// Longest window, in tokens.
const WINDOW_MAX: usize = 1 << 31;

/// The fields of a Hugging Face Qwen3 `config.json` that decide what is computed.
///
/// Everything else in such a file is ignored, except what would change the result and is not implemented
/// (attention bias, sliding windows, other activations, some kinds of RoPE scaling, quantised weights): that is refused by [`from_json`](Self::from_json).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; even, and free of `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Width of the SwiGLU layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square before the root, in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched; `None` as trained.
    #[serde(default)]
    pub rope_scaling: Option<RopeScaling>,
    /// The output layer shares the embedding's matrix.
    pub tie_word_embeddings: bool,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not JSON, or a field is missing or of another type.
    #[error("config.json: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that must be at least 1 is 0.
    #[error("config.json: `{field}` must not be 0")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// A field beyond all models: what follows from it could not be counted in 64 bits, let alone held.
    #[error("config.json: `{field}` is at most {most} here, got {value}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// What the configuration says.
        value: usize,
        /// The most that is read.
        most: usize,
    },
    /// The rotary embedding turns pairs.
    #[error("config.json: `head_dim` must be even, got {head_dim}")]
    OddHeadDim {
        /// What the configuration says.
        head_dim: usize,
    },
    /// Query heads cannot be shared out evenly.
    #[error("config.json: {heads} attention heads are no multiple of {key_value_heads} key-value heads")]
    HeadGroups {
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        key_value_heads: usize,
    },
    /// A number outside its range.
    #[error("config.json: `{field}` must be finite and above 0, got {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// What the configuration says.
        value: f64,
    },
    /// RoPE scaling outside its range.
    #[error("config.json: {0}")]
    RopeScaling(#[from] RopeScalingError),
    /// A model that would compute something else than this code does.
    #[error("config.json: `{field}` = {value} is not supported")]
    Unsupported {
        /// The field.
        field: String,
        /// What the configuration says.
        value: String,
    },
}

impl ModelConfig {
    /// The quickstart's model: 2 blocks of width 64, 4 heads of 16; 96,768 parameters at a
    /// vocabulary of 113.
    #[must_use]
    pub fn tiny(vocab_size: usize) -> Self {
        Self {
            hidden_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 16,
            intermediate_size: 128,
            vocab_size,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-6,
            rope_theta: 1000.0,
            rope_scaling: None,
            tie_word_embeddings: false,
        }
    }

    /// Parses a `config.json` and validates it. `head_dim`, `num_key_value_heads` and `tie_word_embeddings` default as in transformers;
    /// `rope_theta` and `rope_scaling` may stand in `rope_parameters`, as transformers 5 writes them.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Ok(Self::parse(text)?.0)
    }

    /// [`from_json`](Self::from_json), and all fields of the text.
    fn parse(text: &str) -> Result<(Self, OtherFields), ConfigError> {
        let all: OtherFields = serde_json::from_str(text)?;
        refuse_unsupported(&all)?;
        let mut fields = all.clone();
        rope_scaling::normalise(&mut fields)?;
        if fields
            .get("num_key_value_heads")
            .is_some_and(serde_json::Value::is_null)
            && let Some(heads) = fields.get("num_attention_heads").cloned()
        {
            fields.insert("num_key_value_heads".into(), heads);
        }
        for (field, value) in [
            ("num_key_value_heads", serde_json::json!(32)),
            ("head_dim", serde_json::json!(128)),
            ("tie_word_embeddings", serde_json::json!(false)),
        ] {
            fields.entry(field).or_insert(value);
        }
        let config: Self = serde_json::from_value(serde_json::Value::Object(fields))?;
        config.validate()?;
        Ok((config, all))
    }

    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file or the field.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        Ok(Self::load_with_other(dir)?.0)
    }

    /// [`load`](Self::load), and all fields of the file, for [`to_json_over`](Self::to_json_over).
    pub(super) fn load_with_other(dir: &Path) -> Result<(Self, OtherFields), ConfigError> {
        let path = dir.join("config.json");
        let text = files::read_text(&path, files::SETTINGS_MAX).map_err(|source| ConfigError::Io { path, source })?;
        Self::parse(&text)
    }

    /// The text of a `config.json` that transformers reads too, for weights stored as f32.
    ///
    /// # Errors
    /// [`ConfigError::Json`] if a number cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        self.to_json_over(&OtherFields::new(), "float32")
    }

    /// The same for weights stored as `dtype` (`float32`, `float16`, `bfloat16`), in place of what `other` says of the shape; the rest of
    /// `other` is kept.
    pub(super) fn to_json_over(&self, other: &OtherFields, dtype: &str) -> Result<String, ConfigError> {
        let mut fields = other.clone();
        // The rotary embedding is described where all versions of transformers look for it, and only there.
        fields.retain(|field, _| !["rope_parameters", "original_max_position_embeddings"].contains(&field.as_str()));
        if let serde_json::Value::Object(own) = serde_json::to_value(self)? {
            fields.extend(own);
        }
        for (field, value) in [
            ("architectures", serde_json::json!(["Qwen3ForCausalLM"])),
            ("model_type", "qwen3".into()),
            ("hidden_act", "silu".into()),
            ("attention_bias", false.into()),
            // The older name and the newer one.
            ("torch_dtype", dtype.into()),
            ("dtype", dtype.into()),
        ] {
            fields.insert(field.to_owned(), value);
        }
        Ok(serde_json::to_string_pretty(&fields)?)
    }

    /// Checks what the fields must satisfy together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let counts = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some(&(field, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(ConfigError::Zero { field });
        }
        let mosts = [
            ("hidden_size", self.hidden_size, WIDTH_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, WIDTH_MAX),
            ("num_key_value_heads", self.num_key_value_heads, WIDTH_MAX),
            (
                "head_dim",
                self.head_dim,
                WIDTH_MAX / self.num_attention_heads.clamp(1, WIDTH_MAX),
            ),
            ("intermediate_size", self.intermediate_size, WIDTH_MAX),
            ("vocab_size", self.vocab_size, VOCAB_MAX),
            ("max_position_embeddings", self.max_position_embeddings, WINDOW_MAX),
        ];
        if let Some(&(field, value, most)) = mosts.iter().find(|(_, value, most)| value > most) {
            return Err(ConfigError::TooLarge { field, value, most });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::OddHeadDim {
                head_dim: self.head_dim,
            });
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(ConfigError::HeadGroups {
                heads: self.num_attention_heads,
                key_value_heads: self.num_key_value_heads,
            });
        }
        for (field, value) in [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(ConfigError::Range { field, value });
            }
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.validate()?;
        }
        Ok(())
    }

    /// How many numbers the weights hold.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.tensors()
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Width of all query heads together.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together, which is that of all value heads.
    #[must_use]
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Name and shape of every weight, in the one order that weights, gradients and moments keep:
    /// embedding, blocks, final norm, output layer (absent when tied). Matrices are `[out, in]`.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, query, key, ff) = (
            self.hidden_size,
            self.query_width(),
            self.key_width(),
            self.intermediate_size,
        );
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let parts: [(&str, Vec<usize>); 11] = [
                ("input_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![query, hidden]),
                ("self_attn.k_proj", vec![key, hidden]),
                ("self_attn.v_proj", vec![key, hidden]),
                ("self_attn.q_norm", vec![self.head_dim]),
                ("self_attn.k_norm", vec![self.head_dim]),
                ("self_attn.o_proj", vec![hidden, query]),
                ("post_attention_layernorm", vec![hidden]),
                ("mlp.gate_proj", vec![ff, hidden]),
                ("mlp.up_proj", vec![ff, hidden]),
                ("mlp.down_proj", vec![hidden, ff]),
            ];
            tensors.extend(
                parts
                    .into_iter()
                    .map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)),
            );
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        tensors
    }
}

/// Refuses what transformers would compute differently from this code.
fn refuse_unsupported(fields: &OtherFields) -> Result<(), ConfigError> {
    let refuse = |field: &str, value: &serde_json::Value| {
        Err(ConfigError::Unsupported {
            field: field.to_owned(),
            value: value.to_string(),
        })
    };
    for (field, supported) in [
        ("model_type", serde_json::json!("qwen3")),
        ("hidden_act", serde_json::json!("silu")),
        ("attention_bias", serde_json::json!(false)),
        ("use_sliding_window", serde_json::json!(false)),
        ("partial_rotary_factor", serde_json::json!(1.0)),
        ("quantization_config", serde_json::Value::Null),
    ] {
        match fields.get(field) {
            Some(value) if *value != supported => return refuse(field, value),
            _ => {}
        }
    }
    let layers = fields.get("layer_types").and_then(serde_json::Value::as_array);
    match layers.into_iter().flatten().find(|kind| *kind != "full_attention") {
        Some(kind) => refuse("layer_types", kind),
        None => Ok(()),
    }
}
