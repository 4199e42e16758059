//! Mean and standard deviation of rewards: what the pooled and the Tree-GRPO rule divide by, in the scope of one tree or one group.
//!
//! ```text
//! pooled       A(X) = (R(X) - mean over all nodes of the group) / (std over the same + EPSILON)
//! Tree-GRPO    A(X) = the same over the nodes of the tree + the same over all nodes of the group
//! ```
//!
//! Population moments in f64, as differences to the first reward: equal rewards give exactly 0.

/// Keeps a group of nearly equal rewards from exploding. That of the published GRPO implementations.
pub(super) const EPSILON: f64 = 1e-6;

/// Rewards, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pivot: f64,
    count: u64,
    sum: f64,
    squares: f64,
}

impl Moments {
    pub fn add(&mut self, reward: f32) {
        let reward = f64::from(reward);
        if self.count == 0 {
            self.pivot = reward;
        }
        let difference = reward - self.pivot;
        self.count += 1;
        self.sum += difference;
        self.squares += difference * difference;
    }

    /// Mean and standard deviation of what was added.
    pub fn standard(&self) -> Standard {
        if self.count == 0 {
            return Standard {
                pivot: 0.0,
                mean: 0.0,
                divisor: f64::INFINITY,
            };
        }
        let count = self.count as f64;
        let mean = self.sum / count;
        // Rounding can take a variance of zero below it.
        let variance = (self.squares / count - mean * mean).max(0.0);
        Standard {
            pivot: self.pivot,
            mean,
            divisor: libm::sqrt(variance) + EPSILON,
        }
    }
}

/// What rewards are measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standard {
    pivot: f64,
    mean: f64,
    /// Infinite when nothing was added: every reward is then 0.
    divisor: f64,
}

impl Standard {
    /// How many standard deviations the reward is above the mean.
    pub fn of(self, reward: f32) -> f32 {
        ((f64::from(reward) - self.pivot - self.mean) / self.divisor) as f32
    }
}
