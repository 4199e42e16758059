//! GGUF files, which llama.cpp and most tools around it read: [`write()`] to any stream, [`save`] to a file; [`save_adapter`] for the
//! few numbers by which a policy differs from one that the reader has.
//!
//! The architecture is llama.cpp's `qwen3`. Its rotary embedding turns the same pairs as ours, so every matrix is written as it is, row
//! by row, and an `f32` file holds the very bits of the [`Weights`].
//!
//! Norms stay f32 in every format. A row of a quantised matrix is cut into blocks of 32 numbers; a matrix whose rows are no whole number
//! of blocks is written as f16 instead. Small models pay dearly for few bits: f16 is safe, and `q4_0` changes what a policy of a million
//! parameters says.
//!
//! Candle has a GGUF writer of its own, but it wants a converted copy of every tensor before the first byte. This one goes from tensor
//! to tensor, and `f32` without a copy, so it can hand weights to a sampler after every update.

mod adapter;
#[cfg(feature = "text")]
mod from_tokenizer;
mod metadata;
mod quant;
mod rope;
mod vocabulary;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::quantized::QTensor;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use rao_tree::WeightsVersion;

use super::config::ModelConfig;
use super::parts::Parts;
use super::weights::Weights;
use crate::files::whole::write_whole;
use metadata::Metadata;

pub use adapter::{Adapter, AdapterTensor, save_adapter, write_adapter};
#[cfg(feature = "text")]
pub use from_tokenizer::TokenizerVocabularyError;
pub use quant::{Quant, UnknownQuant};
pub use vocabulary::{SpecialTokens, TokenKind, Vocabulary, VocabularyError};

/// Key of the vocabulary's [fingerprint](Vocabulary::fingerprint), a string: a reader with other tokens can refuse the file.
pub const VOCABULARY_KEY: &str = "rao.vocabulary";
/// Key of the [`WeightsVersion`], a u64.
pub const WEIGHTS_VERSION_KEY: &str = "rao.weights_version";

