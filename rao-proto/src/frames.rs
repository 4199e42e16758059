//! Many frames, one after the other: a trace file, a datagram, a flash page.

use core::iter::FusedIterator;

use crate::event::Record;
use crate::frame::{DecodeError, decode};

/// Reads a concatenation of frames.
///
/// Yields every record up to the first frame whose length cannot be trusted (torn, corrupt, another version); that one is yielded as an
/// error with its offset, and then the iterator is at its end. A sound frame with a malformed payload is an error, too, but reading goes on
/// behind it. Sound frames with unknown events are passed over and counted.
///
/// For a trace that is all there and should be whole. For bytes that arrive in pieces, or may hold garbage that is to be passed over, there
/// is [`Reassembler`](crate::Reassembler).
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    offset: usize,
    skipped: u64,
}

/// What went wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {kind}")]
pub struct FrameError {
    /// Where the frame begins, in bytes from the start of what [`Frames`] was given.
    pub offset: usize,
    /// What is wrong with it.
    #[source]
    pub kind: DecodeError,
}

impl<'a> Frames<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            offset: 0,
            skipped: 0,
        }
    }

    /// Where reading stands: all before it is whole frames. At the end it is the length of the input, or the offset of the frame that
    /// ended it; who wants to append to a trace with a torn tail cuts it here.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Frames passed over so far because their event is unknown: written by a newer version.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    fn advance(&mut self, frame_len: usize) {
        self.rest = self.rest.get(frame_len..).unwrap_or_default();
        self.offset += frame_len;
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Record<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let kind = match decode(self.rest) {
                Ok((record, frame_len)) => {
                    self.advance(frame_len);
                    return Some(Ok(record));
                }
                Err(DecodeError::UnknownEvent { frame_len, .. }) => {
                    self.advance(frame_len);
                    self.skipped += 1;
                    continue;
                }
                Err(kind) => kind,
            };
            let offset = self.offset;
            match kind.frame_len() {
                Some(frame_len) => self.advance(frame_len),
                None => self.rest = &[],
            }
            return Some(Err(FrameError { offset, kind }));
        }
        None
    }
}

impl FusedIterator for Frames<'_> {}
