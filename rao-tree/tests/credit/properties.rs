//! What holds for every batch of trees.

use crate::forest::{Tree, assert_close, credits, estimators, finished, rewards};
use proptest::prelude::*;
use rao_tree::credit::{Baseline, Credit, DepthMass, DepthWeights, Estimator, Member, Rule};
use rao_tree::{Depth, Limit, NodeId, NodeStatus, Success};

/// Eighths, so that sums are exact and the order of summation is not what a test sees.
fn success() -> impl Strategy<Value = Success> {
    (0..=8_u8).prop_map(|eighths| Success::new(f32::from(eighths) / 8.0).unwrap())
}

fn status() -> impl Strategy<Value = Option<NodeStatus>> {
    prop_oneof![
        7 => Just(Some(NodeStatus::Finished)),
        1 => Just(Some(NodeStatus::Failed)),
        1 => Just(Some(NodeStatus::Truncated(Limit::Steps))),
        1 => Just(Some(NodeStatus::TimedOut)),
        1 => Just(Some(NodeStatus::Cancelled)),
        1 => Just(Some(NodeStatus::Invalid)),
        1 => Just(None),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let node = (any::<prop::sample::Index>(), status(), success(), 0..40_u32, 1..4_u16);
    prop::collection::vec(node, 1..24).prop_map(|nodes| {
        let mut tree: Tree = Vec::new();
        for (parent, status, success, tokens, datums) in nodes {
            let parent = (!tree.is_empty()).then(|| parent.index(tree.len()));
            let depth = parent.map_or(0, |parent| tree[parent].depth.0 + 1);
            tree.push(Member {
                parent: parent.map(|parent| NodeId(parent as u32)),
                depth: Depth(depth),
                status,
                success,
                tokens,
                path: 3 * tokens,
                datums,
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
                    let (before, after) = (before[g][t][old], after[g][t][new]);
                    // Sums of squares are rounded in the order of the nodes.
                    if matches!(estimator.rule, Rule::Pooled | Rule::TreeGrpo) {
                        assert_close(&[before.reward, before.advantage], &[after.reward, after.advantage]);
                    } else {
                        prop_assert_eq!(before, after);
                    }
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

    /// Whatever the weights preserve, they only move it between depths; under the inverse, every depth has the same share of nodes.
    #[test]
    fn depth_weights_preserve_the_mass(
        batch in batch(),
        depth_mass in prop::sample::select(vec![DepthMass::Nodes, DepthMass::Datums, DepthMass::ActionTokens]),
        gamma in prop::option::of(0.1..2.0_f32),
    ) {
        let estimator = Estimator {
            depth_mass,
            depth_weights: if gamma.is_some() { DepthWeights::Discount } else { DepthWeights::Inverse },
            depth_gamma: gamma.unwrap_or(1.0),
            ..Estimator::default()
        };
        let credits = credits(&estimator, &batch);
        // The weight of a depth shows where a node there has an advantage.
        let mut weights = [None; 64];
        let teaches = |group: &Vec<Vec<Credit>>| group.iter().flatten().any(|credit| credit.advantage != 0.0);
        let teaching: Vec<_> = batch.iter().zip(&credits).filter(|(_, group)| teaches(group)).collect();
        let nodes = || teaching.iter().flat_map(|(trees, credits)| trees.iter().flatten().zip(credits.iter().flatten()));
        for (member, credit) in nodes().filter(|(_, credit)| credit.advantage != 0.0) {
            weights[usize::from(member.depth.0)] = Some(f64::from(credit.weighted) / f64::from(credit.advantage));
        }
        let mut mass = [0.0_f64; 64];
        let mut count = [0.0_f64; 64];
        for (member, _) in nodes().filter(|(member, _)| member.counts()) {
            count[usize::from(member.depth.0)] += 1.0;
            mass[usize::from(member.depth.0)] += match depth_mass {
                DepthMass::Nodes => 1.0,
                DepthMass::Datums => f64::from(member.datums),
                DepthMass::ActionTokens => f64::from(member.tokens),
            };
        }
        let shown = (0..64).all(|depth| count[depth] == 0.0 || weights[depth].is_some());
        let total: f64 = mass.iter().sum();
        prop_assume!(shown && total > 0.0);
        let weighted: f64 = mass.iter().zip(weights).map(|(mass, weight)| mass * weight.unwrap_or(0.0)).sum();
        prop_assert!((weighted - total).abs() <= 1e-5 * total, "{weighted} of {total}");
        if gamma.is_none() {
            let shares: Vec<f64> = count.iter().zip(weights).filter_map(|(count, weight)| Some(count * weight?)).collect();
            prop_assert!(shares.iter().all(|share| (share - shares[0]).abs() <= 1e-5 * shares[0]), "{shares:?}");
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
        roots in prop::collection::vec(0.25..0.75_f32, 2..9),
        of in any::<prop::sample::Index>(),
        shift in -0.25..0.25_f32,
    ) {
        let of = of.index(roots.len());
        let shifted = |others: f32, own: f32| -> Vec<f32> {
            let moved = roots.iter().enumerate();
            moved.map(|(index, root)| root + if index == of { own } else { others }).collect()
        };
        let baseline = |kind, roots: &[f32]| compared_with(kind, roots)[of];
        let trees = roots.len() as f32;
        let loo = baseline(Baseline::LeaveOneOut, &roots);
        assert_close(&[baseline(Baseline::LeaveOneOut, &shifted(shift, 0.0))], &[loo + shift]);
        assert_close(&[baseline(Baseline::LeaveOneOut, &shifted(0.0, shift))], &[loo]);
        let mean = baseline(Baseline::Mean, &roots);
        assert_close(&[baseline(Baseline::Mean, &shifted(shift, 0.0))], &[mean + shift * (trees - 1.0) / trees]);
        assert_close(&[baseline(Baseline::Mean, &shifted(shift, shift))], &[mean + shift]);
    }

    /// An advantage over the other trees is G/(G-1) times that over all trees.
    #[test]
    fn leave_one_out_is_the_scaled_mean(roots in prop::collection::vec(0.0..1.0_f32, 2..9)) {
        let (loo, mean) = (compared_with(Baseline::LeaveOneOut, &roots), compared_with(Baseline::Mean, &roots));
        let scale = roots.len() as f32 / (roots.len() as f32 - 1.0);
        for ((root, loo), mean) in roots.iter().zip(loo).zip(mean) {
            assert_close(&[root - loo], &[(root - mean) * scale]);
        }
    }

    /// In a group that differs somewhere, trees with the same rewards all through have the same advantages, and the advantages of the
    /// roots against their mean add up to nothing.
    #[test]
    fn roots_against_their_mean_add_up_to_nothing(roots in prop::collection::vec(0.0..1.0_f32, 2..20)) {
        let sum: f32 = roots.iter().zip(compared_with(Baseline::Mean, &roots)).map(|(root, mean)| root - mean).sum();
        prop_assert!(sum.abs() < 1e-5, "{sum}");
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

/// The baseline of each of a group of single nodes.
fn compared_with(baseline: Baseline, roots: &[f32]) -> Vec<f32> {
    let estimator = Estimator {
        baseline,
        ..Estimator::default()
    };
    let group: Vec<Tree> = roots.iter().map(|&root| vec![finished(None, root)]).collect();
    let credits = credits(&estimator, &[group]).remove(0);
    credits.iter().map(|tree| tree[0].reward - tree[0].advantage).collect()
}
