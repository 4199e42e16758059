//! `POST chat/completions` with messages, for servers that hide their tokens.

use super::{Ask, Choice, Ending, Given, Said, Usage, object};
use crate::bytes::{ASSISTANT, END, SYSTEM, TOOL, USER};
use rao_tree::Token;
use serde_json::{Map, Value, json};

/// The messages of a context in [`crate::bytes`]' tokens, of which the last is the one that is to be said.
///
/// What a call gave back goes out as the user's words, in the marks that Qwen3's template puts around it, and neighbours as one message: a
/// server takes role `tool` only in answer to calls of its own format, and many take no two messages of one role in a row.
pub(in super::super) fn messages(context: &[Token]) -> Result<Vec<Value>, &'static str> {
    let mut messages: Vec<(&str, String)> = Vec::new();
    let mut rest = context;
    while let Some((&begin, tail)) = rest.split_first() {
        if begin == ASSISTANT && tail.is_empty() {
            return Ok(messages.into_iter().map(shown).collect());
        }
        let (role, is_tool) = match begin {
            SYSTEM => ("system", false),
            USER => ("user", false),
            ASSISTANT => ("assistant", false),
            TOOL => ("user", true),
            _ => return Err("a message does not begin with the token of a role"),
        };
        let Some(end) = tail.iter().position(|token| *token == END) else {
            return Err("it does not end with the token that begins the assistant's turn");
        };
        let mut text = text(&tail[..end])?;
        if is_tool {
            text = format!("<tool_response>\n{text}\n</tool_response>");
        }
        match messages.last_mut() {
            Some((last, before)) if *last == role => {
                before.push('\n');
                before.push_str(&text);
            }
            _ => messages.push((role, text)),
        }
        rest = &tail[end + 1..];
    }
    Err("it does not end with the token that begins the assistant's turn")
}

fn shown((role, text): (&str, String)) -> Value {
    json!({"role": role, "content": text})
}

fn text(tokens: &[Token]) -> Result<String, &'static str> {
    let bytes: Result<Vec<u8>, _> = tokens.iter().map(|token| u8::try_from(token.0)).collect();
    let bytes = bytes.map_err(|_| "a message holds a token that is no byte")?;
    // An answer that was cut between two bytes of a character stays in the context as it is.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn body(ask: &Ask, messages: &[Value]) -> Map<String, Value> {
    // Every token of a server stands for a byte or more, but for those that end a turn.
    object([
        ("messages", json!(messages)),
        ("max_completion_tokens", json!(ask.room)),
    ])
}

pub(super) fn read(choice: Choice, ending: Ending, room: usize, usage: Option<&Usage>) -> Said {
    let text = choice.message.and_then(|message| message.content).unwrap_or_default();
    let mut tokens: Vec<Token> = text.bytes().map(|byte| Token(byte.into())).collect();
    if ending == Ending::Turn {
        tokens.push(END);
    }
    // A text longer than its room is cut where the room ends; the turn is then not over.
    let ending = if tokens.len() > room { Ending::Room } else { ending };
    tokens.truncate(room);
    Said {
        tokens,
        logprobs: Given::None,
        ending,
        usage: usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read as read_answer;
    use super::*;
    use crate::openai::Wire;

    fn say(context: &mut Vec<Token>, role: Token, text: &str) {
        context.push(role);
        context.extend(text.bytes().map(|byte| Token(byte.into())));
        context.push(END);
    }

    #[test]
    fn a_context_becomes_messages() {
        let mut context = Vec::new();
        say(&mut context, SYSTEM, "Rules.");
        say(&mut context, USER, "né?");
        say(&mut context, ASSISTANT, "call");
        say(&mut context, TOOL, "1");
        say(&mut context, TOOL, "2");
        context.push(ASSISTANT);
        let expected = json!([
            {"role": "system", "content": "Rules."}, {"role": "user", "content": "né?"}, {"role": "assistant", "content": "call"},
            {"role": "user", "content": "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"},
        ]);
        assert_eq!(Value::Array(messages(&context).unwrap()), expected);
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        let tokens = |ids: &[u32]| -> Vec<Token> { ids.iter().map(|id| Token(*id)).collect() };
        for (context, reason) in [
            (tokens(&[]), "does not end with"),
            (tokens(&[257, 65, 260]), "does not end with"),
            (tokens(&[257, 65]), "does not end with"),
            (tokens(&[258, 65]), "does not end with"),
            (tokens(&[65, 260, 258]), "does not begin with"),
            (tokens(&[260]), "does not begin with"),
            (tokens(&[257, 300, 260, 258]), "no byte"),
        ] {
            let error = messages(&context).unwrap_err();
            assert!(error.contains(reason), "{context:?}: {error}");
        }
        let cut = messages(&tokens(&[257, 0xc3, 260, 258])).unwrap();
        assert_eq!(cut, [json!({"role": "user", "content": "\u{fffd}"})]);
    }

    #[test]
    fn an_answer_becomes_bytes() {
        let answer = |content: Value, reason: &str, room: usize| {
            let answer =
                json!({"choices": [{"finish_reason": reason, "message": {"role": "assistant", "content": content}}]});
            let said = read_answer(&Wire::Chat, room, answer.to_string().as_bytes()).unwrap();
            let ids: Vec<u32> = said.tokens.iter().map(|token| token.0).collect();
            (ids, said.ending)
        };
        assert_eq!(answer(json!("hi"), "stop", 9), (vec![104, 105, 260], Ending::Turn));
        assert_eq!(answer(json!("hi"), "length", 9), (vec![104, 105], Ending::Room));
        assert_eq!(answer(json!("hi"), "stop", 2), (vec![104, 105], Ending::Room));
        assert_eq!(answer(json!("hi"), "stop", 1), (vec![104], Ending::Room));
        assert_eq!(answer(json!(null), "stop", 9), (vec![260], Ending::Turn));
    }
}
