//! The wire of distributions: the server says how likely every token is, the draw is ours.

use super::node::{Node, VOCAB, WINDOW, finish, options};
use super::server::{Asked, Reaction, Server, ok, refusal};
use rao_backends::openai::{OpenAi, OpenAiError, OpenAiOptions, Wire};
use rao_tree::{Constraint, Mask, Next, Stop, Token};
use serde_json::{Value, json};
use std::time::Duration;

fn over(server: &Server) -> OpenAiOptions {
    OpenAiOptions {
        wire: Wire::Distribution {
            vocab: VOCAB,
            window: WINDOW,
        },
        ..options(server.url())
    }
}

/// As vLLM gives it: so many tokens, equally likely but for one.
fn vllm(tokens: usize, likely: (usize, f64)) -> Value {
    let named = (0..tokens).map(|token| {
        let logprob = if token == likely.0 { likely.1 } else { -9.0 };
        (format!("token_id:{token}"), json!(logprob))
    });
    let named: Value = named.collect::<serde_json::Map<_, _>>().into();
    json!({"choices": [{"text": "", "finish_reason": "length", "logprobs": {"top_logprobs": [named]}}]})
}

/// What a policy cannot be made of.
fn refused(react: impl FnMut(&Asked) -> Reaction + Send + 'static) -> OpenAiError {
    let server = Server::start(react);
    OpenAi::open(over(&server)).unwrap_err()
}

#[test]
fn a_server_that_gives_less_is_refused_before_anything_is_rolled_out() {
    // vLLM, as it is by default.
    let reason = "Requested sample logprobs of 70, which is greater than max allowed: 20";
    let error = refused(move |_| refusal(400, reason));
    assert!(matches!(&error, OpenAiError::Refused { status: 400, .. }) && error.to_string().contains(reason));
    // A hosted server, as it is.
    let error = refused(|_| ok(&vllm(20, (3, -0.5)))).to_string();
    assert!(
        error.contains("log-probabilities of 20 tokens, of the 70 that there are")
            && error.contains("--max-logprobs 70"),
        "{error}"
    );
    let silent = json!({"choices": [{"text": "a", "finish_reason": "length", "logprobs": null}]});
    let error = refused(move |_| ok(&silent)).to_string();
    assert!(error.contains("log-probabilities of 0 tokens"), "{error}");
    // Another model.
    let error = refused(|_| ok(&vllm(71, (3, -0.5))));
    assert!(
        matches!(
            error,
            OpenAiError::UnknownToken {
                token: 70,
                vocab: 70,
                ..
            }
        ),
        "{error}"
    );
    let named = json!({"choices": [{"logprobs": {"top_logprobs": [{"a": -0.5}]}}]});
    let error = refused(move |_| ok(&named));
    assert!(matches!(error, OpenAiError::NoTokenIds { .. }), "{error}");
}

/// One of these tokens, twice.
struct Only(&'static [u32]);

impl Constraint for Only {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if completion.len() == 2 {
            return Next::Complete;
        }
        self.0.iter().for_each(|&token| mask.allow(Token(token)));
        Next::Draw
    }
}

#[test]
fn what_is_said_is_allowed_and_as_likely_as_it_is_among_what_is() {
    let server = Server::start(|_| ok(&vllm(VOCAB, (3, -0.01))));
    let mut policy = OpenAi::open(over(&server)).unwrap();
    // At temperatures that servers treat differently, too.
    for (id, temperature) in [(1, 1.0), (2, 0.5), (3, 0.0)] {
        let mut node = [Node {
            constraint: Some(Box::new(Only(&[5, 60]))),
            temperature,
            ..Node::new(id, 4)
        }];
        finish(&mut policy, &mut node).unwrap();
        let [node] = node;
        assert_eq!((node.len, node.stop), (2, Some(Stop::Complete)));
        assert!(node.said().iter().all(|token| [5, 60].contains(token)));
        assert!(
            node.logprobs[..2]
                .iter()
                .all(|logprob| (logprob + 2_f32.ln()).abs() < 1e-6)
        );
    }
    // Each token was asked for with all that was said before it.
    let asked: Vec<usize> = server.asked()[1..3]
        .iter()
        .map(|asked| asked.body["prompt"].as_array().unwrap().len())
        .collect();
    assert_eq!(asked, [3, 4]);
}

#[test]
fn nobody_draws_a_second_token_before_everybody_has_drawn_the_first() {
    let server = Server::start_with(|asked| {
        // One of the two is always the slower.
        if asked.body["prompt"][0] == 7 {
            std::thread::sleep(Duration::from_millis(150));
        }
        ok(&vllm(VOCAB, (3, -0.01)))
    });
    let mut policy = OpenAi::open(over(&server)).unwrap();
    let mut nodes = [Node::new(1, 3), Node::new(2, 3)];
    for node in &mut nodes {
        node.constraint = None;
    }
    nodes[0].prompt = vec![Token(7); 3];
    finish(&mut policy, &mut nodes).unwrap();
    let asked = server.asked();
    let lengths: Vec<usize> = asked[1..]
        .iter()
        .map(|asked| asked.body["prompt"].as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [3, 3, 4, 4, 5, 5]);
}

#[test]
fn where_the_server_has_no_numbers_for_what_is_allowed_the_node_fails_alone() {
    for none in [-9999.0, f64::from(f32::MIN)] {
        let mut distribution = vllm(VOCAB, (3, -0.01));
        for token in [5, 60] {
            distribution["choices"][0]["logprobs"]["top_logprobs"][0][format!("token_id:{token}")] = json!(none);
        }
        let server = Server::start(move |_| ok(&distribution));
        let mut policy = OpenAi::open(over(&server)).unwrap();
        let mut nodes: Vec<Node> = [&[5, 60][..], &[5, 61]]
            .into_iter()
            .zip(0..)
            .map(|(allowed, id)| Node {
                constraint: Some(Box::new(Only(allowed))),
                ..Node::new(id, 4)
            })
            .collect();
        finish(&mut policy, &mut nodes).unwrap();
        assert_eq!((nodes[0].len, nodes[0].stop), (0, Some(Stop::Failed)));
        assert_eq!((nodes[1].said(), nodes[1].stop), (vec![61, 61], Some(Stop::Complete)));
        assert_eq!(policy.stats().failures, 1);
    }
}

#[test]
fn a_server_with_less_room_than_was_said_is_an_error_and_stays_one() {
    let server = Server::start(|asked| match asked.body["prompt"].as_array().unwrap().len() {
        1 => ok(&vllm(VOCAB, (3, -0.01))),
        _ => refusal(400, "This model's maximum context length is 2 tokens."),
    });
    let mut policy = OpenAi::open(over(&server)).unwrap();
    for _ in 0..3 {
        let mut node = [Node::new(1, 3)];
        let error = finish(&mut policy, &mut node).unwrap_err();
        assert!(matches!(error, OpenAiError::Window { window: WINDOW, .. }), "{error}");
        // Not an end that somebody could learn from.
        assert_eq!((node[0].len, node[0].stop), (0, None));
    }
    // What is known is not asked for again.
    assert_eq!(server.asked().len(), 2);
}
