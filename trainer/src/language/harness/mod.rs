//! What both harnesses share: [`Setup`], its [`Caps`], [`HarnessError`], and the node that they drive.

mod node;

pub(super) use node::Node;

use super::speech::{Speech, SpeechError};
use super::{BrokenEnvironment, Kind, Parameter, Tally, Tool};
use std::sync::Arc;

/// What ends a node with its answer.
pub const FINISH: &str = "finish";
/// What launches a sub-agent.
pub const LAUNCH: &str = "launch_subagent";

/// How nodes speak; the same for every node of a tree.
pub struct Setup {
    /// How conversations become tokens.
    pub speech: Arc<dyn Speech>,
    /// Caps on what is said.
    pub caps: Caps,
    /// Deepest node: one that is not told of `launch_subagent`. 0 is the flat agent.
    pub depth_max: u8,
    /// Where turns and slips are counted.
    pub tally: Arc<Tally>,
}

/// Caps on what is said. What is beyond them is cut or refused, and the model is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Characters of a goal. Longer ones are refused: what a child needs besides goes into its context.
    pub goal: usize,
    /// Characters of an observation; of each, where a turn has several.
    pub observation: usize,
    /// Bytes of a value that is handed to a child or a parent. Less than a frame of the event log holds, with room to spare.
    pub value: usize,
    /// Calls of one turn that are carried out.
    pub calls: usize,
    /// Launches of one delegation.
    pub launches: u8,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            goal: 2_000,
            observation: 8_000,
            value: 64 << 10,
            calls: 16,
            launches: 16,
        }
    }
}

/// A node could not go on, by no fault of its policy: it is invalid, never a zero.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// Something could not be said or read.
    #[error(transparent)]
    Speech(#[from] SpeechError),
    /// The environment broke.
    #[error(transparent)]
    Environment(#[from] BrokenEnvironment),
    /// The answer could not be judged.
    #[error("the answer could not be judged: {0}")]
    Unjudged(String),
    /// The interpreter broke.
    #[cfg(feature = "code")]
    #[error(transparent)]
    Session(#[from] super::SessionError),
    /// A cell ended and nobody said how.
    #[cfg(feature = "code")]
    #[error("the cell ended without an outcome")]
    Silent,
    /// A child was asked for that no delegation named.
    #[error("no launch {0} in the delegation under way")]
    NoSuchLaunch(u8),
    /// A delegation was answered that was not asked for.
    #[error("{answers} answers to a delegation of {launches}")]
    Answers {
        /// Answers that came.
        answers: usize,
        /// Launches that were asked for.
        launches: usize,
    },
}

/// `finish`, as a tool.
fn finish() -> Tool {
    Tool {
        name: FINISH,
        description: "Ends your work on the goal. The answer is all that whoever asked will see.",
        parameters: vec![Parameter {
            name: "answer",
            description: "the answer to the goal",
            kind: Kind::Any,
            required: false,
        }],
    }
}

/// `launch_subagent`, as a tool, with what the environment takes besides.
fn launch(more: &[Parameter]) -> Tool {
    let mut parameters = vec![
        Parameter {
            name: "goal",
            description: "what the sub-agent is to do, in words that can be understood without this conversation",
            kind: Kind::Str,
            required: true,
        },
        Parameter {
            name: "context",
            description: "what it is to work with",
            kind: Kind::Any,
            required: false,
        },
    ];
    parameters.extend_from_slice(more);
    Tool {
        name: LAUNCH,
        description: "Launches a sub-agent, with the same tools, on a part of the work and gives back its answer. \
            Several at once work side by side.",
        parameters,
    }
}

/// The first `max` characters, and that there are more.
fn cut(text: &str, max: usize) -> Option<String> {
    let (end, _) = text.char_indices().nth(max)?;
    let left = text[end..].chars().count();
    Some(format!("{}... ({left} more characters were cut)", &text[..end]))
}
