//! Credit of a batch: from the trees of its groups to what every node weighs.

use crate::rollout::Rollout;
use rao_tree::credit::{Credit, CreditError, DepthCounts, DepthWeights, Estimator, Member};

/// Credit of one tree, by node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreeCredit {
    /// By node.
    pub nodes: Vec<Credit>,
    /// The tree's group taught something: its roots are comparable and some node has an advantage.
    pub teaches: bool,
}

/// Assigns credit to a batch of groups; each group holds the trees of one root task. The result has the same shape.
///
/// Groups in which no node has an advantage, or no root counts, are skipped: they weigh nothing and do not enter the depth counts.
///
/// # Errors
/// As the rules of [`rao_tree::credit`]: a group of one, trees deeper than can be counted.
pub fn assign(estimator: &Estimator, groups: &[Vec<Rollout>]) -> Result<Vec<Vec<TreeCredit>>, CreditError> {
    let mut batch_counts = DepthCounts::default();
    let mut group_counts = Vec::with_capacity(groups.len());
    let mut credits = Vec::with_capacity(groups.len());
    for group in groups {
        let trees: Vec<Vec<Member>> = group.iter().map(members).collect();
        let group_credits = group_credit(estimator, &trees)?;
        let mut counts = DepthCounts::default();
        if group_credits.iter().any(|tree| tree.teaches) {
            for tree in &trees {
                estimator.count(tree, &mut counts)?;
                estimator.count(tree, &mut batch_counts)?;
            }
        }
        group_counts.push(counts);
        credits.push((trees, group_credits));
    }
    let weighed = credits
        .into_iter()
        .zip(&group_counts)
        .map(|((trees, mut credits), counts)| {
            let counts = match estimator.depth_weights {
                DepthWeights::Group => counts,
                DepthWeights::Batch | DepthWeights::Off => &batch_counts,
            };
            for (tree, credit) in trees.iter().zip(&mut credits) {
                estimator.weigh(tree, counts, &mut credit.nodes)?;
                if !credit.teaches {
                    credit.nodes.iter_mut().for_each(|node| node.weighted = 0.0);
                }
            }
            Ok(credits)
        });
    weighed.collect()
}

fn members(rollout: &Rollout) -> Vec<Member> {
    rollout.tree.nodes().iter().map(Member::from).collect()
}

fn group_credit(estimator: &Estimator, trees: &[Vec<Member>]) -> Result<Vec<TreeCredit>, CreditError> {
    let mut rewards = Vec::with_capacity(trees.len());
    for tree in trees {
        let mut children = vec![0; tree.len()];
        let mut reward = vec![0.0; tree.len()];
        estimator.rewards(tree, &mut children, &mut reward)?;
        rewards.push(reward);
    }
    let roots: Vec<Option<f32>> = trees
        .iter()
        .zip(&rewards)
        .map(|(tree, rewards)| Estimator::root(tree, rewards))
        .collect();
    let mut baselines = vec![0.0; trees.len()];
    let valid = estimator.baselines(&roots, &mut baselines)?;
    let mut credits = Vec::with_capacity(trees.len());
    for ((tree, rewards), baseline) in trees.iter().zip(&rewards).zip(baselines) {
        let mut nodes = vec![Credit::default(); tree.len()];
        estimator.advantages(tree, rewards, baseline, &mut nodes)?;
        credits.push(TreeCredit { nodes, teaches: false });
    }
    let teaches = valid > 0 && credits.iter().any(|credit| Estimator::teaches(&credit.nodes));
    for credit in &mut credits {
        credit.teaches = teaches;
    }
    Ok(credits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::VecArena;
    use NodeStatus::{Finished, Invalid};
    use rao_proto::{Event, NodeId};
    use rao_tree::credit::Baseline;
    use rao_tree::{Depth, NodeStatus, Success, Tree};

    /// A node by its parent, how it ended, and its success.
    type Entry = (Option<u32>, NodeStatus, f32);

    fn root(status: NodeStatus, success: f32) -> Entry {
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
            seconds: 0.0,
        }
    }

    fn group(trees: &[&[Entry]]) -> Vec<Rollout> {
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
        for (depth_weights, [roots, children, flat_roots]) in [
            (DepthWeights::Off, [1.0, 1.0, 1.0]),
            (
                DepthWeights::Group,
                [of(5.0, 2.0, 2.0), of(5.0, 2.0, 3.0), of(2.0, 1.0, 2.0)],
            ),
            (
                DepthWeights::Batch,
                [of(7.0, 2.0, 4.0), of(7.0, 2.0, 3.0), of(7.0, 2.0, 4.0)],
            ),
        ] {
            let estimator = Estimator {
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
            assert_eq!(teaches, expected, "{depth_weights:?}");

            let expected = [vec![roots, children, 0.0, children], vec![-roots]];
            assert_eq!(weighted(&credits[1]), expected, "{depth_weights:?}");
            assert_eq!(
                weighted(&credits[3]),
                [[-flat_roots], [flat_roots]],
                "{depth_weights:?}"
            );

            let alone = assign(&estimator, &[teaching(), flat()]).unwrap();
            assert_eq!(credits[1], alone[0], "skipped groups change nothing: {depth_weights:?}");
            assert_eq!(credits[3], alone[1], "skipped groups change nothing: {depth_weights:?}");
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
        assert_eq!(assign(&Estimator::default(), &alone()), Err(CreditError::GroupOfOne));
        let estimator = Estimator {
            baseline: Baseline::None,
            ..Estimator::default()
        };
        let credits = assign(&estimator, &alone()).unwrap();
        assert!(credits[1][0].teaches, "without a baseline the reward itself teaches");
    }

    #[test]
    fn a_group_without_trees_is_an_error() {
        assert_eq!(
            assign(&Estimator::default(), &[Vec::new()]),
            Err(CreditError::EmptyGroup)
        );
    }
}
