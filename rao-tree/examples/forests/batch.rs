//! Made-up batches: the same seed gives the same batch, on every machine.

use rao_tree::credit::{Forest, Member};
use rao_tree::{Depth, Limit, NodeId, NodeStatus, Success};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The nodes of a batch and where its trees and groups end.
#[derive(Default)]
pub struct Batch {
    pub nodes: Vec<Member>,
    pub tree_ends: Vec<usize>,
    pub group_ends: Vec<usize>,
}

impl Batch {
    /// A batch as a trainer has it: `groups` tasks of `trees` trees with `nodes` nodes each, to the paper's depth of 6. Parents are drawn
    /// from all nodes before: their order is worse for a cache than that of a driver, which opens the deepest launches first.
    pub fn large(seed: u64, groups: usize, trees: usize, nodes: usize) -> Self {
        let mut random = Random(seed);
        let mut batch = Self::default();
        batch.nodes.reserve_exact(groups * trees * nodes);
        for _ in 0..groups {
            for _ in 0..trees {
                batch.tree(nodes, 6, |parent| member(&mut random, parent, &USUAL));
            }
            batch.group_ends.push(batch.tree_ends.len());
        }
        batch
    }

    /// The batch with its shape checked.
    pub fn forest(&self) -> Forest<'_> {
        Forest::new(&self.nodes, &self.tree_ends, &self.group_ends)
            .expect("a batch has the shape that it was made with")
    }

    /// Appends a tree. `draw` makes a node below any of so many, or the root.
    pub fn tree(
        &mut self,
        nodes: usize,
        depth_max: u8,
        mut draw: impl FnMut(Option<usize>) -> (Member, Option<usize>),
    ) {
        let start = self.nodes.len();
        for index in 0..nodes {
            let (member, parent) = draw((index > 0).then_some(index));
            // Who is as deep as can be gets a sibling in place of a child.
            let parent = parent.map(|parent| match &self.nodes[start + parent] {
                above if above.depth.0 < depth_max => NodeId(parent as u32),
                above => above.parent.unwrap_or(NodeId::ROOT),
            });
            let depth = parent.map_or(Depth(0), |parent| Depth(self.nodes[start + parent.index()].depth.0 + 1));
            self.nodes.push(Member {
                parent,
                depth,
                ..member
            });
        }
        self.tree_ends.push(self.nodes.len());
    }
}

/// How nodes of a large batch end, each as often as another.
const USUAL: [NodeStatus; 16] = {
    let mut usual = [NodeStatus::Finished; 16];
    usual[0] = NodeStatus::Failed;
    usual[1] = NodeStatus::Truncated(Limit::Steps);
    usual[2] = NodeStatus::TimedOut;
    usual
};

/// A node that ended in one of these ways, below any of `below`. Its success is recorded whatever its end.
pub fn member(random: &mut Random, below: Option<usize>, ends: &[NodeStatus]) -> (Member, Option<usize>) {
    let member = Member {
        success: Success::new(random.below(65) as f32 / 64.0).expect("a number from 0 to 1"),
        tokens: 1 + random.below(12) as u32,
        ..Member::new(None, Depth(0), Some(random.one_of(ends)))
    };
    (member, below.map(|below| random.below(below)))
}
