//! Budgets: what a node was given is never passed by what is below it, and never more than its parent had left.

use crate::support::*;
use rao_proto::Event;
use rao_tree::{Budget, Launch, Limit, Limits, NodeId, NodeStatus, Outcome, Stop, Success, Want};

/// What the log says of a node: what it was given, what is used of it by the node and everything below, and when it ended.
struct Account {
    parent: Option<NodeId>,
    given: Budget,
    nodes: u32,
    tokens: u64,
    children: u16,
    steps: u16,
    ended: bool,
}

/// Keeps the books of a closed run from its events alone.
#[track_caller]
pub fn assert_within_budgets(log: &Log) {
    let mut accounts: Vec<Account> = Vec::new();
    for record in log.records() {
        match record.event {
            Event::Spawn {
                parent, budget: given, ..
            } => {
                for above in way_up(&accounts, parent) {
                    let above = &accounts[above.index()];
                    let left = Budget {
                        nodes: above.given.nodes - above.nodes,
                        tokens: above.given.tokens - above.tokens,
                        ..above.given
                    };
                    assert!(given.within(left), "{given:?} of {left:?}");
                    assert!(given.depth < above.given.depth);
                }
                for above in way_up(&accounts, parent) {
                    accounts[above.index()].nodes += 1;
                }
                if let Some(parent) = parent {
                    accounts[parent.index()].children += 1;
                }
                accounts.push(Account {
                    parent,
                    given,
                    nodes: 0,
                    tokens: 0,
                    children: 0,
                    steps: 0,
                    ended: false,
                });
            }
            Event::Act { node, tokens, .. } => {
                for above in way_up(&accounts, Some(node)) {
                    accounts[above.index()].tokens += tokens.len() as u64;
                }
                accounts[node.index()].steps += 1;
            }
            Event::Return { node, status, .. } => {
                let account = &mut accounts[node.index()];
                assert!(!std::mem::replace(&mut account.ended, true), "{node:?} ends twice");
                if status == NodeStatus::TimedOut && record.at_us > 1 {
                    let late = |account: &Account| account.given.deadline_us.is_some_and(|at| at <= record.at_us);
                    assert!(
                        late(&accounts[node.index()]) || late(&accounts[0]),
                        "{node:?} is timed out early"
                    );
                }
            }
            Event::Cancel { node, .. } => {
                let ended = std::mem::replace(&mut accounts[node.index()].ended, true);
                assert!(!ended, "{node:?} ends twice");
            }
            _ => {}
        }
        for (node, account) in accounts.iter().enumerate() {
            let Account { given, .. } = account;
            assert!(
                account.nodes <= given.nodes && account.tokens <= given.tokens,
                "node {node} is overdrawn"
            );
            assert!(
                account.children <= given.children && account.steps <= given.steps,
                "node {node}"
            );
        }
    }
    assert!(accounts.iter().all(|account| account.ended));
}

fn way_up(accounts: &[Account], from: Option<NodeId>) -> Vec<NodeId> {
    std::iter::successors(from, |node| accounts[node.index()].parent).collect()
}

fn spawn(run: &mut Run, parent: u32, wish: Budget) -> NodeId {
    let parent = Some(NodeId(parent));
    assert!(matches!(run.poll(), Some(Want::Open { parent: on_offer, .. }) if on_offer == parent));
    let node = run.driver.handle_spawn(parent, "", wish, 0, &mut run.log).unwrap();
    run.prompt(node, 1).unwrap();
    node
}

fn given(run: &Run, node: NodeId) -> Budget {
    run.driver.tree().node(node).unwrap().budget
}

#[test]
fn a_wish_for_everything_takes_what_is_left() {
    let mut run = Run::with_root(WIDE);
    assert_eq!(given(&run, NodeId::ROOT), WIDE.budget());
    run.turn(0, 10, delegate(3));
    let child = spawn(&mut run, 0, Budget::UNLIMITED);
    let expected = Budget {
        depth: 7,
        // A thousand less the root, and three that are admitted.
        nodes: 996,
        tokens: 999_990,
        ..WIDE.budget()
    };
    assert_eq!(given(&run, child), expected);
    assert_eq!(run.driver.left(child), Some(expected));
    // Of its own caps the root has used some; its child begins afresh.
    let left = run.driver.left(NodeId::ROOT).unwrap();
    assert_eq!((left.steps, left.children), (49, 99));
    assert_eq!(run.driver.left(NodeId(9)), None);
}

#[test]
fn a_child_that_was_given_tokens_leaves_the_rest_alone() {
    let mut run = Run::with_root(Limits { action_max: 6, ..WIDE });
    run.turn(0, 1, delegate(2));
    let wish = Budget {
        tokens: 8,
        ..Budget::UNLIMITED
    };
    let child = spawn(&mut run, 0, wish);
    assert_eq!(run.sample(1), 6);
    assert_eq!(run.driver.left(child).unwrap().tokens, 8, "not spent yet");
    run.spawn(Some(0));
    run.act(1, 6, Stop::Complete).unwrap();
    run.outcome(1, delegate(1), 0).unwrap();
    assert_eq!(run.sample(2), 6, "its sibling has a pot of its own");
    let grandchild = spawn(&mut run, 1, Budget::UNLIMITED);
    assert_eq!(given(&run, grandchild).tokens, 2);
    assert_eq!(run.sample(3), 2);
    run.act(3, 2, Stop::Length).unwrap();
    run.outcome(3, DONE, 0).unwrap();
    // What the grandchild spent is gone for the child.
    run.resume(1);
    run.outcome(1, Outcome::Continue, 0).unwrap();
    assert_eq!(run.poll(), Some(Want::Retire { node: child }));
    assert_eq!(run.status(1), Some(NodeStatus::Truncated(Limit::Tokens)));
    assert_eq!(run.driver.left(NodeId::ROOT).unwrap().tokens, WIDE.tokens_max - 9);
}