const ARCHITECTURE: &str = "qwen3";
const NAME: &str = "rao policy";
/// First bytes, and the version of the format that follows.
const MAGIC: &[u8; 4] = b"GGUF";
const FORMAT: u32 = 3;
/// Every tensor begins at a multiple of this many bytes, the format's default.
const ALIGNMENT: usize = 32;
/// Version of the block formats (`GGML_QNT_VERSION`), which the specification wants beside quantised tensors.
const QUANTIZATION_VERSION: u32 = 2;
/// Numbers that are turned into bytes at a time.
const CHUNK: usize = 16 * 1024;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Every row of the embedding needs a token, and the other way round.
    #[error("the vocabulary has {tokens} tokens, the model {rows}: this is not the vocabulary it was trained with")]
    VocabularySize {
        /// Tokens of the vocabulary.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// A size that the format has no room for.
    #[error("{key} = {value} does not fit into 32 bits, as the format wants it")]
    TooLarge {
        /// The key of the file.
        key: String,
        /// What it would have to hold.
        value: usize,
    },
    /// llama.cpp has no way to be told this.
    #[error("llama.cpp cannot scale rotary embeddings as `rope_scaling` says: {reason}")]
    RopeScaling {
        /// What it cannot do.
        reason: &'static str,
    },
    /// A tensor with a number that is infinite or no number.
    #[error("tensor `{tensor}` holds {value} at element {index}: these weights are broken, export earlier ones")]
    NotFinite {
        /// The tensor, by its name in the file.
        tensor: String,
        /// Position in row-major order.
        index: usize,
        /// The number.
        value: f32,
    },
    /// A number that the format would turn into infinity.
    #[error("tensor `{tensor}` holds {value}, and {quant} ends at {max}: write f32")]
    Range {
        /// The tensor, by its name in the file.
        tensor: String,
        /// The number.
        value: f32,
        /// How the tensor was to be stored.
        quant: Quant,
        /// Largest magnitude that can be stored so.
        max: f32,
    },
    /// An adapter that does nothing, or that readers would take for another.
    #[error("adapter: {reason}")]
    Adapter {
        /// What is wrong with it.
        reason: String,
    },
    /// A part of an adapter that does not fit the model.
    #[error("adapter of `{module}`: {reason}")]
    AdapterTensor {
        /// The module, as the caller named it.
        module: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream failed.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// The file could not be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// Writes a whole GGUF file to `out`, from its first byte to its last. The same arguments give the same bytes.
///
/// `out` gets pieces of tens of kilobytes; no more than one tensor is held in memory beside the weights.
///
/// # Errors
/// [`GgufError`]; what `out` has got by then is not a file.
pub fn write(
    weights: &Weights,
    vocabulary: &Vocabulary,
    quant: Quant,
    version: WeightsVersion,
    out: &mut impl Write,
) -> Result<(), GgufError> {
    let rows = weights.config().vocab_size;
    if vocabulary.len() != rows {
        let tokens = vocabulary.len();
        return Err(GgufError::VocabularySize { tokens, rows });
    }
    let mut metadata = Metadata::default();
    describe(weights.config(), quant, &mut metadata)?;
    vocabulary.describe(&mut metadata);
    metadata.string(VOCABULARY_KEY, vocabulary.fingerprint());
    metadata.u64(WEIGHTS_VERSION_KEY, version.0);

    write_entries(&metadata, &entries(weights, quant), out)
}

/// [`write()`] to a file, which appears whole or not at all: it is written beside its place, flushed to the disk and then renamed.
///
/// # Errors
/// [`GgufError`]; what was there before is unharmed.
pub fn save(
    weights: &Weights,
    vocabulary: &Vocabulary,
    quant: Quant,
    version: WeightsVersion,
    path: &Path,
) -> Result<(), GgufError> {
    save_whole(path, |file| write(weights, vocabulary, quant, version, file))
}

/// Has `write` write a file whole or not at all; what the system says of it names the file.
fn save_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), GgufError>) -> Result<(), GgufError> {
    write_whole(path, write).map_err(|error| match error {
        GgufError::Io(source) => GgufError::File {
            path: path.to_owned(),
            source,
        },
        other => other,
    })
}

/// Everything but what the metadata says.
fn write_entries(metadata: &Metadata, entries: &[Entry], out: &mut impl Write) -> Result<(), GgufError> {
    out.write_all(&header(metadata, entries))?;
    let mut buffer = Vec::with_capacity(4 * CHUNK);
    for entry in entries {
        entry.write(&mut buffer, out)?;
        out.write_all(&[0; ALIGNMENT][..padding(entry.bytes())])?;
    }
    Ok(())
}

/// The keys that say what is computed.
fn describe(config: &ModelConfig, quant: Quant, metadata: &mut Metadata) -> Result<(), GgufError> {
    metadata.string("general.architecture", ARCHITECTURE);
    metadata.string("general.name", NAME);
    metadata.u32("general.file_type", quant.file_type());
    if quant.block() > 1 {
        metadata.u32("general.quantization_version", QUANTIZATION_VERSION);
    }
    for (key, value) in [
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("vocab_size", config.vocab_size),
    ] {
        let key = format!("{ARCHITECTURE}.{key}");
        match u32::try_from(value) {
            Ok(value) => metadata.u32(&key, value),
            Err(_) => return Err(GgufError::TooLarge { key, value }),
        }
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
        ("rope.freq_base", config.rope_theta),
    ] {
        metadata.f32(&format!("{ARCHITECTURE}.{key}"), value as f32);
    }
    rope::describe(config, metadata)
}

/// One tensor on its way into the file.
struct Entry {
    name: String,
    /// A handle: nothing is copied.
    tensor: Tensor,
    quant: Quant,
}

