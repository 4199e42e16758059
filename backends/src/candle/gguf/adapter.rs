//! [`Adapter`]: low-rank changes of a policy's matrices, as a file of their own.

use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};
use rao_tree::WeightsVersion;

use super::metadata::Metadata;
use super::{
    ARCHITECTURE, Entry, GgufError, NAME, Quant, VOCABULARY_KEY, WEIGHTS_VERSION_KEY, save_whole, write_entries,
};
use crate::candle::config::ModelConfig;

/// Matrices of a block that llama.cpp adapts, by their names there and in Hugging Face's files.
const ROLES: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// What one matrix W `[out, in]` is changed by: W + (alpha / rank) B A (Hu et al., arXiv 2106.09685).
#[derive(Clone, Copy, Debug)]
pub struct AdapterTensor<'a> {
    /// The module that holds W, such as `model.layers.0.self_attn.q_proj`: any matrix of a block, or `lm_head` where it is not tied.
    pub module: &'a str,
    /// A, `[rank, in]`, row by row.
    pub a: &'a [f32],
    /// B, `[out, rank]`, row by row.
    pub b: &'a [f32],
}

/// A whole adapter.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// Every matrix that is changed, once.
    pub tensors: &'a [AdapterTensor<'a>],
    /// Rows of every A and columns of every B, at least 1.
    pub rank: usize,
    /// Over the rank, it scales every change; finite and above 0.
    pub alpha: f32,
    /// Version of the policy that base and adapter make together.
    pub version: WeightsVersion,
    /// [Fingerprint](super::Vocabulary::fingerprint) of the base's vocabulary: a reader whose base has another can refuse the file.
    pub fingerprint: Option<&'a str>,
}

/// Writes an adapter for a model of this shape to `out`, as llama.cpp reads it, in `f32` or `f16`. The same arguments give the same bytes.
///
/// The embedding cannot be adapted: llama.cpp ends the process over such an adapter where the output layer is tied.
///
/// # Errors
/// [`GgufError`]; what `out` has got by then is not a file.
pub fn write_adapter(
    adapter: &Adapter<'_>,
    config: &ModelConfig,
    quant: Quant,
    out: &mut impl Write,
) -> Result<(), GgufError> {
    let entries = check(adapter, config, quant)?;
    let mut metadata = Metadata::default();
    metadata.string("general.type", "adapter");
    metadata.string("general.architecture", ARCHITECTURE);
    metadata.string("general.name", NAME);
    metadata.u32("general.file_type", quant.file_type());
    metadata.string("adapter.type", "lora");
    metadata.f32("adapter.lora.alpha", adapter.alpha);
    if let Some(fingerprint) = adapter.fingerprint {
        metadata.string(VOCABULARY_KEY, fingerprint);
    }
    metadata.u64(WEIGHTS_VERSION_KEY, adapter.version.0);
    write_entries(&metadata, &entries, out)
}

/// [`write_adapter`] to a file, which appears whole or not at all, as with [`save`](super::save).
///
/// # Errors
/// [`GgufError`]; what was there before is unharmed.
pub fn save_adapter(adapter: &Adapter<'_>, config: &ModelConfig, quant: Quant, path: &Path) -> Result<(), GgufError> {
    save_whole(path, |file| write_adapter(adapter, config, quant, file))
}

/// The tensors of the file, if a reader will take all of them.
fn check(adapter: &Adapter<'_>, config: &ModelConfig, quant: Quant) -> Result<Vec<Entry>, GgufError> {
    let &Adapter { rank, alpha, .. } = adapter;
    let refused = |reason: String| Err(GgufError::Adapter { reason });
    if rank == 0 || adapter.tensors.is_empty() {
        return refused("it changes nothing: its rank is 0, or it holds no matrix".to_owned());
    }
    // Readers take an alpha of 0 for a scale of 1.
    if !(alpha.is_finite() && alpha > 0.0) {
        return refused(format!("its alpha is {alpha}; a finite number above 0 is needed"));
    }
    if !matches!(quant, Quant::F32 | Quant::F16) {
        return refused(format!(
            "as {quant} it would be too coarse, and its rows are too short: write f32 or f16"
        ));
    }
    let shapes = config.tensors();
    let mut entries: Vec<Entry> = Vec::with_capacity(2 * adapter.tensors.len());
    for part in adapter.tensors {
        let refused = |reason: String| GgufError::AdapterTensor {
            module: part.module.to_owned(),
            reason,
        };
        let shape = shapes
            .iter()
            .find(|(name, _)| name.strip_suffix(".weight") == Some(part.module))
            .map(|(_, shape)| shape.as_slice());
        let (Some(name), Some(&[rows, columns])) = (gguf_name(part.module), shape) else {
            return Err(refused(
                "the model has no such matrix, or not one that can be adapted; there are those of its blocks, and an output layer \
                 that is not tied"
                    .to_owned(),
            ));
        };
        for (suffix, values, shape) in [("lora_a", part.a, [rank, columns]), ("lora_b", part.b, [rows, rank])] {
            let name = format!("{name}.{suffix}");
            if entries.iter().any(|entry| entry.name == name) {
                return Err(refused("it is there twice".to_owned()));
            }
            if values.len() != shape[0] * shape[1] {
                let len = values.len();
                return Err(refused(format!(
                    "{suffix} has {len} numbers where {shape:?} are needed"
                )));
            }
            let tensor = Tensor::from_slice(values, &shape, &Device::Cpu)?;
            entries.push(Entry { name, tensor, quant });
        }
    }
    Ok(entries)
}

/// What llama.cpp calls the weight of a module that it adapts.
fn gguf_name(module: &str) -> Option<String> {
    if module == "lm_head" {
        return Some("output.weight".to_owned());
    }
    let (layer, role) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let (_, name) = ROLES.iter().find(|(hf, _)| *hf == role)?;
    Some(format!("blk.{layer}.{name}.weight"))
}
