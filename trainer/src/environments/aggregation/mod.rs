//! Aggregation: questions over a log that is longer than what an agent can read, in the manner of Oolong.
//!
//! Oolong (Bertsch et al., arXiv 2511.02817) asks for counts, comparisons and the order in time over inputs that have to be read as a whole; it is
//! one of the benchmarks of Recursive Agent Optimization. Here the log is made up, so that every question can be answered exactly for every part
//! of it: a sub-task that names its question and its records is judged like the task itself. What Oolong also asks, to tell what a text is about, is
//! left out.
//!
//! - [`world`]: logs, questions, answers and what an answer is worth; without tokens or text.
//! - [`text`]: the environment of one node that speaks a language.
//! - [`tasks`], [`Ask`]: what agents of the compact language are asked.
//! - [`vocabulary`], [`agent`]: the token language of a tiny model, and the environment of one node that speaks it.
//! - [`teacher`]: a flawed policy in that language, for the warm start.
//! - [`Aggregation`]: tasks of a seed for agents of that language, as something to train on.

pub mod agent;
mod ask;
mod domain;
pub mod tasks;
pub mod teacher;
pub mod text;
pub mod vocabulary;
pub mod world;

pub use ask::Ask;
pub use domain::Aggregation;
