//! TextCraft-Synth: craft an item through up to twelve tiers of recipes, from one inventory that a whole tree of agents shares.
//!
//! - [`World`]: items, tiers and recipes; nothing in it ever needs itself.
//! - [`Task`], [`Benchmark`]: what is asked for, and the split into training and held-out items.
//! - [`official`]: the published benchmark, from its own files or embedded in the binary.
//! - [`generator`]: new worlds and tasks of the same distribution, from a seed.
//! - [`Workshop`]: the inventory one tree shares, and who made what: the verdict of every node.
//! - [`plan`]: plain recursion, the yardstick: how many nodes it takes and what it uses up.
//! - [`vocabulary`], [`agent`]: the token language of a tiny model, and the environment of one node that speaks it.
//! - [`teacher`]: a flawed policy in that language, for the warm start.
//!
//! Architecture invariant: tokens, policies and nodes are the business of [`vocabulary`], [`agent`] and [`teacher`] alone; what the others
//! do can be tested without any of them, and none of them uses these three. Nothing recurses on the call stack.

pub mod agent;
mod builder;
pub mod generator;
pub mod official;
pub mod plan;
mod records;
mod tables;
pub mod tasks;
pub mod teacher;
#[cfg(test)]
mod tests;
pub mod vocabulary;
pub mod workshop;
pub mod world;

pub use builder::{WorldBuilder, WorldError};
pub use tasks::{Benchmark, Difficulty, SplitError, Task, TaskError};
pub use workshop::{ActorId, CraftError, Workshop};
pub use world::{ItemId, Recipe, World};
