//! Trees written down by hand, and the whole chain of credit over groups of them.

use rao_tree::credit::{Baseline, Credit, DepthCounts, DepthWeights, Estimator, Member, Signal};
use rao_tree::{Depth, NodeId, NodeStatus, Success};

pub type Tree = Vec<Member>;

/// A finished node; its depth is filled in by [`tree`].
pub fn finished(parent: Option<u32>, success: f32) -> Member {
    ended(parent, NodeStatus::Finished, success)
}

/// A node that ended in any way, and what is recorded as its success.
pub fn ended(parent: Option<u32>, status: NodeStatus, success: f32) -> Member {
    Member {
        parent: parent.map(NodeId),
        depth: Depth(0),
        status,
        success: Success::new(success).unwrap(),
    }
}

/// Fills in the depths.
pub fn tree(nodes: &[Member]) -> Tree {
    let mut tree = nodes.to_vec();
    for index in 0..tree.len() {
        if let Some(parent) = tree[index].parent {
            tree[index].depth = Depth(tree[parent.index()].depth.0 + 1);
        }
    }
    tree
}

/// The first example: root 1 with children 1 and 0, of which the first has a child 1; root 0 with a child 0; root 1.
pub fn golden() -> Vec<Tree> {
    vec![
        tree(&[
            finished(None, 1.0),
            finished(Some(0), 1.0),
            finished(Some(0), 0.0),
            finished(Some(1), 1.0),
        ]),
        tree(&[finished(None, 0.0), finished(Some(0), 0.0)]),
        tree(&[finished(None, 1.0)]),
    ]
}

/// [`golden`] with the roots of some trees invalid.
pub fn golden_with_invalid_roots(invalid: &[usize]) -> Vec<Tree> {
    let mut group = golden();
    for &index in invalid {
        group[index][0].status = NodeStatus::Invalid;
    }
    group
}

pub fn estimator(lambda: f32) -> Estimator {
    Estimator {
        lambda,
        ..Estimator::default()
    }
}

pub fn rewards(estimator: &Estimator, tree: &Tree) -> Vec<f32> {
    // Scratch that was used before: none of it may matter.
    let (mut children, mut rewards) = (vec![7; tree.len()], vec![f32::NAN; tree.len()]);
    estimator.rewards(tree, &mut children, &mut rewards).unwrap();
    rewards
}

pub fn baselines(estimator: &Estimator, group: &[Tree]) -> Vec<f32> {
    let roots: Vec<_> = group
        .iter()
        .map(|tree| Estimator::root(tree, &rewards(estimator, tree)))
        .collect();
    let mut baselines = vec![f32::NAN; group.len()];
    let valid = estimator.baselines(&roots, &mut baselines).unwrap();
    assert_eq!(valid, roots.iter().flatten().count());
    baselines
}

/// Credit of a batch of groups: by group, tree, node.
pub fn credits(estimator: &Estimator, batch: &[Vec<Tree>]) -> Vec<Vec<Vec<Credit>>> {
    estimator.validate().unwrap();
    let mut batch_counts = DepthCounts::default();
    for tree in batch.iter().flatten() {
        estimator.count(tree, &mut batch_counts).unwrap();
    }
    let credit_group = |group: &Vec<Tree>| {
        let mut group_counts = DepthCounts::default();
        for tree in group {
            estimator.count(tree, &mut group_counts).unwrap();
        }
        let counts = match estimator.depth_weights {
            DepthWeights::Group => &group_counts,
            DepthWeights::Batch | DepthWeights::Off => &batch_counts,
        };
        let baselines = baselines(estimator, group);
        let credit_tree = |(tree, baseline): (&Tree, f32)| {
            let mut credits = vec![Credit::default(); tree.len()];
            let rewards = rewards(estimator, tree);
            estimator.advantages(tree, &rewards, baseline, &mut credits).unwrap();
            estimator.weigh(tree, counts, &mut credits).unwrap();
            credits
        };
        group.iter().zip(baselines).map(credit_tree).collect()
    };
    batch.iter().map(credit_group).collect()
}

/// Every estimator that differs from the paper's in one option, by name.
pub fn estimators() -> Vec<(&'static str, Estimator)> {
    let paper = estimator(0.4);
    vec![
        ("lambda 0", estimator(0.0)),
        ("paper", paper),
        (
            "mean",
            Estimator {
                baseline: Baseline::Mean,
                ..paper
            },
        ),
        (
            "no base",
            Estimator {
                baseline: Baseline::None,
                ..paper
            },
        ),
        (
            "group",
            Estimator {
                depth_weights: DepthWeights::Group,
                ..paper
            },
        ),
        (
            "off",
            Estimator {
                depth_weights: DepthWeights::Off,
                ..paper
            },
        ),
        (
            "sparse",
            Estimator {
                signal: Signal::Sparse,
                ..paper
            },
        ),
    ]
}

/// Equal but for rounding.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32]) {
    let close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 1e-6;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(close),
        "found {found:?}, expected {expected:?}"
    );
}
