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
pub struct DepthCounts {
    at: [u32; DEPTHS],
    /// Sum over d of N_d.
    nodes: u64,
    /// Number of non-empty depths.
    levels: u8,
}

impl Default for DepthCounts {
    fn default() -> Self {
        Self {
            at: [0; DEPTHS],
            nodes: 0,
            levels: 0,
        }
    }
}

impl DepthCounts {
    /// Counts the nodes of one tree. [`Estimator::count`](super::Estimator::count) also leaves out what the estimator does not train.
    ///
    /// # Errors
    /// [`CreditError::TooDeep`]; nothing of the tree is counted then.
    pub fn add(&mut self, tree: &[Member]) -> Result<(), CreditError> {
        let too_deep = |member: &Member| usize::from(member.depth.0) >= DEPTHS;
        if let Some((index, member)) = tree.iter().enumerate().find(|(_, member)| too_deep(member)) {
            return Err(CreditError::TooDeep {
                node: NodeId(index as u32),
                depth: member.depth.0,
            });
        }
        for member in tree.iter().filter(|member| member.counts()) {
            let here = &mut self.at[usize::from(member.depth.0)];
            self.levels += u8::from(*here == 0);
            *here += 1;
            self.nodes += 1;
        }
        Ok(())
    }

    /// Sum over d of N_d: what the weights of the counted nodes sum to.
    #[must_use]
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// N_d of one depth.
    #[must_use]
    pub fn at(&self, depth: Depth) -> u32 {
        self.at.get(usize::from(depth.0)).copied().unwrap_or(0)
    }

    /// w_d of one depth; 0 where there is no node.
    #[must_use]
    pub fn weight(&self, depth: Depth) -> f32 {
        match self.at(depth) {
            0 => 0.0,
            here => self.nodes as f32 / (f32::from(self.levels) * here as f32),
        }
    }
}
