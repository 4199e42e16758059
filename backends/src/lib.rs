//! Policies for recursive agents: what implements [`rao_tree::Policy`], and what trains it.
//!
//! [`scripted`] holds policies without a model: a plan written by a function, and uniform choice. With feature `candle`, the module of
//! that name holds a Qwen3 decoder twice: a learner (imitation, REINFORCE, CISPO; AdamW) and a sampler that draws for many nodes at
//! once and gives each the same bits whatever is sampled beside it. What was trained can be written as GGUF, for llama.cpp. Feature
//! `text` reads the tokenizer and the chat template of a Hugging Face model, and `openai` asks a server that somebody else runs.
//!
//! # What it is not
//! - An inference server: nothing here listens, and `openai` alone asks over a network. Tokens go into a policy and come out; `text` turns a
//!   conversation into tokens and tokens into text.
//! - A zoo of models: one architecture; moments and what learns are in f32; low-rank adapters learn on a base in half precision.
//! - A trainer: rollouts, advantages and schedules are the caller's. A learner takes a batch and makes one step.
//! - A Candle sampler for accelerators: there, `cuda` and `metal` serve the learner alone.
//!
//! # Features
//! | feature | what it adds | what it needs |
//! |---|---|---|
//! | (always) | [`scripted`], [`bytes`], [`files`] | nothing |
//! | `candle` (default) | learner and sampler on the CPU, GGUF files | nothing more; AVX2 or AVX-512 are used where the machine has them |
//! | `llama-cpp` | `llama_cpp`: GGUF files, quantised or not | cmake, a C++ compiler and libclang to build |
//! | `openai` | `openai`: any OpenAI-compatible server as a policy | a C compiler to build, a server to ask |
//! | `text` (default) | `text`: `tokenizer.json` and chat templates | nothing more |
//! | `cuda` | the learner, and all layers of llama.cpp, on NVIDIA cards | `candle` or `llama-cpp`; CUDA's toolkit to build, a card and its driver to run |
//! | `metal` | the same on Apple's GPUs | `candle` or `llama-cpp`; macOS |
//!
//! # Example
//! ```
//! use rao_backends::scripted::Scripted;
//! use rao_tree::{Completion, PolicyExt, Request, SequenceId, Stop, Token};
//!
//! // Says 7, then 8; what comes after is drawn uniformly among ten tokens.
//! let mut policy = Scripted::new(10, |_: &Request<'_>, _: &mut _| vec![Token(7), Token(8)]);
//! let (mut tokens, mut logprobs) = ([Token(0); 3], [0.0; 3]);
//! let mut batch = [Request {
//!     sequence: SequenceId(0),
//!     prompt: &[Token(1), Token(2)],
//!     seed: 42,
//!     temperature: 1.0,
//!     constraint: None,
//!     completion: Completion::new(&mut tokens, &mut logprobs, &mut [], 0)?,
//!     stop: None,
//! }];
//! policy.sample_all(&mut batch)?;
//! assert_eq!(batch[0].stop, Some(Stop::Length));
//! assert_eq!(batch[0].completion.tokens()[..2], [Token(7), Token(8)]);
//! assert_eq!(batch[0].completion.logprobs(), [0.0, 0.0, -10_f32.ln()]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bytes;
#[cfg(feature = "candle")]
pub mod candle;
pub mod files;
mod fingerprint;
#[cfg(feature = "llama-cpp")]
pub mod llama_cpp;
#[cfg(feature = "openai")]
pub mod openai;
mod random;
#[cfg(any(feature = "candle", feature = "llama-cpp", feature = "openai"))]
mod sampling;
pub mod scripted;
#[cfg(feature = "text")]
pub mod text;

pub use fingerprint::fingerprint;
#[cfg(any(feature = "candle", feature = "llama-cpp", feature = "openai"))]
pub use sampling::SamplerError;
