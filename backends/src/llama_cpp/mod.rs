//! A policy that samples a GGUF file with llama.cpp, quantised or not, many nodes at once.
//!
//! [`LlamaCpp`] implements [`rao_tree::Policy`]. Model and context live on one thread of their own, `rao-llama-cpp`: a context borrows its
//! model and may not be shared. Handles talk to that thread through a bounded queue; what several of them ask for at once is
//! decoded together. [`LlamaCpp::publish`] swaps the weights between two decoding steps. A device without a thread to spare calls
//! [`on_this_thread`].
//!
//! # Promise: tokens do not depend on company
//! A request's tokens depend on the file, its prompt, seed, temperature and constraint, never on what else is decoded, cached or evicted. Its
//! log-probabilities are the same bits as well where llama.cpp was built with `GGML_LLAMAFILE=OFF`, as this workspace builds it
//! (`.cargo/config.toml`); otherwise its kernels for many rows add up in another order than those for one, and logits differ by
//! about 1e-6. Flash attention is off for the same reason. Log-probabilities are those of the distribution that was drawn from: after mask and
//! temperature, from the quantised model's own logits.
//!
//! # Cache
//! Every context keeps its keys and values in one of [`LlamaCppOptions::slots`] until another needs the room, so that a node's earlier turns
//! are not computed again. A new context starts from a copy of whatever slot shares the longest prefix with it: siblings share
//! their instructions. Which slots are evicted changes time, never results.
//!
//! # Adapters
//! [`LlamaCpp::publish_adapter`] puts a LoRA adapter beside the loaded weights, in the place of the last one: an update of a large, quantised
//! policy then costs a small file. The base is not touched, so that what is drawn is a function of base and adapter, whatever was there
//! before. llama.cpp adds the adapter's product to that of the base in f32; a merged and then quantised policy is another one.
//!
//! # Files
//! Architecture `qwen3` (what [`crate::candle`] trains and `rao export` writes). A file of another architecture, one that was cut off, and one
//! whose vocabulary is not the caller's are refused before llama.cpp sees them: it would abort the process on some.

mod adapter;
mod cache;
mod engine;
mod error;
mod file;
mod gather;
mod local;
mod log;
mod options;
mod policy;
mod quantise;
mod thread;
mod walk;

pub use error::{LlamaCppError, LoadError};
pub use file::{AdapterInfo, FileInfo, inspect, inspect_adapter};
pub use local::{Local, on_this_thread};
pub use options::{KvPrecision, LlamaCppOptions, ModelFile};
pub use policy::LlamaCpp;
pub use quantise::{Quantisation, QuantiseError, UnknownQuantisation, quantise};

use llama_cpp_2::llama_backend::LlamaBackend;
use std::sync::OnceLock;

/// llama.cpp is initialised once per process.
fn backend() -> Result<&'static LlamaBackend, LoadError> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            log::capture();
            LlamaBackend::init().ok()
        })
        .as_ref()
        .ok_or(LoadError::Initialised)
}
