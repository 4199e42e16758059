//! One call at a time: what the driver wants next, and what it refuses.

use crate::support::*;
use rao_proto::Event;
use rao_tree::{
    Action, Answer, Budget, DriverError, Launch, Limit, Limits, NodeId, NodeStatus, Observation, Outcome, Stop,
    Success, Token, Want, WeightsVersion,
};

#[test]
fn a_run_of_one_node() {
    let mut run = Run::open(WIDE);
    assert_eq!(run.poll(), Some(Want::Open { parent: None, index: 0 }));
    assert_eq!(run.driver.live(), 0);
    run.spawn(None);
    assert_eq!(run.driver.live(), 1);
    assert_eq!(run.sample(0), 100);
    assert_eq!(run.poll(), None, "everything is with the caller");
    assert_eq!(run.act(0, 3, Stop::Complete), Ok(true));
    run.outcome(0, Outcome::Continue, 2).unwrap();
    run.turn(0, 4, Outcome::Finish(Success::new(0.5).unwrap()));
    run.assert_closed();
    let root = &run.driver.tree().nodes()[0];
    assert_eq!((root.steps, root.sampled, root.context), (2, 7, 1 + 3 + 2 + 4));
    assert_eq!(root.success.value(), 0.5);
    assert_eq!(run.driver.tokens_spent(), 7);
}

#[test]
fn children_are_resumed_in_the_order_of_the_delegation() {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(3));
    for node in [1, 2, 3] {
        run.spawn(Some(0));
        run.sample(node);
    }
    assert_eq!(run.driver.launch(NodeId::ROOT, 0), None, "it is not over");
    // They end in another order.
    for node in [2, 3, 1] {
        run.act(node, 1, Stop::Complete).unwrap();
        run.outcome(node, DONE, 0).unwrap();
    }
    let launches = run.resume(0);
    assert_eq!(launches, [1, 2, 3].map(finished));
    assert_eq!(run.driver.launch(NodeId::ROOT, 3), None);
    assert_eq!(run.driver.launch(NodeId(9), 0), None);
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
}

#[test]
fn a_launch_on_offer_is_still_good_after_another_node_delegates() {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(3));
    run.spawn(Some(0));
    run.sample(1);
    run.act(1, 1, Stop::Complete).unwrap();
    let offer = run.poll();
    assert_eq!(
        offer,
        Some(Want::Open {
            parent: Some(NodeId(0)),
            index: 1
        })
    );
    // While the caller makes the environment of the second child, the first one delegates.
    run.outcome(1, delegate(2), 0).unwrap();
    assert_eq!(run.poll(), offer);
    run.spawn(Some(0));
    // Then the deepest come first, and the stack of parents is whole.
    run.sample(2);
    for parent in [1, 1, 0] {
        let node = run.spawn(Some(parent)).0;
        run.sample(node);
    }
    for node in [2, 3, 4, 5] {
        run.act(node, 1, Stop::Complete).unwrap();
        run.outcome(node, DONE, 0).unwrap();
    }
    assert_eq!(run.resume(1), [3, 4].map(finished));
    run.outcome(1, DONE, 0).unwrap();
    assert_eq!(run.resume(0), [1, 2, 5].map(finished));
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
}

#[test]
fn the_last_launch_on_offer_is_taken_from_below() {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(2));
    run.spawn(Some(0));
    run.sample(1);
    run.act(1, 1, Stop::Complete).unwrap();
    assert_eq!(
        run.poll(),
        Some(Want::Open {
            parent: Some(NodeId(0)),
            index: 1
        })
    );
    run.outcome(1, delegate(1), 0).unwrap();
    run.spawn(Some(0));
    run.turn(2, 1, DONE);
    run.spawn(Some(1));
    run.turn(3, 1, DONE);
    run.resume(1);
    run.outcome(1, DONE, 0).unwrap();
    run.resume(0);
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
}

