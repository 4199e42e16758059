//! What is left to do of work that comes in pieces: [`Rest`].

use std::collections::VecDeque;
use std::ops::Range;

/// Most parts that a node's work is cut into at once.
pub(super) const PARTS_MAX: u8 = 4;

/// The pieces of a node's work that nobody has done: neither the node itself, nor a child that came back with an answer. Children get runs of
/// it, and nothing is handed out twice, so a tree never has more than two nodes to a piece.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pieces: VecDeque<u32>,
    /// What each child of the delegation under way was handed.
    launched: Vec<Vec<u32>>,
}

impl Rest {
    pub(super) fn new(pieces: Range<u32>) -> Self {
        Self::of(pieces.collect())
    }

    fn of(pieces: VecDeque<u32>) -> Self {
        Self {
            pieces,
            launched: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All of it, in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = u32> {
        self.pieces.iter().copied()
    }

    /// Takes the first piece that is left.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.pieces.pop_front()
    }

    /// Most parts that what is left can be cut into: a part is never all of it, or children would have children without end.
    pub(super) fn parts_max(&self) -> u8 {
        match self.len() {
            0 | 1 => 0,
            pieces => pieces.min(usize::from(PARTS_MAX)) as u8,
        }
    }

    /// Hands everything that is left to so many children, in runs of the same length; the first have one more where it does not come out even.
    pub(super) fn split(&mut self, parts: u8) {
        let pieces: Vec<u32> = self.pieces.drain(..).collect();
        let mut from = 0;
        for part in 1..=usize::from(parts) {
            let until = (pieces.len() * part).div_ceil(usize::from(parts));
            self.launched.push(pieces[from..until].to_vec());
            from = until;
        }
    }

    /// What child `index` of the delegation under way was handed.
    pub(super) fn child(&self, index: u8) -> Option<Self> {
        let pieces = self.launched.get(usize::from(index))?;
        Some(Self::of(pieces.iter().copied().collect()))
    }

    /// Ends the delegation under way: what went to children that brought nothing back is left again.
    pub(super) fn settle(&mut self, came_back: impl IntoIterator<Item = bool>) {
        let mut came_back = came_back.into_iter();
        for pieces in self.launched.drain(..) {
            if !came_back.next().unwrap_or(false) {
                self.pieces.extend(pieces);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handed(rest: &Rest) -> Vec<Vec<u32>> {
        (0..PARTS_MAX)
            .filter_map(|index| rest.child(index))
            .map(|child| child.pieces().collect())
            .collect()
    }

    #[test]
    fn what_comes_back_unanswered_is_left_again() {
        let mut rest = Rest::new(3..8);
        assert_eq!(rest.take(), Some(3));
        rest.split(3);
        assert!(rest.is_empty());
        assert_eq!(handed(&rest), [vec![4, 5], vec![6], vec![7]]);
        rest.settle([false, true, false]);
        assert_eq!(rest.pieces().collect::<Vec<_>>(), [4, 5, 7]);
        assert!(handed(&rest).is_empty(), "the delegation is over");
        assert_eq!(
            [0..0, 0..1, 0..2, 0..9].map(|pieces| Rest::new(pieces).parts_max()),
            [0, 0, 2, 4]
        );
    }

    proptest! {
        /// Every piece goes to one child, in order, and each gets less than all.
        #[test]
        fn parts_make_up_the_whole(pieces in 2..300_u32, parts in 2..=PARTS_MAX) {
            let mut rest = Rest::new(0..pieces);
            prop_assume!(parts <= rest.parts_max());
            rest.split(parts);
            let handed = handed(&rest);
            prop_assert_eq!(handed.len(), usize::from(parts));
            let (least, most) = (pieces / u32::from(parts), pieces.div_ceil(u32::from(parts)));
            prop_assert!(handed.iter().all(|part| (least..=most).contains(&(part.len() as u32)) && most < pieces));
            prop_assert_eq!(handed.concat(), (0..pieces).collect::<Vec<_>>());
        }
    }
}
