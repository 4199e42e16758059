//! What a node read and said, as training needs it: tokens in, tokens out, never text.

use rao_tree::{Observation, Token};
use std::ops::Range;

/// The contexts of one node with its actions marked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// The whole context: prompt, actions, observations. Where the node's context began anew, one context after the other.
    pub tokens: Vec<Token>,
    /// Where contexts begin, but for the first: ascending positions in `tokens`.
    pub starts: Vec<u32>,
    /// Where the actions are.
    pub actions: Vec<Span>,
    /// Log-probability of each action token as it was drawn, actions one after the other.
    pub logprobs: Vec<f32>,
    /// What was allowed when it was drawn: `Mask::words(vocab)` words per token of the actions that are [`masked`](Span::masked).
    pub masks: Vec<u64>,
}

/// A run of action tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First position in the context.
    pub start: u32,
    /// How many tokens.
    pub len: u32,
    /// Whether what might be said was constrained; free text has no masks, which for a large vocabulary would be the larger part by far.
    pub masked: bool,
}

impl Transcript {
    /// What the node has before it: its last context.
    #[must_use]
    pub fn context(&self) -> &[Token] {
        &self.tokens[self.starts.last().map_or(0, |&start| start as usize)..]
    }

    /// What it saw. A restart begins the next context.
    pub fn observe(&mut self, seen: &Observation<'_>) {
        if seen.restarts() {
            self.starts.push(self.tokens.len() as u32);
        }
        self.tokens.extend_from_slice(seen.tokens());
    }

    /// Where its contexts lie in `tokens`, in order; every action is within one of them.
    pub fn contexts(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let starts = std::iter::once(0).chain(self.starts.iter().copied());
        let ends = self.starts.iter().copied().chain([self.tokens.len() as u32]);
        starts.zip(ends).map(|(start, end)| start..end)
    }

    /// Positions of all action tokens, in order.
    pub fn action_positions(&self) -> impl Iterator<Item = u32> + '_ {
        self.actions.iter().flat_map(|span| span.start..span.start + span.len)
    }
}
