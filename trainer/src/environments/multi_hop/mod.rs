//! Multi-hop search: questions whose every step needs the answer of the step before, over documents that are made up.
//!
//! "Who is the heir of the rival of Pemuri?" takes a search for Pemuri's rival, and only then one for the heir. The steps are chained, so agents
//! side by side have nothing to do at the same time, and a chain that is handed on is walked no faster. This is the kind of work where recursion
//! should not win: on DeepDive, which it stands for, the authors of Recursive Agent Optimization gain success where a context is too small, and pay
//! with many times the time.
//!
//! - [`world`]: documents, facts and questions from a seed, and what is right; without tokens or text of tools.
//! - [`text`]: the environment of one node that speaks a language.

pub mod text;
pub mod world;