#[test]
fn nothing_is_spawned_that_was_not_offered() {
    let mut run = Run::open(WIDE);
    let not_due = |node| Err(DriverError::NotDue(NodeId(node)));
    assert_eq!(
        run.driver.handle_spawn(None, "", Budget::UNLIMITED, 0, &mut run.log),
        not_due(0)
    );
    run.spawn(None);
    assert_eq!(
        run.driver.handle_spawn(None, "", Budget::UNLIMITED, 0, &mut run.log),
        not_due(0)
    );
    run.turn(0, 1, delegate(2));
    assert_eq!(
        run.driver
            .handle_spawn(Some(NodeId(0)), "", Budget::UNLIMITED, 0, &mut run.log),
        not_due(0)
    );
    run.spawn(Some(0));
    // The second launch needs an offer of its own: there might be no place for it.
    assert_eq!(
        run.driver
            .handle_spawn(Some(NodeId(0)), "", Budget::UNLIMITED, 0, &mut run.log),
        not_due(0)
    );
    assert_eq!(
        run.driver
            .handle_spawn(Some(NodeId(7)), "", Budget::UNLIMITED, 0, &mut run.log),
        not_due(7)
    );
}

#[test]
fn calls_out_of_turn_change_nothing() {
    let mut run = Run::with_root(WIDE);
    let before = run.log.0.len();
    let out_of_turn = |result: Result<(), DriverError>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, DriverError::OutOfTurn { .. } | DriverError::NotDue(_)),
            "{error}"
        );
    };
    out_of_turn(run.prompt(NodeId(0), 1));
    out_of_turn(run.act(0, 1, Stop::Complete).map(drop));
    out_of_turn(run.outcome(0, DONE, 0));
    out_of_turn(run.driver.handle_broken(NodeId(0), 0, &mut run.log));
    out_of_turn(run.prompt(NodeId(1), 1));
    out_of_turn(run.act(1, 1, Stop::Complete).map(drop));
    out_of_turn(run.outcome(1, DONE, 0));
    out_of_turn(run.driver.handle_broken(NodeId(1), 0, &mut run.log));
    assert_eq!(run.log.0.len(), before);
    run.turn(0, 1, DONE);
    run.assert_closed();
    out_of_turn(run.outcome(0, DONE, 0));
}

#[test]
fn an_action_that_is_none_leaves_the_node_with_the_caller() {
    let mut run = Run::with_root(Limits { action_max: 2, ..WIDE });
    run.sample(0);
    let over = DriverError::OverRoom {
        node: NodeId(0),
        tokens: 3,
        room: 2,
    };
    assert_eq!(run.act(0, 3, Stop::Complete), Err(over));
    let mut act = |tokens: &[Token], logprobs: &[f32]| {
        let action = Action {
            tokens,
            logprobs,
            weights: WeightsVersion(0),
            stop: Stop::Complete,
        };
        run.driver.handle_action(NodeId(0), action, 0, &mut run.log)
    };
    let unpaired = DriverError::Unpaired {
        node: NodeId(0),
        tokens: 2,
        logprobs: 1,
    };
    assert_eq!(act(&[Token(0); 2], &[-1.0]), Err(unpaired));
    assert!(matches!(
        act(&[Token(0); 2], &[-1.0, f32::NAN]),
        Err(DriverError::Logprob(_))
    ));
    assert_eq!(act(&[Token(0); 2], &[-1.0, 0.0]), Ok(true));
    assert_eq!(
        run.outcome(0, delegate(0), 0),
        Err(DriverError::EmptyDelegation(NodeId(0)))
    );
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
}

