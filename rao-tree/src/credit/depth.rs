//! Equation 4: weights under which every depth counts the same, in the scope of a batch or of one group.
//!
//! ```text
//! inverse     w_d = (M / sum over depths e of M_e / N_e) / N_d
//! discount    w_d = gamma^d * (M / sum over depths e of gamma^e * M_e)
//! ```
//!
//! N_d is how many nodes count at depth d, and M_d what the weights preserve: nodes (then M_e / N_e is 1 and w_d the paper's alpha / N_d),
//! datums or action tokens; M is the sum of M_d. Whatever it is, the weights move it between depths and its weighted sum stays M.
//! Weights multiply the advantage, never the reward.
//!
//! Sources: the paper for nodes; the authors' public trainers for the other two and for gamma.

use super::Member;
use rao_proto::Depth;
use serde::{Deserialize, Serialize};

/// Levels that a batch can count: depths 0 to 63. The paper's trees have at most 7.
pub const DEPTHS: usize = 64;

/// How the depths are weighed against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DepthWeights {
    /// A node weighs the less the more nodes share its depth: the paper's.
    #[default]
    Inverse,
    /// A node at depth d weighs gamma^d: [`depth_gamma`](super::Estimator::depth_gamma).
    Discount,
    /// Every node weighs 1.
    Off,
}

/// Over what nodes are counted and weights preserve their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DepthScope {
    /// The whole batch: the paper's.
    #[default]
    Batch,
    /// Each group of trees on its own.
    Group,
}

/// What the weights preserve the sum of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DepthMass {
    /// Nodes: the paper's.
    #[default]
    Nodes,
    /// Datums: training sequences.
    Datums,
    /// Action tokens: with a loss that is a mean over the action tokens of the nodes that count, the size of a step stays what it was.
    ActionTokens,
}

/// N_d and M_d of a batch or a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    nodes: [u64; DEPTHS],
    mass: [u64; DEPTHS],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            nodes: [0; DEPTHS],
            mass: [0; DEPTHS],
        }
    }
}

impl Counts {
    /// Adds a node, if it counts.
    pub fn add(&mut self, member: &Member, mass: DepthMass) {
        let depth = usize::from(member.depth.0);
        let counts = u64::from(member.counts());
        self.nodes[depth] += counts;
        self.mass[depth] += counts
            * match mass {
                DepthMass::Nodes => 1,
                DepthMass::Datums => u64::from(member.datums),
                DepthMass::ActionTokens => u64::from(member.tokens),
            };
    }

    /// w_d of every depth; 0 where there is no node, and everywhere when there is nothing to preserve.
    pub fn weights(&self, weights: DepthWeights, gamma: f32) -> Weights {
        match weights {
            DepthWeights::Off => Weights([1.0; DEPTHS]),
            DepthWeights::Inverse => self.inverse(),
            DepthWeights::Discount => self.discount(gamma.into()),
        }
    }

    fn inverse(&self) -> Weights {
        let spread: f64 = self.filled().map(|(_, nodes, mass)| mass / nodes).sum();
        self.weigh(spread, |_, nodes| self.total() / (spread * nodes))
    }

    fn discount(&self, gamma: f64) -> Weights {
        let powers = powers(gamma);
        let spread: f64 = self.filled().map(|(depth, _, mass)| powers[depth] * mass).sum();
        self.weigh(spread, |depth, _| powers[depth] * (self.total() / spread))
    }

    fn weigh(&self, spread: f64, weight: impl Fn(usize, f64) -> f64) -> Weights {
        let mut out = [0.0; DEPTHS];
        if spread > 0.0 {
            for (depth, nodes, _) in self.filled() {
                // The only rounding to f32.
                out[depth] = weight(depth, nodes) as f32;
            }
        }
        Weights(out)
    }

    /// Depth, N_d and M_d of the depths that have a node.
    fn filled(&self) -> impl Iterator<Item = (usize, f64, f64)> {
        let levels = self.nodes.iter().zip(&self.mass).enumerate();
        levels.filter_map(|(depth, (&nodes, &mass))| (nodes > 0).then_some((depth, nodes as f64, mass as f64)))
    }

    fn total(&self) -> f64 {
        self.mass.iter().sum::<u64>() as f64
    }
}

/// w_d by depth.
pub(super) struct Weights([f32; DEPTHS]);

impl Weights {
    pub fn at(&self, depth: Depth) -> f32 {
        self.0.get(usize::from(depth.0)).copied().unwrap_or(0.0)
    }
}

/// gamma^d, multiplied up: the same bits on every machine.
fn powers(gamma: f64) -> [f64; DEPTHS] {
    let mut out = [1.0; DEPTHS];
    for depth in 1..DEPTHS {
        out[depth] = out[depth - 1] * gamma;
    }
    out
}
