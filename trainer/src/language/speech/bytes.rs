//! [`ByteSpeech`]: bytes as tokens.

use super::{Continuation, Message, Role, Speech, SpeechError, Turn};
use rao_backends::bytes;
use rao_tree::Token;
use serde_json::Value as Json;

/// The tokens of [`rao_backends::bytes`]. For policies without a tokenizer at hand: servers, which are handed messages, and scripts.
///
/// A message is the token of its role, its bytes, and [`END`](Self::END). The schemas of tools, one a line, are the end of the first message.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteSpeech;

impl ByteSpeech {
    /// A message ends.
    pub const END: Token = bytes::END;
    /// Tokens there are.
    pub const VOCAB: usize = bytes::VOCAB;

    /// The token that begins a message of that role.
    #[must_use]
    pub const fn begin(role: Role) -> Token {
        match role {
            Role::System => bytes::SYSTEM,
            Role::User => bytes::USER,
            Role::Assistant => bytes::ASSISTANT,
            Role::Tool => bytes::TOOL,
        }
    }
}

impl Speech for ByteSpeech {
    fn opening(&self, messages: &[Message], tools: &[Json]) -> Result<Vec<Token>, SpeechError> {
        let mut tokens = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let listed = if index == 0 { tools } else { &[] };
            push(&mut tokens, message, listed);
        }
        tokens.push(bytes::ASSISTANT);
        Ok(tokens)
    }

    fn continuation(&self, turn: &Turn<'_>) -> Result<Continuation, SpeechError> {
        let mut tokens = Vec::new();
        if turn.last != Some(Self::END) {
            tokens.push(Self::END);
        }
        for reply in turn.replies {
            push(&mut tokens, reply, &[]);
        }
        tokens.push(bytes::ASSISTANT);
        Ok(Continuation::Extend(tokens))
    }

    fn text(&self, action: &[Token]) -> Result<String, SpeechError> {
        let bytes: Vec<u8> = action.iter().filter_map(|token| u8::try_from(token.0).ok()).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn ends(&self) -> &[Token] {
        &[Self::END]
    }
}

fn push(tokens: &mut Vec<Token>, message: &Message, tools: &[Json]) {
    let say = |text: &str, tokens: &mut Vec<Token>| tokens.extend(text.bytes().map(|byte| Token(byte.into())));
    tokens.push(ByteSpeech::begin(message.role));
    say(&message.text, tokens);
    for tool in tools {
        say("\n", tokens);
        say(&tool.to_string(), tokens);
    }
    tokens.push(ByteSpeech::END);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tokens: &[Token]) -> String {
        let names = ["<system>", "<user>", "<assistant>", "<tool>", "<end>"];
        let mut bytes = Vec::new();
        for token in tokens {
            match u8::try_from(token.0) {
                Ok(byte) => bytes.push(byte),
                Err(_) => bytes.extend(names[token.0 as usize - 256].bytes()),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_conversation_is_extended_and_an_end_is_added_only_where_it_lacks() {
        let before = [Message::new(Role::System, "Rules."), Message::new(Role::User, "né?")];
        let tools = [serde_json::json!({"name": "f"})];
        let opening = ByteSpeech.opening(&before, &tools).unwrap();
        assert_eq!(
            shown(&opening),
            "<system>Rules.\n{\"name\":\"f\"}<end><user>né?<end><assistant>"
        );
        let replies = [Message::new(Role::Tool, "1"), Message::new(Role::Tool, "2")];
        let extended = |last| {
            let turn = Turn {
                before: &before,
                tools: &tools,
                said: "x",
                last,
                replies: &replies,
            };
            match ByteSpeech.continuation(&turn).unwrap() {
                Continuation::Extend(tokens) => shown(&tokens),
                Continuation::Restart(_) => panic!("bytes are only ever appended"),
            }
        };
        let rest = "<tool>1<end><tool>2<end><assistant>";
        assert_eq!(extended(Some(ByteSpeech::END)), rest);
        assert_eq!(extended(Some(Token(120))), format!("<end>{rest}"));
        assert_eq!(extended(None), format!("<end>{rest}"));
    }

    #[test]
    fn text_is_read_without_boundaries_and_never_fails() {
        let tokens = [Token(104), Token(105), Token(0xff), Token(999), ByteSpeech::END];
        assert_eq!(ByteSpeech.text(&tokens).unwrap(), "hi\u{fffd}");
    }
}