#[test]
fn refusals_name_the_part_of_the_budget() {
    for (wish, limit, admitted) in [
        (
            Budget {
                depth: 0,
                ..Budget::UNLIMITED
            },
            Limit::Depth,
            0,
        ),
        (
            Budget {
                nodes: 2,
                ..Budget::UNLIMITED
            },
            Limit::Nodes,
            2,
        ),
        (
            Budget {
                children: 1,
                ..Budget::UNLIMITED
            },
            Limit::Children,
            1,
        ),
    ] {
        let mut run = Run::with_root(WIDE);
        run.turn(0, 1, delegate(1));
        spawn(&mut run, 0, wish);
        run.turn(1, 1, delegate(3));
        for node in 0..admitted {
            run.spawn(Some(1));
            run.turn(2 + node, 1, DONE);
        }
        let launches = run.resume(1);
        let refused = launches.iter().filter(|launch| **launch == Launch::Refused(limit));
        assert_eq!(refused.count() as u32, 3 - admitted, "{launches:?}");
        assert_eq!(run.driver.tree().refusals().by(limit), 3 - admitted);
        assert_eq!(run.driver.tree().refusals().total(), u64::from(3 - admitted));
    }
}

#[test]
fn steps_of_a_child() {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(1));
    let wish = Budget {
        steps: 2,
        ..Budget::UNLIMITED
    };
    let child = spawn(&mut run, 0, wish);
    run.turn(1, 1, Outcome::Continue);
    run.turn(1, 1, Outcome::Continue);
    assert_eq!(run.poll(), Some(Want::Retire { node: child }));
    assert_eq!(run.status(1), Some(NodeStatus::Truncated(Limit::Steps)));
}

#[test]
fn a_child_is_timed_out_when_it_is_due_and_its_parent_goes_on() {
    let mut run = Run::with_root(WIDE);
    run.turn(0, 1, delegate(1));
    let wish = Budget {
        deadline_us: Some(100),
        ..Budget::UNLIMITED
    };
    let child = spawn(&mut run, 0, wish);
    let poll = |run: &mut Run, at_us| run.driver.poll(at_us, &mut run.log).unwrap();
    assert!(matches!(poll(&mut run, 99), Some(Want::Sample { .. })));
    // Its action was under way when its time ran out: that is still taken.
    assert_eq!(run.act(1, 1, Stop::Complete), Ok(true));
    run.outcome(1, delegate(1), 0).unwrap();
    assert!(matches!(poll(&mut run, 99), Some(Want::Open { .. })));
    let grandchild = run
        .driver
        .handle_spawn(Some(child), "", Budget::UNLIMITED, 99, &mut run.log)
        .unwrap();
    assert_eq!(
        given(&run, grandchild).deadline_us,
        Some(100),
        "no later than its parent's"
    );
    run.prompt(grandchild, 1).unwrap();
    assert_eq!(poll(&mut run, 100), Some(Want::Retire { node: grandchild }));
    assert_eq!(poll(&mut run, 100), Some(Want::Retire { node: child }));
    assert_eq!(run.status(1), Some(NodeStatus::TimedOut));
    let late = Launch::Ended {
        node: child,
        status: NodeStatus::TimedOut,
        success: Success::ZERO,
        answered: false,
    };
    assert_eq!(run.resume(0), [late]);
    run.outcome(0, DONE, 0).unwrap();
    run.assert_closed();
}

#[test]
fn when_the_root_is_late_the_run_is_over() {
    let mut run = Run::with_root(Limits {
        deadline_us: Some(100),
        ..WIDE
    });
    run.turn(0, 1, delegate(2));
    run.spawn(Some(0));
    run.sample(1);
    assert_eq!(run.driver.poll(100, &mut run.log), Ok(None));
    for node in 0..2 {
        assert_eq!(run.status(node), Some(NodeStatus::TimedOut));
    }
    assert!(run.act(1, 1, Stop::Complete).is_err(), "too late");
    run.assert_closed();
    assert_eq!(run.driver.poll(101, &mut run.log), Ok(None), "once");
}

#[test]
fn a_log_that_widens_a_budget_is_refused() {
    use rao_tree::{Depth, Tree, TreeError};
    let base = Budget {
        depth: 3,
        nodes: 10,
        children: 4,
        steps: 5,
        tokens: 100,
        deadline_us: Some(1_000),
    };
    let spawn = |node: u32, budget| Event::Spawn {
        node: NodeId(node),
        parent: (node > 0).then_some(NodeId::ROOT),
        depth: Depth(u8::from(node > 0)),
        task: "",
        budget,
    };
    let mut tree = Tree::new(VecArena::default());
    tree.apply(&spawn(0, base)).unwrap();
    let child = base.of_child();
    for wider in [
        Budget { depth: 3, ..child },
        Budget { nodes: 11, ..child },
        Budget { children: 5, ..child },
        Budget { steps: 6, ..child },
        Budget { tokens: 101, ..child },
        Budget {
            deadline_us: Some(1_001),
            ..child
        },
        Budget {
            deadline_us: None,
            ..child
        },
    ] {
        let refused = tree.apply(&spawn(1, wider));
        assert_eq!(refused, Err(TreeError::WiderBudget(NodeId(1))), "{wider:?}");
    }
    tree.apply(&spawn(1, child)).unwrap();

    let mut tree = Tree::new(VecArena::default());
    tree.apply(&spawn(0, Budget { depth: 0, ..base })).unwrap();
    let below = Budget { depth: 0, ..child };
    assert_eq!(tree.apply(&spawn(1, below)), Err(TreeError::WiderBudget(NodeId(1))));
}
