//! [`TemplateSpeech`]: a model's own tokenizer and chat template.

use super::{Continuation, Message, Role, Speech, SpeechError, Turn};
use rao_backends::text::{ChatTemplate, Conversation, Tokenizer};
use rao_tree::Token;
use serde_json::{Map, Value as Json, json};
use std::path::Path;

/// Stands for a sampled turn where only what follows it is wanted. Nothing that templates look for, and white space at neither end.
const SAMPLED: &str = "\u{2063}sampled\u{2063}";

/// The tokenizer and the chat template of a model directory.
///
/// The continuation of a turn is what the template renders after it. That is found by rendering the conversation with another text in
/// the turn's place, so that the sampled tokens need not be what the tokenizer would make of their text. Some templates render the turns
/// of the past otherwise than they were sampled, without their thinking for instance; this is noticed, and reported as
/// [`Continuation::Restart`].
pub struct TemplateSpeech {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    options: Map<String, Json>,
    /// Under which the template shows what calls gave back.
    tool: Role,
}

impl TemplateSpeech {
    /// Reads both from a Hugging Face directory. `options` are more variables for the template, such as `enable_thinking`.
    ///
    /// # Errors
    /// [`SpeechError`]: a file cannot be read, no token ends a turn, or the template does not show what is said.
    pub fn load(model: &Path, options: Map<String, Json>) -> Result<Self, SpeechError> {
        Self::new(Tokenizer::load(model)?, ChatTemplate::load(model)?, options)
    }

    /// Of a tokenizer and a template. A template that does not know the role `tool` is given such messages as a user's.
    ///
    /// # Errors
    /// [`SpeechError`]: no token ends a turn, or the template does not show what is said.
    pub fn new(tokenizer: Tokenizer, template: ChatTemplate, options: Map<String, Json>) -> Result<Self, SpeechError> {
        if tokenizer.stops().is_empty() {
            return Err(SpeechError::Endless);
        }
        let mut speech = Self {
            tokenizer,
            template,
            options,
            tool: Role::Tool,
        };
        const REPLY: &str = "reply";
        let before = [
            Message::new(Role::System, "rules"),
            Message::new(Role::User, "question"),
        ];
        let replies = [Message::new(Role::Tool, REPLY)];
        let shown = |speech: &Self| match speech.after(&before, &[], &replies) {
            Ok(after) => Ok(after.contains(REPLY)),
            Err(error) => Err(error),
        };
        if !matches!(shown(&speech), Ok(true)) {
            speech.tool = Role::User;
            if !shown(&speech)? {
                return Err(SpeechError::Silent("user"));
            }
        }
        Ok(speech)
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn render<'m>(
        &self,
        messages: impl IntoIterator<Item = (Role, &'m str)>,
        tools: &[Json],
    ) -> Result<String, SpeechError> {
        let messages = messages.into_iter().map(|(role, text)| {
            let role = if role == Role::Tool { self.tool } else { role };
            json!({"role": role.name(), "content": text})
        });
        let messages: Vec<Json> = messages.collect();
        Ok(self.template.render(&Conversation {
            messages: &messages,
            tools,
            add_generation_prompt: true,
            options: Some(&self.options),
            now: None,
        })?)
    }

    /// What the template renders after a turn, whatever that says.
    fn after(&self, before: &[Message], tools: &[Json], replies: &[Message]) -> Result<String, SpeechError> {
        let rendered = self.render(all(before, SAMPLED, replies), tools)?;
        let (_, after) = rendered.rsplit_once(SAMPLED).ok_or(SpeechError::Silent("assistant"))?;
        Ok(after.to_owned())
    }
}

impl Speech for TemplateSpeech {
    fn opening(&self, messages: &[Message], tools: &[Json]) -> Result<Vec<Token>, SpeechError> {
        let rendered = self.render(messages.iter().map(pair), tools)?;
        Ok(self.tokenizer.encode(&rendered)?)
    }

    fn continuation(&self, turn: &Turn<'_>) -> Result<Continuation, SpeechError> {
        let so_far = self.render(turn.before.iter().map(pair), turn.tools)? + turn.said;
        let whole = self.render(all(turn.before, turn.said, turn.replies), turn.tools)?;
        if !whole.starts_with(&so_far) {
            return Ok(Continuation::Restart(self.tokenizer.encode(&whole)?));
        }
        let after = self.after(turn.before, turn.tools, turn.replies)?;
        let mut extended = self.tokenizer.encode(&after)?;
        let ended = turn.last.is_some_and(|last| self.ends().contains(&last));
        if ended && extended.first() == turn.last.as_ref() {
            extended.remove(0);
        }
        Ok(Continuation::Extend(extended))
    }

    fn text(&self, action: &[Token]) -> Result<String, SpeechError> {
        let ends = |token: &Token| self.ends().contains(token);
        let said = action.iter().rposition(|token| !ends(token)).map_or(0, |last| last + 1);
        Ok(self.tokenizer.decode(&action[..said], false)?)
    }

    fn ends(&self) -> &[Token] {
        self.tokenizer.stops()
    }
}

fn pair(message: &Message) -> (Role, &str) {
    (message.role, &message.text)
}

fn all<'m>(before: &'m [Message], said: &'m str, replies: &'m [Message]) -> impl Iterator<Item = (Role, &'m str)> {
    let turn = std::iter::once((Role::Assistant, said));
    before.iter().map(pair).chain(turn).chain(replies.iter().map(pair))
}
