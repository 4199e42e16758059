//! The tables of the module documentation, cell by cell.

use crate::forest::*;
use rao_proto::{Budget, Event};
use rao_tree::credit::{Credit, Estimator, LoneRoot, LostRoot, Member, Rule};
use rao_tree::{Depth, Limit, NodeId, NodeStatus, Tree};

/// One row: how a node ended (`None`: it has not) with a recorded success of 0.5, and what that counts for.
struct Row {
    status: Option<NodeStatus>,
    /// Own success s.
    success: f32,
    /// The node counts: in the child mean, in the baseline, in the depth count, in training.
    counts: bool,
}

fn rows() -> Vec<Row> {
    let row = |status, success, counts| Row {
        status: Some(status),
        success,
        counts,
    };
    let mut rows = vec![
        row(NodeStatus::Finished, 0.5, true),
        row(NodeStatus::Failed, 0.0, true),
        row(NodeStatus::TimedOut, 0.0, false),
        row(NodeStatus::Cancelled, 0.0, false),
        row(NodeStatus::Invalid, 0.0, false),
        Row {
            status: None,
            success: 0.0,
            counts: false,
        },
    ];
    rows.extend(Limit::ALL.map(|limit| row(NodeStatus::Truncated(limit), 0.0, true)));
    rows
}

#[test]
fn own_success() {
    for row in rows() {
        let root = node(None, row.status, 0.5);
        assert_eq!(root.success(), row.success, "{:?}", row.status);
        assert_eq!(root.counts(), row.counts, "{:?}", row.status);
        assert_eq!(
            rewards(&estimator(1.0), &tree(&[root])),
            [row.success],
            "{:?}",
            row.status
        );
    }
}

#[test]
fn in_the_child_mean() {
    for row in rows() {
        let nodes = [
            finished(None, 0.0),
            finished(Some(0), 1.0),
            node(Some(0), row.status, 0.5),
        ];
        let mean = if row.counts { (1.0 + row.success) / 2.0 } else { 1.0 };
        assert_eq!(rewards(&estimator(1.0), &tree(&nodes))[0], mean, "{:?}", row.status);
    }
}

#[test]
fn as_the_only_child() {
    for row in rows() {
        let nodes = [finished(None, 0.25), node(Some(0), row.status, 0.5)];
        let reward = 0.25 + row.success;
        assert_eq!(rewards(&estimator(1.0), &tree(&nodes))[0], reward, "{:?}", row.status);
    }
}

#[test]
fn in_the_baseline() {
    for row in rows() {
        // A child that counts shows the baseline of a tree whose root does not.
        let group = [
            tree(&[node(None, row.status, 0.5), finished(Some(0), 0.0)]),
            tree(&[finished(None, 1.0)]),
            tree(&[finished(None, 0.0)]),
        ];
        let others = if row.counts {
            [0.5, row.success / 2.0, (1.0 + row.success) / 2.0]
        } else {
            [0.5, 0.0, 1.0]
        };
        assert_close(&baselines(&estimator(0.0), &group), &others);
    }
}

#[test]
fn in_the_depth_count_and_trained() {
    for row in rows() {
        let group = vec![
            tree(&[
                finished(None, 1.0),
                finished(Some(0), 0.0),
                node(Some(0), row.status, 0.5),
            ]),
            tree(&[finished(None, 0.0)]),
            tree(&[finished(None, 1.0)]),
        ];
        let credits = credits(&estimator(0.0), &[group]).remove(0);
        let (advantage, weight) = if row.counts {
            // Three roots and two children: 5 / (2 levels * 2).
            (row.success - 0.5, 1.25)
        } else {
            (0.0, 2.0)
        };
        assert_eq!(credits[0][2].advantage, advantage, "{:?}", row.status);
        assert_close(&[credits[0][2].weighted], &[advantage * weight]);
        assert_close(&[credits[0][1].weighted], &[-0.5 * weight]);
    }
}

#[test]
fn a_node_that_has_not_ended_is_running_and_a_refused_launch_is_no_node() {
    let mut tree = Tree::new(heapless::Vec::<_, 4>::new());
    let spawn = Event::Spawn {
        node: NodeId::ROOT,
        parent: None,
        depth: Depth(0),
        task: "",
        budget: Budget::UNLIMITED,
    };
    let refuse = Event::Refuse {
        parent: NodeId::ROOT,
        index: 0,
        limit: Limit::Depth,
    };
    tree.apply(&spawn).unwrap();
    tree.apply(&refuse).unwrap();
    let members: Vec<_> = tree.nodes().iter().map(Member::from).collect();
    assert_eq!(members, [Member::new(None, Depth(0), None)]);
}

