//! Frames from bytes that arrive in pieces.

use core::ops::Range;

use heapless::Vec;

use crate::event::Record;
use crate::frame::{
    CHECKSUM_LEN, DecodeError, HEADER_LEN, OVERHEAD, PayloadError, VERSION, claimed_len, decode_payload, split_frame,
    unknown_event,
};

/// Reads frames from bytes that arrive in pieces: a serial line, a socket, a file read block by block. Holds `N` bytes, no more, in itself:
/// a large one belongs in a `static` or a `Box`.
///
/// Take bytes in with [`push`](Self::push), then take records out with [`next_record`](Self::next_record) until it has none; say
/// [`finish`](Self::finish) when no more bytes will come. On sound input the records are those of [`Frames`](crate::Frames); on any input,
/// records, errors and offsets do not depend on how the bytes were cut into pieces.
///
/// ```
/// use rao_proto::{Event, Reassembler, Record, encode};
///
/// let closed = Record { at_us: 7, event: Event::RunClosed { nodes: 1, tokens: 40 } };
/// let mut line = [0; 64];
/// let len = encode(&closed, &mut line)?;
/// line.copy_within(0..len, len + 3); // three bytes of noise between two frames
///
/// let mut reassembler = Reassembler::<32>::new();
/// let mut records = 0;
/// for piece in line[..2 * len + 3].chunks(5) {
///     let mut rest = piece;
///     while !rest.is_empty() {
///         rest = &rest[reassembler.push(rest)..];
///         while let Some(next) = reassembler.next_record() {
///             match next {
///                 Ok(record) => {
///                     assert_eq!(record, closed);
///                     records += 1;
///                 }
///                 Err(error) => assert_eq!((error.offset, error.len), (len as u64, 3)),
///             }
///         }
///     }
/// }
/// reassembler.finish();
/// assert!(reassembler.next_record().is_none(), "nothing was torn off");
/// assert_eq!(records, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # After garbage
///
/// - A *sound frame* is one whose version byte, length and checksum are right; what it says does not matter here.
/// - Positions are judged in the order of the stream, each for itself. One at which no sound frame of up to `N` bytes begins is passed over;
///   after a sound frame, judging goes on behind it.
/// - A position whose version and length are plausible is judged when the frame it claims is there to its last byte, or after `finish`. No
///   claim is believed before: neither to jump ahead by it, nor to deliver what lies inside it. So a false claim delays what lies behind by
///   up to `N` bytes, and a payload that itself holds frames is never mistaken for them while its own frame is sound and fits.
/// - A claim above `N` cannot be checked here. It is an error, [`Capacity`](StreamErrorKind::Capacity), and its bytes are passed over one by
///   one like any others, so that a damaged length hides no sound frame behind it. The price: a frame that is too long and holds whole
///   frames in its payload gives those away. Take `N` at least as large as the longest frame of your writers; [`FRAME_MAX`](crate::FRAME_MAX)
///   is always enough.
///
/// Hence no sound frame of up to `N` bytes is lost to what comes before it, and one error accounts for each stretch that gave no record: its
/// offset, its length, and what was wrong where it begins. A stretch ends at the next sound frame, or where the frame that it began with
/// claims to end.
///
/// # Cost
///
/// Every byte is copied in once. A record borrows from the buffer, so its frame must lie in one piece: where a piece does not fit behind what
/// is held, what is held is moved to the front, at most once for each frame when records are taken out before bytes are pushed. A sound byte
/// is checksummed once. A byte of garbage that looks like the start of a frame costs the checksum of what it claims, at most `N` bytes.
#[derive(Clone, Debug)]
pub struct Reassembler<const N: usize> {
    buffer: Vec<u8, N>,
    /// Where what is not yet judged begins in `buffer`.
    start: usize,
    /// Where that is in the stream.
    offset: u64,
    gap: Option<Gap>,
    finished: bool,
    skipped: u64,
    passed_over: u64,
}

