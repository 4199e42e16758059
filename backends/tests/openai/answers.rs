//! What is asked, and what becomes of a sound answer.

use crate::node::{END, Ends, Node, VOCAB, WINDOW, call, finish, options, say};
use crate::server::{Reaction, Server, completion, ok, refusal};
use rao_backends::bytes;
use rao_backends::openai::{OpenAi, OpenAiError, OpenAiOptions, Wire};
use rao_tree::{Policy, Stop, Token, WeightsVersion};
use serde_json::json;

/// What one node of such a room gets of one answer.
fn outcome(room: usize, tokens: &'static [u32], finish_reason: &'static str) -> (Vec<u32>, Option<Stop>) {
    let server = Server::start(move |_| ok(&completion(tokens, finish_reason)));
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let mut nodes = [Node::new(1, room)];
    finish(&mut policy, &mut nodes).unwrap();
    let expected: Vec<f32> = nodes[0].said().iter().map(|token| -0.5 - *token as f32).collect();
    assert_eq!(nodes[0].logprobs[..nodes[0].len], expected);
    (nodes[0].said(), nodes[0].stop)
}

#[test]
fn an_action_ends_for_the_reason_that_it_has() {
    assert_eq!(outcome(4, &[7, 9], "stop"), (vec![7, 9], Some(Stop::Complete)));
    // A server that does not give the token at which it stopped.
    assert_eq!(outcome(4, &[7], "stop"), (vec![7], Some(Stop::Complete)));
    assert_eq!(outcome(4, &[], "stop"), (vec![], Some(Stop::Complete)));
    // One that does not stop at our end.
    assert_eq!(outcome(4, &[7, 9, 8], "length"), (vec![7, 9], Some(Stop::Complete)));
    assert_eq!(
        outcome(4, &[7, 8, 7, 8], "length"),
        (vec![7, 8, 7, 8], Some(Stop::Length))
    );
    assert_eq!(outcome(2, &[7, 9], "length"), (vec![7, 9], Some(Stop::Complete)));
    // Its window is smaller than the room that was asked for.
    assert_eq!(outcome(4, &[7, 8], "length"), (vec![7, 8], Some(Stop::ContextOverflow)));
}

#[test]
fn a_request_says_what_is_wanted() {
    let server = Server::start(|_| ok(&completion(&[9], "stop")));
    let mut policy = OpenAi::open(OpenAiOptions {
        version: WeightsVersion(5),
        ..options(server.url())
    })
    .unwrap();
    assert_eq!(
        (policy.vocab(), policy.window(), policy.model()),
        (VOCAB, Some(WINDOW), "m")
    );
    assert_eq!(policy.weights(), WeightsVersion(5));
    let resumed = Node {
        tokens: vec![Token(8); 4],
        len: 1,
        ..Node::new(2, 4)
    };
    let free = Node {
        constraint: None,
        temperature: 0.0,
        ..Node::new(3, 4)
    };
    // Its prompt leaves room for one token of the four.
    let long = Node {
        prompt: vec![Token(6); WINDOW - 1],
        ..Node::new(4, 4)
    };
    let full = Node {
        prompt: vec![Token(6); WINDOW],
        ..Node::new(5, 4)
    };
    let mut nodes = [Node::new(1, 4), resumed, free, long, full];
    finish(&mut policy, &mut nodes).unwrap();
    assert_eq!((nodes[4].len, nodes[4].stop), (0, Some(Stop::ContextOverflow)));

    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    let of = |room: u64, first: u64, temperature: f64| {
        let found = asked.iter().find(|asked| {
            let body = &asked.body;
            body["max_tokens"] == room && body["prompt"][0] == first && body["temperature"] == temperature
        });
        found.expect("it was asked").clone()
    };
    let plain = of(4, 1, 1.0);
    assert_eq!(plain.path, "/v1/completions");
    assert_eq!(plain.header("content-type"), Some("application/json"));
    assert_eq!(plain.header("authorization"), None);
    assert_eq!(
        (&plain.body["model"], &plain.body["prompt"]),
        (&json!("m"), &json!([1, 2, 3]))
    );
    assert_eq!(plain.body["stop_token_ids"], json!([END.0]));
    let resumed = of(3, 1, 1.0);
    assert_eq!(resumed.body["prompt"], json!([1, 2, 3, 8]));
    assert_ne!(resumed.body["seed"], plain.body["seed"]);
    assert_eq!(of(4, 1, 0.0).body.get("stop_token_ids"), None);
    assert_eq!(of(1, 6, 1.0).body["prompt"].as_array().unwrap().len(), WINDOW - 1);

    // The same node asks the same again.
    say(&mut policy, 1).unwrap();
    assert_eq!(server.asked()[4].body, plain.body);
}