#[test]
fn what_breaks_costs_its_node_alone() {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(3));
    // One breaks before its prompt, one while it is sampled, one while it is stepped.
    assert!(matches!(run.poll(), Some(Want::Open { .. })));
    let first = run
        .driver
        .handle_spawn(Some(NodeId(0)), "", Budget::UNLIMITED, 0, &mut run.log)
        .unwrap();
    run.driver.handle_broken(first, 0, &mut run.log).unwrap();
    run.spawn(Some(0));
    run.sample(2);
    run.driver.handle_broken(NodeId(2), 0, &mut run.log).unwrap();
    run.spawn(Some(0));
    run.sample(3);
    run.act(3, 5, Stop::Length).unwrap();
    run.driver.handle_broken(NodeId(3), 0, &mut run.log).unwrap();
    assert_eq!(run.resume(0).len(), 3);
    for node in [1, 2, 3] {
        assert_eq!(run.status(node), Some(NodeStatus::Invalid));
    }
    assert_eq!(run.status(0), None);
    assert_eq!(run.driver.tokens_spent(), 6);
    // And the root while it is resumed.
    run.driver.handle_broken(NodeId(0), 0, &mut run.log).unwrap();
    run.assert_closed();
}

#[test]
fn a_policy_that_cannot_act_ends_its_node() {
    for (stop, status) in [
        (Stop::Stuck, NodeStatus::Invalid),
        (Stop::Failed, NodeStatus::Invalid),
        (Stop::ContextOverflow, NodeStatus::Truncated(Limit::Context)),
    ] {
        for tokens in [0, 2] {
            let mut run = Run::with_root(WIDE);
            run.sample(0);
            assert_eq!(run.act(0, tokens, stop), Ok(false));
            assert_eq!(run.status(0), Some(status));
            assert_eq!(run.driver.tree().nodes()[0].steps, u16::from(tokens > 0));
            run.assert_closed();
        }
    }
}

#[test]
fn sequential_delegations_add_up_and_concurrent_ones_do_not() {
    // Children of 10 and 30 tokens, once side by side, once one after the other without an action or a word in between.
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(2));
    run.spawn(Some(0));
    run.turn(1, 10, DONE);
    run.spawn(Some(0));
    run.turn(2, 30, DONE);
    run.resume(0);
    run.outcome(0, Outcome::Continue, 0).unwrap();
    run.turn(0, 1, DONE);
    run.assert_closed();
    assert_eq!(run.driver.tree().nodes()[0].critical_path(), 1 + 30 + 1);

    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(1));
    run.spawn(Some(0));
    run.turn(1, 10, DONE);
    run.resume(0);
    run.outcome(0, delegate(1), 0).unwrap();
    run.spawn(Some(0));
    run.turn(2, 30, DONE);
    run.resume(0);
    run.outcome(0, Outcome::Continue, 0).unwrap();
    run.turn(0, 1, DONE);
    run.assert_closed();
    assert_eq!(run.driver.tree().nodes()[0].critical_path(), 1 + 10 + 30 + 1);
}

/// The verdict of a node, as a judge gives it.
fn verdict(run: &mut Run, node: u32, verdict: Option<Success>) -> Result<(), DriverError> {
    run.driver.handle_verdict(NodeId(node), verdict, 0, &mut run.log)
}

#[test]
fn a_run_stays_open_until_every_verdict_is_in() {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(2));
    run.spawn(Some(0));
    run.turn(1, 1, Outcome::Submit);
    run.spawn(Some(0));
    // The first verdict is in before the parent goes on, which sees that its children finished, and no success all the same.
    verdict(&mut run, 1, Some(Success::ONE)).unwrap();
    run.turn(2, 1, Outcome::Submit);
    let unjudged = |node| Launch::Ended {
        node: NodeId(node),
        status: NodeStatus::Finished,
        success: Success::ZERO,
        answered: true,
    };
    assert_eq!(run.resume(0), [unjudged(1), unjudged(2)]);
    run.outcome(0, Outcome::Submit, 0).unwrap();
    assert_eq!(
        (run.poll(), run.driver.is_closed(), run.driver.verdicts_due()),
        (None, false, 2)
    );

    verdict(&mut run, 2, None).unwrap();
    assert!(matches!(
        verdict(&mut run, 2, Some(Success::ONE)),
        Err(DriverError::OutOfTurn { .. })
    ));
    assert!(!run.driver.is_closed());
    verdict(&mut run, 0, Some(Success::ONE)).unwrap();
    run.assert_closed();
    let judged: Vec<_> = run
        .driver
        .tree()
        .nodes()
        .iter()
        .map(|node| (node.judged(), node.success))
        .collect();
    let (finished, invalid) = (Some(NodeStatus::Finished), Some(NodeStatus::Invalid));
    assert_eq!(
        judged,
        [
            (finished, Success::ONE),
            (finished, Success::ONE),
            // Never a zero: it counts nowhere.
            (invalid, Success::ZERO)
        ]
    );
}

