//! Equation 1: what a node earned, in the scope of one tree.
//!
//! ```text
//! R(X) = s(X) + lambda * mean over immediate children c of s(c)          second term 0 without children
//! ```
//!
//! The mean, not the sum: launching more earns nothing. A child enters with its own success, never with its bonus: nothing compounds.

use super::{CreditError, Member};
use rao_proto::NodeId;

/// Writes R(X) of every node of one tree to `rewards`. `children` is scratch of the same length.
///
/// # Errors
/// [`CreditError::Length`], [`CreditError::EmptyTree`], [`CreditError::ParentOrder`].
pub fn local_rewards(
    tree: &[Member],
    lambda: f32,
    children: &mut [u32],
    rewards: &mut [f32],
) -> Result<(), CreditError> {
    let expected = tree.len();
    if expected == 0 {
        return Err(CreditError::EmptyTree);
    }
    for (what, found) in [("children", children.len()), ("rewards", rewards.len())] {
        if found != expected {
            return Err(CreditError::Length { what, found, expected });
        }
    }
    children.fill(0);
    rewards.fill(0.0);
    // First the sums of the children's successes, then their means: two passes in arena order, whatever the shape.
    for (index, member) in tree.iter().enumerate() {
        let Some(parent) = member.parent else { continue };
        if parent.index() >= index {
            return Err(CreditError::ParentOrder(NodeId(index as u32)));
        }
        if member.counts() {
            children[parent.index()] += 1;
            rewards[parent.index()] += member.success();
        }
    }
    for (index, member) in tree.iter().enumerate() {
        let bonus = if children[index] == 0 {
            0.0
        } else {
            lambda * (rewards[index] / children[index] as f32)
        };
        rewards[index] = member.success() + bonus;
    }
    Ok(())
}
