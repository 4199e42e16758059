//! Errors name their cause and the way out.

use crate::node::{END, Ends, Node, VOCAB, call, finish, options, say};
use crate::server::{Reaction, Server, completion, ok, refusal};
use rao_backends::SamplerError;
use rao_backends::openai::{ApiKey, Logprobs, OpenAi, OpenAiError, OpenAiOptions, Wire};
use rao_tree::{Constraint, Mask, Next, Stop, Token};
use serde_json::{Value, json};

fn error_of(answer: impl Fn() -> Reaction + Send + 'static) -> (OpenAiError, usize) {
    let server = Server::start(move |_| answer());
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let error = say(&mut policy, 1).unwrap_err();
    (error, server.asked().len())
}

#[test]
fn what_every_request_would_meet_is_an_error_at_once() {
    for (status, way_out) in [
        (400, "OpenAI-compatible"),
        (401, "API key"),
        (402, "means"),
        (403, "API key"),
        (404, "/v1"),
        (405, "/v1"),
        (422, "OpenAI-compatible"),
    ] {
        let (error, tries) = error_of(move || refusal(status, "because"));
        assert!(
            matches!(error, OpenAiError::Refused { status: told, .. } if told == status),
            "{error}"
        );
        let shown = error.to_string();
        assert!(
            shown.contains(way_out) && shown.contains("because") && shown.contains("/v1/completions"),
            "{shown}"
        );
        assert_eq!(tries, 1);
    }
    let quota = json!({"error": {"message": "pay", "code": "insufficient_quota"}}).to_string();
    let (error, tries) = error_of(move || Reaction::Answer(429, Vec::new(), quota.clone().into_bytes()));
    assert!(error.to_string().contains("means"), "{error}");
    assert_eq!(tries, 1);
}

#[test]
fn a_key_goes_nowhere_else() {
    let other = Server::start(|_| ok(&completion(&[9], "stop")));
    let moved = format!("{}/completions", other.url());
    let server = Server::start(move |_| Reaction::Answer(307, vec![("location", moved.clone())], Vec::new()));
    let mut options = options(server.url());
    options.api_key = Some(ApiKey::new("sk-1"));
    let error = say(&mut OpenAi::open(options).unwrap(), 1).unwrap_err().to_string();
    assert!(error.contains("moved"), "{error}");
    assert_eq!(server.asked()[0].header("authorization"), Some("Bearer sk-1"));
    assert_eq!(other.connections(), 0);
}

#[test]
fn keys_that_cannot_be_sent_and_urls_of_no_server_are_refused_before_anything_is_sent() {
    let mut broken = options("http://127.0.0.1:9/v1".to_owned());
    broken.api_key = Some(ApiKey::new("sk-1\n"));
    assert!(matches!(OpenAi::open(broken), Err(OpenAiError::ApiKey)));
    let error = OpenAi::open(options("127.0.0.1:9".to_owned())).unwrap_err();
    assert!(matches!(error, OpenAiError::Url { .. }), "{error}");
}

