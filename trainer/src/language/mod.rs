//! Agents that speak a language: what they act upon, apart from how they say it.
//!
//! A [`TextEnvironment`] is a goal, tools over a world, and a judge of answers. It knows nothing of tokens, of turns, or of how a call is
//! written down: a *harness* makes it an [`rao_tree::Environment`], with `finish` and `launch_subagent` beside the tools. Two
//! harnesses serve every environment alike: tool calls in the model's chat template, and Python cells.

mod arguments;
#[cfg(feature = "code")]
mod code;
mod fork;
mod harness;
mod judge;
mod kind;
pub mod speech;
mod tally;
mod tool_calls;
mod value;

pub use arguments::Arguments;
#[cfg(feature = "code")]
pub use code::{CodeCells, Sandbox, SessionError};
pub use fork::Fork;
pub use harness::{Caps, FINISH, HarnessError, LAUNCH, Setup};
pub use judge::{PolicyJudge, RUBRIC};
pub use kind::{ArgumentError, Mismatch};
pub use tally::{Slip, Tally};
pub use tool_calls::ToolCalls;
pub use value::{DEPTH_MAX, NotJson, Value, ValueError};

use rao_tree::{NodeStatus, Success};
use std::borrow::Cow;

/// What one node acts upon.
///
/// # For implementers
/// - Calls for one node never overlap; calls for siblings may interleave in any order.
/// - A clumsy call is a [`ToolError`] that helps the model, never a panic and never the end of the node.
/// - What a child shares with its parent is decided in [`child`](Self::child): the same world behind an [`std::sync::Arc`], a copy of it, or a
///   fresh one. Say which in the type's documentation.
pub trait TextEnvironment: Sized + Send {
    /// What this node was asked to do and handed.
    fn brief(&self) -> &Brief;

    /// The rules of the world, for the system message: what there is, what counts as success, when to delegate. Without the tools' own
    /// descriptions, which the harness writes in its notation.
    fn instructions(&self) -> Cow<'_, str>;

    /// What can be called, apart from `finish` and `launch_subagent`, which are the harness's.
    fn tools(&self) -> &[Tool];

    /// Calls a tool. The arguments fit its [`Tool::parameters`]: names, types, required ones present.
    ///
    /// # Errors
    /// [`ToolError`]: what was wrong, in words that help.
    fn call(&mut self, tool: &str, arguments: &Arguments) -> Result<Value, ToolError>;

    /// What `launch_subagent` takes by name besides `goal` and `context`; nothing by default. Arguments fit these as a tool's fit its own.
    fn launch_parameters(&self) -> &[Parameter] {
        &[]
    }

    /// Looks at a launch before it is made; what is refused here costs nothing. Accepts everything by default.
    ///
    /// # Errors
    /// [`ToolError`]: what was wrong, in words that help.
    fn check(&self, launch: &Launch) -> Result<(), ToolError> {
        let _ = launch;
        Ok(())
    }

    /// What a child acts upon, of a launch that [`check`](Self::check) accepted. The environment decides what of the launch, and of
    /// what the node itself knows, goes into the child's [`Brief`].
    ///
    /// # Errors
    /// The environment broke: the child is invalid, never a zero.
    fn child(&mut self, launch: &Launch) -> Result<Self, BrokenEnvironment>;

    /// A child of this node ended. Does nothing by default.
    fn ended(&mut self, launch: &Launch, status: NodeStatus) {
        let _ = (launch, status);
    }

    /// Judges the node's answer.
    fn judge(&mut self, answer: &Value) -> Verdict;
}

/// What a node is handed: all that it knows at first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Brief {
    /// What to do, in words.
    pub goal: String,
    /// A value to do it with, as its parent gave it.
    pub context: Option<Value>,
    /// The goals of those above it, root first; empty where the environment keeps them from it.
    pub ancestors: Vec<String>,
}

/// A sub-task as its parent words it.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// What to do.
    pub goal: String,
    /// What to do it with.
    pub context: Option<Value>,
    /// Whatever else the environment's [`launch_parameters`](TextEnvironment::launch_parameters) name.
    pub arguments: Arguments,
}

/// A tool, as every harness describes it to the model in its own notation.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What it is called: a Python identifier.
    pub name: &'static str,
    /// What it does and gives back, for the model.
    pub description: &'static str,
    /// What it takes, in order.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name: a Python identifier.
    pub name: &'static str,
    /// What it means, for the model.
    pub description: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
}

/// What a value must be: JSON Schema's types, and Python's annotations.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Anything.
    Any,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Number,
    /// Text.
    Str,
    /// A list (or tuple) of such values.
    List(Box<Kind>),
    /// From text to such values.
    Dict(Box<Kind>),
}

/// A call that the environment would not carry out; the model reads the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ToolError(pub String);

/// The environment itself broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BrokenEnvironment(pub String);

/// What an answer is worth.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// So much.
    Score(Success),
    /// Somebody else says, later: the run's [judge](crate::judge::Judge).
    Submit,
    /// It could not be judged: the node is invalid, never a zero.
    Unjudged(String),
}