#[test]
fn the_model_is_asked_for_where_it_is_not_named() {
    let listed = |models: serde_json::Value| {
        let server = Server::start(move |asked| match asked.path.as_str() {
            "/v1/models" => ok(&json!({"object": "list", "data": models})),
            _ => ok(&completion(&[9], "stop")),
        });
        // A slash at its end is no other URL.
        let options = OpenAiOptions {
            model: None,
            ..options(format!("{}/", server.url()))
        };
        (OpenAi::open(options), server)
    };
    let (policy, server) = listed(json!([{"id": "served", "max_model_len": 10}]));
    let mut policy = policy.unwrap();
    assert_eq!((policy.model(), policy.window()), ("served", Some(10)));
    let mut nodes = [Node::new(1, 40)];
    finish(&mut policy, &mut nodes).unwrap();
    let body = &server.asked()[1].body;
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("served"), &json!(7)));

    let (error, _server) = listed(json!([{"id": "a"}, {"id": "b"}]));
    let error = error.unwrap_err();
    assert!(
        matches!(error, OpenAiError::Model { .. }) && error.to_string().contains("of a, b"),
        "{error}"
    );
    let (error, _server) = listed(json!([]));
    assert!(error.unwrap_err().to_string().contains("lists 0 models"));
}

#[test]
fn a_server_that_still_loads_is_waited_for() {
    let server = Server::start(|asked| match asked.index {
        0 => refusal(503, "Loading model"),
        1 => Reaction::Raw(b""),
        _ => ok(&json!({"data": [{"id": "late"}]})),
    });
    let policy = OpenAi::open(OpenAiOptions {
        model: None,
        ..options(server.url())
    })
    .unwrap();
    assert_eq!(policy.model(), "late");
}

#[test]
fn messages_go_out_and_bytes_come_back() {
    let server = Server::start(|asked| {
        let last = asked.body["messages"].as_array().unwrap().last().unwrap().clone();
        let answer = format!("You said {}", last["content"].as_str().unwrap());
        let choice = json!({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}});
        ok(&json!({"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 4}}))
    });
    let wire = Wire::Chat;
    let mut policy = OpenAi::open(OpenAiOptions {
        wire,
        ..options(server.url())
    })
    .unwrap();
    assert_eq!((policy.vocab(), policy.window()), (bytes::VOCAB, None));
    let mut prompt = vec![bytes::USER];
    prompt.extend("né".bytes().map(|byte| Token(byte.into())));
    prompt.extend([bytes::END, bytes::ASSISTANT]);
    let node = |room| Node {
        prompt: prompt.clone(),
        constraint: Some(Box::new(Ends(vec![bytes::END]))),
        ..Node::new(1, room)
    };
    for (room, stop) in [(40, Stop::Complete), (5, Stop::Length)] {
        let mut nodes = [node(room)];
        finish(&mut policy, &mut nodes).unwrap();
        assert_eq!(nodes[0].stop, Some(stop));
        let said: Vec<u8> = nodes[0]
            .said()
            .iter()
            .filter_map(|token| u8::try_from(*token).ok())
            .collect();
        assert_eq!(
            String::from_utf8(said).unwrap(),
            "You said né"[..].chars().take(room).collect::<String>()
        );
    }
    let asked = server.asked();
    assert_eq!(asked[0].path, "/v1/chat/completions");
    assert_eq!(asked[0].body["messages"], json!([{"role": "user", "content": "né"}]));
    assert_eq!(asked[0].body["max_completion_tokens"], 40);
    let stats = policy.stats();
    assert_eq!((stats.tokens_in, stats.tokens_out), (22, 8));
}

#[test]
fn what_is_finished_is_left_alone() {
    let server = Server::start(|_| ok(&completion(&[9], "stop")));
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    assert_eq!(call(&mut policy, &mut []).unwrap(), 0);
    for stop in [
        Stop::Complete,
        Stop::Length,
        Stop::ContextOverflow,
        Stop::Stuck,
        Stop::Failed,
    ] {
        let mut nodes = [Node {
            stop: Some(stop),
            len: 2,
            ..Node::new(1, 4)
        }];
        assert_eq!(call(&mut policy, &mut nodes).unwrap(), 1);
        assert_eq!((nodes[0].stop, nodes[0].len), (Some(stop), 2));
    }
    // No room, and complete on entry.
    let complete = Node {
        tokens: vec![END; 4],
        len: 1,
        ..Node::new(2, 4)
    };
    let mut nodes = [Node::new(1, 0), complete];
    assert_eq!(call(&mut policy, &mut nodes).unwrap(), 2);
    assert_eq!(
        nodes.map(|node| (node.len, node.stop)),
        [(0, Some(Stop::Length)), (1, Some(Stop::Complete))]
    );
    assert_eq!(server.connections(), 0);
}
