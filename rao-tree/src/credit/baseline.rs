//! Equation 3: what a tree is compared with, in the scope of one group of trees of the same root task.
//!
//! ```text
//! leave-one-out    b(g) = 1/(G-1) * sum over g' != g of R(root of g')
//! mean             b(g) = 1/G     * sum over g'      of R(root of g')
//! ```
//!
//! Every node of tree g is compared with the same b(g), whatever its depth. Sums run over the roots that count; for a tree whose own root
//! does not, that is all of them. Where the paper is silent - a group in which one root counts - that root is compared with itself.
//!
//! Means are taken of the differences to one of the rewards, in f64, so that roots of equal reward have exactly that reward as their
//! baseline: an advantage of 1e-8 from rounding, in a group that has nothing to teach, would reach an optimiser that scales its steps up.

use serde::{Deserialize, Serialize};

/// What the trees of a group are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The mean reward of the other trees' roots: the paper's, unbiased. Needs at least two trees per group.
    #[default]
    LeaveOneOut,
    /// The mean reward of all roots of the group.
    Mean,
    /// Nothing: the reward is the advantage.
    None,
}

/// The rewards of the roots of one group, added up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roots {
    kind: Baseline,
    pivot: f32,
    /// Sum of the differences to the pivot.
    sum: f64,
    /// Roots that count.
    pub counting: u32,
}

impl Roots {
    /// Takes R(root) of every tree whose root counts.
    pub fn of(kind: Baseline, rewards: impl Iterator<Item = f32>) -> Self {
        let mut roots = Self {
            kind,
            pivot: 0.0,
            sum: 0.0,
            counting: 0,
        };
        for reward in rewards {
            if roots.counting == 0 {
                roots.pivot = reward;
            }
            roots.sum += f64::from(reward - roots.pivot);
            roots.counting += 1;
        }
        roots
    }

    /// The baseline of a tree; `root` is R(root) where its root counts.
    pub fn baseline(&self, root: Option<f32>) -> f32 {
        let (sum, count) = match (self.kind, root) {
            (Baseline::None, _) => return 0.0,
            (Baseline::LeaveOneOut, Some(root)) if self.counting > 1 => {
                (self.sum - f64::from(root - self.pivot), self.counting - 1)
            }
            _ => (self.sum, self.counting),
        };
        if count == 0 {
            0.0
        } else {
            self.pivot + (sum / f64::from(count)) as f32
        }
    }
}
