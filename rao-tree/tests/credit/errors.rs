//! What is refused, and that the error says what and where.

use crate::forest::*;
use rao_tree::credit::{Baseline, Credit, CreditError, DEPTHS, DepthCounts, Estimator, baselines, local_rewards};
use rao_tree::{Depth, NodeId};

#[test]
fn lambda_is_a_finite_number_of_at_least_zero() {
    for lambda in [0.0, 0.4, 2.0] {
        assert_eq!(estimator(lambda).validate(), Ok(()));
    }
    for lambda in [-0.1, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = estimator(lambda).validate().unwrap_err();
        assert!(matches!(error, CreditError::Option { what: "lambda", .. }), "{error}");
    }
    let error = estimator(-0.5).validate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "lambda must be a finite number of at least 0, got -0.5"
    );
}

#[test]
fn slices_of_unequal_length() {
    let length = |what, found, expected| Err(CreditError::Length { what, found, expected });
    let estimator = Estimator::default();
    let tree = golden().remove(0);
    assert_eq!(
        estimator.rewards(&tree, &mut [0; 3], &mut [0.0; 4]),
        length("children", 3, 4)
    );
    assert_eq!(
        estimator.rewards(&tree, &mut [0; 4], &mut [0.0; 5]),
        length("rewards", 5, 4)
    );
    let mut credits = [Credit::default(); 4];
    assert_eq!(
        estimator.advantages(&tree, &[0.0; 3], 0.0, &mut credits),
        length("rewards", 3, 4)
    );
    assert_eq!(
        estimator.advantages(&tree, &[0.0; 4], 0.0, &mut credits[1..]),
        length("credit", 3, 4)
    );
    assert_eq!(
        estimator.weigh(&tree, &DepthCounts::default(), &mut credits[2..]),
        length("credit", 2, 4)
    );
    let roots = [Some(1.0), Some(0.0)];
    let out = &mut [0.0; 3];
    assert_eq!(
        baselines(Baseline::Mean, &roots, out).map(drop),
        length("baselines", 3, 2)
    );
}

#[test]
fn empty_trees_and_groups_and_a_group_of_one() {
    assert_eq!(local_rewards(&[], 0.0, &mut [], &mut []), Err(CreditError::EmptyTree));
    assert_eq!(baselines(Baseline::Mean, &[], &mut []), Err(CreditError::EmptyGroup));
    let one = [Some(0.5)];
    assert_eq!(
        baselines(Baseline::LeaveOneOut, &one, &mut [0.0]),
        Err(CreditError::GroupOfOne)
    );
    // The other two rules are defined for one tree.
    let mut out = [f32::NAN];
    assert_eq!(baselines(Baseline::Mean, &one, &mut out), Ok(1));
    assert_eq!(out, [0.5]);
    assert_eq!(baselines(Baseline::None, &one, &mut out), Ok(1));
    assert_eq!(out, [0.0]);
    assert_eq!(Estimator::root(&[], &[]), None);
}

#[test]
fn parents_come_before_their_children() {
    for parent in [1, 2, u32::MAX] {
        let nodes = [finished(None, 1.0), finished(Some(parent), 1.0)];
        let refused = local_rewards(&nodes, 0.0, &mut [0; 2], &mut [0.0; 2]);
        assert_eq!(refused, Err(CreditError::ParentOrder(NodeId(1))));
    }
}

#[test]
fn the_deepest_level_that_can_be_counted() {
    let at = |depth: usize| {
        let mut node = finished(None, 1.0);
        node.depth = Depth(depth as u8);
        node
    };
    let mut counts = DepthCounts::default();
    counts.add(&[at(DEPTHS - 1)]).unwrap();
    let refused = counts.add(&[at(0), at(DEPTHS)]);
    let depth = DEPTHS as u8;
    assert_eq!(refused, Err(CreditError::TooDeep { node: NodeId(1), depth }));
    assert_eq!(counts.nodes(), 1, "nothing of a refused tree is counted");
    assert_eq!(counts.at(Depth(u8::MAX)), 0);
    assert_eq!(counts.weight(Depth(u8::MAX)), 0.0);
}
