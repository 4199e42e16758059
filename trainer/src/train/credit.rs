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
/// Groups in which no node has an advantage, or no root counts, are skipped: they neither train nor enter the depth counts.
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
