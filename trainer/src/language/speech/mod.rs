//! How a conversation becomes tokens, and tokens become text: [`Speech`].
//!
//! Tokens in, tokens out: what a policy sampled stays as it was sampled. A conversation goes on by tokens that are *appended* to the sampled
//! ones; text is made of them for parsing, never the other way round.

mod bytes;
#[cfg(feature = "text")]
mod template;

pub use bytes::ByteSpeech;
#[cfg(feature = "text")]
pub use template::TemplateSpeech;

use rao_tree::{Constraint, Mask, Next, Token};
use serde_json::Value as Json;

/// The way from messages to tokens and back.
pub trait Speech: Send + Sync {
    /// What a node sees at first: the messages, the schemas of its tools, and whatever makes the model begin its turn.
    ///
    /// # Errors
    /// [`SpeechError`]: the messages cannot be said.
    fn opening(&self, messages: &[Message], tools: &[Json]) -> Result<Vec<Token>, SpeechError>;

    /// What follows a sampled turn: its end, where the sample lacks one, the replies, and whatever makes the model begin its next turn.
    ///
    /// # Errors
    /// [`SpeechError`]: the replies cannot be said.
    fn continuation(&self, turn: &Turn<'_>) -> Result<Continuation, SpeechError>;

    /// What sampled tokens say, without those that end a turn.
    ///
    /// # Errors
    /// [`SpeechError`]: the tokens cannot be read.
    fn text(&self, action: &[Token]) -> Result<String, SpeechError>;

    /// The tokens that end a turn.
    fn ends(&self) -> &[Token];
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The rules.
    System,
    /// Who asks.
    User,
    /// The policy.
    Assistant,
    /// What its calls gave back.
    Tool,
}

impl Role {
    /// As chat templates and servers call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By whom.
    pub role: Role,
    /// What.
    pub text: String,
}

impl Message {
    /// Something said.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            text: text.into(),
        }
    }
}

/// A sampled turn and what is replied to it.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// All that was said before, first to last.
    pub before: &'a [Message],
    /// The schemas that [`Speech::opening`] was given.
    pub tools: &'a [Json],
    /// The text of the sampled tokens.
    pub said: &'a str,
    /// The last of them.
    pub last: Option<Token>,
    /// What is replied, one at least.
    pub replies: &'a [Message],
}

/// How a conversation goes on after a sampled turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// These tokens follow the sampled ones.
    Extend(Vec<Token>),
    /// The model's own format has the conversation from its beginning, otherwise than it was sampled: templates that drop earlier thinking
    /// do so. This is all of it, as the format has it now; the context begins anew.
    Restart(Vec<Token>),
}

/// Something that cannot be said, or not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeechError {
    /// The tokenizer or the template refused.
    #[cfg(feature = "text")]
    #[error(transparent)]
    Text(#[from] rao_backends::text::TextError),
    /// The chat template does not show what the assistant said.
    #[error("the chat template renders no {0} message: a conversation cannot go on in it")]
    Silent(&'static str),
    /// Nothing ends a turn.
    #[error("the tokenizer names no end of a turn (eos_token): a turn would never end")]
    Endless,
}

/// What a turn says after its thinking; nothing if it does not end.
pub(super) fn spoken(text: &str) -> &str {
    match text.rsplit_once("</think>") {
        Some((_, spoken)) => spoken,
        None => text.split_once("<think>").map_or(text, |(before, _)| before),
    }
}

/// Everything is allowed, and the first token that ends a turn completes the action.
#[derive(Clone, Debug)]
pub struct EndOfTurn(Vec<Token>);

impl EndOfTurn {
    /// For turns of that speech.
    #[must_use]
    pub fn of(speech: &dyn Speech) -> Self {
        Self(speech.ends().to_vec())
    }
}

impl Constraint for EndOfTurn {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if completion.last().is_some_and(|token| self.0.contains(token)) {
            return Next::Complete;
        }
        mask.allow_all();
        Next::Draw
    }

    fn ends(&self) -> Option<&[Token]> {
        Some(&self.0)
    }
}
