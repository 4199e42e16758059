//! Every limit is inclusive, and the counters bear the largest of them.

use crate::support::*;
use rao_tree::{Arena, Budget, Launch, Limit, Limits, NodeId, NodeStatus, Observation, Outcome, Stop, Token, Want};

fn refused(launches: &[Launch]) -> Vec<Limit> {
    let refusals = launches.iter().filter_map(|launch| match launch {
        Launch::Refused(limit) => Some(*limit),
        Launch::Ended { .. } => None,
    });
    refusals.collect()
}

#[test]
fn depth() {
    let mut run = Run::with_root(Limits { depth_max: 2, ..WIDE });
    for node in 0..2 {
        run.turn(node, 1, delegate(1));
        run.spawn(Some(node));
    }
    run.turn(2, 1, delegate(2));
    assert_eq!(refused(&run.resume(2)), [Limit::Depth; 2]);
    assert_eq!(run.driver.tree().nodes()[2].depth.0, 2);
}

#[test]
fn nodes_and_children_admit_the_head_of_a_delegation() {
    for (limits, limit) in [
        (Limits { nodes_max: 3, ..WIDE }, Limit::Nodes),
        (
            Limits {
                children_max: 2,
                ..WIDE
            },
            Limit::Children,
        ),
    ] {
        let mut run = Run::with_root(limits);
        run.turn(0, 1, delegate(4));
        for node in [1, 2] {
            run.spawn(Some(0));
            run.turn(node, 1, DONE);
        }
        let ended = [1, 2].map(finished);
        assert_eq!(run.resume(0), [&ended[..], &[Launch::Refused(limit); 2]].concat());
        // Over its life, not at once.
        run.outcome(0, delegate(1), 0).unwrap();
        assert_eq!(run.resume(0), [Launch::Refused(limit)]);
    }
}

#[test]
fn promised_nodes_count_before_they_exist() {
    let mut run = Run::with_root(Limits {
        nodes_max: 5,
        concurrent_max: 1,
        ..WIDE
    });
    run.turn(0, 1, delegate(3));
    run.spawn(Some(0));
    // Two of the root's launches are still to come: one node is left.
    run.turn(1, 1, delegate(2));
    run.spawn(Some(1));
    run.turn(2, 1, DONE);
    assert_eq!(refused(&run.resume(1)), [Limit::Nodes]);
    run.outcome(1, DONE, 0).unwrap();
    for node in [3, 4] {
        run.spawn(Some(0));
        run.turn(node, 1, DONE);
    }
    assert_eq!(refused(&run.resume(0)), []);
    assert_eq!(run.driver.tree().nodes().len(), 5);
}

#[test]
fn the_arena_caps_the_nodes_too() {
    caps_at_three(heapless::Vec::<_, 3>::new());
}

#[test]
fn a_lent_arena_is_filled_and_caps_the_nodes() {
    let mut arena = heapless::Vec::<_, 3>::new();
    caps_at_three(&mut arena);
    assert_eq!(arena.len(), 3);
}

fn caps_at_three(arena: impl Arena) {
    let mut run = Run::over(arena, WIDE);
    run.spawn(None);
    run.turn(0, 1, delegate(9));
    for node in [1, 2] {
        run.spawn(Some(0));
        run.turn(node, 1, DONE);
    }
    assert_eq!(refused(&run.resume(0)), [Limit::Nodes; 7]);
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
}

#[test]
fn steps() {
    let mut run = Run::with_root(Limits { steps_max: 3, ..WIDE });
    // An action without tokens is a step as well: an environment that goes on for ever meets the limit.
    for tokens in [1, 0, 0] {
        run.turn(0, tokens, Outcome::Continue);
    }
    assert_eq!(run.poll(), Some(Want::Retire { node: NodeId(0) }));
    assert_eq!(run.status(0), Some(NodeStatus::Truncated(Limit::Steps)));
    run.assert_closed();
    assert_eq!(run.driver.tree().nodes()[0].steps, 3);
}

#[test]
fn tokens_are_spent_to_the_last() {
    let mut run = Run::with_root(Limits {
        tokens_max: 10,
        action_max: 6,
        ..WIDE
    });
    assert_eq!(run.sample(0), 6);
    run.act(0, 6, Stop::Length).unwrap();
    run.outcome(0, Outcome::Continue, 0).unwrap();
    assert_eq!(run.sample(0), 4);
    run.act(0, 4, Stop::Length).unwrap();
    run.outcome(0, Outcome::Continue, 0).unwrap();
    assert_eq!(run.poll(), Some(Want::Retire { node: NodeId(0) }));
    assert_eq!(run.status(0), Some(NodeStatus::Truncated(Limit::Tokens)));
    assert_eq!(run.driver.tokens_spent(), 10);
    run.assert_closed();
}

