//! [`WeightsError`].

use std::path::PathBuf;

use candle_core::DType;

use crate::candle::config::ConfigError;

/// Why weights cannot be made, read or written. Each names the file, and the tensor where one is at fault.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file: its header is cut short or damaged.
    #[error("{path}: truncated or damaged: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: safetensors::SafeTensorError,
    },
    /// The header is whole, what it speaks of is not.
    #[error("{path}: truncated inside tensor `{tensor}`: {found} bytes of {expected}, fetch the file again")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The first tensor that is not whole.
        tensor: String,
        /// Length of the file in bytes.
        found: u64,
        /// Length by the header.
        expected: u64,
    },
    /// The list of shards cannot be parsed.
    #[error("{path}: {source}")]
    Index {
        /// The list.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The list of shards has a tensor twice.
    #[error("{path}: tensor `{tensor}` is listed twice, the second time in {shard}")]
    ListedTwice {
        /// The list.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where it is said to lie the second time.
        shard: String,
    },
    /// The list of shards points elsewhere than to a file beside it.
    #[error("{path}: tensor `{tensor}` is said to lie in `{shard}`, which is not the name of a file in this directory")]
    Outside {
        /// The list.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where it is said to lie.
        shard: String,
    },
    /// A shard that the list names is not there.
    #[error("{path}: this shard is absent, and `{tensor}` with it: fetch it")]
    ShardAbsent {
        /// The shard.
        path: PathBuf,
        /// A tensor that it should hold.
        tensor: String,
    },
    /// A shard has a tensor that the list places in another one.
    #[error("{path}: has tensor `{tensor}`, which the index places in {listed}: these files do not belong together")]
    Misplaced {
        /// The shard.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shard of the list.
        listed: String,
    },
    /// The configuration, or the list of shards, asks for a tensor that the file has not.
    #[error("{path}: tensor `{tensor}` is missing")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The header lacks what a reader cannot do without.
    #[error("{path}: the header does not say `{key}`")]
    Unsaid {
        /// The file.
        path: PathBuf,
        /// What it should say.
        key: &'static str,
    },
    /// The file has a tensor that the configuration does not know.
    #[error("{path}: tensor `{tensor}` is not part of this model")]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The configuration says that the output layer is the embedding, and the file has another output layer.
    #[error(
        "{path}: tensor `{tensor}` differs from the embedding at element {index}, but config.json says `tie_word_embeddings`: \
         set it to false if this output layer is meant"
    )]
    NotTied {
        /// The file.
        path: PathBuf,
        /// The output layer.
        tensor: String,
        /// First difference, in row-major order.
        index: usize,
    },
    /// A tensor of another shape than the configuration says.
    #[error("{path}: tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// A tensor of a type that is not read.
    #[error("{path}: tensor `{tensor}` is {found}; only F32, F16 and BF16 are read")]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Type in the file.
        found: String,
    },
    /// Weights were asked for in a type that they are not kept in.
    #[error("weights are kept and written as F32, F16 or BF16, not as {dtype:?}")]
    Precision {
        /// What was asked for.
        dtype: DType,
    },
    /// A tensor with a number that is infinite or no number.
    #[error("{path}: tensor `{tensor}` holds {value} at element {index}")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in row-major order.
        index: usize,
        /// The number.
        value: f32,
    },
    /// A number that the type asked for would turn into infinity.
    #[error("{path}: tensor `{tensor}` holds {value} at element {index}, which {dtype:?} cannot: take BF16 or F32")]
    Range {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in row-major order.
        index: usize,
        /// The number.
        value: f32,
        /// What was asked for.
        dtype: DType,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}
