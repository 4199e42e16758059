//! A policy that asks an OpenAI-compatible server: vLLM, SGLang, llama-server, or one that somebody hosts.
//!
//! [`OpenAi`] implements [`rao_tree::Policy`]. One thread of its own, `rao-openai`, holds the connections, which are kept and used again; each
//! action is one request, and as many are under way at once as [`OpenAiOptions::concurrency`] allows. [`rao_tree::Policy::sample`] returns when
//! one is answered, or after a tenth of a second. A request that is no longer in the batch, or whose sequence is forgotten, is taken back: its
//! connection closes, and servers stop generating.
//!
//! # Three wires
//! - [`Wire::Tokens`] sends token ids to `completions` and gets token ids back, so that what is trained is what was sampled. It is for servers of
//!   the caller's own model.
//! - [`Wire::Distribution`] sends token ids and gets the log-probabilities of every token, one token a request, and draws here: it does whatever a
//!   local sampler does, for small vocabularies.
//! - [`Wire::Chat`] sends messages to `chat/completions`; the caller's tokens are then [bytes](crate::bytes), and what it says can be evaluated, not
//!   trained on.
//!
//! `docs/servers.md` says which server needs which command line.
//!
//! # What a server cannot promise
//! - A grammar, where it draws. A constraint that only says where an action [ends](rao_tree::Constraint::ends) is carried out; any other is
//!   [`OpenAiError::Constraint`]. On the wire of distributions every constraint is carried out.
//! - The same tokens for the same seed. The seed is sent, but batching, caches and restarts move a server's logits, and some ignore it.
//!   Where the draw is ours, so is the seed, and what moves are the last digits of its logits.
//! - Log-probabilities of other temperatures than 1: some servers give them before the temperature is applied, others after.
//!   [`Logprobs::Required`] refuses such requests where the server draws; with [`Logprobs::IfGiven`] they are what the server says, and 0 where it
//!   says nothing.
//! - Which weights it has: [`OpenAiOptions::version`] is the caller's word.
//!
//! # What goes wrong
//! Time-outs, connections that break, answers that are cut off or contradict themselves, and the statuses 408, 409, 425, 429 and 5xx are tried
//! again, after a pause that is drawn at random below a doubling bound and is no shorter than the server's `Retry-After`. A request whose retries
//! or time are used up ends as [`rao_tree::Stop::Failed`]: its node is invalid, and the run goes on, until
//! [`OpenAiOptions::failures_max`] in a row say that the server is gone. A wrong key, URL or model is an error at once. After
//! either a policy asks no more, and answers every call with that error.
//!
//! # Example
//! ```no_run
//! use rao_backends::openai::{ApiKey, OpenAi, OpenAiOptions, Wire};
//! use rao_backends::bytes::{ASSISTANT, END, USER};
//! use rao_tree::{Completion, PolicyExt, Request, SequenceId, Stop, Token};
//!
//! let mut options = OpenAiOptions::new("http://127.0.0.1:8080/v1", Wire::Chat);
//! options.api_key = std::env::var("RAO_API_KEY").ok().map(ApiKey::new);
//! let mut policy = OpenAi::open(options)?;
//!
//! let mut prompt = vec![USER];
//! prompt.extend("How many moons has Mars?".bytes().map(|byte| Token(byte.into())));
//! prompt.extend([END, ASSISTANT]);
//! let (mut tokens, mut logprobs) = ([Token(0); 500], [0.0; 500]);
//! let mut batch = [Request {
//!     sequence: SequenceId(0),
//!     prompt: &prompt,
//!     seed: 42,
//!     temperature: 1.0,
//!     constraint: None,
//!     completion: Completion::new(&mut tokens, &mut logprobs, &mut [], 0)?,
//!     stop: None,
//! }];
//! policy.sample_all(&mut batch)?;
//! let said = batch[0].completion.tokens().iter().filter_map(|token| u8::try_from(token.0).ok());
//! println!("{} ({:?})", String::from_utf8_lossy(&said.collect::<Vec<u8>>()), batch[0].stop);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod http;
mod options;
mod policy;
mod retry;
mod stats;
mod thread;
mod wire;

pub use error::OpenAiError;
pub use options::{ApiKey, Logprobs, OpenAiOptions, Wire};
pub use policy::OpenAi;
pub use stats::Stats;
