//! What of the firmware is the same on every machine. There is no device in it, no `std`, no allocator and no `unsafe`.
//!
//! | part | what it is | what of it a real device keeps |
//! |---|---|---|
//! | [`agents`] | the blocking loop: one agent acts at a time | everything |
//! | [`trace`] | the events, encoded into a fixed buffer | everything, or a sink that writes to a radio or to flash |
//! | [`task`] | an environment, and a script in the place of the model | nothing: its own world, its own inference |
//! | [`program`] | two rollouts of one task, their credit, and checks of both | the first function |
#![no_std]
#![forbid(unsafe_code)]

pub mod agents;
pub mod program;
pub mod task;
pub mod trace;
