//! What passes is tried again; what does not costs its own request alone.

use crate::node::{Node, finish, options, say};
use crate::server::{Asked, Reaction, Server, completion, ok, refusal};
use rao_backends::openai::{OpenAi, OpenAiError, Stats};
use rao_tree::Stop;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SAID: [u32; 2] = [7, 9];

fn sound() -> Reaction {
    ok(&completion(&SAID, "stop"))
}

/// Does something wrong the first `times` times.
fn stumbling(times: usize, wrong: impl Fn() -> Reaction + Send + 'static) -> Server {
    Server::start(move |asked| if asked.index < times { wrong() } else { sound() })
}

fn is_said(policy: &mut OpenAi) -> bool {
    say(policy, 1).unwrap() == (SAID.to_vec(), Some(Stop::Complete))
}

#[test]
fn a_server_that_stumbles_is_asked_again() {
    type Wrong = (&'static str, fn() -> Reaction);
    let wrongs: [Wrong; 11] = [
        ("status 500", || refusal(500, "out of memory")),
        ("status 503 while it loads", || refusal(503, "Loading model")),
        ("status 429", || refusal(429, "slow down")),
        ("status 408", || refusal(408, "too slow")),
        ("cut off", || {
            Reaction::CutOff(completion(&SAID, "stop").to_string().into_bytes())
        }),
        ("no HTTP", || Reaction::Raw(b"\x00\x01")),
        ("closed without a word", || Reaction::Raw(b"")),
        ("cut off within its head", || {
            Reaction::Raw(b"HTTP/1.1 200 OK\r\ncontent-")
        }),
        ("no JSON", || {
            Reaction::Answer(200, Vec::new(), b"<html>oops</html>".to_vec())
        }),
        ("an error with status 200", || {
            ok(&json!({"error": {"message": "oops"}}))
        }),
        ("an end for no known reason", || ok(&completion(&SAID, "abort"))),
    ];
    for (name, wrong) in wrongs {
        let server = stumbling(2, wrong);
        let mut policy = OpenAi::open(options(server.url())).unwrap();
        assert!(is_said(&mut policy), "{name}");
        let Stats {
            requests,
            retries,
            failures,
            tokens_in,
            tokens_out,
            ..
        } = policy.stats();
        assert_eq!((requests, retries, failures), (1, 2, 0), "{name}");
        assert_eq!((tokens_in, tokens_out), (3, 2), "{name}");
        assert_eq!(server.asked().len(), 3, "{name}");
        // The same request, to the byte.
        let asked: Vec<String> = server.asked().iter().map(|asked| asked.body.to_string()).collect();
        assert!(asked.iter().all(|body| *body == asked[0]), "{name}");
    }
}

#[test]
fn counts_that_do_not_agree_are_no_answer() {
    let wrongs: [fn(&mut Value); 4] = [
        |answer| answer["usage"]["completion_tokens"] = json!(3),
        |answer| answer["choices"][0]["token_ids"] = json!([7]),
        |answer| answer["choices"][0]["logprobs"]["token_logprobs"] = json!([-1.0]),
        |answer| answer["choices"][0]["logprobs"]["token_logprobs"] = json!([-1.0, 2.0]),
    ];
    for (index, wrong) in wrongs.into_iter().enumerate() {
        let server = stumbling(1, move || {
            let mut answer = completion(&SAID, "stop");
            wrong(&mut answer);
            ok(&answer)
        });
        let mut policy = OpenAi::open(options(server.url())).unwrap();
        assert!(is_said(&mut policy), "{index}");
        assert_eq!(policy.stats().retries, 1, "{index}");
    }
}

#[test]
fn a_server_that_hangs_is_left_and_asked_again() {
    let server = stumbling(1, || Reaction::Hang);
    let mut options = options(server.url());
    options.timeout = Duration::from_millis(100);
    let mut policy = OpenAi::open(options).unwrap();
    assert!(is_said(&mut policy));
    server.wait_for_leave();
    let stats = policy.stats();
    assert_eq!(stats.retries, 1);
    assert!(stats.asking >= Duration::from_millis(100), "{stats:?}");
}

#[test]
fn the_wish_of_a_busy_server_is_kept_to() {
    for status in [429, 503] {
        let wish = move || Reaction::Answer(status, vec![("retry-after", "1".to_owned())], Vec::new());
        let server = stumbling(1, wish);
        let mut policy = OpenAi::open(options(server.url())).unwrap();
        assert!(is_said(&mut policy));
        let asked = server.asked();
        assert!(asked[1].at - asked[0].at >= Duration::from_secs(1), "{status}");
        assert!(policy.stats().pausing >= Duration::from_secs(1), "{status}");
    }
}

#[test]
fn a_wish_beyond_the_deadline_fails_at_once() {
    let tomorrow = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(86_400));
    for wish in ["3600".to_owned(), tomorrow] {
        let header = wish.clone();
        let server = stumbling(1, move || {
            Reaction::Answer(429, vec![("retry-after", header.clone())], Vec::new())
        });
        let mut policy = OpenAi::open(options(server.url())).unwrap();
        let begun = Instant::now();
        assert_eq!(say(&mut policy, 1).unwrap(), (vec![], Some(Stop::Failed)), "{wish}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{wish}");
        assert_eq!(server.asked().len(), 1, "{wish}");
    }
}