#[test]
fn a_request_that_is_refused_after_others_were_answered_fails_alone() {
    let overflow = json!({"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}});
    let server = Server::start(move |asked| match asked.index {
        0 => Reaction::Answer(400, Vec::new(), overflow.to_string().into_bytes()),
        1 => ok(&completion(&[9], "stop")),
        2 => refusal(400, "I do not like this one"),
        3 => ok(&json!({"choices": [{"finish_reason": "content_filter"}]})),
        4 => refusal(400, "This model's maximum context length is 64 tokens"),
        _ => refusal(401, "no key"),
    });
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    for stop in [
        Stop::ContextOverflow,
        Stop::Complete,
        Stop::Failed,
        Stop::Failed,
        Stop::ContextOverflow,
    ] {
        assert_eq!(say(&mut policy, 1).unwrap().1, Some(stop));
    }
    assert!(matches!(
        say(&mut policy, 1),
        Err(OpenAiError::Refused { status: 401, .. })
    ));
}

#[test]
fn training_is_refused_where_it_would_be_wrong() {
    let server = Server::start(|_| {
        let mut answer = completion(&[7, 9], "stop");
        answer["choices"][0]["logprobs"] = Value::Null;
        ok(&answer)
    });
    let mut required = options(server.url());
    required.logprobs = Logprobs::Required;
    let mut policy = OpenAi::open(required.clone()).unwrap();
    let error = say(&mut policy, 1).unwrap_err();
    assert!(matches!(error, OpenAiError::NoLogprobs { .. }), "{error}");
    assert!(error.to_string().contains("training needs"), "{error}");

    let mut warm = [Node {
        temperature: 0.7,
        ..Node::new(1, 4)
    }];
    let error = call(&mut policy, &mut warm).unwrap_err();
    assert!(matches!(error, OpenAiError::Temperature { .. }), "{error}");

    let chat = OpenAiOptions {
        wire: Wire::Chat,
        ..required
    };
    assert!(matches!(OpenAi::open(chat), Err(OpenAiError::ChatLogprobs)));

    // Evaluation does without.
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let mut nodes = [Node {
        temperature: 0.7,
        ..Node::new(1, 4)
    }];
    finish(&mut policy, &mut nodes).unwrap();
    assert_eq!(
        (nodes[0].said(), &nodes[0].logprobs[..2]),
        (vec![7, 9], &[0.0, 0.0][..])
    );
}

#[test]
fn an_answer_that_lacks_some_log_probabilities_fails_alone() {
    // As llama-server gives it where a token ends within a character; the third is whole.
    let server = Server::start(|asked| {
        let given = if asked.index == 2 { 0..2 } else { 1..2 };
        let content: Vec<Value> = given.map(|_| json!({"id": 9, "logprob": -1.0})).collect();
        let choice = json!({"finish_reason": "stop", "logprobs": {"content": content}});
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2});
        ok(&json!({"choices": [choice], "usage": usage, "__verbose": {"tokens": [7, 9]}}))
    });
    let mut options = options(server.url());
    // They do not say that the server is gone.
    (options.logprobs, options.failures_max) = (Logprobs::Required, 1);
    let mut policy = OpenAi::open(options.clone()).unwrap();
    for expected in [Stop::Failed, Stop::Failed, Stop::Complete, Stop::Failed] {
        assert_eq!(say(&mut policy, 1).unwrap().1, Some(expected));
    }
    assert_eq!(policy.stats().failures, 3);
    options.logprobs = Logprobs::IfGiven;
    let mut policy = OpenAi::open(options).unwrap();
    assert_eq!(say(&mut policy, 1).unwrap(), (vec![7, 9], Some(Stop::Complete)));
}

#[test]
fn answers_of_another_model_or_server_are_refused() {
    let (error, _) = error_of(|| ok(&completion(&[VOCAB as u32], "stop")));
    assert!(
        matches!(
            error,
            OpenAiError::UnknownToken {
                token: 70,
                vocab: VOCAB,
                ..
            }
        ),
        "{error}"
    );
    let (error, tries) = error_of(|| {
        let choice = json!({"text": "hello", "finish_reason": "stop", "logprobs": null});
        ok(&json!({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}))
    });
    assert!(matches!(error, OpenAiError::NoTokenIds { .. }), "{error}");
    assert_eq!(tries, 1);
}

/// Allows one token for ever, without a word about ends.
struct Grammar;

impl Constraint for Grammar {
    fn next(&mut self, _: &[Token], mask: &mut Mask<'_>) -> Next {
        mask.allow(END);
        Next::Draw
    }
}

#[test]
fn what_no_server_can_carry_out_is_not_sent() {
    let server = Server::start(|_| ok(&completion(&[9], "stop")));
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let node = || Node::new(1, 4);
    let error = |policy: &mut OpenAi, node: Node| call(policy, &mut [node]).unwrap_err();
    let grammar = Node {
        constraint: Some(Box::new(Grammar)),
        ..node()
    };
    assert!(matches!(error(&mut policy, grammar), OpenAiError::Constraint { .. }));
    for (node, expected) in [
        (
            Node {
                prompt: vec![],
                ..node()
            },
            "empty",
        ),
        (
            Node {
                prompt: vec![Token(70)],
                ..node()
            },
            "token 70",
        ),
        (
            Node {
                temperature: f32::NAN,
                ..node()
            },
            "temperature NaN",
        ),
        (
            Node {
                temperature: -1.0,
                ..node()
            },
            "temperature -1",
        ),
    ] {
        let error = error(&mut policy, node);
        assert!(matches!(
            error,
            OpenAiError::Request(
                SamplerError::EmptyPrompt { .. } | SamplerError::UnknownToken { .. } | SamplerError::Temperature { .. }
            )
        ));
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut chat = OpenAi::open(OpenAiOptions {
        wire: Wire::Chat,
        ..options(server.url())
    })
    .unwrap();
    let error = error(
        &mut chat,
        Node {
            constraint: Some(Box::new(Ends(vec![]))),
            ..node()
        },
    );
    assert!(matches!(error, OpenAiError::Messages { .. }), "{error}");
    assert_eq!(server.connections(), 0);
}
