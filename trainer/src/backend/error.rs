//! [`BackendError`].

use super::checkpoint::CheckpointError;
use super::memory::DoesNotFit;
use super::quant::Quant;
use crate::sampler::OpenError;
use rao_backends::candle::gguf::{GgufError, TokenizerVocabularyError, VocabularyError};
use rao_backends::candle::sampler::PackError;
use rao_backends::candle::{AdapterError, BatchError, ConfigError, TrainError, WeightsError};
use rao_backends::text::TextError;

/// The backend failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The model's shape.
    #[error("model: {0}")]
    Config(#[from] ConfigError),
    /// A device that this binary cannot use.
    #[error(
        "`device` is {name:?}: this binary was built for {known}; features `cuda` and `metal` add the devices of those names"
    )]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// What this binary was built with.
        known: &'static str,
    },
    /// A device that is not there.
    #[error("device: {0}")]
    Device(String),
    /// Weights that cannot be made, read or written.
    #[error("weights: {0}")]
    Weights(#[from] WeightsError),
    /// A checkpoint that cannot be trained here.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An adapter that cannot be made, read or written.
    #[error("adapter: {0}")]
    Adapter(#[from] AdapterError),
    /// The tokenizer beside a checkpoint cannot be copied.
    #[error("tokenizer: {0}")]
    Text(#[from] TextError),
    /// The run takes more memory than there is.
    #[error(transparent)]
    Memory(#[from] Box<DoesNotFit>),
    /// Only LoRA has an adapter.
    #[error("this policy has no adapter: all its weights were trained; export it as safetensors or gguf")]
    NoAdapter,
    /// A GGUF file that cannot be written.
    #[error("GGUF: {0}")]
    Gguf(#[from] GgufError),
    /// A quantisation that there is not.
    #[error("no quantisation {name:?}: there are {}{}", Quant::names().join(", "), if cfg!(feature = "llama-cpp") { "" } else { "; feature `llama-cpp` adds llama.cpp's K-quants" })]
    Quant {
        /// What was asked for.
        name: String,
    },
    /// llama.cpp does not quantise.
    #[cfg(feature = "llama-cpp")]
    #[error(transparent)]
    Quantise(#[from] rao_backends::llama_cpp::QuantiseError),
    /// A temporary file cannot be made.
    #[error("temporary file: {0}")]
    Temporary(#[from] std::io::Error),
    /// The sampler is not in this binary, or refuses the file.
    #[error("sampler: {0}")]
    Open(#[from] OpenError),
    /// The sampler refuses new weights.
    #[error("sampler: {0}")]
    Publish(String),
    /// Token names that make no vocabulary.
    #[error("vocabulary: {0}")]
    Vocabulary(#[from] VocabularyError),
    /// A tokenizer that llama.cpp cannot have.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerVocabularyError),
    /// Weights that cannot be sampled from.
    #[error("sampler: {0}")]
    Pack(#[from] PackError),
    /// A batch that cannot be trained on.
    #[error("batch: {0}")]
    Batch(#[from] BatchError),
    /// A sequence that does not say for each of its actions what it weighs.
    #[error("sequence {sequence} has {actions} actions and {weights} weights")]
    Unpaired {
        /// Which sequence of the update.
        sequence: usize,
        /// Its actions.
        actions: usize,
        /// Its weights.
        weights: usize,
    },
    /// An update that failed; the weights are as they were.
    #[error("update: {0}")]
    Learn(#[from] TrainError),
}
