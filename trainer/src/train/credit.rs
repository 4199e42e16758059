//! Credit of a batch: from the trees of its groups to what every node weighs.

use crate::rollout::Rollout;
use rao_tree::credit::{Credit, CreditError, Estimator, Forest, Member};

/// Credit of one tree, by node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreeCredit {
    /// By node.
    pub nodes: Vec<Credit>,
    /// The tree's group taught something: some node in it has an advantage.
    pub teaches: bool,
}

/// Assigns credit to a batch of groups; each group holds the trees of one root task. The result has the same shape.
///
/// # Errors
/// As [`Estimator::assign`]: a group of one, trees deeper than can be counted.
pub fn assign(estimator: &Estimator, groups: &[Vec<Rollout>]) -> Result<Vec<Vec<TreeCredit>>, CreditError> {
    let (mut nodes, mut tree_ends, mut group_ends) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        for rollout in group {
            nodes.extend(rollout.tree.nodes().iter().map(Member::from));
            tree_ends.push(nodes.len());
        }
        group_ends.push(tree_ends.len());
    }
    let mut credits = vec![Credit::default(); nodes.len()];
    estimator.assign(&Forest::new(&nodes, &tree_ends, &group_ends)?, &mut credits)?;
    let mut rest = credits.as_slice();
    let credits = groups.iter().map(|group| {
        let trees = group.iter().map(|rollout| {
            let (nodes, after) = rest.split_at(rollout.tree.nodes().len());
            rest = after;
            nodes.to_vec()
        });
        let trees: Vec<_> = trees.collect();
        let teaches = trees.iter().flatten().any(|credit| credit.advantage != 0.0);
        trees.into_iter().map(|nodes| TreeCredit { nodes, teaches }).collect()
    });
    Ok(credits.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rollout::VecArena;
    use NodeStatus::{Finished, Invalid};
    use rao_proto::{Budget, Event, NodeId};
    use rao_tree::credit::{Baseline, DepthScope, DepthWeights};
    use rao_tree::{Depth, NodeStatus, Success, Tree};

    /// A node by its parent, how it ended, and its success.
    pub(in crate::train) type Entry = (Option<u32>, NodeStatus, f32);

    pub(in crate::train) fn root(status: NodeStatus, success: f32) -> Entry {
        (None, status, success)
    }

    fn child(parent: u32, success: f32) -> Entry {
        (Some(parent), Finished, success)
    }

    /// A rollout whose tree is folded from events, as the engine's is.
    fn rollout(nodes: &[Entry]) -> Rollout {
        let mut tree = Tree::new(VecArena::default());
        let ids = || (0..nodes.len() as u32).map(NodeId).zip(nodes);
        for (node, &(parent, ..)) in ids() {
            let parent = parent.map(NodeId);
            let above = parent.and_then(|parent| tree.node(parent)).map(|parent| parent.depth.0);
            let spawn = Event::Spawn {
                node,
                parent,
                depth: Depth(above.map_or(0, |above| above + 1)),
                task: "",
                budget: Budget {
                    depth: u8::MAX - above.map_or(0, |above| above + 1),
                    ..Budget::UNLIMITED
                },
            };
            tree.apply(&spawn).unwrap();
        }
        for (node, &(_, status, success)) in ids() {
            let value = &[];
            tree.apply(&Event::Return { node, status, value }).unwrap();
            if status == Finished {
                let success = Success::new(success).unwrap();
                tree.apply(&Event::Score { node, success }).unwrap();
            }
        }
        Rollout {
            job: 0,
            tree,
            transcripts: Vec::new(),
            log: Vec::new(),
            faults: Vec::new(),
            weights: rao_tree::WeightsVersion(0),
            seconds: 0.0,
        }
    }

    pub(in crate::train) fn group(trees: &[&[Entry]]) -> Vec<Rollout> {
        trees.iter().map(|tree| rollout(tree)).collect()
    }

    /// One tree of three children against a root alone: 2 nodes at depth 0, 3 at depth 1.
    fn teaching() -> Vec<Rollout> {
        let wide = [root(Finished, 1.0), child(0, 1.0), child(0, 0.0), child(0, 1.0)];
        group(&[&wide, &[root(Finished, 0.0)]])
    }

    /// Two roots alone.
    fn flat() -> Vec<Rollout> {
        group(&[&[root(Finished, 0.0)], &[root(Finished, 1.0)]])
    }

    /// Nothing differs, down to depth 2.
    fn equal() -> Vec<Rollout> {
        let chain = [root(Finished, 1.0), child(0, 1.0), child(1, 1.0)];
        group(&[&chain, &chain])
    }

    /// Children that differ below roots that could not be judged.
    fn invalid() -> Vec<Rollout> {
        let tree = [root(Invalid, 0.0), child(0, 1.0), child(0, 0.0), child(1, 1.0)];
        group(&[&tree, &tree])
    }

    fn weighted(credits: &[TreeCredit]) -> Vec<Vec<f32>> {
        let of = |tree: &TreeCredit| tree.nodes.iter().map(|node| node.weighted).collect();
        credits.iter().map(of).collect()
    }

    #[test]
    fn only_groups_that_teach_train_and_count() {
        // Weights of the nodes at depth 0 and 1: of the first teaching group, and at depth 0 of the second, which has no other.
        let of = |nodes: f32, levels: f32, here: f32| nodes / (levels * here);
        for (depth_scope, depth_weights, [roots, children, flat_roots]) in [
            (DepthScope::Batch, DepthWeights::Off, [1.0, 1.0, 1.0]),
            (
                DepthScope::Group,
                DepthWeights::Inverse,
                [of(5.0, 2.0, 2.0), of(5.0, 2.0, 3.0), of(2.0, 1.0, 2.0)],
            ),
            (
                DepthScope::Batch,
                DepthWeights::Inverse,
                [of(7.0, 2.0, 4.0), of(7.0, 2.0, 3.0), of(7.0, 2.0, 4.0)],
            ),
        ] {
            let estimator = Estimator {
                depth_scope,
                depth_weights,
                ..Estimator::default()
            };
            let groups = [equal(), teaching(), invalid(), flat()];
            let credits = assign(&estimator, &groups).unwrap();
            let teaches: Vec<Vec<bool>> = credits
                .iter()
                .map(|group| group.iter().map(|tree| tree.teaches).collect())
                .collect();
            // A whole group teaches or none of its trees does.
            let expected = [false, true, false, true].map(|teaches| vec![teaches; 2]);
            assert_eq!(teaches, expected, "{depth_scope:?} {depth_weights:?}");

            let expected = [vec![roots, children, 0.0, children], vec![-roots]];
            assert_eq!(weighted(&credits[1]), expected, "{depth_scope:?} {depth_weights:?}");
            assert_eq!(
                weighted(&credits[3]),
                [[-flat_roots], [flat_roots]],
                "{depth_scope:?} {depth_weights:?}"
            );

            let alone = assign(&estimator, &[teaching(), flat()]).unwrap();
            assert_eq!(
                credits[1], alone[0],
                "skipped groups change nothing: {depth_scope:?} {depth_weights:?}"
            );
            assert_eq!(
                credits[3], alone[1],
                "skipped groups change nothing: {depth_scope:?} {depth_weights:?}"
            );
        }
    }

    #[test]
    fn a_batch_of_skipped_groups_teaches_nothing() {
        let credits = assign(&Estimator::default(), &[equal(), invalid()]).unwrap();
        assert!(credits.iter().flatten().all(|tree| !tree.teaches));
        assert!(weighted(&credits.concat()).concat().iter().all(|&weight| weight == 0.0));
        assert_eq!(assign(&Estimator::default(), &[]), Ok(Vec::new()));
    }

    #[test]
    fn a_group_of_one_has_nothing_to_be_compared_with() {
        let alone = || [flat(), group(&[&[root(Finished, 1.0)]])];
        assert_eq!(
            assign(&Estimator::default(), &alone()),
            Err(CreditError::GroupOfOne { group: 1 })
        );
        let estimator = Estimator {
            baseline: Baseline::None,
            ..Estimator::default()
        };
        let credits = assign(&estimator, &alone()).unwrap();
        assert!(credits[1][0].teaches, "without a baseline the reward itself teaches");
    }

    #[test]
    fn a_group_without_trees_is_an_error() {
        let refused = assign(&Estimator::default(), &[teaching(), Vec::new()]);
        assert!(
            matches!(
                refused,
                Err(CreditError::Ends {
                    what: "group",
                    index: 1,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}
