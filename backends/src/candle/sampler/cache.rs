//! Keys and values of many sequences, in blocks of [`LANES`] positions, with what to give up when room runs out.

use super::geometry::Geometry;
use super::simd::Aligned;
use crate::sampling::softmax::LANES;
use rao_tree::{SequenceId, Token};
use std::collections::HashMap;

/// Index of a resident sequence.
pub(super) type Slot = u32;

const NONE: u32 = u32::MAX;

/// The arena of blocks, the sequences that hold them, and their order of use.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) arena: Aligned,
    pub(super) layout: Layout,
    free: Vec<u32>,
    entries: Vec<Entry>,
    vacant: Vec<Slot>,
    index: HashMap<SequenceId, Slot>,
    /// Most recently used, least recently used.
    ends: (u32, u32),
    /// Counts calls, steps and chunks alike: later marks are larger.
    clock: u64,
    call: u64,
    step: u64,
    chunk: u64,
}

/// Where things lie in a block, counted in lines of [`LANES`] floats: `[layer][keys: head, dimension][values: head, dimensions / 16, position]`.
/// A line of keys holds one dimension of 16 positions, a line of values 16 dimensions of one position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Lines of a block.
    pub(super) block: usize,
    /// Lines of a layer within a block.
    pub(super) layer: usize,
    /// Lines of one head's keys: its dimensions.
    pub(super) keys: usize,
    /// Lines of one head's values.
    pub(super) values: usize,
    /// Heads.
    pub(super) heads: usize,
}

/// One resident sequence.
#[derive(Debug)]
struct Entry {
    sequence: SequenceId,
    tokens: Vec<Token>,
    blocks: Vec<u32>,
    used: u64,
    newer: u32,
    older: u32,
}

impl Layout {
    pub(super) fn new(g: &Geometry) -> Self {
        let keys = g.head_dim;
        let values = g.head_stride();
        let layer = g.kv_heads * (keys + values);
        Self {
            block: g.layers * layer,
            layer,
            keys,
            values,
            heads: g.kv_heads,
        }
    }

    /// First line of a head's keys.
    #[inline(always)]
    pub(super) fn key(&self, block: u32, layer: usize, head: usize) -> usize {
        block as usize * self.block + layer * self.layer + head * self.keys
    }

    /// First line of a head's values.
    #[inline(always)]
    pub(super) fn value(&self, block: u32, layer: usize, head: usize) -> usize {
        block as usize * self.block + layer * self.layer + self.heads * self.keys + head * self.values
    }
}

impl Cache {
    /// As many blocks as fit into `bytes`, and never fewer than one sequence of `window` tokens needs.
    pub(super) fn new(g: &Geometry, bytes: usize, window: usize) -> Self {
        let layout = Layout::new(g);
        let blocks = (bytes / (layout.block * LANES * size_of::<f32>()))
            .max(window.div_ceil(LANES))
            .min(NONE as usize);
        Self {
            arena: Aligned::zeroed(blocks * layout.block * LANES),
            layout,
            // Popped from the end: low addresses first, recently freed ones before untouched ones.
            free: (0..blocks as u32).rev().collect(),
            entries: Vec::new(),
            vacant: Vec::new(),
            index: HashMap::new(),
            ends: (NONE, NONE),
            clock: 0,
            call: 0,
            step: 0,
            chunk: 0,
        }
    }

