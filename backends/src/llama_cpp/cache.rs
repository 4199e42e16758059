//! Which context's keys and values lie in which of llama.cpp's sequences.

use rao_tree::SequenceId;

/// A node's context, by handle and by the name that its caller gave it.
pub(super) type Key = (u64, SequenceId);

/// What a sequence holds.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// Whose it is; `None` once it was forgotten. The tokens stay: others may share their beginning.
    owner: Option<Key>,
    tokens: Vec<u32>,
    /// How many of the tokens have been decoded; the others are on their way.
    decoded: usize,
    /// When it was last entered.
    used: u64,
    /// Part of what is being decoded: must not be given away.
    pinned: bool,
}

impl Slot {
    /// How many decoded tokens at its front are those of `context`.
    fn shares(&self, context: &[u32]) -> usize {
        common_prefix(&self.tokens[..self.decoded], context)
    }
}

/// How many tokens two contexts begin with in common. Runs for every job at every step, over whole contexts: by blocks, which are compared
/// as memory.
fn common_prefix(one: &[u32], other: &[u32]) -> usize {
    const BLOCK: usize = 64;
    let blocks = one.chunks_exact(BLOCK).zip(other.chunks_exact(BLOCK));
    let same = BLOCK * blocks.take_while(|(one, other)| one == other).count();
    let rest = one[same..].iter().zip(&other[same..]);
    same + rest.take_while(|(one, other)| one == other).count()
}

/// Where a context goes, and what of it is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The sequence.
    pub(super) slot: usize,
    /// Copy all of this sequence over it first.
    pub(super) copy_from: Option<usize>,
    /// Then keep so many tokens.
    pub(super) keep: usize,
    /// Whether there are more, which are to be removed.
    pub(super) trim: bool,
}

/// All slots. Least recently entered ones go first, forgotten ones before all others.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
    /// Shared tokens from which on a new context starts from another's.
    share_min: usize,
}

impl Slots {
    pub(super) fn new(slots: usize, share_min: usize) -> Self {
        Self {
            slots: vec![Slot::default(); slots],
            clock: 0,
            share_min,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Finds a place for `context` (at least one token) and pins it. At most all tokens but the last are kept: that one's logits are wanted.
    /// `None` where what is pinned has to be decoded first.
    pub(super) fn enter(&mut self, key: Key, context: &[u32]) -> Option<Place> {
        self.clock += 1;
        let wanted = &context[..context.len() - 1];
        let own = self.slots.iter().position(|slot| slot.owner == Some(key));
        let (slot, copy_from, keep) = match own {
            Some(slot) if self.slots[slot].pinned => return None,
            Some(slot) => (slot, None, self.slots[slot].shares(wanted)),
            None => self.take(wanted)?,
        };
        let trim = self.slots[copy_from.unwrap_or(slot)].tokens.len() > keep;
        if let Some(from) = copy_from {
            let tokens = self.slots[from].tokens[..keep].to_vec();
            self.slots[slot].tokens = tokens;
        }
        let entered = &mut self.slots[slot];
        entered.tokens.truncate(keep);
        (entered.decoded, entered.owner, entered.used, entered.pinned) = (keep, Some(key), self.clock, true);
        Some(Place {
            slot,
            copy_from,
            keep,
            trim,
        })
    }

    /// A slot for a context that has none: the one to overwrite, what to copy over it, and how much of it is shared.
    fn take(&self, wanted: &[u32]) -> Option<(usize, Option<usize>, usize)> {
        let free = |slot: &usize| !self.slots[*slot].pinned;
        let victim = (0..self.slots.len())
            .filter(free)
            .min_by_key(|&slot| (self.slots[slot].owner.is_some(), self.slots[slot].used))?;
        // The first of equals, so that the choice does not depend on what was forgotten when.
        let (shared, donor) = (0..self.slots.len())
            .map(|slot| (self.slots[slot].shares(wanted), slot))
            .max_by_key(|&(shared, slot)| (shared, usize::MAX - slot))?;
        if shared < self.share_min {
            Some((victim, None, 0))
        } else if donor == victim || (free(&donor) && self.slots[donor].owner.is_none()) {
            // Nobody's, or about to be: it is taken over as it is.
            Some((donor, None, shared))
        } else {
            Some((victim, Some(donor), shared))
        }
    }

    /// The token at the end of a slot is on its way. Returns its position.
    pub(super) fn append(&mut self, slot: usize, token: u32) -> usize {
        let tokens = &mut self.slots[slot].tokens;
        tokens.push(token);
        tokens.len() - 1
    }

    /// What was on its way has been decoded.
    pub(super) fn decoded(&mut self) {
        for slot in &mut self.slots {
            slot.decoded = slot.tokens.len();
        }
    }

    /// Nothing is being decoded.
    pub(super) fn unpin(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.pinned = false);
    }

    /// The node has ended: its slot is the first to be given away.
    pub(super) fn forget(&mut self, key: Key) {
        for slot in &mut self.slots {
            if slot.owner == Some(key) {
                (slot.owner, slot.used) = (None, 0);
            }
        }
    }

    /// Nothing is kept.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> Key {
        (0, SequenceId(id))
    }