#[test]
fn a_verdict_that_does_not_come_in_time_leaves_its_node_unjudged() {
    let mut run = Run::with_root(Limits {
        deadline_us: Some(100),
        ..WIDE
    });
    run.turn(0, 1, Outcome::Submit);
    assert_eq!(run.driver.poll(99, &mut run.log), Ok(None));
    assert!(!run.driver.is_closed());
    assert_eq!(run.driver.poll(100, &mut run.log), Ok(None));
    run.assert_closed();
    assert_eq!(run.status(0), Some(NodeStatus::Finished));
    assert_eq!(run.driver.tree().nodes()[0].judged(), Some(NodeStatus::Invalid));
    assert!(verdict(&mut run, 0, Some(Success::ONE)).is_err());
    assert!(verdict(&mut run, 7, None).is_err());
}

#[test]
fn an_overflowing_observation_ends_the_node_unless_it_is_done() {
    let overflowing = |run: &mut Run, outcome| {
        let mut room = [Token(0); 2];
        let mut seen = Observation::new(&mut room);
        (0..3).for_each(|_| seen.push(Token(2)));
        run.driver
            .handle_outcome(NodeId(0), outcome, &seen, b"", 0, &mut run.log)
            .unwrap();
    };
    for (outcome, status) in [
        (Outcome::Continue, NodeStatus::Truncated(Limit::Context)),
        (delegate(2), NodeStatus::Truncated(Limit::Context)),
        (Outcome::Truncate(Limit::Steps), NodeStatus::Truncated(Limit::Steps)),
        (Outcome::Fail, NodeStatus::Failed),
        (DONE, NodeStatus::Finished),
    ] {
        let mut run = Run::with_root(WIDE);
        run.sample(0);
        run.act(0, 1, Stop::Complete).unwrap();
        overflowing(&mut run, outcome);
        assert_eq!(run.status(0), Some(status));
        run.assert_closed();
    }
}

/// A run with a node at each stage: 0 waits, 1 samples, 2 is stepped, 3 is due to be sampled, 4 opens, 5 is due to be resumed, 6 has
/// ended, and one launch of the root is on offer.
fn at_every_stage() -> Run {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(6));
    for _ in 0..2 {
        let node = run.spawn(Some(0)).0;
        run.sample(node);
    }
    run.act(2, 3, Stop::Complete).unwrap();
    let open = |run: &mut Run| {
        assert!(matches!(run.poll(), Some(Want::Open { .. })));
        run.driver
            .handle_spawn(Some(NodeId(0)), "", Budget::UNLIMITED, 0, &mut run.log)
            .unwrap()
    };
    let three = open(&mut run);
    let four = open(&mut run);
    let five = open(&mut run);
    run.prompt(five, 1).unwrap();
    run.turn(5, 1, delegate(1));
    assert!(matches!(
        run.poll(),
        Some(Want::Open {
            parent: Some(NodeId(5)),
            ..
        })
    ));
    let six = run
        .driver
        .handle_spawn(Some(five), "", Budget::UNLIMITED, 0, &mut run.log)
        .unwrap();
    assert!(matches!(
        run.poll(),
        Some(Want::Open {
            parent: Some(NodeId(0)),
            ..
        })
    ));
    run.driver.handle_broken(six, 0, &mut run.log).unwrap();
    run.prompt(three, 1).unwrap();
    assert_eq!((four, six), (NodeId(4), NodeId(6)));
    run
}

