//! The policy that asks a server, against servers that behave and servers that do not.
#![cfg(feature = "openai")]

mod answers;
mod distribution;
mod faults;
mod node;
mod refusals;
mod server;
mod traffic;
