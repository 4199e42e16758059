//! Equation 4: how much a node of each depth weighs, in the scope of one batch (or one group, as an option).
//!
//! ```text
//! w_d = alpha / N_d        alpha = (sum over d of N_d) / (number of non-empty depths)
//! ```
//!
//! Every depth weighs the same in total, and the total weight stays the number of nodes. Weights multiply the advantage, never the reward.

use super::{CreditError, Member};
use rao_proto::{Depth, NodeId};
use serde::{Deserialize, Serialize};

/// Levels that a batch can count: depths 0 to 63. The paper's trees have at most 7.
pub const DEPTHS: usize = 64;

/// Over what the nodes of a depth are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DepthWeights {
    /// The whole batch: the paper's.
    #[default]
    Batch,
    /// Each group of trees on its own.
    Group,
    /// No weighting: every node weighs 1.
    Off,
}

/// N_d: how many counting nodes there are at each depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepthCounts([u32; DEPTHS]);

impl Default for DepthCounts {
    fn default() -> Self {
        Self([0; DEPTHS])
    }
}

impl DepthCounts {
    /// Counts the nodes of one tree.
    ///
    /// # Errors
    /// [`CreditError::TooDeep`]; nothing of the tree is counted then.
    pub fn add(&mut self, tree: &[Member]) -> Result<(), CreditError> {
        if let Some((index, member)) = tree
            .iter()
            .enumerate()
            .find(|(_, member)| member.depth.0 as usize >= DEPTHS)
        {
            return Err(CreditError::TooDeep {
                node: NodeId(index as u32),
                depth: member.depth.0,
            });
        }
        for member in tree.iter().filter(|member| member.counts()) {
            self.0[member.depth.0 as usize] += 1;
        }
        Ok(())
    }

    /// N_d of one depth.
    #[must_use]
    pub fn at(&self, depth: Depth) -> u32 {
        self.0.get(depth.0 as usize).copied().unwrap_or(0)
    }

    /// w_d of one depth; 0 where there is no node.
    #[must_use]
    pub fn weight(&self, depth: Depth) -> f32 {
        let here = self.at(depth);
        if here == 0 {
            return 0.0;
        }
        let nodes: u64 = self.0.iter().map(|&count| u64::from(count)).sum();
        let levels = self.0.iter().filter(|&&count| count > 0).count() as u64;
        nodes as f32 / (levels as f32 * here as f32)
    }
}
