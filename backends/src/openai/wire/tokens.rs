//! `POST completions` with token identifiers, as vLLM, SGLang and llama-server speak it.

use super::{Ask, Choice, Ending, Given, Logprobs, Nonsense, Said, Usage, Verbose, object, settle};
use rao_tree::Token;
use serde_json::{Map, Value, json};

pub(super) fn body(ask: &Ask, prompt: &[Token]) -> Map<String, Value> {
    let ids = |tokens: &[Token]| tokens.iter().map(|token| token.0).collect::<Vec<u32>>();
    let mut body = object([
        ("prompt", json!(ids(prompt))),
        ("max_tokens", json!(ask.room)),
        // Of the token that was drawn; llama-server gives them for 1 or more alone.
        ("logprobs", json!(1)),
        // vLLM, SGLang.
        ("return_token_ids", json!(true)),
        // Off, so that what is drawn from is the model's own distribution: servers have defaults, and take others from the model's files.
        ("top_k", json!(-1)),
        ("min_p", json!(0)),
        ("repetition_penalty", json!(1)),
        ("presence_penalty", json!(0)),
        ("frequency_penalty", json!(0)),
        // llama-server: all identifiers, which its log-probabilities lack where a token ends within a character, and nothing else.
        ("verbose", json!(true)),
        ("return_tokens", json!(true)),
        ("response_fields", json!(["tokens"])),
        // llama-server: no other steps between logits and token than this.
        ("samplers", json!(["temperature"])),
        // The token that ends a turn is given even where its text is not.
        ("skip_special_tokens", json!(false)),
    ]);
    if !ask.ends.is_empty() {
        // vLLM, SGLang; llama-server stops where the model's file says so.
        body.insert("stop_token_ids".to_owned(), json!(ids(&ask.ends)));
    }
    body
}

pub(super) fn read(
    choice: Choice,
    verbose: Option<Verbose>,
    ending: Ending,
    room: usize,
    usage: Option<&Usage>,
) -> Result<Said, Nonsense> {
    let malformed = |reason: String| Err(Nonsense::Malformed(reason));
    let is_llama_server = verbose.is_some();
    let (named, logprobs) = columns(choice.logprobs);
    let ids = choice
        .token_ids
        .or(verbose.and_then(|verbose| verbose.tokens))
        .or(named);
    let ids = match (ids, usage) {
        (Some(ids), _) => ids,
        // No token was said, so that none is missing.
        (None, Some(usage)) if usage.completion_tokens == 0 => Vec::new(),
        (None, _) => return Err(Nonsense::NoTokenIds),
    };
    if let Some(usage) = usage
        && usage.completion_tokens != ids.len() as u64
    {
        let (counted, given) = (usage.completion_tokens, ids.len());
        return malformed(format!("it counts {counted} tokens and gives {given}"));
    }
    if ids.len() > room {
        return malformed(format!("{} tokens, where {room} were asked for", ids.len()));
    }
    let logprobs = match logprobs {
        Some(logprobs) if logprobs.len() == ids.len() => {
            if let Some(number) = logprobs.iter().find(|number| **number > 0.0) {
                return malformed(format!("{number} is no log-probability"));
            }
            Given::Each(logprobs)
        }
        Some(logprobs) if !is_llama_server || logprobs.len() > ids.len() => {
            let count = logprobs.len();
            return malformed(format!("{count} log-probabilities of {} tokens", ids.len()));
        }
        Some(_) => Given::Some,
        None if is_llama_server && !ids.is_empty() => Given::Some,
        None => Given::None,
    };
    Ok(Said {
        tokens: ids.into_iter().map(Token).collect(),
        logprobs,
        ending,
        usage: usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens)),
    })
}

