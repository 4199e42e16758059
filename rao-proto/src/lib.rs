//! The messages of a recursive agent run.
#![no_std]

mod event;
mod types;

pub use event::{Event, Logprobs, Record, Tokens};
pub use types::{CancelReason, Depth, Limit, Limits, NodeId, NodeStatus, Success, SuccessError, Token, WeightsVersion};
