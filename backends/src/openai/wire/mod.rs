//! What is sent and what is understood of an answer: bytes in, values out, without a network.

mod chat;
mod distribution;
mod tokens;

pub(super) use chat::messages;

use super::options::{OpenAiOptions, Wire};
use rao_tree::Token;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One action wanted of the server.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The context, as the wire puts it.
    pub(super) prompt: Prompt,
    /// Most tokens that may be said; at least 1.
    pub(super) room: usize,
    /// Tokens that end the action, beside the server's own.
    pub(super) ends: Vec<Token>,
    pub(super) temperature: f32,
    pub(super) seed: u64,
}

impl Ask {
    /// The next token alone, of which only what it is drawn from matters.
    pub(super) fn one_token(prompt: Prompt, seed: u64) -> Self {
        Self {
            prompt,
            room: 1,
            ends: Vec::new(),
            temperature: 0.0,
            seed,
        }
    }
}

/// A context on its way out.
#[derive(Clone, Debug)]
pub(super) enum Prompt {
    Tokens(Vec<Token>),
    Messages(Vec<Value>),
}

/// What the server said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    /// In the caller's tokens.
    pub(super) tokens: Vec<Token>,
    pub(super) logprobs: Given,
    pub(super) ending: Ending,
    /// Tokens of the prompt and of the answer, as the server counted them.
    pub(super) usage: Option<(u64, u64)>,
}

/// The log-probabilities of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// One for each token.
    Each(Vec<f32>),
    /// llama-server gives none for a token that ends within a character, and does not say whose are missing.
    Some,
    /// One for every token of the vocabulary, of which none was drawn yet.
    Every(Vec<f32>),
    None,
}

/// Why the server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The model ended its turn.
    Turn,
    /// There was no room for more.
    Room,
}

/// An answer that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nonsense {
    /// It contradicts itself, or is no answer at all: another may be better.
    Malformed(String),
    /// It was withheld: another would be, too.
    Withheld(String),
    /// The wire needs token identifiers.
    NoTokenIds,
    /// A token that is not in the vocabulary.
    Unknown(u32),
    /// Log-probabilities of so many tokens only.
    Partial(usize),
}

/// The endpoint below the base of the URL.
pub(super) fn endpoint(wire: &Wire) -> &'static str {
    match wire {
        Wire::Tokens { .. } | Wire::Distribution { .. } => "completions",
        Wire::Chat => "chat/completions",
    }
}

/// The body of a request.
pub(super) fn body(ask: &Ask, model: &str, options: &OpenAiOptions) -> Vec<u8> {
    let mut body = match (&ask.prompt, &options.wire) {
        (Prompt::Tokens(prompt), Wire::Distribution { vocab, .. }) => distribution::body(ask, prompt, *vocab),
        (Prompt::Tokens(prompt), _) => tokens::body(ask, prompt),
        (Prompt::Messages(messages), _) => chat::body(ask, messages),
    };
    body.insert("model".to_owned(), model.into());
    body.insert("temperature".to_owned(), ask.temperature.into());
    body.insert("top_p".to_owned(), 1.into());
    body.insert("n".to_owned(), 1.into());
    body.insert("stream".to_owned(), false.into());
    // Servers keep seeds in 32 or 64 signed bits; llama-server takes all ones for "draw one".
    body.insert("seed".to_owned(), (ask.seed >> 33).into());
    body.extend(options.extra.clone());
    Value::Object(body).to_string().into_bytes()
}

/// What an answer says.
pub(super) fn read(wire: &Wire, room: usize, answer: &[u8]) -> Result<Said, Nonsense> {
    if let Wire::Distribution { vocab, .. } = wire {
        return distribution::read(*vocab, answer);
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| Nonsense::Malformed(error.to_string()))?;
    let Some(choice) = answer.choices.into_iter().next() else {
        return Err(Nonsense::Malformed("no choices".to_owned()));
    };
    let ending = match choice.finish_reason.as_deref() {
        Some("stop" | "tool_calls" | "function_call") => Ending::Turn,
        Some("length") => Ending::Room,
        Some("content_filter") => return Err(Nonsense::Withheld("content_filter".to_owned())),
        other => {
            let reason = other.unwrap_or("nothing");
            return Err(Nonsense::Malformed(format!("it ended for {reason:?}")));
        }
    };
    match wire {
        Wire::Chat => Ok(chat::read(choice, ending, room, answer.usage.as_ref())),
        _ => tokens::read(choice, answer.verbose, ending, room, answer.usage.as_ref()),
    }
}

/// A log-probability as it is kept: what rounding has carried above 0 is 0; what is below every number of 32 bits is the lowest.
fn settle(logprob: f32) -> f32 {
    const ROUNDING: f32 = 1e-3;
    if logprob > 0.0 && logprob < ROUNDING {
        0.0
    } else {
        logprob.max(f32::MIN)
    }
}

