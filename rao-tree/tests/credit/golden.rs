//! Numbers that were computed with the functions that the paper's authors published.

use crate::forest::*;
use rao_tree::credit::{Baseline, Credit, DepthMass, DepthScope, DepthWeights, Estimator, Rule};

fn column(credits: &[Vec<Credit>], field: impl Fn(&Credit) -> f32) -> Vec<f32> {
    credits.iter().flatten().map(field).collect()
}

/// w of every node that has an advantage.
fn weights(credits: &[Vec<Credit>]) -> Vec<f32> {
    let teaching = credits.iter().flatten().filter(|credit| credit.advantage != 0.0);
    teaching.map(|credit| credit.weighted / credit.advantage).collect()
}

#[test]
fn first_rewards_baselines_and_weights() {
    let credits = credits(&estimator(0.4), &[golden()]).remove(0);
    assert_close(&column(&credits, |c| c.reward), &[1.2, 1.4, 0.0, 1.0, 0.0, 0.0, 1.0]);
    assert_close(&baselines(&estimator(0.4), &golden()), &[0.5, 1.1, 0.6]);
    assert_close(
        &column(&credits, |c| c.advantage),
        &[0.7, 0.9, -0.5, 0.5, -1.1, -1.1, 0.4],
    );

    let (w0, w1, w2) = (7.0 / 9.0, 7.0 / 9.0, 7.0 / 3.0);
    assert_close(&weights(&credits), &[w0, w1, w1, w2, w0, w1, w0]);
    assert_close(
        &column(&credits, |c| c.weighted),
        &[0.544_444, 0.7, -0.388_889, 1.166_667, -0.855_556, -0.855_556, 0.311_111],
    );
}

#[test]
fn first_with_the_plain_mean() {
    let mean = Estimator {
        baseline: Baseline::Mean,
        ..estimator(0.4)
    };
    assert_close(&baselines(&mean, &golden()), &[0.733_333; 3]);
}

#[test]
fn first_without_a_baseline() {
    let none = Estimator {
        baseline: Baseline::None,
        ..estimator(0.4)
    };
    let credits = credits(&none, &[golden()]).remove(0);
    assert_eq!(column(&credits, |c| c.advantage), column(&credits, |c| c.reward));
}

#[test]
fn an_invalid_root_leaves_the_baseline() {
    let group = golden_with_invalid_roots(&[1]);
    assert_close(&baselines(&estimator(0.4), &group), &[1.0, 1.1, 1.2]);
    // Its finished child still trains, against the other trees; it does not.
    let credits = credits(&estimator(0.4), &[group]).remove(0);
    assert_close(&column(&credits[1..2], |c| c.advantage), &[0.0, -1.1]);
}

#[test]
fn the_only_valid_root_is_centred_on_itself() {
    let group = golden_with_invalid_roots(&[1, 2]);
    let credits = credits(&estimator(0.4), &[group]).remove(0);
    // b = 1.2 for all of them.
    assert_close(
        &column(&credits, |c| c.advantage),
        &[0.0, 0.2, -1.2, -0.2, 0.0, -1.2, 0.0],
    );
}

#[test]
fn without_a_root_that_counts_there_is_no_baseline() {
    for baseline in [Baseline::LeaveOneOut, Baseline::Mean, Baseline::None] {
        let estimator = Estimator {
            baseline,
            ..Estimator::default()
        };
        let group = golden_with_invalid_roots(&[0, 1, 2]);
        let (credits, teaching) = assign(&estimator, &[group]).unwrap();
        assert_eq!(teaching, 0);
        assert!(column(&credits[0], |c| c.weighted).iter().all(|&weight| weight == 0.0));
    }
}