#[test]
fn tokens_that_others_may_give_back_are_waited_for() {
    let limits = Limits {
        tokens_max: 10,
        action_max: 6,
        ..WIDE
    };
    let mut run = Run::with_root(limits);
    run.turn(0, 1, delegate(2));
    run.spawn(Some(0));
    assert_eq!(run.sample(1), 6);
    run.spawn(Some(0));
    // Three are left, the first child holds six: the second waits, neither cut short nor ended.
    assert_eq!(run.poll(), None);
    run.act(1, 1, Stop::Complete).unwrap();
    assert_eq!(run.sample(2), 6);
    // A refund from a broken node counts, too.
    run.outcome(1, Outcome::Continue, 0).unwrap();
    assert_eq!(run.poll(), None);
    run.driver.handle_broken(NodeId(2), 0, &mut run.log).unwrap();
    assert_eq!(run.sample(1), 6);
    run.act(1, 6, Stop::Complete).unwrap();
    run.outcome(1, Outcome::Continue, 0).unwrap();
    assert_eq!(run.sample(1), 2, "nobody can refund anything: the rest is granted");
}

#[test]
fn context() {
    let limits = Limits {
        context_max: 10,
        ..WIDE
    };
    let mut run = Run::with_root(limits);
    assert_eq!(run.sample(0), 9);
    run.act(0, 4, Stop::Complete).unwrap();
    run.outcome(0, Outcome::Continue, 3).unwrap();
    assert_eq!(run.sample(0), 2);
    run.act(0, 2, Stop::Length).unwrap();
    run.outcome(0, Outcome::Continue, 0).unwrap();
    // The window is full to the last token: what it did counts, it just cannot go on.
    assert_eq!(run.driver.tree().nodes()[0].context, 10);
    assert_eq!(run.poll(), Some(Want::Retire { node: NodeId(0) }));
    assert_eq!(run.status(0), Some(NodeStatus::Truncated(Limit::Context)));
    run.assert_closed();
}

#[test]
fn a_buffer_larger_than_the_window_does_not_widen_it() {
    let limits = Limits {
        context_max: 10,
        ..WIDE
    };
    let mut run = Run::open(limits);
    run.poll();
    run.driver
        .handle_spawn(None, "", Budget::UNLIMITED, 0, &mut run.log)
        .unwrap();
    run.prompt(NodeId(0), 11).unwrap();
    assert_eq!(run.status(0), Some(NodeStatus::Truncated(Limit::Context)));
    run.assert_closed();

    let mut run = Run::with_root(limits);
    run.sample(0);
    run.act(0, 4, Stop::Complete).unwrap();
    run.outcome(0, delegate(1), 6).unwrap();
    assert_eq!(run.status(0), Some(NodeStatus::Truncated(Limit::Context)));
    run.assert_closed();
}

#[test]
fn concurrency_holds_back_and_never_refuses() {
    let mut run = Run::with_root(Limits {
        concurrent_max: 2,
        ..WIDE
    });
    run.turn(0, 1, delegate(3));
    for node in [1, 2] {
        run.spawn(Some(0));
        run.sample(node);
    }
    assert_eq!((run.driver.live(), run.poll()), (2, None));
    run.act(1, 1, Stop::Complete).unwrap();
    // A parent that waits has no place: its child takes it.
    run.outcome(1, delegate(1), 0).unwrap();
    run.spawn(Some(1));
    run.turn(3, 1, DONE);
    // Both its parent and the third child could go on: only one place is free, and who is due comes first.
    run.resume(1);
    assert_eq!((run.driver.live(), run.poll()), (2, None));
    run.outcome(1, DONE, 0).unwrap();
    run.spawn(Some(0));
    assert_eq!(run.driver.live(), 2);
}

#[test]
fn limits_of_zero() {
    let zero = Limits {
        depth_max: 0,
        nodes_max: 0,
        children_max: 0,
        steps_max: 0,
        tokens_max: 0,
        action_max: 0,
        context_max: 0,
        concurrent_max: 0,
        deadline_us: None,
    };
    let mut run = Run::open(zero);
    run.spawn(None);
    assert_eq!(run.status(0), Some(NodeStatus::Truncated(Limit::Context)));
    run.assert_closed();

    for (limits, limit) in [
        (Limits { steps_max: 0, ..WIDE }, Limit::Steps),
        (Limits { tokens_max: 0, ..WIDE }, Limit::Tokens),
    ] {
        let mut run = Run::with_root(limits);
        assert_eq!(run.poll(), Some(Want::Retire { node: NodeId(0) }));
        assert_eq!(run.status(0), Some(NodeStatus::Truncated(limit)));
        run.assert_closed();
    }

    // Without room for an action, actions are empty and steps run out.
    let mut run = Run::with_root(Limits {
        action_max: 0,
        steps_max: 2,
        ..WIDE
    });
    for _ in 0..2 {
        assert_eq!(run.sample(0), 0);
        run.act(0, 0, Stop::Length).unwrap();
        run.outcome(0, Outcome::Continue, 0).unwrap();
    }
    assert_eq!(run.poll(), Some(Want::Retire { node: NodeId(0) }));
    run.assert_closed();
}

