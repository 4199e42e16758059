//! What a success is worth after what it took, in the scope of one tree. Not in the paper, whose reward is the same for a tree of ten nodes and
//! one of a thousand, and for children at work side by side or one after the other.
//!
//! ```text
//! R(X) = s(X) * (1 - min(1/2, (path_cost * path(X) + work_cost * work(X)) / 1000)) + ...
//! path(X)   sampled tokens that had to be drawn one after the other, in X and below it
//! work(X)   all sampled tokens in X and below it
//! ```
//!
//! Only a success pays, and never more than half of itself: to fail cheaply must not be worth more than to succeed.

use super::{Credit, Member};

/// Takes the cost off the rewards of one tree; `root` is its root's success where that stands for every node's.
pub(super) fn charge(tree: &[Member], path_cost: f32, work_cost: f32, root: Option<f32>, credits: &mut [Credit]) {
    // A field that is not due yet holds the work. Children come after their parents, so a pass from the end adds all of it up.
    for (member, credit) in tree.iter().zip(credits.iter_mut()) {
        credit.weighted = member.tokens as f32;
    }
    for (index, member) in tree.iter().enumerate().rev() {
        if let Some(parent) = member.parent {
            credits[parent.index()].weighted += credits[index].weighted;
        }
    }
    for (member, credit) in tree.iter().zip(credits) {
        let cost = (path_cost * member.path as f32 + work_cost * credit.weighted) / TOKENS;
        credit.reward -= root.unwrap_or(member.success()) * cost.min(COST_MAX);
    }
}

/// Costs are per thousand tokens.
const TOKENS: f32 = 1000.0;

const COST_MAX: f32 = 0.5;
