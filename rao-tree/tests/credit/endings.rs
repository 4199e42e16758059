//! The table of the module documentation, cell by cell.

use crate::forest::*;
use rao_tree::credit::{Credit, DepthCounts, Estimator, Member};
use rao_tree::{Depth, Limit, NodeId, NodeStatus, Tree};

/// One row: how a node ended with a recorded success of 0.5, and what that counts for.
struct Row {
    status: NodeStatus,
    /// Own success s.
    success: f32,
    /// The node counts: in the child mean, in the baseline, in the depth count, in training.
    counts: bool,
}

fn rows() -> Vec<Row> {
    let row = |status, success, counts| Row {
        status,
        success,
        counts,
    };
    let limits = [
        Limit::Depth,
        Limit::Nodes,
        Limit::Children,
        Limit::Steps,
        Limit::Tokens,
        Limit::Context,
    ];
    let mut rows = vec![
        row(NodeStatus::Finished, 0.5, true),
        row(NodeStatus::Failed, 0.0, true),
        row(NodeStatus::TimedOut, 0.0, false),
        row(NodeStatus::Cancelled, 0.0, false),
        row(NodeStatus::Invalid, 0.0, false),
    ];
    rows.extend(limits.map(|limit| row(NodeStatus::Truncated(limit), 0.0, true)));
    rows
}

#[test]
fn own_success() {
    for row in rows() {
        let root = ended(None, row.status, 0.5);
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
            ended(Some(0), row.status, 0.5),
        ];
        let mean = if row.counts { (1.0 + row.success) / 2.0 } else { 1.0 };
        assert_eq!(rewards(&estimator(1.0), &tree(&nodes))[0], mean, "{:?}", row.status);
    }
}

#[test]
fn as_the_only_child() {
    for row in rows() {
        let nodes = [finished(None, 0.25), ended(Some(0), row.status, 0.5)];
        let reward = 0.25 + row.success;
        assert_eq!(rewards(&estimator(1.0), &tree(&nodes))[0], reward, "{:?}", row.status);
    }
}

#[test]
fn in_the_baseline() {
    for row in rows() {
        let group = [
            tree(&[ended(None, row.status, 0.5)]),
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
        let nodes = tree(&[finished(None, 1.0), ended(Some(0), row.status, 0.5)]);
        let mut counts = DepthCounts::default();
        counts.add(&nodes).unwrap();
        assert_eq!(counts.at(Depth(1)), u32::from(row.counts), "{:?}", row.status);

        let mut credits = [Credit::default(); 2];
        let estimator = estimator(0.0);
        estimator
            .advantages(&nodes, &rewards(&estimator, &nodes), -1.0, &mut credits)
            .unwrap();
        estimator.weigh(&nodes, &counts, &mut credits).unwrap();
        let advantage = if row.counts { 1.0 + row.success } else { 0.0 };
        assert_eq!(credits[1].advantage, advantage, "{:?}", row.status);
        assert_eq!(credits[1].weighted, advantage, "{:?}", row.status);
    }
}

#[test]
fn a_node_that_has_not_ended_is_invalid_and_a_refused_launch_is_no_node() {
    let mut tree = Tree::new(heapless::Vec::<_, 4>::new());
    let spawn = rao_proto::Event::Spawn {
        node: NodeId::ROOT,
        parent: None,
        depth: Depth(0),
        task: "",
        budget: rao_proto::Budget::UNLIMITED,
    };
    let refuse = rao_proto::Event::Refuse {
        parent: NodeId::ROOT,
        index: 0,
        limit: Limit::Depth,
    };
    tree.apply(&spawn).unwrap();
    tree.apply(&refuse).unwrap();
    let members: Vec<_> = tree.nodes().iter().map(Member::from).collect();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].status, NodeStatus::Invalid);
    assert_eq!(Estimator::root(&members, &[1.0]), None);
}
