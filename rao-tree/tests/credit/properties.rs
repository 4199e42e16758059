//! What holds for every batch of trees.

use crate::forest::{Tree, assert_close, credits, estimators, finished, rewards};
use proptest::prelude::*;
use rao_tree::credit::{Baseline, Credit, DepthCounts, Estimator, Member, baselines};
use rao_tree::{Depth, Limit, NodeId, NodeStatus, Success};

/// Eighths, so that sums are exact and the order of summation is not what a test sees.
fn success() -> impl Strategy<Value = Success> {
    (0..=8_u8).prop_map(|eighths| Success::new(f32::from(eighths) / 8.0).unwrap())
}

fn status() -> impl Strategy<Value = NodeStatus> {
    prop_oneof![
        6 => Just(NodeStatus::Finished),
        1 => Just(NodeStatus::Failed),
        1 => Just(NodeStatus::Truncated(Limit::Steps)),
        1 => Just(NodeStatus::TimedOut),
        1 => Just(NodeStatus::Cancelled),
        1 => Just(NodeStatus::Invalid),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let node = (any::<prop::sample::Index>(), status(), success());
    prop::collection::vec(node, 1..24).prop_map(|nodes| {
        let mut tree: Tree = Vec::new();
        for (parent, status, success) in nodes {
            let parent = (!tree.is_empty()).then(|| parent.index(tree.len()));
            let depth = parent.map_or(0, |parent| tree[parent].depth.0 + 1);
            tree.push(Member {
                parent: parent.map(|parent| NodeId(parent as u32)),
                depth: Depth(depth),
                status,
                success,
            });
        }
        tree
    })
}

fn batch() -> impl Strategy<Value = Vec<Vec<Tree>>> {
    prop::collection::vec(prop::collection::vec(tree(), 2..5), 1..4)
}

fn an_estimator() -> impl Strategy<Value = Estimator> {
    prop::sample::select(estimators()).prop_map(|(_, estimator)| estimator)
}

/// The tree with siblings, and whole subtrees with them, in the order of `keys`; and where each node went.
fn permuted(tree: &Tree, keys: &[u32]) -> (Tree, Vec<usize>) {
    let mut order = vec![0];
    let mut at = 0;
    while at < order.len() {
        let mut children: Vec<_> = (0..tree.len())
            .filter(|&child| tree[child].parent.is_some_and(|parent| parent.index() == order[at]))
            .collect();
        children.sort_by_key(|&child| keys[child % keys.len()]);
        order.extend(children);
        at += 1;
    }
    let mut place = vec![0; tree.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    let moved = order.iter().map(|&old| Member {
        parent: tree[old].parent.map(|parent| NodeId(place[parent.index()] as u32)),
        ..tree[old]
    });
    (moved.collect(), place)
}

fn bits(credits: &[Vec<Vec<Credit>>]) -> Vec<[u32; 3]> {
    let nodes = credits.iter().flatten().flatten();
    nodes
        .map(|c| [c.reward, c.advantage, c.weighted].map(f32::to_bits))
        .collect()
}

proptest! {
    #[test]
    fn permuting_siblings_changes_nothing(
        batch in batch(),
        estimator in an_estimator(),
        keys in prop::collection::vec(any::<u32>(), 24),
    ) {
        let permuted: Vec<Vec<_>> =
            batch.iter().map(|group| group.iter().map(|tree| permuted(tree, &keys)).collect()).collect();
        let moved: Vec<Vec<Tree>> =
            permuted.iter().map(|group| group.iter().map(|(tree, _)| tree.clone()).collect()).collect();
        let (before, after) = (credits(&estimator, &batch), credits(&estimator, &moved));
        for (g, group) in permuted.iter().enumerate() {
            for (t, (_, place)) in group.iter().enumerate() {
                for (old, &new) in place.iter().enumerate() {
                    prop_assert_eq!(before[g][t][old], after[g][t][new]);
                }
            }
        }
    }

    #[test]
    fn the_order_of_groups_and_trees_changes_nothing(mut batch in batch(), estimator in an_estimator()) {
        let mut before = credits(&estimator, &batch);
        batch.reverse();
        before.reverse();
        prop_assert_eq!(bits(&before), bits(&credits(&estimator, &batch)));
        for (group, credits) in batch.iter_mut().zip(&mut before) {
            group.reverse();
            credits.reverse();
        }
        // Leave-one-out sums in the order of the trees: rounding may differ, nothing else.
        let after = credits(&estimator, &batch);
        let weighted = |credits: &[Vec<Vec<Credit>>]| -> Vec<f32> {
            credits.iter().flatten().flatten().map(|credit| credit.advantage).collect()
        };
        assert_close(&weighted(&before), &weighted(&after));
    }

    #[test]
    fn depth_weights_preserve_the_mass(batch in batch()) {
        let mut counts = DepthCounts::default();
        for tree in batch.iter().flatten() {
            counts.add(tree).unwrap();
        }
        let counting: Vec<_> = batch.iter().flatten().flatten().filter(|member| member.counts()).collect();
        prop_assert_eq!(counts.nodes(), counting.len() as u64);
        let mut by_depth = [0.0_f64; 64];
        for member in &counting {
            by_depth[usize::from(member.depth.0)] += f64::from(counts.weight(member.depth));
        }
        let total = counting.len() as f64;
        let levels = by_depth.iter().filter(|&&mass| mass > 0.0).count() as f64;
        let mass: f64 = by_depth.iter().sum();
        prop_assert!((mass - total).abs() <= 1e-5 * total, "{mass} of {total}");
        for mass in by_depth.into_iter().filter(|&mass| mass > 0.0) {
            prop_assert!((mass - total / levels).abs() <= 1e-5 * total, "a depth weighs {mass} of {total} / {levels}");
        }
    }

    #[test]
    fn a_grandchild_never_changes_the_root(
        tree in tree(),
        lambda in 0.0..2.0_f32,
        fates in prop::collection::vec((status(), success()), 24),
    ) {
        let estimator = Estimator { lambda, ..Estimator::default() };
        let before = rewards(&estimator, &tree)[0];
        let mut changed = tree;
        for (member, (status, success)) in changed.iter_mut().zip(fates) {
            if member.depth.0 >= 2 {
                (member.status, member.success) = (status, success);
            }
        }
        if let Some(child) = changed.iter().position(|member| member.depth == Depth(1)) {
            let mut grandchild = finished(Some(child as u32), 1.0);
            grandchild.depth = Depth(2);
            changed.push(grandchild);
        }
        prop_assert_eq!(before.to_bits(), rewards(&estimator, &changed)[0].to_bits());
    }

    /// Leave-one-out follows the others in full and itself not at all; the plain mean shares the shift among all trees.
    #[test]
    fn a_shift_of_the_other_roots_shifts_the_baseline(
        roots in prop::collection::vec(0.0..1.5_f32, 2..9),
        of in any::<prop::sample::Index>(),
        shift in -1.0..1.0_f32,
    ) {
        let of = of.index(roots.len());
        let before: Vec<_> = roots.iter().map(|&root| Some(root)).collect();
        let shifted = |others: f32, own: f32| -> Vec<_> {
            let moved = roots.iter().enumerate();
            moved.map(|(index, root)| Some(root + if index == of { own } else { others })).collect()
        };
        let baseline = |kind, roots: &[Option<f32>]| {
            let mut out = vec![0.0; roots.len()];
            baselines(kind, roots, &mut out).unwrap();
            out[of]
        };
        let trees = roots.len() as f32;
        let loo = baseline(Baseline::LeaveOneOut, &before);
        assert_close(&[baseline(Baseline::LeaveOneOut, &shifted(shift, 0.0))], &[loo + shift]);
        assert_close(&[baseline(Baseline::LeaveOneOut, &shifted(0.0, shift))], &[loo]);
        let mean = baseline(Baseline::Mean, &before);
        assert_close(&[baseline(Baseline::Mean, &shifted(shift, 0.0))], &[mean + shift * (trees - 1.0) / trees]);
        assert_close(&[baseline(Baseline::Mean, &shifted(shift, shift))], &[mean + shift]);
    }

    /// An advantage over the other trees is G/(G-1) times that over all trees.
    #[test]
    fn leave_one_out_is_the_scaled_mean(roots in prop::collection::vec(0.0..1.5_f32, 2..9)) {
        let valid: Vec<_> = roots.iter().map(|&root| Some(root)).collect();
        let (mut loo, mut mean) = (vec![0.0; roots.len()], vec![0.0; roots.len()]);
        baselines(Baseline::LeaveOneOut, &valid, &mut loo).unwrap();
        baselines(Baseline::Mean, &valid, &mut mean).unwrap();
        let scale = roots.len() as f32 / (roots.len() as f32 - 1.0);
        for ((root, loo), mean) in roots.iter().zip(loo).zip(mean) {
            assert_close(&[root - loo], &[(root - mean) * scale]);
        }
    }

    #[test]
    fn equal_roots_have_exactly_no_advantage(reward in 0.0..1.5_f32, trees in 2..20_usize) {
        let mut out = vec![0.0; trees];
        for kind in [Baseline::LeaveOneOut, Baseline::Mean] {
            baselines(kind, &vec![Some(reward); trees], &mut out).unwrap();
            prop_assert!(out.iter().all(|&baseline| baseline == reward));
        }
    }

    #[test]
    fn the_same_batch_gives_the_same_bits(batch in batch(), estimator in an_estimator()) {
        prop_assert_eq!(bits(&credits(&estimator, &batch)), bits(&credits(&estimator, &batch.clone())));
    }

    /// What does not count neither trains nor weighs; what counts is a number.
    #[test]
    fn only_what_counts_is_trained(batch in batch(), estimator in an_estimator()) {
        let credits = credits(&estimator, &batch);
        for (member, credit) in batch.iter().flatten().flatten().zip(credits.iter().flatten().flatten()) {
            prop_assert!(credit.reward.is_finite() && credit.weighted.is_finite());
            prop_assert!(member.counts() || (credit.advantage == 0.0 && credit.weighted == 0.0));
        }
    }
}
