//! A batch as slices, checked once so that every rule may rely on its shape.

use super::{CreditError, DEPTHS, Member, Running};
use rao_proto::NodeId;

/// A batch: the trees of its groups, one after the other in one slice of nodes.
///
/// Nodes are numbered within their own tree. Trees of one group (rollouts of the same root task) lie next to each other.
#[derive(Clone, Copy, Debug)]
pub struct Forest<'a> {
    nodes: &'a [Member],
    tree_ends: &'a [usize],
    group_ends: &'a [usize],
}

impl<'a> Forest<'a> {
    /// Checks the shape. `tree_ends[t]` is the position behind the last node of tree t, `group_ends[g]` that behind the last tree of group
    /// g. A batch without groups is one.
    ///
    /// # Errors
    /// [`CreditError::Ends`], [`CreditError::ParentOrder`], [`CreditError::Depth`], [`CreditError::TooDeep`]: each names the first place.
    pub fn new(nodes: &'a [Member], tree_ends: &'a [usize], group_ends: &'a [usize]) -> Result<Self, CreditError> {
        check_ends("tree", tree_ends, nodes.len())?;
        check_ends("group", group_ends, tree_ends.len())?;
        let forest = Self {
            nodes,
            tree_ends,
            group_ends,
        };
        for (index, tree) in forest.trees(0..tree_ends.len()).enumerate() {
            check_tree(index, tree)?;
        }
        Ok(forest)
    }

    /// All nodes, tree after tree.
    #[must_use]
    pub const fn nodes(&self) -> &'a [Member] {
        self.nodes
    }

    /// The groups in order: which nodes and which trees each holds.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group<'a>> {
        let forest = *self;
        (0..self.group_ends.len()).map(move |index| {
            let trees = before(forest.group_ends, index)..forest.group_ends[index];
            let start = before(forest.tree_ends, trees.start);
            let end = before(forest.tree_ends, trees.end);
            Group {
                index,
                start,
                nodes: &forest.nodes[start..end],
                tree_ends: &forest.tree_ends[trees],
            }
        })
    }

    /// The first node that is still running, as an error.
    pub(super) fn check_running(&self, running: Running) -> Result<(), CreditError> {
        if running == Running::Untrained {
            return Ok(());
        }
        for (index, tree) in self.trees(0..self.tree_ends.len()).enumerate() {
            if let Some(node) = tree.iter().position(|member| member.status.is_none()) {
                let node = NodeId(node as u32);
                return Err(CreditError::StillRunning { tree: index, node });
            }
        }
        Ok(())
    }

    fn trees(&self, range: core::ops::Range<usize>) -> impl Iterator<Item = &'a [Member]> {
        let forest = *self;
        range.map(move |index| &forest.nodes[before(forest.tree_ends, index)..forest.tree_ends[index]])
    }
}

/// The trees of one root task.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    /// Which group of the batch.
    pub index: usize,
    /// Position of its first node in the batch.
    start: usize,
    /// Its nodes, tree after tree.
    pub nodes: &'a [Member],
    tree_ends: &'a [usize],
}

impl<'a> Group<'a> {
    /// Positions of its nodes in the batch.
    pub fn range(&self) -> core::ops::Range<usize> {
        self.start..self.start + self.nodes.len()
    }

    /// How many trees.
    pub fn len(&self) -> usize {
        self.tree_ends.len()
    }

    /// Positions within the group of the nodes of each tree.
    pub fn ranges(&self) -> impl Iterator<Item = core::ops::Range<usize>> + Clone + use<'a> {
        let (ends, start) = (self.tree_ends, self.start);
        (0..ends.len()).map(move |index| {
            let from = if index == 0 { start } else { ends[index - 1] };
            from - start..ends[index] - start
        })
    }
}

/// Where the entry before `index` ends.
fn before(ends: &[usize], index: usize) -> usize {
    if index == 0 { 0 } else { ends[index - 1] }
}

fn check_ends(what: &'static str, ends: &[usize], within: usize) -> Result<(), CreditError> {
    let mut after = 0;
    for (index, &end) in ends.iter().enumerate() {
        let last = index + 1 == ends.len();
        if end <= after || end > within || (last && end != within) {
            return Err(CreditError::Ends {
                what,
                index,
                end,
                after,
                within,
            });
        }
        after = end;
    }
    if ends.is_empty() && within > 0 {
        return Err(CreditError::Ends {
            what,
            index: 0,
            end: 0,
            after: 0,
            within,
        });
    }
    Ok(())
}

fn check_tree(tree: usize, nodes: &[Member]) -> Result<(), CreditError> {
    for (index, member) in nodes.iter().enumerate() {
        let (node, depth) = (NodeId(index as u32), member.depth.0);
        if usize::from(depth) >= DEPTHS {
            return Err(CreditError::TooDeep { tree, node, depth });
        }
        let expected = match member.parent {
            None if index == 0 => 0,
            Some(parent) if parent.index() < index => nodes[parent.index()].depth.0 + 1,
            _ => return Err(CreditError::ParentOrder { tree, node }),
        };
        if depth != expected {
            return Err(CreditError::Depth { tree, node, depth });
        }
    }
    Ok(())
}
