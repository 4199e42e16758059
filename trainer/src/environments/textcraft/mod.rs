//! TextCraft-Synth: craft an item through up to twelve tiers of recipes, from one inventory that a whole tree of agents shares. And
//! original TextCraft, with the recipes of Minecraft.
//!
//! - [`World`]: items, tiers and recipes; nothing in it ever needs itself.
//! - [`Task`], [`Benchmark`]: what is asked for, and the split into training and held-out items.
//! - [`official`]: the published benchmark, from its own files or embedded in the binary.
//! - [`generator`]: new worlds and tasks of the same distribution, from a seed.
//! - [`Ledger`]: an inventory, and who made what of it: the verdict of every node. [`Workshop`]: with the recipes of a [`World`].
//! - [`Book`]: recipes as players read them, several to an item where need be, and the reference's crafting action.
//! - [`minecraft`]: original TextCraft, from its own files.
//! - [`plan`]: plain recursion, the yardstick: how many nodes it takes and what it uses up.
//! - [`vocabulary`], [`agent`]: the token language of a tiny model, and the environment of one node that speaks it.
//! - [`teacher`]: a flawed policy in that language, for the warm start.
//! - [`text`]: the environment of one node that speaks a language, with the paper's tools.
//! - [`TextCraft`]: all of it, as something to train on.
//!
//! Architecture invariant: tokens and policies are the business of [`vocabulary`], [`agent`] and [`teacher`] alone, nodes theirs and
//! [`text`]'s; what the others do can be tested without any of them, and none of the others uses these four. Nothing recurses on the call
//! stack.

pub mod agent;
pub mod book;
mod builder;
mod domain;
pub mod generator;
mod ledger;
pub mod minecraft;
pub mod official;
pub mod plan;
mod records;
mod tables;
pub mod tasks;
pub mod teacher;
#[cfg(test)]
mod tests;
pub mod text;
pub mod vocabulary;
pub mod workshop;
pub mod world;

pub use super::Difficulty;
pub use book::Book;
pub use builder::{WorldBuilder, WorldError};
pub use domain::TextCraft;
pub use ledger::{ActorId, ExchangeError, Ledger};
pub use tasks::{Benchmark, SplitError, Task, TaskError};
pub use workshop::{CraftError, Workshop};
pub use world::{ItemId, Recipe, World};
