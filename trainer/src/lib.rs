//! Recursive Agent Optimization: rollouts, training and evaluation of one policy that delegates to new instances of itself.
//!
//! The library behind the command `rao`. Its parts, from the outside in: [`train`] (warm start, the loop, the flat twin), [`evaluate`],
//! [`rollout`] (many trees at once over one policy), [`environments`] (kinds of work: what is trained on), [`language`] (agents that speak a language),
//! [`config`], [`run`] (what a run leaves behind).
//!
//! What it deliberately is not: a model (that is `rao-backends`), a tree (that is `rao-tree`), a protocol (that is `rao-proto`).
//!
//! | feature | what it adds |
//! |---|---|
//! | `candle` (default) | the backend that trains and samples: without it there is no `train` loop |
//! | `llama-cpp` | samples GGUF files, quantised: in training with `candle`, alone for `rao eval` and `rao rollout`; needs cmake, a C++ compiler and libclang to build |
//! | `nats` | rollouts by workers on other machines, met at a NATS server (`nats`); with `candle` or `llama-cpp`, and `openai` beside one of them |
//! | `openai` | policies behind OpenAI-compatible servers, for `rao eval`, `rao rollout` and, with `nats`, `rao worker`; brings `code` |
//! | `code` | agents that act by Python cells ([`language`]), in the interpreter monty |
//! | `cuda`, `metal` | the learner on these devices, with `candle`; llama.cpp on them, with `llama-cpp` |
//!
//! ```
//! use rao_trainer::environments::textcraft::{agent::{Agent, AgentOptions}, official, vocabulary::{Interface, LANGUAGE, VOCAB}};
//! use rao_trainer::{config::Config, evaluate, rollout::{Job, Progress, Worker}};
//!
//! // One held-out task of the official benchmark, rolled out by a policy that says anything it may.
//! let benchmark = official::embedded()?;
//! let (config, task) = (Config::default(), &benchmark.val[0]);
//! let options = AgentOptions { depth_max: 3, slots: 24, shuffle_slots: false, interface: Interface::default() };
//! let root = Agent::root(&benchmark.world, task, options, 0);
//! let mut jobs = std::iter::once((0, Job { root, task: task.id.clone(), seed: 0, limits: config.limits.at_depth(3, LANGUAGE.action_max) }));
//! let settings = evaluate::settings(1.0, VOCAB, &std::sync::Arc::new(Progress::default()));
//! let rollouts = Worker::new(rao_backends::scripted::uniform(VOCAB)).rollout(|| jobs.next(), &settings)?;
//! println!("success {} with {} nodes", rollouts[0].success(), rollouts[0].tree.nodes().len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "candle")]
pub mod backend;
pub mod config;
pub mod display;
pub mod environments;
pub mod evaluate;
pub mod experiment;
pub mod judge;
pub mod language;
pub mod live;
#[cfg(all(feature = "nats", any(feature = "candle", feature = "llama-cpp")))]
pub mod nats;
pub mod provenance;
#[cfg(feature = "candle")]
pub mod record;
pub mod report;
pub mod rollout;
pub mod run;
#[cfg(any(feature = "candle", feature = "llama-cpp"))]
pub mod sampler;
pub mod seed;
pub mod table;
pub mod trace;
pub mod train;
