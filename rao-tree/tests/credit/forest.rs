//! Trees written down by hand, and the whole chain of credit over groups of them.

use rao_tree::credit::{
    Baseline, Credit, CreditError, DepthMass, DepthScope, DepthWeights, Estimator, Forest, Member, Rule,
};
use rao_tree::{Depth, NodeId, NodeStatus, Success};

pub type Tree = Vec<Member>;

/// A finished node; its depth is filled in by [`tree`].
pub fn finished(parent: Option<u32>, success: f32) -> Member {
    ended(parent, NodeStatus::Finished, success)
}

/// A node that ended in any way, and what is recorded as its success. It chose one token.
pub fn ended(parent: Option<u32>, status: NodeStatus, success: f32) -> Member {
    node(parent, Some(status), success)
}

pub fn node(parent: Option<u32>, status: Option<NodeStatus>, success: f32) -> Member {
    Member {
        success: Success::new(success).unwrap(),
        tokens: 1,
        ..Member::new(parent.map(NodeId), Depth(0), status)
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
        group[index][0].status = Some(NodeStatus::Invalid);
    }
    group
}

pub fn estimator(lambda: f32) -> Estimator {
    Estimator {
        lambda,
        ..Estimator::default()
    }
}

/// By group, tree, node.
pub type Credits = Vec<Vec<Vec<Credit>>>;

/// Credit of a batch of groups; and how many groups teach.
pub fn assign(estimator: &Estimator, batch: &[Vec<Tree>]) -> Result<(Credits, usize), CreditError> {
    let nodes: Vec<Member> = batch.iter().flatten().flatten().copied().collect();
    let tree_ends: Vec<usize> = ends(batch.iter().flatten().map(Vec::len));
    let group_ends: Vec<usize> = ends(batch.iter().map(Vec::len));
    // Used before: nothing of it may matter.
    let used = Credit {
        reward: f32::NAN,
        advantage: 7.0,
        weighted: f32::NAN,
    };
    let mut credits = vec![used; nodes.len()];
    let teaching = estimator.assign(&Forest::new(&nodes, &tree_ends, &group_ends)?, &mut credits)?;
    let mut rest = credits.into_iter();
    let of_tree = |tree: &Tree| rest.by_ref().take(tree.len()).collect::<Vec<_>>();
    let mut trees = batch.iter().flatten().map(of_tree).collect::<Vec<_>>().into_iter();
    let groups = batch.iter().map(|group| trees.by_ref().take(group.len()).collect());
    Ok((groups.collect(), teaching))
}

fn ends(lens: impl Iterator<Item = usize>) -> Vec<usize> {
    let running = lens.scan(0, |end, len| {
        *end += len;
        Some(*end)
    });
    running.collect()
}

pub fn credits(estimator: &Estimator, batch: &[Vec<Tree>]) -> Credits {
    assign(estimator, batch).unwrap().0
}

/// R of every node of one tree.
pub fn rewards(estimator: &Estimator, tree: &Tree) -> Vec<f32> {
    // Rewards are those of the tree alone: without a baseline, it needs no other.
    let alone = Estimator {
        baseline: Baseline::None,
        ..*estimator
    };
    let credits = credits(&alone, &[vec![tree.clone()]]).remove(0).remove(0);
    credits.iter().map(|credit| credit.reward).collect()
}

/// What each tree of a group is compared with, as its first node that counts shows it.
pub fn baselines(estimator: &Estimator, group: &[Tree]) -> Vec<f32> {
    let credits = credits(estimator, &[group.to_vec()]).remove(0);
    let of = |(tree, credits): (&Tree, &Vec<Credit>)| {
        let shown = tree.iter().position(Member::counts).expect("a node that counts");
        credits[shown].reward - credits[shown].advantage
    };
    group.iter().zip(&credits).map(of).collect()
}

/// Every estimator that differs from the paper's (with lambda = 0.4) in one option, by name.
pub fn estimators() -> Vec<(&'static str, Estimator)> {
    let paper = estimator(0.4);
    let with = |change: fn(&mut Estimator)| {
        let mut estimator = paper;
        change(&mut estimator);
        estimator
    };
    vec![
        ("paper", paper),
        ("lambda 0", estimator(0.0)),
        ("mean", with(|e| e.baseline = Baseline::Mean)),
        ("no base", with(|e| e.baseline = Baseline::None)),
        ("router", with(|e| e.router_penalty = 0.1)),
        ("group", with(|e| e.depth_scope = DepthScope::Group)),
        ("datums", with(|e| e.depth_mass = DepthMass::Datums)),
        ("tokens", with(|e| e.depth_mass = DepthMass::ActionTokens)),
        (
            "gamma",
            with(|e| {
                e.depth_weights = DepthWeights::Discount;
                e.depth_gamma = 0.5;
            }),
        ),
        ("off", with(|e| e.depth_weights = DepthWeights::Off)),
        ("sparse", with(|e| e.rule = Rule::Sparse)),
        ("root", with(|e| e.rule = Rule::RootBroadcast)),
        ("pooled", with(|e| e.rule = Rule::Pooled)),
        ("tree-rl", with(|e| e.rule = Rule::TreeRl)),
        ("tree-grpo", with(|e| e.rule = Rule::TreeGrpo)),
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