/// Identifiers and log-probabilities, from wherever this server puts them; a column with holes counts as none.
fn columns(given: Option<Logprobs>) -> (Option<Vec<u32>>, Option<Vec<f32>>) {
    match given.map(|given| (given.content, given.token_logprobs)) {
        Some((Some(content), _)) => (
            content.iter().map(|content| content.id).collect(),
            content.iter().map(|content| content.logprob.map(settle)).collect(),
        ),
        Some((None, Some(logprobs))) => (None, logprobs.into_iter().map(|logprob| logprob.map(settle)).collect()),
        Some((None, None)) | None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Prompt, body, read};
    use super::*;
    use crate::openai::{OpenAiOptions, Wire};

    const WIRE: Wire = Wire::Tokens { vocab: 10, window: 20 };

    fn answer(choice: Value, counted: u64) -> Result<Said, Nonsense> {
        let answer = json!({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": counted}});
        read(&WIRE, 4, answer.to_string().as_bytes())
    }

    #[test]
    fn the_body_asks_for_the_models_own_distribution() {
        let ask = Ask {
            prompt: Prompt::Tokens(vec![Token(7), Token(1)]),
            room: 4,
            ends: vec![Token(9)],
            temperature: 1.0,
            seed: u64::MAX,
        };
        let mut options = OpenAiOptions::new("http://x/v1", WIRE);
        options.extra = object([("min_p", json!(0.5)), ("cache_prompt", json!(false))]);
        let body: Value = serde_json::from_slice(&body(&ask, "m", &options)).unwrap();
        let expected = json!({
            "model": "m", "prompt": [7, 1], "max_tokens": 4, "temperature": 1.0, "seed": 0x7fff_ffff_u32, "stop_token_ids": [9],
            "logprobs": 1, "return_token_ids": true, "top_p": 1, "top_k": -1, "min_p": 0.5, "repetition_penalty": 1,
            "presence_penalty": 0, "frequency_penalty": 0, "samplers": ["temperature"], "verbose": true,
            "return_tokens": true, "response_fields": ["tokens"], "skip_special_tokens": false, "n": 1,
            "stream": false, "cache_prompt": false,
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn every_server_is_understood() {
        let vllm = json!({"text": "ab", "finish_reason": "stop", "token_ids": [5, 9],
            "logprobs": {"tokens": ["a", ""], "token_logprobs": [-0.5, -1.5], "top_logprobs": [{}, {}], "text_offset": [0, 1]}});
        let llama = json!({"text": "a", "index": 0, "finish_reason": "stop", "logprobs": {"content": [
            {"id": 5, "token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []},
            {"id": 9, "token": "", "bytes": [], "logprob": -1.5, "top_logprobs": []}]}});
        for choice in [vllm, llama] {
            let said = answer(choice, 2).unwrap();
            assert_eq!(said.tokens, [Token(5), Token(9)]);
            assert_eq!(said.logprobs, Given::Each(vec![-0.5, -1.5]));
            assert_eq!((said.ending, said.usage), (Ending::Turn, Some((3, 2))));
        }
        let bare = json!({"text": "ab", "finish_reason": "length", "token_ids": [5, 9], "logprobs": null});
        let said = answer(bare, 2).unwrap();
        assert_eq!((said.logprobs, said.ending), (Given::None, Ending::Room));
        let holes = json!({"finish_reason": "length", "token_ids": [5], "logprobs": {"token_logprobs": [null]}});
        assert_eq!(answer(holes, 1).unwrap().logprobs, Given::None);
        let silent = json!({"text": "", "finish_reason": "stop", "logprobs": null});
        assert_eq!(answer(silent, 0).unwrap().tokens, []);
    }

    #[test]
    fn llama_server_lacks_what_ends_within_a_character() {
        let answer = |content: Value| {
            let choice = json!({"text": "\u{e9}", "finish_reason": "length", "logprobs": content});
            let usage = json!({"prompt_tokens": 3, "completion_tokens": 2});
            let answer = json!({"choices": [choice], "usage": usage, "__verbose": {"tokens": [5, 9]}});
            read(&WIRE, 4, answer.to_string().as_bytes())
        };
        let given = |ids: &[u32]| {
            let content: Vec<Value> = ids.iter().map(|id| json!({"id": id, "logprob": -1.0})).collect();
            answer(json!({"content": content}))
        };
        for (said, logprobs) in [
            (given(&[5, 9]), Given::Each(vec![-1.0, -1.0])),
            (given(&[9]), Given::Some),
            (answer(Value::Null), Given::Some),
        ] {
            let said = said.unwrap();
            assert_eq!((said.tokens, said.logprobs), (vec![Token(5), Token(9)], logprobs));
        }
        assert!(given(&[5, 9, 9]).is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let ids = |ids: &[u32]| json!({"finish_reason": "stop", "token_ids": ids});
        let with = |ids: &[u32], logprobs: Value| json!({"finish_reason": "stop", "token_ids": ids, "logprobs": {"token_logprobs": logprobs}});
        for (choice, counted, reason) in [
            (ids(&[1, 2]), 3, "counts 3 tokens and gives 2"),
            (ids(&[1, 2, 3, 4, 5]), 5, "5 tokens, where 4 were asked for"),
            (with(&[1, 2], json!([-1.0])), 2, "1 log-probabilities of 2 tokens"),
            (with(&[1], json!([0.5])), 1, "0.5 is no log-probability"),
            (
                json!({"finish_reason": null, "token_ids": []}),
                0,
                "ended for \"nothing\"",
            ),
            (
                json!({"finish_reason": "abort", "token_ids": []}),
                0,
                "ended for \"abort\"",
            ),
        ] {
            match answer(choice, counted) {
                Err(Nonsense::Malformed(words)) => assert!(words.contains(reason), "{words}"),
                other => panic!("{other:?}, where {reason} was expected"),
            }
        }
        assert_eq!(
            answer(json!({"finish_reason": "stop", "text": "a"}), 1),
            Err(Nonsense::NoTokenIds)
        );
        let withheld = Nonsense::Withheld("content_filter".to_owned());
        assert_eq!(answer(json!({"finish_reason": "content_filter"}), 0), Err(withheld));
        for answer in ["", "{", "{}", r#"{"choices":[]}"#, r#"{"error":{"message":"no"}}"#] {
            assert!(
                matches!(read(&WIRE, 4, answer.as_bytes()), Err(Nonsense::Malformed(_))),
                "{answer}"
            );
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_never_taken_for_a_whole_one() {
        let choice =
            json!({"finish_reason": "stop", "token_ids": [5, 9], "logprobs": {"token_logprobs": [-0.5, -1.5]}});
        let whole = json!({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).to_string();
        assert!(read(&WIRE, 4, whole.as_bytes()).is_ok());
        for end in 0..whole.len() {
            assert!(read(&WIRE, 4, &whole.as_bytes()[..end]).is_err(), "{}", &whole[..end]);
        }
    }
}
