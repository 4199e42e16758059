//! What a batch of trees and its credit look like: numbers to plot beside the loss.

use super::{Credit, CreditError, DEPTHS};
use crate::tree::{Arena, Refusals, Tree};
use rao_proto::{Depth, Limit, NodeId};

/// Sums over the trees added so far; the shares are taken when they are asked for. 0 where there is nothing to share.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    levels: [Level; DEPTHS],
    trees: u64,
    nodes: u64,
    delegating: u64,
    launches: u64,
    parallel: u64,
    /// Sum over the trees of the share of the work that a lone child of the root did.
    routed: f64,
    sampled: u64,
    path: u64,
    refusals: Refusals,
}

/// One depth of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    /// Nodes at this depth, those that do not count included.
    pub nodes: u64,
    /// Tokens that they sampled.
    pub tokens: u64,
    /// Sum of tokens * |A(X)|: how hard this depth would pull without depth weights.
    pub advantage: f64,
    /// Sum of tokens * |w_d * A(X)|: how hard it pulls.
    pub weighted: f64,
}

impl Default for Diagnostics {
    fn default() -> Self {
        Self {
            levels: [Level::default(); DEPTHS],
            trees: 0,
            nodes: 0,
            delegating: 0,
            launches: 0,
            parallel: 0,
            routed: 0.0,
            sampled: 0,
            path: 0,
            refusals: Refusals::default(),
        }
    }
}

impl Diagnostics {
    /// Adds one tree and the credit of its nodes.
    ///
    /// # Errors
    /// [`CreditError::Length`] and [`CreditError::TooDeep`] (with the number of trees added before as the tree); nothing is added then.
    pub fn add<A: Arena>(&mut self, tree: &Tree<A>, credits: &[Credit]) -> Result<(), CreditError> {
        let nodes = tree.nodes();
        if credits.len() != nodes.len() {
            return Err(CreditError::Length {
                what: "credits",
                found: credits.len(),
                expected: nodes.len(),
            });
        }
        if let Some(node) = nodes.iter().position(|node| usize::from(node.depth.0) >= DEPTHS) {
            return Err(CreditError::TooDeep {
                tree: self.trees as usize,
                node: NodeId(node as u32),
                depth: nodes[node].depth.0,
            });
        }
        for (node, credit) in nodes.iter().zip(credits) {
            let level = &mut self.levels[usize::from(node.depth.0)];
            let tokens = f64::from(node.sampled);
            level.nodes += 1;
            level.tokens += u64::from(node.sampled);
            level.advantage += tokens * f64::from(credit.advantage.abs());
            level.weighted += tokens * f64::from(credit.weighted.abs());
            self.delegating += u64::from(node.children > 0);
            self.launches += u64::from(node.children);
            self.parallel += u64::from(node.parallel);
        }
        let sampled: u64 = nodes.iter().map(|node| u64::from(node.sampled)).sum();
        if let Some(root) = nodes.first() {
            let below = sampled - u64::from(root.sampled);
            self.routed += if root.children == 1 { share(below, sampled) } else { 0.0 };
            self.path += root.critical_path();
        }
        self.trees += 1;
        self.nodes += nodes.len() as u64;
        self.sampled += sampled;
        self.refusals += *tree.refusals();
        Ok(())
    }

    /// One depth.
    #[must_use]
    pub fn level(&self, depth: Depth) -> Level {
        self.levels.get(usize::from(depth.0)).copied().unwrap_or_default()
    }

    /// Share of the weighted advantage mass that lies at a depth: with [`DepthWeights::Inverse`](super::DepthWeights::Inverse) about equal
    /// where nodes of all depths differ as much from their baseline.
    #[must_use]
    pub fn mass_share(&self, depth: Depth) -> f64 {
        let total: f64 = self.levels.iter().map(|level| level.weighted).sum();
        if total > 0.0 {
            self.level(depth).weighted / total
        } else {
            0.0
        }
    }

    /// Nodes, all trees together.
    #[must_use]
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Trees.
    #[must_use]
    pub fn trees(&self) -> u64 {
        self.trees
    }

    /// Share of the nodes that launched a child.
    #[must_use]
    pub fn delegation_rate(&self) -> f64 {
        share(self.delegating, self.nodes)
    }

    /// Share of the launches that were made together with another: 85 % in the paper where sub-tasks are independent, 1.5 % where one
    /// needs the other.
    #[must_use]
    pub fn parallel_share(&self) -> f64 {
        share(self.parallel, self.launches)
    }

    /// Sampled tokens that had to be drawn one after the other, over all sampled tokens: 1 is a chain, 1/n is n agents at once throughout.
    #[must_use]
    pub fn critical_path_share(&self) -> f64 {
        share(self.path, self.sampled)
    }

    /// How far roots are mere routers: the mean over the trees of the share of the sampled tokens that a lone child of the root and its
    /// descendants drew; 0 for a root with no child or several. A root that hands its whole task on comes close to 1.
    #[must_use]
    pub fn router_index(&self) -> f64 {
        if self.trees == 0 {
            0.0
        } else {
            self.routed / self.trees as f64
        }
    }

    /// Launches that each limit refused.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Share of the attempted launches that a limit refused.
    #[must_use]
    pub fn refused_by(&self, limit: Limit) -> f64 {
        share(self.refusals.by(limit).into(), self.launches + self.refusals.total())
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}