#[test]
fn a_deadline_ends_whatever_is_under_way() {
    let mut run = at_every_stage();
    run.driver.handle_deadline(9, &mut run.log).unwrap();
    run.assert_closed();
    for node in 0..=5 {
        assert_eq!(run.status(node), Some(NodeStatus::TimedOut));
    }
    assert_eq!(run.status(6), Some(NodeStatus::Invalid));
    // Answers that come too late, and a second deadline, change nothing.
    let len = run.log.0.len();
    assert!(run.act(1, 1, Stop::Complete).is_err());
    assert!(run.outcome(2, DONE, 0).is_err());
    assert!(run.prompt(NodeId(4), 1).is_err());
    assert!(
        run.driver
            .handle_spawn(Some(NodeId(0)), "", Budget::UNLIMITED, 0, &mut run.log)
            .is_err()
    );
    run.driver.handle_deadline(10, &mut run.log).unwrap();
    run.driver.handle_cancel(10, &mut run.log).unwrap();
    assert_eq!(run.log.0.len(), len);
}

#[test]
fn a_cancellation_ends_children_before_their_parents() {
    let mut run = at_every_stage();
    run.driver.handle_cancel(9, &mut run.log).unwrap();
    run.assert_closed();
    let cancelled = run.log.events().filter_map(|event| match event {
        Event::Cancel { node, .. } => Some(node.0),
        _ => None,
    });
    assert_eq!(cancelled.collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_run_that_is_stopped_before_its_root_exists_has_no_nodes() {
    let mut run = Run::open(WIDE);
    run.poll();
    run.driver.handle_cancel(0, &mut run.log).unwrap();
    run.assert_closed();
    assert!(run.driver.tree().nodes().is_empty());
    assert!(
        run.driver
            .handle_spawn(None, "", Budget::UNLIMITED, 0, &mut run.log)
            .is_err()
    );
}

#[test]
fn only_what_its_environment_ended_hands_an_answer_over() {
    let mut run = Run::with_root(Limits { steps_max: 1, ..WIDE });
    run.turn(0, 1, delegate(6));
    for node in 1..=6 {
        run.spawn(Some(0));
        run.sample(node);
    }
    let outcomes = [DONE, Outcome::Fail, Outcome::Truncate(Limit::Tokens)];
    for (node, outcome) in (1..).zip(outcomes) {
        run.act(node, 1, Stop::Complete).unwrap();
        run.outcome(node, outcome, 0).unwrap();
    }
    run.act(4, 1, Stop::Complete).unwrap();
    run.outcome(4, Outcome::Continue, 0).unwrap();
    run.act(5, 1, Stop::Stuck).unwrap();
    run.driver.handle_broken(NodeId(6), 0, &mut run.log).unwrap();
    assert_eq!(run.poll(), Some(Want::Retire { node: NodeId(4) }));
    let answers = run.resume(0).into_iter().map(|launch| match launch.answer(b"said") {
        Answer::Ended { status, value, .. } => (status, value),
        Answer::Refused(limit) => panic!("refused by {limit}"),
    });
    let expected: [(NodeStatus, &[u8]); 6] = [
        (NodeStatus::Finished, b"said"),
        (NodeStatus::Failed, b"said"),
        (NodeStatus::Truncated(Limit::Tokens), b"said"),
        (NodeStatus::Truncated(Limit::Steps), b""),
        (NodeStatus::Invalid, b""),
        (NodeStatus::Invalid, b""),
    ];
    assert!(answers.eq(expected));
}