/// A stretch of a stream that gave no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {kind}; {len} bytes passed over")]
pub struct StreamError {
    /// Where it begins, in bytes from the start of the stream.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What is wrong where it begins.
    #[source]
    pub kind: StreamErrorKind,
}

/// What is wrong where a frame should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamErrorKind {
    /// The bytes are no frame, or a frame no record. [`Torn`](DecodeError::Torn): the stream ended inside the frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The frame, if it is one, is longer than the reassembler's buffer.
    #[error("frame takes {needed} bytes, the buffer has {capacity}")]
    Capacity {
        /// What the frame takes.
        needed: usize,
        /// `N` of the [`Reassembler`].
        capacity: usize,
    },
}

/// The stretch under way that gave no record.
#[derive(Clone, Copy, Debug)]
struct Gap {
    offset: u64,
    kind: StreamErrorKind,
    /// Where the frame at its begin claims to end.
    claimed_end: Option<u64>,
}

/// What was found, without borrowing.
pub(crate) enum Found {
    /// The payload of a sound frame with a known event, as a range of the buffer.
    Payload(Range<usize>),
    Error(StreamError),
}

/// What a position is.
enum Verdict {
    /// A sound frame of this length begins here.
    Sound(usize),
    /// None begins here; the length that is claimed, where one is.
    Bad(StreamErrorKind, Option<usize>),
    /// More bytes will tell.
    Open,
}