/// All tensors, in the order of [`ModelConfig::tensors`]. A tied output layer is left out: readers then take the embedding.
fn entries(weights: &Weights, quant: Quant) -> Vec<Entry> {
    let parts = Parts::from_ordered(weights.config(), weights.vars());
    let mut entries = Vec::with_capacity(weights.vars().len());
    let mut push = |name: String, tensor: &Tensor| {
        let (tensor, quant) = (tensor.clone(), quant.for_tensor(tensor));
        entries.push(Entry { name, tensor, quant });
    };
    push("token_embd.weight".to_owned(), parts.embed);
    for (layer, block) in parts.layers.into_iter().enumerate() {
        for (role, tensor) in [
            ("attn_norm", block.input_norm),
            ("attn_q", block.q),
            ("attn_k", block.k),
            ("attn_v", block.v),
            ("attn_q_norm", block.q_norm),
            ("attn_k_norm", block.k_norm),
            ("attn_output", block.o),
            ("ffn_norm", block.post_norm),
            ("ffn_gate", block.gate),
            ("ffn_up", block.up),
            ("ffn_down", block.down),
        ] {
            push(format!("blk.{layer}.{role}.weight"), tensor);
        }
    }
    push("output_norm.weight".to_owned(), parts.norm);
    if let Some(head) = parts.head {
        push("output.weight".to_owned(), head);
    }
    entries
}

/// Everything before the first tensor's bytes.
fn header(metadata: &Metadata, entries: &[Entry]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(FORMAT.to_le_bytes());
    header.extend((entries.len() as u64).to_le_bytes());
    header.extend(metadata.count().to_le_bytes());
    header.extend(metadata.bytes());
    let mut offset = 0;
    for entry in entries {
        metadata::put_string(&mut header, &entry.name);
        let shape = entry.tensor.dims();
        header.extend((shape.len() as u32).to_le_bytes());
        // The format names the fastest dimension first.
        for &size in shape.iter().rev() {
            header.extend((size as u64).to_le_bytes());
        }
        header.extend(entry.quant.code().to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset += entry.bytes() + padding(entry.bytes());
    }
    header.resize(header.len() + padding(header.len()), 0);
    header
}

/// Bytes from here to the next multiple of [`ALIGNMENT`].
fn padding(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT) - length
}

impl Entry {
    /// Its length in the file, without padding.
    fn bytes(&self) -> usize {
        self.tensor.elem_count() / self.quant.block() * self.quant.dtype().type_size()
    }

    fn write(&self, buffer: &mut Vec<u8>, out: &mut impl Write) -> Result<(), GgufError> {
        // The handle itself if it is there already, as f32.
        let tensor = self.tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        with_values(&tensor, |values| self.check(values))??;
        if self.quant == Quant::F32 {
            with_values(&tensor, |values| {
                values.chunks(CHUNK).try_for_each(|chunk| {
                    buffer.clear();
                    buffer.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
                    out.write_all(buffer)
                })
            })??;
        } else {
            out.write_all(&QTensor::quantize(&tensor, self.quant.dtype())?.data()?)?;
        }
        Ok(())
    }

    /// Refuses what a reader would have to refuse.
    fn check(&self, values: &[f32]) -> Result<(), GgufError> {
        let max = self.quant.magnitude_max();
        // Wrong for what is no number, too. Folded without leaving early, which the compiler vectorises.
        if values.iter().fold(true, |fit, value| fit & (value.abs() <= max)) {
            return Ok(());
        }
        let tensor = self.name.clone();
        let found = |bad: fn(f32, f32) -> bool| values.iter().position(|value| bad(*value, max));
        match found(|value, _| !value.is_finite()).or_else(|| found(|value, max| value.abs() > max)) {
            Some(index) if values[index].is_finite() => Err(GgufError::Range {
                tensor,
                value: values[index],
                quant: self.quant,
                max,
            }),
            Some(index) => Err(GgufError::NotFinite {
                tensor,
                index,
                value: values[index],
            }),
            None => Ok(()),
        }
    }
}

/// Calls `read` with a tensor's numbers where they lie.
fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Result<R, candle_core::Error> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        // From the first number of the memory to its last: what quantises looks at the memory, not at the view.
        (Storage::Cpu(CpuStorage::F32(values)), Some((0, end))) if end == values.len() => Ok(read(values)),
        _ => candle_core::bail!("weights are not f32 in memory of their own"),
    }
}
