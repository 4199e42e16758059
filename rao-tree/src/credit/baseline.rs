//! Equation 3: what a tree is compared with, in the scope of one group of trees of the same root task.
//!
//! ```text
//! leave-one-out    b(g) = 1/(G-1) * sum over g' != g of R(root of g')
//! mean             b(g) = 1/G     * sum over g'      of R(root of g')
//! ```
//!
//! Every node of tree g is compared with the same b(g), whatever its depth. Sums run over the valid roots only. Where the paper is
//! silent - a group with one valid root - that root is centred on itself (as the authors' code does): its own advantage is 0, and its
//! descendants' are R - R(root).
//!
//! Means are taken of the differences to one of the rewards, so that roots of equal reward have exactly that reward as their baseline: an
//! advantage of 1e-8 from rounding, in a group that has nothing to teach, would reach an optimiser that scales its steps up.

use super::CreditError;
use serde::{Deserialize, Serialize};

/// What the trees of a group are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The mean reward of the other trees' roots: the paper's, unbiased.
    #[default]
    LeaveOneOut,
    /// The mean reward of all roots of the group.
    Mean,
    /// Nothing: the reward is the advantage.
    None,
}

/// Writes the baseline of each tree of a group. `roots[g]` is R(root of g), or `None` where that root does not count.
/// Returns how many roots were valid; with none, every baseline is 0 and the group must not be trained.
///
/// # Errors
/// [`CreditError::EmptyGroup`]; [`CreditError::GroupOfOne`] for leave-one-out over one tree; [`CreditError::Length`].
pub fn baselines(kind: Baseline, roots: &[Option<f32>], out: &mut [f32]) -> Result<usize, CreditError> {
    if roots.is_empty() {
        return Err(CreditError::EmptyGroup);
    }
    if roots.len() == 1 && kind == Baseline::LeaveOneOut {
        return Err(CreditError::GroupOfOne);
    }
    if out.len() != roots.len() {
        return Err(CreditError::Length {
            what: "baselines",
            found: out.len(),
            expected: roots.len(),
        });
    }
    let valid = roots.iter().flatten().count();
    let pivot = roots.iter().flatten().next().copied().unwrap_or(0.0);
    let mean_without = |skip: Option<usize>| {
        let kept = roots.iter().enumerate().filter(|(other, _)| Some(*other) != skip);
        let (sum, count) = kept
            .filter_map(|(_, root)| *root)
            .fold((0.0_f32, 0_u32), |(sum, count), reward| {
                (sum + (reward - pivot), count + 1)
            });
        if count == 0 { 0.0 } else { pivot + sum / count as f32 }
    };
    for (index, baseline) in out.iter_mut().enumerate() {
        *baseline = match kind {
            Baseline::None => 0.0,
            Baseline::Mean => mean_without(None),
            // The only valid root is left with itself.
            Baseline::LeaveOneOut if valid == 1 => mean_without(None),
            Baseline::LeaveOneOut => mean_without(Some(index)),
        };
    }
    Ok(valid)
}