/// A log that lost a score does not turn a success into a failure.
#[test]
fn a_node_without_a_score_could_not_be_judged() {
    let mut tree = Tree::new(heapless::Vec::<_, 4>::new());
    let node = NodeId::ROOT;
    let spawn = Event::Spawn {
        node,
        parent: None,
        depth: Depth(0),
        task: "",
        budget: Budget::UNLIMITED,
    };
    let status = NodeStatus::Finished;
    tree.apply(&spawn).unwrap();
    tree.apply(&Event::Return {
        node,
        status,
        value: &[],
    })
    .unwrap();
    assert_eq!(Member::from(&tree.nodes()[0]).status, Some(NodeStatus::Invalid));
    let success = rao_tree::Success::ZERO;
    tree.apply(&Event::Score { node, success }).unwrap();
    assert_eq!(Member::from(&tree.nodes()[0]).status, Some(NodeStatus::Finished));
}

/// Two trees: a root that ended like this over a child of success 1, and a root of success 0 over a child of success 0.5.
fn beside(status: NodeStatus) -> Vec<Vec<Member>> {
    vec![
        tree(&[ended(None, status, 0.0), finished(Some(0), 1.0)]),
        tree(&[finished(None, 0.0), finished(Some(0), 0.5)]),
    ]
}

fn advantages(estimator: &Estimator, group: Vec<Vec<Member>>) -> Vec<f32> {
    let credits = credits(estimator, &[group]).remove(0);
    credits
        .iter()
        .flatten()
        .map(|credit: &Credit| credit.advantage)
        .collect()
}

#[test]
fn a_root_that_never_finished() {
    for status in [NodeStatus::TimedOut, NodeStatus::Cancelled, NodeStatus::Invalid] {
        // The child of the lost root trains against the other root; that one is alone and is compared with itself.
        assert_eq!(
            advantages(&estimator(0.0), beside(status)),
            [0.0, 1.0, 0.0, 0.5],
            "{status:?}"
        );
        let drop_tree = Estimator {
            lost_root: LostRoot::DropTree,
            ..estimator(0.0)
        };
        assert_eq!(
            advantages(&drop_tree, beside(status)),
            [0.0, 0.0, 0.0, 0.5],
            "{status:?}"
        );
        for rule in [Rule::Sparse, Rule::RootBroadcast] {
            let estimator = Estimator { rule, ..estimator(0.0) };
            assert_eq!(advantages(&estimator, beside(status)), [0.0; 4], "{status:?}");
        }
        // What is dropped is in no depth count: one root and one child are left of the weights, too.
        let dropped = credits(&drop_tree, &[beside(status)]).remove(0);
        assert_eq!(dropped[1][1].weighted, 0.5, "{status:?}");
        let kept = credits(&estimator(0.0), &[beside(status)]).remove(0);
        // 3 nodes: one root, two children.
        assert_eq!(kept[1][1].weighted, 0.5 * 3.0 / 4.0, "{status:?}");
    }
    // A root that failed has an end like any other.
    let failed = advantages(&estimator(0.0), beside(NodeStatus::Failed));
    assert_eq!(failed, [0.0, 1.0, 0.0, 0.5]);
    let tree_rules = [Rule::Pooled, Rule::TreeGrpo, Rule::TreeRl];
    for rule in tree_rules {
        let keep = Estimator { rule, ..estimator(0.0) };
        let lost = advantages(&keep, beside(NodeStatus::Invalid));
        assert_eq!(lost[0], 0.0, "{rule:?}: the root itself is never trained");
        let drop = Estimator {
            lost_root: LostRoot::DropTree,
            ..keep
        };
        let dropped = advantages(&drop, beside(NodeStatus::Invalid));
        assert_eq!(dropped[..2], [0.0; 2], "{rule:?}");
        let alone = advantages(&drop, beside(NodeStatus::Invalid).split_off(1));
        assert_close(&dropped[2..], &alone);
    }
}

#[test]
fn a_group_in_which_one_root_counts() {
    let group = || beside(NodeStatus::Invalid);
    assert_eq!(advantages(&estimator(0.0), group()), [0.0, 1.0, 0.0, 0.5]);
    let zero = Estimator {
        lone_root: LoneRoot::Zero,
        ..estimator(0.0)
    };
    assert_eq!(advantages(&zero, group()), [0.0; 4]);
    assert_eq!(assign(&zero, &[group(), golden()]).unwrap().1, 1);
    // Two roots that count are not alone.
    let (zero, centred) = (advantages(&zero, golden()), advantages(&estimator(0.0), golden()));
    assert_eq!(zero, centred);
}
