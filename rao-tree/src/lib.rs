//! Execution tree, credit assignment and sans-IO driver for recursive agents.
#![no_std]

pub mod environment;
pub mod policy;

pub use environment::{Answer, Environment, Observation, Outcome};
pub use policy::{Completion, CompletionError, Constraint, Mask, Next, Policy, PolicyExt, Request, SequenceId, Stop};
pub use rao_proto::{Depth, Limit, Limits, NodeId, NodeStatus, Success, SuccessError, Token, WeightsVersion};
