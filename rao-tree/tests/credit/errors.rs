//! What is refused, and that the error says what and where.

use crate::forest::*;
use rao_tree::credit::{Baseline, Credit, CreditError, DEPTHS, DepthWeights, Estimator, Forest, Member, Rule, Running};
use rao_tree::{Depth, NodeId, NodeStatus, Success, SuccessError};

#[test]
fn options_outside_their_range_are_named() {
    let with = |change: fn(&mut Estimator, f32), value| {
        let mut estimator = Estimator::default();
        change(&mut estimator, value);
        estimator.validate()
    };
    type Set = fn(&mut Estimator, f32);
    let options: [(&str, Set, &[f32], &[f32]); 4] = [
        ("lambda", |e, value| e.lambda = value, &[0.0, 0.4, 1e3], &[-0.1, 1.1e3]),
        (
            "router_penalty",
            |e, value| e.router_penalty = value,
            &[0.0, 0.4, 1e3],
            &[-0.1, 1.1e3],
        ),
        (
            "depth_gamma",
            |e, value| e.depth_gamma = value,
            &[f32::MIN_POSITIVE, 0.5, 1.0, 1e3],
            &[0.0, -1.0, 1.1e3],
        ),
        ("turn_gamma", |e, value| e.turn_gamma = value, &[0.5, 1.0], &[0.0, 1.5]),
    ];
    for (name, set, right, wrong) in options {
        for &value in right {
            assert_eq!(with(set, value), Ok(()), "{name} = {value}");
        }
        for &value in wrong.iter().chain(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]) {
            let error = with(set, value).unwrap_err();
            assert!(
                matches!(error, CreditError::Option { option, .. } if option == name),
                "{error}"
            );
        }
    }
    let error = with(|e, value| e.lambda = value, -0.5).unwrap_err();
    assert_eq!(error.to_string(), "lambda must be from 0 to 1000, got -0.5");
}

/// At the ends of every range, over the deepest tree there is: numbers all through.
#[test]
fn no_option_within_its_range_makes_a_number_that_is_none() {
    let parents = (0..DEPTHS).map(|index| index.checked_sub(1).map(|parent| parent as u32));
    let chain = tree(&parents.map(|parent| finished(parent, 1.0)).collect::<Vec<_>>());
    let group = vec![chain, tree(&[finished(None, 0.0)]), tree(&[finished(None, 1.0)])];
    for (_, estimator) in estimators() {
        for reward in [0.0, 1e3] {
            for depth_gamma in [f32::MIN_POSITIVE, 1.0, 1e3] {
                let estimator = Estimator {
                    lambda: reward,
                    router_penalty: reward,
                    depth_weights: DepthWeights::Discount,
                    depth_gamma,
                    ..estimator
                };
                let credits = credits(&estimator, std::slice::from_ref(&group));
                let nodes = credits.iter().flatten().flatten();
                assert!(
                    nodes.map(|c| c.reward + c.advantage + c.weighted).all(f32::is_finite),
                    "{estimator:?}"
                );
            }
        }
    }
}

#[test]
fn assigning_checks_the_options_too() {
    let error = assign(&estimator(f32::NAN), &[golden()]).unwrap_err();
    assert!(matches!(error, CreditError::Option { option: "lambda", .. }));
}

/// A reward can only come from successes, and a success is a number.
#[test]
fn successes_that_are_no_numbers() {
    for value in [f32::NAN, f32::INFINITY, -0.1, 1.1] {
        let SuccessError(found) = Success::new(value).unwrap_err();
        assert_eq!(found.to_bits(), value.to_bits());
    }
}

#[test]
fn slices_of_unequal_length() {
    let nodes = &golden()[0];
    let forest = Forest::new(nodes, &[4], &[1]).unwrap();
    let none = Estimator {
        baseline: Baseline::None,
        ..Estimator::default()
    };
    for found in [0, 3, 5] {
        let mut credits = vec![Credit::default(); found];
        let error = CreditError::Length {
            what: "credits",
            found,
            expected: 4,
        };
        assert_eq!(none.assign(&forest, &mut credits), Err(error));
    }
}

#[test]
fn ends_that_are_none() {
    let nodes = [finished(None, 1.0), finished(None, 0.0), finished(None, 0.0)];
    let ends = |what, index, end, after, within| {
        Some(CreditError::Ends {
            what,
            index,
            end,
            after,
            within,
        })
    };
    let cases: [(&[usize], &[usize], Option<CreditError>); 9] = [
        (&[1, 2, 3], &[1, 3], None),
        (&[1, 1, 3], &[1, 3], ends("tree", 1, 1, 1, 3)),
        (&[0, 3], &[1], ends("tree", 0, 0, 0, 3)),
        (&[1, 2], &[2], ends("tree", 1, 2, 1, 3)),
        (&[1, 2, 4], &[3], ends("tree", 2, 4, 2, 3)),
        (&[2, 1, 3], &[3], ends("tree", 1, 1, 2, 3)),
        (&[1, 2, 3], &[], ends("group", 0, 0, 0, 3)),
        (&[1, 2, 3], &[2, 2, 3], ends("group", 1, 2, 2, 3)),
        (&[usize::MAX], &[1], ends("tree", 0, usize::MAX, 0, 3)),
    ];
    for (tree_ends, group_ends, expected) in cases {
        let error = Forest::new(&nodes, tree_ends, group_ends).err();
        assert_eq!(error, expected, "{tree_ends:?} {group_ends:?}");
    }
    let error = ends("tree", 1, 1, 1, 3).unwrap().to_string();
    assert_eq!(error, "tree 1 ends at 1, after 1 and within 3");
}