#[test]
fn second() {
    let root = tree(&[finished(None, 0.8), finished(Some(0), 1.0), finished(Some(0), 0.5)]);
    assert_close(&rewards(&estimator(0.4), &root)[..1], &[1.1]);
    let others = [0.4, 0.7, 1.0].map(|success| tree(&[finished(None, success)]));
    let group = [&[root][..], &others].concat();
    assert_close(&baselines(&estimator(0.4), &group)[..1], &[0.7]);
    assert_close(&[credits(&estimator(0.4), &[group])[0][0][0].advantage], &[0.4]);
}

#[test]
fn third() {
    // Two children below each of four roots.
    let small = |success| tree(&[finished(None, success), finished(Some(0), 1.0), finished(Some(0), 0.0)]);
    let group = [1.0, 0.0, 0.0, 0.0].map(small).to_vec();
    let credits = credits(&estimator(0.0), &[group]).remove(0);
    for tree in &credits {
        let tree = std::slice::from_ref(tree);
        // The last child of the first tree has the reward of its baseline.
        assert_close(&weights(tree), &[1.5, 0.75, 0.75][..weights(tree).len()]);
    }
    assert!(weights(&credits).len() > 8, "most of the nodes have an advantage");
}

#[test]
fn sparse_rewards_every_node_with_its_roots_success() {
    let sparse = Estimator {
        rule: Rule::Sparse,
        ..estimator(0.4)
    };
    let credits = credits(&sparse, &[golden()]).remove(0);
    // Equation 1 with the root's success everywhere: those with children have the bonus, too.
    assert_close(&column(&credits, |c| c.reward), &[1.4, 1.4, 1.0, 1.0, 0.0, 0.0, 1.0]);
    assert_close(
        &column(&credits, |c| c.advantage),
        &[0.9, 0.9, 0.5, 0.5, -1.2, -1.2, 0.3],
    );
}

#[test]
fn sparse_trains_nothing_under_a_root_that_does_not_count() {
    let sparse = Estimator {
        rule: Rule::Sparse,
        ..estimator(0.4)
    };
    let credits = credits(&sparse, &[golden_with_invalid_roots(&[0])]).remove(0);
    assert_eq!(column(&credits[..1], |c| c.weighted), [0.0; 4]);
    // Nor does it weigh: two roots and one child are left.
    assert_close(&column(&credits[1..], |c| c.weighted), &[-0.75, -1.5, 0.75]);
}

#[test]
fn depth_weights_count_the_group_or_nothing() {
    let other = vec![tree(&[finished(None, 1.0)]), tree(&[finished(None, 0.0)])];
    let scoped = |depth_scope, depth_weights| {
        let estimator = Estimator {
            depth_scope,
            depth_weights,
            ..estimator(0.4)
        };
        credits(&estimator, &[golden(), other.clone()])
    };
    // 9 nodes at 3 depths: 5, 3, 1.
    let (w0, w1, w2) = (9.0 / 15.0, 9.0 / 9.0, 9.0 / 3.0);
    let batch = scoped(DepthScope::Batch, DepthWeights::Inverse);
    assert_close(&weights(&batch[0]), &[w0, w1, w1, w2, w0, w1, w0]);
    assert_close(&weights(&batch[1]), &[w0, w0]);
    let group = scoped(DepthScope::Group, DepthWeights::Inverse);
    let (w0, w2) = (7.0 / 9.0, 7.0 / 3.0);
    assert_close(&weights(&group[0]), &[w0, w0, w0, w2, w0, w0, w0]);
    assert_close(&weights(&group[1]), &[1.0, 1.0]);
    let off = scoped(DepthScope::Batch, DepthWeights::Off);
    assert_eq!(column(&off[0], |c| c.weighted), column(&off[0], |c| c.advantage));
}

/// [`golden`] with 10, 20, 30, 40 tokens in its first tree, 50, 60 in its second, 70 in its third, and two datums in the grandchild.
fn golden_with_tokens() -> Vec<Tree> {
    let mut group = golden();
    for (node, tokens) in group.iter_mut().flatten().zip(1..) {
        node.tokens = 10 * tokens;
    }
    group[0][3].datums = 2;
    group
}

