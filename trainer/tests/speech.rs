//! Tokens in, tokens out: how conversations go on in a model's own chat template.
#![cfg(feature = "text")]

use rao_backends::text::{ChatTemplate, Tokenizer};
use rao_trainer::language::speech::{
    Continuation, EndOfTurn, Message, Role, Speech, SpeechError, TemplateSpeech, Turn,
};
use rao_tree::{Constraint, Mask, Next, Token};
use serde_json::{Map, Value as Json, json};
use std::path::{Path, PathBuf};

fn qwen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../backends/tests/data/text/qwen")
}

fn speech() -> TemplateSpeech {
    TemplateSpeech::load(&qwen(), Map::new()).unwrap()
}

/// The speech of Qwen's tokenizer and another template.
fn with_template(source: &str) -> Result<TemplateSpeech, SpeechError> {
    let template = ChatTemplate::new("test", source, &[]).unwrap();
    TemplateSpeech::new(Tokenizer::load(&qwen()).unwrap(), template, Map::new())
}

fn opening() -> Vec<Message> {
    vec![
        Message::new(Role::System, "Rules."),
        Message::new(Role::User, "How many?"),
    ]
}

fn tools() -> Vec<Json> {
    vec![json!({"type": "function", "function": {"name": "count", "parameters": {}}})]
}

/// What follows the turn, as text; or the whole conversation, where it begins anew.
fn goes_on(speech: &TemplateSpeech, said: &str, last: Option<Token>, replies: &[Message]) -> Result<String, String> {
    let (before, tools) = (opening(), tools());
    let turn = Turn {
        before: &before,
        tools: &tools,
        said,
        last,
        replies,
    };
    let text = |tokens: &[Token]| speech.tokenizer().decode(tokens, false).unwrap();
    match speech.continuation(&turn).unwrap() {
        Continuation::Extend(tokens) => Ok(text(&tokens)),
        Continuation::Restart(tokens) => Err(text(&tokens)),
    }
}

#[test]
fn the_whole_conversation_is_what_the_template_renders() {
    let speech = speech();
    let end = speech.ends()[0];
    let said = "<think>\nhm\n</think>\n\n<tool_call>\n{\"name\": \"count\", \"arguments\": {}}\n</tool_call>";
    let prompt = speech.opening(&opening(), &tools()).unwrap();
    let mut action = speech.tokenizer().encode(said).unwrap();
    action.push(end);
    let replies = [Message::new(Role::Tool, "3"), Message::new(Role::Tool, "4")];
    let after = goes_on(&speech, said, Some(end), &replies).unwrap();
    insta::assert_snapshot!(speech.tokenizer().decode(&[prompt, action].concat(), false).unwrap() + &after);
}

#[test]
fn a_turn_is_closed_only_where_the_sample_did_not() {
    let speech = speech();
    let end = speech.ends()[0];
    let reply = [Message::new(Role::Tool, "3")];
    let closed = goes_on(&speech, "x", Some(end), &reply).unwrap();
    assert!(closed.starts_with("\n<|im_start|>user\n<tool_response>\n3"), "{closed}");
    let open = speech.tokenizer().encode("x").unwrap().last().copied();
    for last in [open, None] {
        assert_eq!(goes_on(&speech, "x", last, &reply), Ok(format!("<|im_end|>{closed}")));
    }
}

/// Qwen's template drops the thinking of turns before a user's question.
#[test]
fn a_template_that_rewrites_the_past_asks_for_a_restart() {
    let said = "<think>\nhm\n</think>\n\nThree.";
    let fresh = goes_on(&speech(), said, None, &[Message::new(Role::User, "Sure?")]);
    let fresh = fresh.expect_err("the thinking is gone");
    let end = "assistant\nThree.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n";
    assert!(!fresh.contains("hm") && fresh.ends_with(end), "{fresh}");
}

#[test]
fn text_is_what_was_sampled_without_its_end() {
    let speech = speech();
    let end = speech.ends()[0];
    let said = "<tool_call>\n{}\n</tool_call> é";
    let mut action = speech.tokenizer().encode(said).unwrap();
    assert_eq!(speech.text(&action).unwrap(), said);
    action.extend([end, end]);
    assert_eq!(speech.text(&action).unwrap(), said);
    assert_eq!(speech.text(&[]).unwrap(), "");

    let mut turn = EndOfTurn::of(&speech);
    let mut words = [0; 2];
    assert_eq!(turn.next(&action, &mut Mask::cleared(&mut words)), Next::Complete);
    assert_eq!(turn.next(&[], &mut Mask::cleared(&mut words)), Next::Draw);
    assert_eq!(words, [u64::MAX; 2]);
    assert_eq!(turn.ends(), Some(speech.ends()));
}

#[test]
fn a_template_without_tools_is_answered_as_a_user() {
    let source = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";
    let speech = with_template(source).unwrap();
    let after = goes_on(&speech, "x", None, &[Message::new(Role::Tool, "3")]);
    assert_eq!(after.as_deref(), Ok("[user]3[assistant]"));
}

#[test]
fn what_cannot_carry_a_conversation_is_refused_at_once() {
    let silent = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    assert!(matches!(with_template(silent), Err(SpeechError::Silent("assistant"))));
    let deaf = "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{% endif %}{% endfor %}";
    assert!(matches!(with_template(deaf), Err(SpeechError::Silent("user"))));

    let directory = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "chat_template.jinja"] {
        std::fs::copy(qwen().join(name), directory.path().join(name)).unwrap();
    }
    let endless = TemplateSpeech::load(directory.path(), Map::new());
    assert!(matches!(endless, Err(SpeechError::Endless)));
    assert!(matches!(
        TemplateSpeech::load(Path::new("/nowhere"), Map::new()),
        Err(SpeechError::Text(_))
    ));
}
