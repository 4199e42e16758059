//! What can go wrong with a file, and with the thread that samples it.

use crate::sampling::SamplerError;
use std::path::PathBuf;
use std::time::Duration;

/// A GGUF file that cannot be sampled from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its header is not that of a GGUF file.
    #[error("{}: not a GGUF file, or its header is damaged: {reason}", path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// llama.cpp's words.
        reason: String,
    },
    /// A model of another kind.
    #[error(
        "{}: architecture {found:?}; this backend samples \"qwen3\", which is what `rao export` writes and Qwen3's own GGUF files are",
        path.display()
    )]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// An adapter where a model is needed, or the other way round.
    #[error("{}: a GGUF file of type {found:?}, where one of type {expected:?} is needed", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What the caller needs.
        expected: &'static str,
    },
    /// An adapter that cannot be applied as a whole.
    #[error("{}: this adapter cannot be used: {reason}", path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Weights are missing at its end.
    #[error("{}: cut off: it has {len} bytes, its header speaks of {needed}; copy or export it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header speaks of.
        needed: u64,
        /// Bytes that are there.
        len: u64,
    },
    /// Its vocabulary has another size.
    #[error(
        "{}: its vocabulary has {found} tokens, the environment speaks {expected}: the policy was trained for something else",
        path.display()
    )]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: usize,
        /// What the caller needs.
        expected: usize,
    },
    /// Its tokenizer is not the caller's: same ids would mean other tokens.
    #[error(
        "{}: its tokenizer (fingerprint {found}) is not the environment's ({expected}): the policy was trained for something else",
        path.display()
    )]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What the caller needs.
        expected: String,
    },
    /// llama.cpp refused it.
    #[error("{}: llama.cpp does not load it: {reason}", path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// llama.cpp's words.
        reason: String,
    },
    /// There is no room for keys and values, or an option is outside its range.
    #[error(
        "no context of {slots} slots x {window} tokens: {reason}; fewer slots or a shorter window take less memory"
    )]
    Context {
        /// Sequences side by side.
        slots: u32,
        /// Tokens of each.
        window: u32,
        /// llama.cpp's words.
        reason: String,
    },
    /// The thread that loads it did not answer in time.
    #[error("llama.cpp did not load the model within {} s", waited.as_secs())]
    Timeout {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The thread that loads it died.
    #[error("the llama.cpp thread died while it loaded the model: {reason}")]
    Died {
        /// What it said.
        reason: String,
    },
    /// Somebody else in this process has initialised llama.cpp through the same crate and keeps it.
    #[error("llama.cpp was already initialised elsewhere in this process")]
    Initialised,
}

/// Why a batch could not be advanced. What concerns one request only is its [`rao_tree::Stop`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlamaCppError {
    /// A request that no model can answer, or weights that have diverged.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The last weights could not be loaded again.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// llama.cpp failed; its cache was emptied, and the next call starts afresh.
    #[error("llama.cpp failed to decode: {reason}")]
    Decode {
        /// Its words.
        reason: String,
    },
    /// The thread died, was restarted once, and died again.
    #[error("the llama.cpp thread died twice, and is not restarted again: {reason}")]
    Died {
        /// What it said last.
        reason: String,
    },
    /// The thread did not answer in time.
    #[error("llama.cpp did not answer within {} s", waited.as_secs())]
    Timeout {
        /// How long it was waited for.
        waited: Duration,
    },
}
