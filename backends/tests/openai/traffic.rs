//! Connections, limits, and requests that are taken back.

use crate::node::{Node, call, finish, options, say};
use crate::server::{PATIENCE, Reaction, Server, completion, ok};
use rao_backends::openai::OpenAi;
use rao_tree::{Policy, SequenceId, Stop};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

#[test]
fn connections_are_used_again() {
    let server = Server::start(|_| ok(&completion(&[9], "stop")));
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    // By clones, too.
    let mut other = policy.clone();
    for id in 0..6 {
        let policy = if id % 2 == 0 { &mut policy } else { &mut other };
        assert_eq!(say(policy, id).unwrap().1, Some(Stop::Complete));
    }
    // The client hands an answer over before its connection is back in the pool, so the next request may open a second one; from then on
    // one of the two is always free.
    assert!(
        (1..=2).contains(&server.connections()),
        "{} connections",
        server.connections()
    );
    assert_eq!(server.asked().len(), 6);
    assert_eq!(policy.stats(), other.stats());
    assert_eq!(policy.stats().requests, 6);
}

/// Requests under way, and the most there were.
#[derive(Default)]
struct Crowd {
    now: usize,
    most: usize,
    served: usize,
}

#[test]
fn no_more_requests_are_under_way_than_are_allowed() {
    const LIMIT: usize = 3;
    const NODES: usize = 12;
    let crowd = Arc::new((Mutex::new(Crowd::default()), Condvar::new()));
    let seen = Arc::clone(&crowd);
    let server = Server::start_with(move |_| {
        let (crowd, changed) = &*seen;
        let mut inside = crowd.lock().unwrap();
        inside.now += 1;
        inside.most = inside.most.max(inside.now);
        changed.notify_all();
        // Nobody is served before the limit is reached, or one more than the limit gets the time to show itself.
        let full = |inside: &mut Crowd| inside.now < LIMIT && inside.served + inside.now < NODES;
        inside = changed.wait_timeout_while(inside, PATIENCE, full).unwrap().0;
        inside = changed
            .wait_timeout_while(inside, Duration::from_millis(50), |inside| inside.now <= LIMIT)
            .unwrap()
            .0;
        inside.now -= 1;
        inside.served += 1;
        changed.notify_all();
        ok(&completion(&[9], "stop"))
    });
    let mut options = options(server.url());
    options.concurrency = LIMIT;
    let mut policy = OpenAi::open(options).unwrap();
    let mut nodes: Vec<Node> = (0..NODES as u64).map(|id| Node::new(id, 4)).collect();
    finish(&mut policy, &mut nodes).unwrap();
    assert!(nodes.iter().all(|node| node.stop == Some(Stop::Complete)));
    assert_eq!(crowd.0.lock().unwrap().most, LIMIT);
    assert!(server.connections() <= LIMIT, "{} connections", server.connections());
}

/// Hangs for the first so many, and then answers.
fn hanging(count: usize) -> Server {
    Server::start(move |asked| {
        if asked.index < count {
            Reaction::Hang
        } else {
            ok(&completion(&[9], "stop"))
        }
    })
}

/// Calls until the server has got so many requests.
fn call_until_asked(policy: &mut OpenAi, nodes: &mut [Node], server: &Server, count: usize) {
    let begun = Instant::now();
    while server.asked().len() < count {
        assert_eq!(call(policy, nodes).unwrap(), 0);
        assert!(begun.elapsed() < PATIENCE, "nothing is asked");
    }
}

#[test]
fn a_call_returns_though_nothing_is_answered() {
    let server = hanging(1);
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let mut nodes = [Node::new(1, 4)];
    call_until_asked(&mut policy, &mut nodes, &server, 1);
    // It is still under way, and is not asked again.
    for _ in 0..3 {
        assert_eq!(call(&mut policy, &mut nodes).unwrap(), 0);
    }
    assert_eq!(server.asked().len(), 1);
    assert!(!server.someone_left());
}

#[test]
fn what_is_forgotten_is_taken_back() {
    let server = hanging(2);
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let mut nodes = [Node::new(1, 4), Node::new(2, 4)];
    call_until_asked(&mut policy, &mut nodes, &server, 2);
    policy.forget(SequenceId(7));
    policy.forget(SequenceId(1));
    server.wait_for_leave();
    assert!(!server.someone_left(), "the other stays");
    // Asked for once more, it is asked anew.
    while nodes[0].stop.is_none() {
        call(&mut policy, &mut nodes).unwrap();
    }
    assert_eq!((nodes[0].stop, nodes[1].stop), (Some(Stop::Complete), None));
}

#[test]
fn what_is_no_longer_in_the_batch_is_taken_back() {
    let server = hanging(2);
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let mut nodes = [Node::new(1, 4), Node::new(2, 4)];
    call_until_asked(&mut policy, &mut nodes, &server, 2);
    call(&mut policy, &mut nodes[..1]).unwrap();
    server.wait_for_leave();
    call(&mut policy, &mut []).unwrap();
    server.wait_for_leave();
    assert_eq!(say(&mut policy, 3).unwrap().1, Some(Stop::Complete));
}

#[test]
fn a_policy_that_is_dropped_takes_everything_back() {
    let server = hanging(3);
    let policy = OpenAi::open(options(server.url())).unwrap();
    let mut handles = [policy.clone(), policy.clone()];
    let mut nodes = [Node::new(1, 4)];
    call_until_asked(&mut handles[0], &mut nodes, &server, 1);
    call_until_asked(&mut handles[1], &mut nodes, &server, 2);
    let [first, second] = handles;
    drop(first);
    server.wait_for_leave();
    assert!(!server.someone_left(), "a handle takes back its own requests alone");
    drop((policy, second));
    server.wait_for_leave();
}

#[test]
fn an_answer_to_what_was_taken_back_is_not_heard() {
    let (open, gate) = channel();
    let server = Server::start(move |asked| {
        if asked.index > 0 {
            return ok(&completion(&[8, 9], "stop"));
        }
        gate.recv_timeout(PATIENCE).unwrap();
        ok(&completion(&[7, 9], "stop"))
    });
    let mut policy = OpenAi::open(options(server.url())).unwrap();
    let mut nodes = [Node::new(1, 4)];
    call_until_asked(&mut policy, &mut nodes, &server, 1);
    open.send(()).unwrap();
    let begun = Instant::now();
    while policy.stats().tokens_out == 0 {
        assert!(begun.elapsed() < PATIENCE, "it is never answered");
        std::thread::yield_now();
    }
    policy.forget(SequenceId(1));
    finish(&mut policy, &mut nodes).unwrap();
    assert_eq!(nodes[0].said(), [8, 9]);
}
