//! Execution tree, credit assignment and sans-IO driver for recursive agents.
#![no_std]
#![forbid(unsafe_code)]

pub mod credit;
pub mod driver;
pub mod environment;
pub mod policy;
pub mod tree;

pub use driver::{Action, Driver, DriverError, Launch, Want};
pub use environment::{Answer, Environment, Observation, Outcome};
pub use policy::{Completion, CompletionError, Constraint, Mask, Next, Policy, PolicyExt, Request, SequenceId, Stop};
pub use rao_proto::{
    CancelReason, Depth, EventSink, Limit, Limits, NodeId, NodeStatus, Success, SuccessError, Token, WeightsVersion,
};
pub use tree::{Arena, ArenaFull, Node, Tree, TreeError};
