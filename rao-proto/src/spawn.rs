//! A spawn to bytes and back by hand, where time is dearer than flash: the same bytes as serde's in half the time.
//!
//! A spawn is a dozen short numbers around a text. serde hands them over one by one, through calls that each know nothing of the next, and
//! cannot tell whether a varint was the shortest, so that a record has to be measured again once it was read. Both functions here take
//! only what is as it nearly always is and leave the rest, and every error, to serde.

use crate::event::{Event, Record};
use crate::frame::{HEADER_LEN, write_header};
use crate::types::{Budget, Depth, NodeId};
use crate::varint;

const KIND: u32 = Event::Spawn {
    node: NodeId::ROOT,
    parent: None,
    depth: Depth(0),
    task: "",
    budget: Budget::UNLIMITED,
}
.kind();

/// Writes header and payload of a spawn to the front of `out` and returns the length of the payload; `None` for other events, for numbers
/// from 2^56, and where they do not fit.
pub(crate) fn write(record: &Record<'_>, out: &mut [u8]) -> Option<usize> {
    let Event::Spawn {
        node,
        parent,
        depth,
        task,
        budget,
    } = record.event
    else {
        return None;
    };
    let mut head = Numbers::new();
    head.integer(record.at_us)?;
    head.integer(KIND.into())?;
    head.integer(node.0.into())?;
    head.option(parent.map(|parent| parent.0.into()))?;
    head.byte(depth.0);
    head.integer(task.len() as u64)?;
    let mut tail = Numbers::new();
    tail.byte(budget.depth);
    tail.integer(budget.nodes.into())?;
    tail.integer(budget.children.into())?;
    tail.integer(budget.steps.into())?;
    tail.integer(budget.tokens)?;
    tail.option(budget.deadline_us)?;

    let (head, tail) = (head.written(), tail.written());
    let len = head.len() + task.len() + tail.len();
    let frame = out.get_mut(..HEADER_LEN + len)?;
    // Before the payload: the checksum starts with the header, and bytes that were stored last are read back late.
    write_header(len, frame);
    let (head_out, rest) = frame[HEADER_LEN..].split_at_mut(head.len());
    let (task_out, tail_out) = rest.split_at_mut(task.len());
    head_out.copy_from_slice(head);
    task_out.copy_from_slice(task.as_bytes());
    tail_out.copy_from_slice(tail);
    Some(len)
}

/// Reads a payload; `None` unless it is that of a spawn, as [`write`] writes it.
pub(crate) fn read(payload: &[u8]) -> Option<Record<'_>> {
    let mut reader = Reader { payload, at: 0 };
    let at_us = reader.integer::<64>()?;
    if reader.integer::<32>()? != KIND.into() {
        return None;
    }
    // A field's bits bound what is read, so the casts keep all of them.
    let event = Event::Spawn {
        node: NodeId(reader.integer::<32>()? as u32),
        parent: reader.option::<32>()?.map(|parent| NodeId(parent as u32)),
        depth: Depth(reader.byte()?),
        task: reader.text()?,
        budget: Budget {
            depth: reader.byte()?,
            nodes: reader.integer::<32>()? as u32,
            children: reader.integer::<16>()? as u16,
            steps: reader.integer::<16>()? as u16,
            tokens: reader.integer::<64>()?,
            deadline_us: reader.option::<64>()?,
        },
    };
    (reader.at == payload.len()).then_some(Record { at_us, event })
}

/// The fields on one side of the text, at most 29 bytes of them.
struct Numbers {
    bytes: [u8; Self::LEN_MAX + 7],
    len: usize,
}

impl Numbers {
    /// A power of two, so that a position is kept inside by a mask: all of them are, but the compiler need not prove it.
    const LEN_MAX: usize = 64;

    const fn new() -> Self {
        Self {
            bytes: [0; Self::LEN_MAX + 7],
            len: 0,
        }
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len % Self::LEN_MAX] = byte;
        self.len += 1;
    }

    #[inline(always)]
    fn integer(&mut self, value: u64) -> Option<()> {
        if value < 0x80 {
            self.byte(value as u8);
        } else if value >> 56 == 0 {
            // Whole, with the zeros behind it, which the next field covers.
            let (window, len) = varint::to_window(value);
            self.bytes[self.len % Self::LEN_MAX..][..8].copy_from_slice(&window);
            self.len += len;
        } else {
            return None;
        }
        Some(())
    }

    #[inline(always)]
    fn option(&mut self, value: Option<u64>) -> Option<()> {
        self.byte(value.is_some().into());
        value.map_or(Some(()), |value| self.integer(value))
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    fn integer<const BITS: u32>(&mut self) -> Option<u64> {
        let rest = self.payload.get(self.at..)?;
        let (value, len) = match rest.first_chunk() {
            _ if *rest.first()? < 0x80 => (rest[0].into(), 1),
            Some(window) => varint::from_window(*window)?,
            None => {
                let (value, behind) = varint::split::<64>(rest)?;
                (value, rest.len() - behind.len())
            }
        };
        self.at += len;
        (BITS == 64 || value >> BITS == 0).then_some(value)
    }

    #[inline(always)]
    fn option<const BITS: u32>(&mut self) -> Option<Option<u64>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.integer::<BITS>().map(Some),
            _ => None,
        }
    }

    #[inline(always)]
    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.integer::<64>()?).ok()?;
        let text = self.payload.get(self.at..)?.get(..len)?;
        self.at += len;
        core::str::from_utf8(text).ok()
    }
}