/// The names in a list of models, each with its longest context where it is given.
pub(super) fn models(answer: &[u8]) -> Result<Vec<(String, Option<usize>)>, String> {
    let listed: Listed = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let context = |model: &Model| model.max_model_len.or(model.meta.as_ref().and_then(|meta| meta.n_ctx));
    Ok(listed
        .data
        .into_iter()
        .map(|model| (model.id.clone(), context(&model)))
        .collect())
}

/// Whether a refusal says that the context is too long: the codes of OpenAI and llama-server, and the words of vLLM and SGLang, which have no code
/// for it.
pub(super) fn is_overflow(refusal: &[u8]) -> bool {
    let Ok(Refusal { error, message }) = serde_json::from_slice(refusal) else {
        return false;
    };
    let error = error.unwrap_or_default();
    let named = |code: &Option<Value>| {
        let code = code.as_ref().and_then(Value::as_str).unwrap_or_default();
        matches!(code, "context_length_exceeded" | "exceed_context_size_error")
    };
    let words = error.message.or(message).unwrap_or_default();
    named(&error.code) || named(&error.kind) || words.contains("context length") || words.contains("max_model_len")
}

/// Whether a 429 speaks of money, which no pause brings.
pub(super) fn is_quota(refusal: &[u8]) -> bool {
    let Ok(Refusal { error: Some(error), .. }) = serde_json::from_slice(refusal) else {
        return false;
    };
    error.code.as_ref().and_then(Value::as_str) == Some("insufficient_quota")
}

/// What a refusal says, in one short line.
pub(super) fn words(refusal: &[u8]) -> String {
    const LONGEST: usize = 300;
    let said = serde_json::from_slice(refusal)
        .ok()
        .and_then(|Refusal { error, message }| error.and_then(|error| error.message).or(message));
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(refusal).into_owned());
    let mut line: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "no word of explanation".to_owned();
    }
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Usage>,
    #[serde(rename = "__verbose")]
    verbose: Option<Verbose>,
}

/// llama-server, where `verbose` was asked for.
#[derive(Deserialize)]
struct Verbose {
    tokens: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
    /// vLLM and SGLang, where `return_token_ids` was asked for.
    token_ids: Option<Vec<u32>>,
    logprobs: Option<Logprobs>,
    message: Option<Message>,
}

/// Either as the chat endpoint has them (llama-server uses that form everywhere) or as the older completions endpoint has.
#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Content>>,
    token_logprobs: Option<Vec<Option<f32>>>,
}

#[derive(Deserialize)]
struct Content {
    /// llama-server.
    id: Option<u32>,
    logprob: Option<f32>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

#[derive(Deserialize)]
struct Listed {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// vLLM and SGLang.
    max_model_len: Option<usize>,
    meta: Option<Meta>,
}

/// llama-server.
#[derive(Deserialize)]
struct Meta {
    n_ctx: Option<usize>,
}

/// `{"error": {…}}`, or, from some, the inner object alone.
#[derive(Deserialize)]
struct Refusal {
    error: Option<Explanation>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
struct Explanation {
    message: Option<String>,
    code: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<Value>,
}

/// An object of these members.
fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_understood() {
        let llama = br#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}"#;
        let openai = br#"{"error":{"message":"m","code":"context_length_exceeded"}}"#;
        let vllm = br#"{"error":{"message":"This model's maximum context length is 8 tokens.","code":400}}"#;
        for refusal in [&llama[..], openai, vllm] {
            assert!(is_overflow(refusal), "{}", words(refusal));
        }
        for refusal in [
            &br#"{"error":{"message":"no such model","code":404}}"#[..],
            b"<html>",
            b"",
        ] {
            assert!(!is_overflow(refusal));
            assert!(!is_quota(refusal));
        }
        assert!(is_quota(br#"{"error":{"message":"pay","code":"insufficient_quota"}}"#));
        assert_eq!(words(openai), "m");
        assert_eq!(words(br#"{"message": "bare"}"#), "bare");
        assert_eq!(words(b"<html>\n  502</html>"), "<html> 502</html>");
        assert_eq!(words(b" "), "no word of explanation");
        assert_eq!(words("é".repeat(1000).as_bytes()).chars().count(), 301);
    }

    #[test]
    fn log_probabilities_settle_within_their_range() {
        assert_eq!(settle(1e-6), 0.0);
        assert_eq!(settle(f32::NEG_INFINITY), f32::MIN);
        assert_eq!(settle(-2.5), -2.5);
        assert_eq!(settle(0.5), 0.5);
    }

    #[test]
    fn models_are_listed_with_their_context_where_it_is_said() {
        let listed =
            br#"{"object":"list","data":[{"id":"a","max_model_len":64},{"id":"b","meta":{"n_ctx":32}},{"id":"c"}]}"#;
        let expected = [("a", Some(64)), ("b", Some(32)), ("c", None)];
        let expected = expected.map(|(name, context)| (name.to_owned(), context));
        assert_eq!(models(listed).unwrap(), expected);
        assert!(models(b"{}").is_err());
    }
}
