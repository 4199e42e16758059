//! Equation 1: what a node earned, in the scope of one tree.
//!
//! ```text
//! R(X) = s(X) + lambda * mean over immediate children c of s(c)          second term 0 without children
//! ```
//!
//! The mean, not the sum: launching more earns nothing. A child enters with its own success, never with its bonus: nothing compounds. The
//! sparse signal puts s(root) in the place of every s.

use super::{Credit, Member};

/// Writes R(X) of every node of one tree. `router_penalty` is taken off nodes that launched exactly one child.
pub(super) fn local(tree: &[Member], lambda: f32, router_penalty: f32, root: Option<f32>, credits: &mut [Credit]) {
    // First the sums of the children's successes, then their means: two passes in arena order, whatever the shape. The two fields that
    // are not due yet hold how many children count, and how many were launched; f32 counts to 2^24, and no node has so many. Who counts and
    // who has children is as good as random, so nothing here branches on it: adding 0 and dividing 0 by 1 cost less than a wrong guess.
    credits.fill(Credit::default());
    for member in tree {
        let Some(parent) = member.parent else { continue };
        let above = &mut credits[parent.index()];
        let (success, counting) = match member.counts() {
            true => (root.unwrap_or(member.success()), 1.0),
            false => (0.0, 0.0),
        };
        above.reward += success;
        above.advantage += counting;
        above.weighted += 1.0;
    }
    for (member, credit) in tree.iter().zip(credits) {
        let (sum, counting, launched) = (credit.reward, credit.advantage, credit.weighted);
        let bonus = lambda * (sum / counting.max(1.0));
        let penalty = if launched == 1.0 { router_penalty } else { 0.0 };
        credit.reward = root.unwrap_or(member.success()) + bonus - penalty;
    }
}
