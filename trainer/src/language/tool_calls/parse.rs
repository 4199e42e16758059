//! Calls in the text of a turn, as Qwen3 writes them: `<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>`.

use super::super::Value;
use super::super::speech::spoken;
use serde_json::Value as Json;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A call as the model wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Vec<(String, Value)>,
}

/// Something between the tags that is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("a call is not valid JSON: {0}")]
    Json(String),
    #[error("a call is a JSON object with \"name\" and \"arguments\"")]
    Shape,
}

/// The calls of a turn, in order. What a model thinks is not part of what it says.
pub(super) fn calls(text: &str) -> Vec<Result<Call, CallError>> {
    let mut rest = spoken(text);
    let mut calls = Vec::new();
    while let Some((_, after)) = rest.split_once(OPEN) {
        // A call whose end is missing is read if it is whole.
        let (body, next) = after.split_once(CLOSE).unwrap_or((after, ""));
        calls.push(call(body.trim()));
        rest = next;
    }
    calls
}

fn call(body: &str) -> Result<Call, CallError> {
    let json: Json = serde_json::from_str(body).map_err(|error| CallError::Json(error.to_string()))?;
    let name = json["name"].as_str().ok_or(CallError::Shape)?.to_owned();
    let arguments = match &json["arguments"] {
        // Some models write the object as text, as OpenAI's interface has it.
        Json::String(text) => serde_json::from_str(text).map_err(|error| CallError::Json(error.to_string()))?,
        other => other.clone(),
    };
    let arguments = match arguments {
        Json::Null => Vec::new(),
        Json::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, Value::from(&value)))
            .collect(),
        _ => return Err(CallError::Shape),
    };
    Ok(Call { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, arguments: &[(&str, Value)]) -> Result<Call, CallError> {
        let arguments = arguments
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Ok(Call {
            name: name.to_owned(),
            arguments: arguments.collect(),
        })
    }

    #[test]
    fn calls_are_read_in_order_and_thinking_is_not() {
        let text = "<think>\n<tool_call>{\"name\": \"no\"}</tool_call>\n</think>\n\nNow:\n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": 1}}\n\
                    </tool_call>\n<tool_call>\n{\"name\": \"b\"}\n</tool_call>";
        assert_eq!(calls(text), [read("a", &[("x", Value::Int(1))]), read("b", &[])]);
        let unfinished = "<think>\n<tool_call>{\"name\": \"no\"}</tool_call>";
        assert_eq!(calls(unfinished), []);
        assert_eq!(calls("no call at all"), []);
        let only_the_end =
            "hm <tool_call>{\"name\": \"no\"}</tool_call></think><tool_call>{\"name\": \"a\"}</tool_call>";
        assert_eq!(calls(only_the_end), [read("a", &[])]);
    }

    #[test]
    fn a_call_without_its_end_is_read_if_it_is_whole() {
        assert_eq!(
            calls("<tool_call>{\"name\": \"a\", \"arguments\": {}}"),
            [read("a", &[])]
        );
        assert!(matches!(
            calls("<tool_call>{\"name\": \"a\", ")[..],
            [Err(CallError::Json(_))]
        ));
    }

    #[test]
    fn arguments_may_be_text_that_is_an_object() {
        let text = r#"<tool_call>{"name": "a", "arguments": "{\"x\": [true]}"}</tool_call>"#;
        assert_eq!(calls(text), [read("a", &[("x", vec![true].into())])]);
        let text = r#"<tool_call>{"name": "a", "arguments": "x"}</tool_call>"#;
        assert!(matches!(calls(text)[..], [Err(CallError::Json(_))]));
    }

    #[test]
    fn what_is_no_call_is_an_error_of_its_own() {
        for body in ["3", "[]", "{}", r#"{"name": 3}"#, r#"{"name": "a", "arguments": [1]}"#] {
            assert_eq!(
                calls(&format!("<tool_call>{body}</tool_call>")),
                [Err(CallError::Shape)],
                "{body}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(
            calls(&format!("<tool_call>{deep}"))[..],
            [Err(CallError::Json(_))]
        ));
    }
}