#[test]
fn refusals_in_a_row_end_a_node_that_never_acts() {
    let mut run = Run::with_root(Limits { depth_max: 0, ..WIDE });
    run.turn(0, 1, delegate(1));
    for _ in 0..253 {
        run.resume(0);
        run.outcome(0, delegate(1), 0).unwrap();
    }
    // An action makes it good again.
    run.resume(0);
    run.outcome(0, Outcome::Continue, 0).unwrap();
    run.turn(0, 1, delegate(u8::MAX));
    for _ in 0..254 {
        assert_eq!(run.status(0), None);
        run.resume(0);
        run.outcome(0, delegate(1), 0).unwrap();
    }
    assert_eq!(run.status(0), Some(NodeStatus::Truncated(Limit::Depth)));
    run.assert_closed();
}

#[test]
fn more_children_than_their_counter_holds() {
    let mut run = Run::with_root(Limits {
        nodes_max: u32::MAX,
        children_max: u16::MAX,
        steps_max: u16::MAX,
        tokens_max: u64::MAX,
        action_max: u32::MAX,
        context_max: u32::MAX,
        concurrent_max: u32::MAX,
        deadline_us: None,
        depth_max: u8::MAX,
    });
    let mut launched = 0_u32;
    run.turn(0, 1, delegate(u8::MAX));
    loop {
        while let Some(Want::Open { parent, index }) = run.poll() {
            assert_eq!(u32::from(index), launched % 255);
            let node = run
                .driver
                .handle_spawn(parent, "", Budget::UNLIMITED, 0, &mut run.log)
                .unwrap();
            run.driver.handle_broken(node, 0, &mut run.log).unwrap();
            launched += 1;
            if launched.is_multiple_of(255) || launched == u32::from(u16::MAX) {
                break;
            }
        }
        if launched == u32::from(u16::MAX) {
            break;
        }
        assert_eq!(run.resume(0).len(), 255);
        run.outcome(0, delegate(u8::MAX), 0).unwrap();
    }
    // 65,535 is 257 full delegations: the next one is refused whole.
    assert_eq!(refused(&run.resume(0)), []);
    run.outcome(0, delegate(3), 0).unwrap();
    assert_eq!(refused(&run.resume(0)), [Limit::Children; 3]);
    assert_eq!(run.driver.tree().nodes()[0].children, u16::MAX);
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
}

#[test]
fn a_chain_as_deep_as_depth_can_say() {
    let mut run = Run::with_root(Limits {
        depth_max: u8::MAX,
        concurrent_max: 1,
        ..WIDE
    });
    for node in 0..255 {
        run.turn(node, 1, delegate(1));
        run.spawn(Some(node));
    }
    run.turn(255, 1, delegate(1));
    assert_eq!(refused(&run.resume(255)), [Limit::Depth]);
    run.outcome(255, DONE, 0).unwrap();
    for node in (0..255).rev() {
        run.resume(node);
        run.outcome(node, DONE, 0).unwrap();
    }
    run.assert_closed();
    assert_eq!(run.driver.tree().nodes()[0].critical_path(), 256);
}

#[test]
fn a_restart_gives_the_whole_window_back() {
    let mut run = Run::with_root(Limits {
        context_max: 10,
        ..WIDE
    });
    run.turn(0, 6, Outcome::Continue);
    run.sample(0);
    run.act(0, 1, Stop::Complete).unwrap();
    let context = run.driver.tree().nodes()[0].context;
    let mut window = [Token(0); 10];
    let mut seen = Observation::after(&mut window, context as usize);
    (0..9).for_each(|_| seen.push(Token(3)));
    assert!(seen.overflowed() && !seen.restarts());
    seen.restart();
    (0..8).for_each(|token| seen.push(Token(token)));
    assert!(!seen.overflowed() && seen.restarts());
    assert_eq!(seen.tokens(), [0, 1, 2, 3, 4, 5, 6, 7].map(Token));
    run.driver
        .handle_outcome(NodeId(0), Outcome::Continue, &seen, b"", 0, &mut run.log)
        .unwrap();

    let events: Vec<String> = run.log.events().map(|event| format!("{event:?}")).collect();
    let [.., restart, observe] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(
        restart.starts_with("Restart") && observe.starts_with("Observe"),
        "{restart}, {observe}"
    );
    let root = &run.driver.tree().nodes()[0];
    assert_eq!((root.context, root.restarts, root.earlier), (8, 1, context));
    // What is left of the window is what an action may take.
    assert!(matches!(run.poll(), Some(Want::Sample { room: 2, .. })));
    run.act(0, 2, Stop::Complete).unwrap();
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
    assert_eq!(
        run.driver.tree().nodes()[0].sampled,
        9,
        "what was said before still counts"
    );
}

#[test]
fn tokens_outside_the_buffer_are_dropped() {
    let mut room = [Token(0); 1];
    let mut seen = Observation::new(&mut room);
    seen.push(Token(1));
    assert!(!seen.overflowed());
    seen.push(Token(2));
    assert!(seen.overflowed());
    assert_eq!(seen.tokens(), [Token(1)]);
}
