//! What a node read and said, as training needs it: tokens in, tokens out, never text.

use rao_tree::Token;

/// The context of one node with its actions marked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// The whole context: prompt, actions, observations.
    pub tokens: Vec<Token>,
    /// Where the actions are.
    pub actions: Vec<Span>,
    /// Log-probability of each action token as it was drawn, actions one after the other.
    pub logprobs: Vec<f32>,
    /// What was allowed when it was drawn: `Mask::words(vocab)` words per action token.
    pub masks: Vec<u64>,
}

/// A run of action tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First position in the context.
    pub start: u32,
    /// How many tokens.
    pub len: u32,
}

impl Transcript {
    /// Positions of all action tokens, in order.
    pub fn action_positions(&self) -> impl Iterator<Item = u32> + '_ {
        self.actions.iter().flat_map(|span| span.start..span.start + span.len)
    }
}
