//! Number search: a number is hidden in a range, and one look covers little of it. The smallest kind of work there is, to learn with.
//!
//! An agent may ask whether the number lies in a range of up to `width` numbers. A range of many widths takes more looks than an agent has
//! steps, and its parts have nothing to do with each other: the work for agents side by side. Each is right when it names the number, or truly
//! says that it is not in the part it was given.
//!
//! ```
//! use rao_trainer::environments::{Difficulty, TextTask, number_search::world};
//! use rao_trainer::language::{Arguments, Launch, TextEnvironment, Verdict};
//!
//! // 4 looks of 16 numbers cover the range; the number is in one half of it.
//! let width = 16.try_into()?;
//! let task = &world::generate(0, Difficulty::Easy, width, 1)[0];
//! let (low, middle) = (*task.range.start(), task.range.start() + 31);
//! let half = |low: i64, high: i64| Arguments(vec![("low", low.into()), ("high", high.into())]);
//!
//! // The root hands the lower half to a child. One look does not cover that; a true answer is right, whatever it is.
//! let mut root = task.root();
//! let launch = Launch { goal: "Take the lower half.".into(), context: None, arguments: half(low, middle) };
//! root.check(&launch)?;
//! let mut child = root.child(&launch)?;
//! assert_eq!(child.call("probe", &half(low, middle)).unwrap_err().0, "a probe covers at most 16 numbers, not 32");
//! let answer = task.answer(&(low..=middle)).map_or("not here".into(), |number| number.into());
//! assert_eq!(child.judge(&answer), Verdict::Score(rao_tree::Success::ONE));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`world`]: tasks from a seed, and what is right; without tokens or text.
//! - [`text`]: the environment of one node that speaks a language.
//! - [`vocabulary`], [`agent`]: the token language of a tiny model, and the environment of one node that speaks it.
//! - [`teacher`]: a flawed policy in that language, for the warm start.
//! - [`NumberSearch`]: all of it, as something to train on.

pub mod agent;
mod domain;
pub mod teacher;
pub mod text;
pub mod vocabulary;
pub mod world;

pub use domain::NumberSearch;
