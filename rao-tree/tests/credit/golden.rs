//! Numbers that were computed with the functions that the paper's authors published.

use crate::forest::*;
use rao_tree::Depth;
use rao_tree::credit::{Baseline, Credit, DepthCounts, DepthWeights, Estimator, Signal};

fn column(credits: &[Vec<Credit>], field: impl Fn(&Credit) -> f32) -> Vec<f32> {
    credits.iter().flatten().map(field).collect()
}

fn counts(trees: &[Tree]) -> DepthCounts {
    let mut counts = DepthCounts::default();
    for tree in trees {
        counts.add(tree).unwrap();
    }
    counts
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

    let counts = counts(&golden());
    assert_eq!([0, 1, 2, 3].map(|depth| counts.at(Depth(depth))), [3, 3, 1, 0]);
    assert_eq!(counts.nodes(), 7);
    let weights = [0, 1, 2, 3].map(|depth| counts.weight(Depth(depth)));
    assert_close(&weights, &[7.0 / 9.0, 7.0 / 9.0, 7.0 / 3.0, 0.0]);
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
    assert_close(&baselines(&estimator(0.4), &group), &[1.2; 3]);
    let credits = credits(&estimator(0.4), &[group]).remove(0);
    assert_close(
        &column(&credits, |c| c.advantage),
        &[0.0, 0.2, -1.2, -0.2, 0.0, -1.2, 0.0],
    );
}

#[test]
fn without_a_valid_root_there_is_no_baseline() {
    let roots = [None, None];
    let mut out = [f32::NAN; 2];
    for kind in [Baseline::LeaveOneOut, Baseline::Mean, Baseline::None] {
        let estimator = Estimator {
            baseline: kind,
            ..Estimator::default()
        };
        assert_eq!(estimator.baselines(&roots, &mut out), Ok(0));
        assert_eq!(out, [0.0; 2]);
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
    let small = tree(&[finished(None, 1.0), finished(Some(0), 1.0), finished(Some(0), 0.0)]);
    let counts = counts(&[small.clone(), small.clone(), small.clone(), small]);
    assert_close(&[counts.weight(Depth(0)), counts.weight(Depth(1))], &[1.5, 0.75]);
}

#[test]
fn sparse_rewards_every_node_with_its_roots_success() {
    let sparse = Estimator {
        signal: Signal::Sparse,
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
        signal: Signal::Sparse,
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
    let scoped = |depth_weights| {
        let estimator = Estimator {
            depth_weights,
            ..estimator(0.4)
        };
        credits(&estimator, &[golden(), other.clone()])
    };
    // 9 nodes at 3 depths: 5, 3, 1.
    let weights = |credits: &[Vec<Credit>]| column(credits, |c| c.weighted / c.advantage);
    let (w0, w1, w2) = (9.0 / 15.0, 9.0 / 9.0, 9.0 / 3.0);
    let batch = scoped(DepthWeights::Batch);
    assert_close(&weights(&batch[0]), &[w0, w1, w1, w2, w0, w1, w0]);
    assert_close(&weights(&batch[1]), &[w0, w0]);
    let group = scoped(DepthWeights::Group);
    let (w0, w2) = (7.0 / 9.0, 7.0 / 3.0);
    assert_close(&weights(&group[0]), &[w0, w0, w0, w2, w0, w0, w0]);
    assert_close(&weights(&group[1]), &[1.0, 1.0]);
    let off = scoped(DepthWeights::Off);
    assert_eq!(column(&off[0], |c| c.weighted), column(&off[0], |c| c.advantage));
}

#[test]
fn a_group_of_equal_rewards_teaches_nothing() {
    // Seven times 1.4 is not seven times 1.4 in binary: only exact zeros are skipped.
    for success in [0.1, 0.3, 0.7, 1.0] {
        let group = vec![tree(&[finished(None, success), finished(Some(0), success)]); 8];
        let credits = credits(&estimator(0.4), &[group]).remove(0);
        assert!(credits.iter().all(|tree| tree[0].advantage == 0.0));
        let roots: Vec<_> = credits.iter().map(|tree| tree[0]).collect();
        assert!(!Estimator::teaches(&roots));
    }
    assert!(Estimator::teaches(&credits(&estimator(0.4), &[golden()])[0][0]));
}
