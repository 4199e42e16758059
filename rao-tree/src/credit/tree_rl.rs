//! TreeRL: the value of a node is how often the leaves below it succeed; its advantage, what it adds to the value of the root and to that
//! of its parent. In the scope of one tree.
//!
//! ```text
//! V(X) = mean over the leaves l below X of s(l)                          a leaf is below itself
//! A(X) = ((V(X) - V(root)) + (V(X) - V(parent of X))) / sqrt(number of leaves below X)
//! ```
//!
//! Source: Hou et al., "TreeRL: LLM Reinforcement Learning with On-Policy Tree Search", arXiv 2506.11902. There a node is a piece of one
//! chain of thought and the root is the prompt, which is not trained: here, too, the root's advantage is 0. What a parent makes of its
//! children's answers goes unpaid except through its own leaves; for agents the rule is a point of comparison, not a recommendation.
//!
//! Leaves are the nodes that count and have no such node below them. A node that does not count is passed through: what is below it
//! belongs to the nodes above it.

use super::{Credit, Member};

/// Writes V(X) as the reward and A(X) as the advantage of every node of one tree; 0 for nodes that do not count.
pub(super) fn assign(tree: &[Member], credits: &mut [Credit]) {
    // Children come after their parents: from the back, every node is complete before it is added to its parent. `reward` holds the
    // sum over the leaves, `weighted` their number, exact to 2^24.
    credits.fill(Credit::default());
    for index in (0..tree.len()).rev() {
        let member = &tree[index];
        if member.counts() && credits[index].weighted == 0.0 {
            credits[index].reward = member.success();
            credits[index].weighted = 1.0;
        }
        let Credit { reward, weighted, .. } = credits[index];
        if let Some(parent) = member.parent {
            credits[parent.index()].reward += reward;
            credits[parent.index()].weighted += weighted;
        }
    }
    for (index, member) in tree.iter().enumerate() {
        let leaves = credits[index].weighted;
        let value = if leaves == 0.0 {
            0.0
        } else {
            credits[index].reward / leaves
        };
        credits[index].reward = value;
        if let Some(parent) = member.parent.filter(|_| member.counts()) {
            let (root, parent) = (credits[0].reward, credits[parent.index()].reward);
            credits[index].advantage = ((value - root) + (value - parent)) / libm::sqrtf(leaves);
        }
    }
}
