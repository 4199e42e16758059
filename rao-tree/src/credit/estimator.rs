//! The whole chain from successes to weighted advantages, with every choice as an option.

use super::{Baseline, CreditError, DepthCounts, DepthWeights, Member, baselines, local_rewards};
use serde::{Deserialize, Serialize};

/// Which success a node is rewarded with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Its own: the paper's.
    #[default]
    Dense,
    /// The root's, for every node of the tree: the paper's "sparse" ablation. Where the root does not count there is nothing to reward
    /// with, and no node of the tree is trained.
    Sparse,
}

/// How advantages are computed. The default is the paper's, with its TextCraft setting lambda = 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Estimator {
    /// Weight of the children's mean success in a node's reward; 0 on TextCraft, 0.4 where the policy does not delegate by itself.
    pub lambda: f32,
    /// What the trees of a group are compared with.
    pub baseline: Baseline,
    /// Over what the nodes of a depth are counted.
    pub depth_weights: DepthWeights,
    /// Which success a node is rewarded with.
    pub signal: Signal,
}

/// What credit assignment gives one node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Credit {
    /// R(X), equation 1.
    pub reward: f32,
    /// A(X), equation 3; 0 for a node that does not count.
    pub advantage: f32,
    /// w_d * A(X), equation 5: what each of the node's action tokens weighs. Filled in by [`Estimator::weigh`].
    pub weighted: f32,
}

impl Estimator {
    /// Checks the options.
    ///
    /// # Errors
    /// [`CreditError::Option`] when lambda is negative or not finite.
    pub fn validate(&self) -> Result<(), CreditError> {
        if self.lambda.is_finite() && self.lambda >= 0.0 {
            Ok(())
        } else {
            Err(CreditError::Option {
                what: "lambda",
                value: self.lambda,
            })
        }
    }

    /// R(X) of every node of one tree.
    ///
    /// # Errors
    /// As [`local_rewards`].
    pub fn rewards(&self, tree: &[Member], children: &mut [u32], rewards: &mut [f32]) -> Result<(), CreditError> {
        local_rewards(tree, self.lambda, children, rewards)?;
        if self.signal == Signal::Sparse {
            // Equation 1 with s(root) in the place of every s.
            let root = tree[0].success();
            for (&children, reward) in children.iter().zip(rewards) {
                *reward = if children == 0 { root } else { root + self.lambda * root };
            }
        }
        Ok(())
    }

    /// R(root) if the root counts, for [`baselines`].
    #[must_use]
    pub fn root(tree: &[Member], rewards: &[f32]) -> Option<f32> {
        let root = tree.first()?;
        if root.counts() { rewards.first().copied() } else { None }
    }

    /// Baselines of one group from its roots: see [`baselines`].
    ///
    /// # Errors
    /// As [`baselines`].
    pub fn baselines(&self, roots: &[Option<f32>], out: &mut [f32]) -> Result<usize, CreditError> {
        baselines(self.baseline, roots, out)
    }

    /// Adds one tree to `counts`, unless the estimator trains nothing in it: a sparse signal needs a root that counts.
    ///
    /// # Errors
    /// As [`DepthCounts::add`].
    pub fn count(&self, tree: &[Member], counts: &mut DepthCounts) -> Result<(), CreditError> {
        if self.trains(tree) { counts.add(tree) } else { Ok(()) }
    }

    /// A(X) of every node of one tree, unweighted: reward minus the tree's baseline, 0 where the node does not count or nothing of the tree
    /// is trained.
    ///
    /// # Errors
    /// [`CreditError::Length`].
    pub fn advantages(
        &self,
        tree: &[Member],
        rewards: &[f32],
        baseline: f32,
        out: &mut [Credit],
    ) -> Result<(), CreditError> {
        for (what, found) in [("rewards", rewards.len()), ("credit", out.len())] {
            if found != tree.len() {
                return Err(CreditError::Length {
                    what,
                    found,
                    expected: tree.len(),
                });
            }
        }
        let trains = self.trains(tree);
        for ((member, &reward), credit) in tree.iter().zip(rewards).zip(out) {
            let advantage = if trains && member.counts() {
                reward - baseline
            } else {
                0.0
            };
            *credit = Credit {
                reward,
                advantage,
                weighted: advantage,
            };
        }
        Ok(())
    }

    /// Multiplies the advantages of one tree with the weights of `counts`, which the caller took over the batch or the group.
    ///
    /// # Errors
    /// [`CreditError::Length`].
    pub fn weigh(&self, tree: &[Member], counts: &DepthCounts, credits: &mut [Credit]) -> Result<(), CreditError> {
        if credits.len() != tree.len() {
            return Err(CreditError::Length {
                what: "credit",
                found: credits.len(),
                expected: tree.len(),
            });
        }
        for (member, credit) in tree.iter().zip(credits) {
            let weight = match self.depth_weights {
                DepthWeights::Off => 1.0,
                DepthWeights::Batch | DepthWeights::Group => counts.weight(member.depth),
            };
            credit.weighted = credit.advantage * weight;
        }
        Ok(())
    }

    /// Whether a tree can teach anything: some node that counts has an advantage. Groups in which no tree does are skipped.
    #[must_use]
    pub fn teaches(credits: &[Credit]) -> bool {
        credits.iter().any(|credit| credit.advantage != 0.0)
    }

    fn trains(&self, tree: &[Member]) -> bool {
        self.signal == Signal::Dense || tree.first().is_some_and(Member::counts)
    }
}
