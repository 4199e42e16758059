//! TextCraft-Synth: craft an item through up to twelve tiers of recipes, from one inventory that a whole tree of agents shares.
//!
//! - [`World`]: items, tiers and recipes; nothing in it ever needs itself.
//! - [`Task`], [`Benchmark`]: what is asked for, and the split into training and held-out items.
//! - [`official`]: the published benchmark, from its own files or embedded in the binary.
//! - [`generator`]: new worlds and tasks of the same distribution, from a seed.
//! - [`Workshop`]: the inventory one tree shares, and who made what: the verdict of every node.
//! - [`plan`]: plain recursion, the yardstick: how many nodes it takes and what it uses up.
//!
//! Architecture invariant: nothing here knows tokens, policies or trees of agents; nothing recurses on the call stack.

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
pub use tasks::{Benchmark, Difficulty, Task, TaskError};
pub use workshop::{ActorId, CraftError, Workshop};
pub use world::{ItemId, Recipe, World};