    /// Enters, appends the rest, decodes.
    fn feed(slots: &mut Slots, id: u64, context: &[u32]) -> Place {
        let place = slots.enter(key(id), context).unwrap();
        for &token in &context[place.keep..] {
            slots.append(place.slot, token);
        }
        slots.decoded();
        slots.unpin();
        place
    }

    #[test]
    fn a_nodes_own_turns_are_kept() {
        let mut slots = Slots::new(2, 2);
        assert_eq!(feed(&mut slots, 7, &[1, 2, 3]).keep, 0);
        let place = feed(&mut slots, 7, &[1, 2, 3, 4, 5]);
        assert_eq!((place.keep, place.copy_from, place.trim), (3, None, false));
        // The same again: the last token's logits are wanted.
        let place = feed(&mut slots, 7, &[1, 2, 3, 4, 5]);
        assert_eq!((place.keep, place.trim), (4, true));
        // Another continuation.
        let place = feed(&mut slots, 7, &[1, 2, 9]);
        assert_eq!((place.keep, place.trim), (2, true));
    }

    #[test]
    fn contexts_are_compared_to_their_first_difference() {
        let one: Vec<u32> = (0..200).collect();
        for at in [0, 1, 63, 64, 65, 127, 128, 130, 199] {
            let mut other = one.clone();
            other[at] = 999;
            assert_eq!(common_prefix(&one, &other), at);
            assert_eq!(common_prefix(&other[..at], &one), at);
            assert_eq!(common_prefix(&one, &one[..at]), at);
        }
        assert_eq!(common_prefix(&one, &one), 200);
    }

    #[test]
    fn siblings_copy_what_they_share_once_it_is_decoded() {
        let mut slots = Slots::new(4, 2);
        let parent = slots.enter(key(0), &[1, 2, 3, 4]).unwrap();
        for token in [1, 2, 3, 4] {
            slots.append(parent.slot, token);
        }
        // On its way is not there.
        let early = slots.enter(key(1), &[1, 2, 3, 9]).unwrap();
        assert_eq!((early.copy_from, early.keep), (None, 0));
        slots.decoded();
        slots.unpin();
        let late = slots.enter(key(2), &[1, 2, 3, 9]).unwrap();
        assert_eq!((late.copy_from, late.keep), (Some(parent.slot), 3));
        // Too little to be worth a copy.
        let other = slots.enter(key(3), &[1, 8, 8]).unwrap();
        assert_eq!((other.copy_from, other.keep), (None, 0));
    }

    #[test]
    fn the_forgotten_go_first_and_what_they_share_is_taken_over() {
        let mut slots = Slots::new(3, 2);
        for id in 0..3 {
            feed(&mut slots, id, &[id as u32, 5, 6, 7]);
        }
        slots.forget(key(1));
        let place = feed(&mut slots, 9, &[1, 5, 6, 8]);
        assert_eq!((place.slot, place.copy_from, place.keep), (1, None, 3));
        // Nobody forgotten: the least recently entered.
        assert_eq!(feed(&mut slots, 10, &[3, 3]).slot, 0);
    }

    #[test]
    fn what_is_being_decoded_is_not_given_away() {
        let mut slots = Slots::new(2, 1);
        assert!(slots.enter(key(0), &[1]).is_some());
        assert!(slots.enter(key(0), &[1, 2]).is_none(), "twice in one batch");
        assert!(slots.enter(key(1), &[1]).is_some());
        assert!(slots.enter(key(2), &[1]).is_none(), "no slot left");
        slots.decoded();
        slots.unpin();
        assert!(slots.enter(key(2), &[1]).is_some());
    }
}