#[test]
fn an_empty_batch_teaches_nothing() {
    let forest = Forest::new(&[], &[], &[]).unwrap();
    assert_eq!(Estimator::default().assign(&forest, &mut []), Ok(0));
}

#[test]
fn a_group_of_one_has_no_leave_one_out_baseline() {
    let batch = [golden(), vec![tree(&[finished(None, 0.5)])]];
    for rule in [Rule::Rao, Rule::Sparse, Rule::RootBroadcast] {
        let estimator = Estimator {
            rule,
            ..Estimator::default()
        };
        assert!(estimator.needs_peers());
        assert_eq!(
            assign(&estimator, &batch).unwrap_err(),
            CreditError::GroupOfOne { group: 1 }
        );
        // The other baselines are defined for one tree: compared with itself, or with nothing.
        for (baseline, advantage) in [(Baseline::Mean, 0.0), (Baseline::None, 0.5)] {
            let estimator = Estimator { baseline, ..estimator };
            assert_eq!(credits(&estimator, &batch)[1][0][0].advantage, advantage);
        }
    }
    for rule in [Rule::Pooled, Rule::TreeGrpo, Rule::TreeRl] {
        let estimator = Estimator {
            rule,
            ..Estimator::default()
        };
        assert_eq!(assign(&estimator, &batch).unwrap().1, 1);
    }
}

#[test]
fn parents_come_before_their_children() {
    let refused = |nodes: &[Member]| Forest::new(nodes, &[1, nodes.len()], &[2]).err();
    let root = finished(None, 1.0);
    let child = |parent, depth| Member {
        depth: Depth(depth),
        ..finished(parent, 1.0)
    };
    let order = |node| {
        Some(CreditError::ParentOrder {
            tree: 1,
            node: NodeId(node),
        })
    };
    for parent in [1, 2, u32::MAX] {
        assert_eq!(refused(&[root, root, child(Some(parent), 1)]), order(1));
    }
    assert_eq!(refused(&[root, root, root]), order(1), "two roots");
    assert_eq!(refused(&[root, child(Some(0), 1), root]), order(0), "no root");
    let depth = |node, depth| {
        Some(CreditError::Depth {
            tree: 1,
            node: NodeId(node),
            depth,
        })
    };
    assert_eq!(refused(&[root, child(None, 1)]), depth(0, 1));
    for wrong in [0, 2] {
        assert_eq!(refused(&[root, root, child(Some(0), wrong)]), depth(1, wrong));
    }
}

#[test]
fn the_deepest_level_that_can_be_counted() {
    let chain = |levels: usize| {
        let parents = (0..levels).map(|index| index.checked_sub(1).map(|parent| parent as u32));
        tree(&parents.map(|parent| finished(parent, 1.0)).collect::<Vec<_>>())
    };
    let flat = tree(&[finished(None, 0.0)]);
    let credits = credits(&Estimator::default(), &[vec![chain(DEPTHS), flat.clone()]]);
    // 65 nodes at 64 depths, two of them roots.
    assert_close(&[credits[0][0][0].weighted], &[65.0 / 128.0]);
    assert_close(&[credits[0][0][63].weighted], &[65.0 / 64.0]);
    let refused = assign(&Estimator::default(), &[vec![flat, chain(DEPTHS + 1)]]).unwrap_err();
    let (node, depth) = (NodeId(DEPTHS as u32), DEPTHS as u8);
    assert_eq!(refused, CreditError::TooDeep { tree: 1, node, depth });
}

#[test]
fn a_node_that_is_still_running_can_be_refused() {
    let mut group = golden();
    group[1][1].status = None;
    let refuse = Estimator {
        running: Running::Refuse,
        ..Estimator::default()
    };
    let (tree, node) = (1, NodeId(1));
    assert_eq!(
        assign(&refuse, &[group.clone()]).unwrap_err(),
        CreditError::StillRunning { tree, node }
    );
    assert!(assign(&Estimator::default(), &[group]).is_ok());
    assert!(
        assign(&refuse, &[golden_with_invalid_roots(&[1])]).is_ok(),
        "{:?} is an end",
        NodeStatus::Invalid
    );
}