#[test]
fn what_the_weights_preserve() {
    let preserving = |depth_mass| {
        let estimator = Estimator {
            depth_mass,
            ..estimator(0.4)
        };
        weights(&credits(&estimator, &[golden_with_tokens()])[0])
    };
    // 8 datums: 3, 3, 2. The sum of M_e / N_e is 1 + 1 + 2.
    let (w0, w1, w2) = (8.0 / (4.0 * 3.0), 8.0 / (4.0 * 3.0), 8.0 / 4.0);
    assert_close(&preserving(DepthMass::Datums), &[w0, w1, w1, w2, w0, w1, w0]);
    // 280 tokens: 130, 110, 40. The sum is 130 / 3 + 110 / 3 + 40 = 120.
    let (w0, w1, w2) = (280.0 / 360.0, 280.0 / 360.0, 280.0 / 120.0);
    assert_close(&preserving(DepthMass::ActionTokens), &[w0, w1, w1, w2, w0, w1, w0]);
}

#[test]
fn a_discount_by_depth() {
    let discounted = |depth_mass| {
        let estimator = Estimator {
            depth_mass,
            depth_weights: DepthWeights::Discount,
            depth_gamma: 0.5,
            ..estimator(0.4)
        };
        weights(&credits(&estimator, &[golden_with_tokens()])[0])
    };
    // 7 nodes, of which 3 + 3 / 2 + 1 / 4 are left.
    let w = |mass: f32| [mass, mass / 2.0, mass / 4.0];
    let [w0, w1, w2] = w(7.0 / 4.75);
    assert_close(&discounted(DepthMass::Nodes), &[w0, w1, w1, w2, w0, w1, w0]);
    let [w0, w1, w2] = w(280.0 / (130.0 + 55.0 + 10.0));
    assert_close(&discounted(DepthMass::ActionTokens), &[w0, w1, w1, w2, w0, w1, w0]);
}

#[test]
fn root_broadcast_gives_every_node_its_roots_advantage() {
    let root = Estimator {
        rule: Rule::RootBroadcast,
        ..estimator(0.4)
    };
    let credits = credits(&root, &[golden()]).remove(0);
    assert_close(
        &column(&credits, |c| c.advantage),
        &[0.7, 0.7, 0.7, 0.7, -1.1, -1.1, 0.4],
    );
}

#[test]
fn without_a_bonus_sparse_and_root_broadcast_are_one() {
    let advantages = |rule| {
        let estimator = Estimator { rule, ..estimator(0.0) };
        column(&credits(&estimator, &[golden()])[0], |c| c.advantage)
    };
    assert_eq!(advantages(Rule::Sparse), advantages(Rule::RootBroadcast));
}

#[test]
fn pooled_standardises_over_the_group() {
    let pooled = Estimator {
        rule: Rule::Pooled,
        ..estimator(0.0)
    };
    let credits = credits(&pooled, &[golden()]).remove(0);
    // Successes 1 1 0 1 | 0 0 | 1: mean 4/7, variance 12/49.
    let (above, below) = (3.0 / 12.0_f32.sqrt(), -4.0 / 12.0_f32.sqrt());
    let expected = [above, above, below, above, below, below, above];
    for (found, expected) in column(&credits, |c| c.advantage).iter().zip(expected) {
        // The constant that is added to the deviation is in the fifth digit.
        assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
    }
}