#[test]
fn a_deadline_ends_a_request_that_is_tried_and_tried() {
    let server = stumbling(usize::MAX, || refusal(500, "no"));
    let mut options = options(server.url());
    (options.retries, options.deadline) = (u32::MAX, Duration::from_millis(300));
    options.backoff_max = Duration::from_millis(20);
    let mut policy = OpenAi::open(options).unwrap();
    assert_eq!(say(&mut policy, 1).unwrap(), (vec![], Some(Stop::Failed)));
    assert!(server.asked().len() > 3, "{} tries", server.asked().len());
}

#[test]
fn what_fails_costs_its_own_node_alone() {
    // What the second prompt says makes this server stumble for ever.
    let is_poison = |asked: &Asked| asked.body["prompt"][0] == 66;
    let server = Server::start(move |asked| if is_poison(asked) { refusal(500, "no") } else { sound() });
    let mut options = options(server.url());
    options.retries = 3;
    let mut policy = OpenAi::open(options).unwrap();
    let mut nodes: Vec<Node> = (0..4).map(|id| Node::new(id, 4)).collect();
    nodes[1].prompt[0].0 = 66;
    finish(&mut policy, &mut nodes).unwrap();
    for node in &nodes {
        let expected = match node.id {
            1 => (vec![], Some(Stop::Failed)),
            _ => (SAID.to_vec(), Some(Stop::Complete)),
        };
        assert_eq!((node.said(), node.stop), expected, "node {}", node.id);
    }
    assert_eq!(server.asked().iter().filter(|asked| is_poison(asked)).count(), 4);
    let stats = policy.stats();
    assert_eq!((stats.requests, stats.retries, stats.failures), (4, 3, 1));
}

#[test]
fn an_answer_without_end_is_not_read_to_it() {
    let server = stumbling(1, || Reaction::Answer(200, Vec::new(), vec![b' '; 5000]));
    let mut options = options(server.url());
    options.answer_max = 4000;
    let mut policy = OpenAi::open(options).unwrap();
    // Another try would bring the same.
    assert_eq!(say(&mut policy, 1).unwrap(), (vec![], Some(Stop::Failed)));
    assert_eq!(server.asked().len(), 1);
    assert!(
        is_said(&mut policy),
        "the connection is not left in the middle of an answer"
    );
}

#[test]
fn a_server_that_is_gone_ends_the_run() {
    // The third and the sixth are answered: those before do not count.
    let server = Server::start(|asked| {
        if asked.index % 3 == 2 && asked.index < 6 {
            sound()
        } else {
            refusal(500, "no")
        }
    });
    let mut options = options(server.url());
    (options.retries, options.failures_max) = (0, 3);
    let mut policy = OpenAi::open(options).unwrap();
    for id in 0..8 {
        let expected = if id % 3 == 2 { Stop::Complete } else { Stop::Failed };
        assert_eq!(say(&mut policy, id).unwrap().1, Some(expected), "{id}");
    }
    let error = say(&mut policy, 8).unwrap_err();
    assert!(matches!(error, OpenAiError::Down { failures: 3, .. }), "{error}");
    let shown = error.to_string();
    assert!(
        shown.contains("3 requests") && shown.contains("status 500: no"),
        "{shown}"
    );
}

#[test]
fn nobody_listens() {
    // Bound and closed again: nothing is there.
    let url = Server::start(|_| sound()).url();
    let mut options = options(url);
    options.retries = 1;
    let mut policy = OpenAi::open(options.clone()).unwrap();
    assert_eq!(say(&mut policy, 1).unwrap(), (vec![], Some(Stop::Failed)));
    options.model = None;
    let error = OpenAi::open(options).unwrap_err().to_string();
    assert!(
        error.contains("is the server running?") && error.contains("refused"),
        "{error}"
    );
}