    /// Sequences resident.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        while self.ends.0 != NONE {
            self.evict(self.ends.0);
        }
    }

    /// A new call: what `live` names is wanted, everything else may go first.
    pub(super) fn begin_call(&mut self, live: impl Iterator<Item = SequenceId>) {
        self.clock += 1;
        self.call = self.clock;
        for sequence in live {
            if let Some(&slot) = self.index.get(&sequence) {
                self.touch(slot);
            }
        }
    }

    /// A new engine step within the call.
    pub(super) fn begin_step(&mut self) {
        self.clock += 1;
        self.step = self.clock;
        self.begin_chunk();
    }

    /// A new chunk within the step: what the one before used may be evicted again.
    pub(super) fn begin_chunk(&mut self) {
        self.clock += 1;
        self.chunk = self.clock;
    }

    /// The slot of a sequence, a fresh one if it is not resident; and whether the present chunk uses it already.
    pub(super) fn enter(&mut self, sequence: SequenceId) -> (Slot, bool) {
        if let Some(&slot) = self.index.get(&sequence) {
            return (slot, self.entries[slot as usize].used >= self.chunk);
        }
        let slot = self.vacant.pop().unwrap_or(self.entries.len() as u32);
        if slot as usize == self.entries.len() {
            let (tokens, blocks) = (Vec::new(), Vec::new());
            self.entries.push(Entry {
                sequence,
                tokens,
                blocks,
                used: 0,
                newer: NONE,
                older: NONE,
            });
        }
        self.entries[slot as usize].sequence = sequence;
        self.index.insert(sequence, slot);
        self.link(slot);
        (slot, false)
    }

    /// Marks a slot as used by the present chunk.
    pub(super) fn pin(&mut self, slot: Slot) {
        self.touch(slot);
    }

    /// Keeps the longest common prefix of what is cached and `prompt` followed by `completion`, but not all of the latter:
    /// the last token is fed again for its logits. Returns its length.
    pub(super) fn keep(&mut self, slot: Slot, prompt: &[Token], completion: &[Token]) -> usize {
        let Entry { tokens, blocks, .. } = &mut self.entries[slot as usize];
        let context = prompt.iter().chain(completion);
        let limit = (prompt.len() + completion.len()).saturating_sub(1);
        let common = tokens
            .iter()
            .zip(context)
            .take(limit)
            .take_while(|(a, b)| a == b)
            .count();
        tokens.truncate(common);
        let needed = common.div_ceil(LANES);
        self.free.extend(blocks.drain(needed.min(blocks.len())..).rev());
        common
    }

    /// Makes room for `len` tokens of a slot, evicting what it must: first sequences that are not in this call, least recently used
    /// first; then those of this call that this step has dealt with, latest first (the rest comes round sooner); then those it will
    /// deal with last. Returns false, having changed nothing of the present chunk, when only the chunk's own sequences are left.
    pub(super) fn reserve(&mut self, slot: Slot, len: usize, chunk_is_empty: bool) -> bool {
        loop {
            let Entry { blocks, .. } = &mut self.entries[slot as usize];
            let missing = len.div_ceil(LANES).saturating_sub(blocks.len());
            if missing <= self.free.len() {
                blocks.extend(self.free.drain(self.free.len() - missing..).rev());
                return true;
            }
            match self.victim(slot, chunk_is_empty) {
                Some(victim) => self.evict(victim),
                None => return false,
            }
        }
    }

    /// Appends a token whose keys and values the present chunk computes; its position.
    pub(super) fn append(&mut self, slot: Slot, token: Token) -> usize {
        let tokens = &mut self.entries[slot as usize].tokens;
        tokens.push(token);
        tokens.len() - 1
    }

    /// Blocks of a slot in order of position, and the arena they lie in.
    #[inline(always)]
    pub(super) fn blocks(&self, slot: Slot) -> &[u32] {
        &self.entries[slot as usize].blocks
    }

    /// Frees a sequence's blocks, if it is resident.
    pub(super) fn forget(&mut self, sequence: SequenceId) {
        if let Some(&slot) = self.index.get(&sequence) {
            self.evict(slot);
        }
    }

    fn victim(&self, asking: Slot, chunk_is_empty: bool) -> Option<Slot> {
        let used = |slot: Slot| self.entries[slot as usize].used;
        let oldest = self.ends.1;
        if oldest != NONE && oldest != asking && used(oldest) < self.call {
            return Some(oldest);
        }
        let newest_first = || {
            let mut next = self.ends.0;
            std::iter::from_fn(move || {
                let slot = (next != NONE).then_some(next)?;
                next = self.entries[slot as usize].older;
                Some(slot)
            })
            .filter(|&slot| slot != asking)
        };
        newest_first()
            .find(|&slot| (self.step..self.chunk).contains(&used(slot)))
            .or_else(|| {
                let upcoming = newest_first().find(|&slot| used(slot) < self.step);
                if chunk_is_empty { upcoming } else { None }
            })
    }

    fn evict(&mut self, slot: Slot) {
        self.unlink(slot);
        let entry = &mut self.entries[slot as usize];
        self.index.remove(&entry.sequence);
        entry.tokens.clear();
        self.free.extend(entry.blocks.drain(..).rev());
        self.vacant.push(slot);
    }

    fn touch(&mut self, slot: Slot) {
        self.unlink(slot);
        self.link(slot);
    }

    fn link(&mut self, slot: Slot) {
        let newest = std::mem::replace(&mut self.ends.0, slot);
        let entry = &mut self.entries[slot as usize];
        (entry.newer, entry.older, entry.used) = (NONE, newest, self.clock);
        match newest {
            NONE => self.ends.1 = slot,
            newest => self.entries[newest as usize].newer = slot,
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let Entry { newer, older, .. } = self.entries[slot as usize];
        match newer {
            NONE => self.ends.0 = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.ends.1 = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }
}