#[test]
fn tree_rl_values_leaves() {
    let tree_rl = Estimator {
        rule: Rule::TreeRl,
        ..estimator(0.0)
    };
    let credits = credits(&tree_rl, &[golden()]).remove(0);
    // Leaves of the first tree: the grandchild 1 and the second child 0.
    assert_close(&column(&credits, |c| c.reward), &[0.5, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    assert_close(
        &column(&credits, |c| c.advantage),
        &[0.0, 1.0, -1.0, 0.5, 0.0, 0.0, 0.0],
    );
    // Four leaves below one child: its advantage is halved.
    let wide = tree(&[
        finished(None, 0.0),
        finished(Some(0), 0.0),
        finished(Some(0), 0.0),
        finished(Some(1), 1.0),
        finished(Some(1), 1.0),
        finished(Some(1), 1.0),
        finished(Some(1), 0.0),
    ]);
    let credits = self::credits(&tree_rl, &[vec![wide]]).remove(0);
    // V = 0.6, 0.75, 0; the child is 0.15 above root and parent.
    assert_close(&column(&credits, |c| c.advantage)[..3], &[0.0, 0.15, -1.2]);
}

#[test]
fn tree_grpo_adds_the_tree_to_the_group() {
    let of = |rule| {
        let estimator = Estimator { rule, ..estimator(0.4) };
        credits(&estimator, &[golden()]).remove(0)
    };
    let (pooled, both) = (of(Rule::Pooled), of(Rule::TreeGrpo));
    // Rewards of the first tree: 1.2 1.4 0 1. Mean 0.9, variance 0.29. The others have one reward each: nothing to add.
    let within = [0.3, 0.5, -0.9, 0.1, 0.0, 0.0, 0.0].map(|difference| difference / 0.29_f32.sqrt());
    let added = column(&both, |c| c.advantage)
        .into_iter()
        .zip(column(&pooled, |c| c.advantage))
        .map(|(both, pooled)| both - pooled);
    for (found, expected) in added.zip(within) {
        assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
    }
}

#[test]
fn a_router_pays_for_its_only_launch() {
    let penalised = Estimator {
        router_penalty: 0.3,
        ..estimator(0.4)
    };
    let chain = tree(&[finished(None, 1.0), finished(Some(0), 1.0), finished(Some(1), 1.0)]);
    assert_close(&rewards(&penalised, &chain), &[1.1, 1.1, 1.0]);
    let wide = tree(&[
        finished(None, 1.0),
        finished(Some(0), 1.0),
        ended(Some(0), rao_tree::NodeStatus::Invalid, 0.0),
    ]);
    assert_close(&rewards(&penalised, &wide), &[1.4, 1.0, 0.0]);
}

#[test]
fn turns_are_discounted_towards_the_end() {
    let estimator = Estimator {
        turn_gamma: 0.5,
        ..estimator(0.0)
    };
    assert_eq!([0, 1, 2].map(|turn| estimator.turn_weight(turn, 3)), [0.25, 0.5, 1.0]);
    assert_eq!(estimator.turn_weight(u32::MAX, 3), 1.0);
    assert_eq!(self::estimator(0.0).turn_weight(0, u32::MAX), 1.0);
}

#[test]
fn a_group_of_equal_rewards_teaches_nothing() {
    // Seven times 1.4 is not seven times 1.4 in binary: only exact zeros are skipped.
    for success in [0.1, 0.3, 0.7, 1.0] {
        let group = vec![tree(&[finished(None, success)]); 8];
        let equal_by_bonus = vec![tree(&[finished(None, success), finished(Some(0), success)]); 8];
        for (name, estimator) in estimators().into_iter().filter(|(name, _)| *name != "no base") {
            let (credits, teaching) = assign(&estimator, &[group.clone(), golden()]).unwrap();
            assert_eq!(teaching, 1, "{name} at {success}");
            assert!(
                credits[0]
                    .iter()
                    .all(|tree| tree[0].advantage == 0.0 && tree[0].weighted == 0.0)
            );
            // Skipped: the other group is as it is alone.
            assert_eq!(
                credits[1],
                self::credits(&estimator, &[golden()])[0],
                "{name} at {success}"
            );
        }
        let credits = credits(&estimator(0.4), &[equal_by_bonus]).remove(0);
        assert!(credits.iter().all(|tree| tree[0].advantage == 0.0));
    }
}
