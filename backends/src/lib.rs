//! Policies for recursive agents.

pub mod scripted;
