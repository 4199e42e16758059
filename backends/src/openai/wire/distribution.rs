//! `POST completions` for one token, with the log-probabilities of every token there is, as llama-server and vLLM give them.

use super::{Ask, Ending, Given, Nonsense, Said, Usage, object, settle};
use rao_tree::Token;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// How vLLM names a token where `return_tokens_as_token_ids` was asked for.
const BY_ID: &str = "token_id:";

pub(super) fn body(ask: &Ask, prompt: &[Token], vocab: usize) -> Map<String, Value> {
    let ids: Vec<u32> = prompt.iter().map(|token| token.0).collect();
    object([
        ("prompt", json!(ids)),
        // The server draws one as well, which nobody looks at.
        ("max_tokens", json!(ask.room)),
        ("logprobs", json!(vocab)),
        // vLLM.
        ("return_tokens_as_token_ids", json!(true)),
        // Not the draw's but the model's own: llama-server's default, said aloud.
        ("post_sampling_probs", json!(false)),
        // Actions grow token by token: what the server has read once it need not read again.
        ("cache_prompt", json!(true)),
    ])
}

pub(super) fn read(vocab: usize, answer: &[u8]) -> Result<Said, Nonsense> {
    let malformed = |reason: String| Nonsense::Malformed(reason);
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| malformed(error.to_string()))?;
    let choice = answer.choices.into_iter().next();
    let ranking = choice.ok_or_else(|| malformed("no choices".to_owned()))?.logprobs;
    let mut logprobs = vec![f32::NAN; vocab];
    for (token, logprob) in ranked(ranking)? {
        let place = logprobs.get_mut(token as usize).ok_or(Nonsense::Unknown(token))?;
        let logprob = logprob.map(settle);
        match logprob {
            Some(number) if number <= 0.0 => *place = number,
            number => return Err(malformed(format!("{number:?} is no log-probability"))),
        }
    }
    match logprobs.iter().filter(|logprob| !logprob.is_nan()).count() {
        given if given < vocab => Err(Nonsense::Partial(given)),
        _ => Ok(Said {
            tokens: Vec::new(),
            logprobs: Given::Every(logprobs),
            ending: Ending::Room,
            usage: answer.usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens)),
        }),
    }
}

/// The tokens of the first place, in whichever order the server has them.
fn ranked(ranking: Option<Ranking>) -> Result<Vec<(u32, Option<f32>)>, Nonsense> {
    match ranking {
        Some(Ranking {
            content: Some(places), ..
        }) => {
            let tokens = places.into_iter().next().map(|place| place.top_logprobs);
            let tokens = tokens.unwrap_or_default().into_iter();
            tokens
                .map(|token| Ok((token.id.ok_or(Nonsense::NoTokenIds)?, token.logprob)))
                .collect()
        }
        Some(Ranking {
            top_logprobs: Some(places),
            ..
        }) => {
            let tokens = places.into_iter().next().flatten().unwrap_or_default().into_iter();
            let id = |name: &str| name.strip_prefix(BY_ID)?.parse().ok();
            tokens
                .map(|(name, logprob)| Ok((id(&name).ok_or(Nonsense::NoTokenIds)?, logprob)))
                .collect()
        }
        Some(_) | None => Ok(Vec::new()),
    }
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    logprobs: Option<Ranking>,
}

/// One place after another.
#[derive(Deserialize)]
struct Ranking {
    /// llama-server.
    content: Option<Vec<Place>>,
    /// vLLM.
    top_logprobs: Option<Vec<Option<Named>>>,
}

type Named = HashMap<String, Option<f32>>;

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    top_logprobs: Vec<Ranked>,
}

#[derive(Deserialize)]
struct Ranked {
    id: Option<u32>,
    logprob: Option<f32>,
}

#[cfg(test)]
mod tests {
    use super::super::{Prompt, body, read};
    use super::*;
    use crate::openai::{OpenAiOptions, Wire};

    const WIRE: Wire = Wire::Distribution { vocab: 3, window: 20 };

    fn answer(logprobs: &Value) -> Result<Said, Nonsense> {
        let choice = json!({"text": "a", "finish_reason": "length", "logprobs": logprobs});
        let answer = json!({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}});
        read(&WIRE, 1, answer.to_string().as_bytes())
    }

    fn llama(tokens: &Value) -> Result<Said, Nonsense> {
        answer(&json!({"content": [{"id": 1, "token": "a", "logprob": -1.0, "top_logprobs": tokens}]}))
    }

    #[test]
    fn the_body_asks_for_all_of_the_distribution() {
        let ask = Ask {
            prompt: Prompt::Tokens(vec![Token(2), Token(1)]),
            room: 1,
            ends: Vec::new(),
            temperature: 0.0,
            seed: 0,
        };
        let body: Value = serde_json::from_slice(&body(&ask, "m", &OpenAiOptions::new("http://x/v1", WIRE))).unwrap();
        let expected = json!({
            "model": "m", "prompt": [2, 1], "max_tokens": 1, "temperature": 0.0, "seed": 0, "logprobs": 3, "top_p": 1, "n": 1,
            "stream": false, "return_tokens_as_token_ids": true, "post_sampling_probs": false, "cache_prompt": true,
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn both_servers_are_understood() {
        let (low, rounded) = (f64::from(f32::MIN), 1e-7);
        let llama = llama(&json!([
            {"id": 2, "token": "c", "bytes": [99], "logprob": rounded},
            {"id": 0, "token": "a", "bytes": [97], "logprob": -2.5},
            {"id": 1, "token": "b", "bytes": [98], "logprob": low},
        ]));
        let vllm = answer(&json!({
            "tokens": ["token_id:2"], "token_logprobs": [-0.0], "text_offset": [0],
            "top_logprobs": [{"token_id:2": 0.0, "token_id:0": -2.5, "token_id:1": low}],
        }));
        for said in [llama, vllm] {
            let said = said.unwrap();
            assert_eq!(said.logprobs, Given::Every(vec![-2.5, f32::MIN, 0.0]));
            assert_eq!((said.tokens, said.usage), (vec![], Some((3, 1))));
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        let two = json!([{"id": 2, "logprob": -1.0}, {"id": 0, "logprob": -2.5}]);
        assert_eq!(llama(&two), Err(Nonsense::Partial(2)));
        // Twice the same is not two.
        let twice = json!([{"id": 2, "logprob": -1.0}, {"id": 0, "logprob": -2.5}, {"id": 0, "logprob": -2.5}]);
        assert_eq!(llama(&twice), Err(Nonsense::Partial(2)));
        assert_eq!(answer(&Value::Null), Err(Nonsense::Partial(0)));
        assert_eq!(answer(&json!({"content": []})), Err(Nonsense::Partial(0)));
        assert_eq!(answer(&json!({"top_logprobs": [null]})), Err(Nonsense::Partial(0)));
        assert_eq!(llama(&json!([{"id": 3, "logprob": -1.0}])), Err(Nonsense::Unknown(3)));
        assert_eq!(
            answer(&json!({"top_logprobs": [{"a": -1.0}]})),
            Err(Nonsense::NoTokenIds)
        );
        assert_eq!(
            llama(&json!([{"token": "a", "logprob": -1.0}])),
            Err(Nonsense::NoTokenIds)
        );
        for nonsense in [json!([{"id": 1, "logprob": 0.5}]), json!([{"id": 1, "logprob": null}])] {
            assert!(
                matches!(llama(&nonsense), Err(Nonsense::Malformed(reason)) if reason.contains("no log-probability"))
            );
        }
    }
}