impl<const N: usize> Reassembler<N> {
    /// Holds nothing. `N` below 9, the length of the shortest frame, does not compile.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N >= OVERHEAD, "a reassembler must hold the shortest frame") };
        Self {
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            gap: None,
            finished: false,
            skipped: 0,
            passed_over: 0,
        }
    }

    /// Takes bytes off the front of `bytes`, as many as there is room for, and returns how many.
    ///
    /// It takes at least one whenever [`next_record`](Self::next_record) has just returned `None` and `bytes` is not empty. Bytes after
    /// [`finish`](Self::finish) are another stretch of the same stream: offsets go on.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.make_room(bytes.len());
        let taken = bytes.len().min(N - self.buffer.len());
        let fits = self.buffer.extend_from_slice(&bytes[..taken]);
        debug_assert!(fits.is_ok(), "no more than there is room for");
        self.finished &= taken == 0;
        taken
    }

    /// The next record, or the next stretch that gave none. `None`: push more bytes first, or, after [`finish`](Self::finish), the end.
    ///
    /// Sound frames with unknown events are passed over and counted. An error does not end the stream.
    ///
    /// # Errors
    /// [`StreamError`], once the stretch has ended: it says how long it is.
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, StreamError>> {
        let found = self.find()?;
        Some(self.lend(found))
    }

    /// Says that what is held will not be continued: the end of a file, a connection that broke, a line that fell silent. The frame that it
    /// was waiting for is now [`Torn`](DecodeError::Torn); go on with [`next_record`](Self::next_record) until `None`.
    pub const fn finish(&mut self) {
        self.finished = true;
    }

    /// Where judging stands, in bytes from the start of the stream: everything before it has been delivered, skipped or passed over.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Frames passed over so far because their event is unknown: written by a newer version.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Bytes passed over so far that gave no record, those of a stretch under way included. Those of unknown events do not count.
    #[must_use]
    pub const fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Lets `read` write behind what is held; returns what it returns, which is how many bytes it wrote.
    pub(crate) fn fill<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.make_room(READ_MAX);
        let held = self.buffer.len();
        let piece = (N - held).min(READ_MAX);
        let fits = self.buffer.resize(held + piece, 0);
        debug_assert!(fits.is_ok(), "no more than there is room for");
        let read = read(&mut self.buffer[held..]);
        let written = read.as_ref().map_or(0, |written| piece.min(*written));
        self.buffer.truncate(held + written);
        read.map(|_| written)
    }

    /// Judges positions until one gives something.
    pub(crate) fn find(&mut self) -> Option<Found> {
        loop {
            if self.gap.is_some_and(|gap| gap.claimed_end == Some(self.offset)) {
                return self.close_gap();
            }
            let rest = &self.buffer[self.start..];
            if rest.is_empty() {
                return if self.finished { self.close_gap() } else { None };
            }
            match judge(rest, N, self.finished) {
                Verdict::Open => return None,
                Verdict::Sound(_) if self.gap.is_some() => return self.close_gap(),
                Verdict::Sound(frame_len) => {
                    let payload = self.start + HEADER_LEN..self.start + frame_len - CHECKSUM_LEN;
                    if let Some(Ok(_)) = unknown_event(&self.buffer[payload.clone()]) {
                        self.advance(frame_len);
                        self.skipped += 1;
                        continue;
                    }
                    self.advance(frame_len);
                    return Some(Found::Payload(payload));
                }
                Verdict::Bad(kind, claim) => {
                    let offset = self.offset;
                    let gap = self.gap.get_or_insert(Gap {
                        offset,
                        kind,
                        claimed_end: claim.map(|len| offset + len as u64),
                    });
                    // Nothing else than a version byte begins a frame; but the claimed end must not be jumped over.
                    let next = rest[1..].iter().position(|byte| *byte == VERSION);
                    let passed = next.map_or(rest.len(), |next| 1 + next) as u64;
                    let passed = gap.claimed_end.map_or(passed, |end| passed.min(end - offset));
                    self.passed_over += passed;
                    // At most the length of `rest`, so the cast keeps every bit.
                    self.advance(passed as usize);
                }
            }
        }
    }

    /// The record or error that was just found. Only before the buffer changes.
    pub(crate) fn lend(&mut self, found: Found) -> Result<Record<'_>, StreamError> {
        let payload = match found {
            Found::Payload(payload) => payload,
            Found::Error(error) => return Err(error),
        };
        let frame_len = payload.len() + OVERHEAD;
        let kind = match decode_payload(&self.buffer[payload]) {
            Ok(record) => return Ok(record),
            Err(PayloadError::UnknownEvent(kind)) => DecodeError::UnknownEvent { kind, frame_len },
            Err(PayloadError::Malformed(reason)) => DecodeError::Malformed { reason, frame_len },
        };
        self.passed_over += frame_len as u64;
        Err(StreamError {
            offset: self.offset - frame_len as u64,
            len: frame_len as u64,
            kind: kind.into(),
        })
    }

    fn close_gap(&mut self) -> Option<Found> {
        self.gap.take().map(|gap| {
            Found::Error(StreamError {
                offset: gap.offset,
                len: self.offset - gap.offset,
                kind: gap.kind,
            })
        })
    }

    fn advance(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Moves what is held to the front where fewer than `wanted` bytes fit behind it.
    fn make_room(&mut self, wanted: usize) {
        if self.start > 0 && (self.start == self.buffer.len() || wanted > N - self.buffer.len()) {
            self.buffer.copy_within(self.start.., 0);
            self.buffer.truncate(self.buffer.len() - self.start);
            self.start = 0;
        }
    }
}

impl<const N: usize> Default for Reassembler<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a sound frame of up to `capacity` bytes begins at the front of `rest`, which `finished` says will not be continued.
fn judge(rest: &[u8], capacity: usize, finished: bool) -> Verdict {
    let claim = claimed_len(rest).ok();
    match (split_frame(rest), claim) {
        (Ok((_, frame_len)), _) => Verdict::Sound(frame_len),
        (Err(_), Some(needed)) if needed > capacity => {
            Verdict::Bad(StreamErrorKind::Capacity { needed, capacity }, claim)
        }
        (Err(DecodeError::Torn { .. }), _) if !finished => Verdict::Open,
        (Err(kind), claim) => Verdict::Bad(kind.into(), claim),
    }
}

/// What is read at once, at most: as much as the buffered readers of the standard library take.
const READ_MAX: usize = 8 * 1024;
