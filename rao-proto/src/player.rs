//! The records of a trace that is read piece by piece.

use crate::event::Record;
use crate::reassembler::{Reassembler, StreamError};

/// Reads a trace through a closure and lends its records one by one, in the memory of one [`Reassembler`] of `N` bytes.
///
/// `read` fills the front of the slice that it is given and says how many bytes it wrote, as `std::io::Read::read` does; 0 is the end. More
/// than the slice has counts as all of it. It is asked only when no whole frame is held.
///
/// What a reassembler does after damage, a player does: it says what and where, passes over the bytes that gave no record, and goes on. Stop
/// at the first error where a trace must be whole.
///
/// ```
/// use rao_proto::{Event, EventSink, Player, Record, Recorder};
/// use std::io::Read;
///
/// let mut trace = Vec::new();
/// let mut recorder = Recorder::<_, std::convert::Infallible, 256>::new(|frame: &[u8]| {
///     trace.extend_from_slice(frame);
///     Ok(())
/// });
/// for tokens in 0..3 {
///     recorder.record(&Record { at_us: 0, event: Event::RunClosed { nodes: 1, tokens } });
/// }
/// assert_eq!(recorder.finish()?, 39);
///
/// trace.truncate(30); // the disk was full
/// let mut file = std::io::Cursor::new(trace); // or a `std::fs::File`
/// let mut player = Player::<_, 256>::new(|piece: &mut [u8]| file.read(piece));
/// let mut records = 0;
/// while let Some(next) = player.next_record() {
///     match next {
///         Ok(record) => records += u32::from(matches!(record.event, Event::RunClosed { .. })),
///         Err(error) => assert_eq!(error.to_string(), "at byte 26: torn frame: 4 of at least 9 bytes; 4 bytes passed over"),
///     }
/// }
/// assert_eq!(records, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Player<R, const N: usize> {
    read: R,
    reassembler: Reassembler<N>,
    received: u64,
    ended: bool,
}

/// Why a player has no record to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlayError<E> {
    /// The bytes gave no record.
    #[error(transparent)]
    Stream(StreamError),
    /// The closure failed. The next call asks it again, so that an interrupted read can be repeated.
    #[error("at byte {offset}: not read: {source}")]
    Read {
        /// How many bytes it had given before.
        offset: u64,
        /// What the closure says.
        source: E,
    },
}

impl<R, const N: usize> Player<R, N> {
    /// Nothing is read until the first record is asked for. `N` below 9, the length of the shortest frame, does not compile.
    #[must_use]
    pub const fn new(read: R) -> Self {
        Self {
            read,
            reassembler: Reassembler::new(),
            received: 0,
            ended: false,
        }
    }

    /// The next record, or why there is none at this place; `None` at the end of the trace, for good.
    ///
    /// # Errors
    /// [`PlayError`], with its offset. The next call goes on behind it.
    pub fn next_record<E>(&mut self) -> Option<Result<Record<'_>, PlayError<E>>>
    where
        R: FnMut(&mut [u8]) -> Result<usize, E>,
    {
        let found = loop {
            if let Some(found) = self.reassembler.find() {
                break found;
            }
            if self.ended {
                return None;
            }
            match self.reassembler.fill(&mut self.read) {
                Ok(0) => {
                    self.ended = true;
                    self.reassembler.finish();
                }
                Ok(bytes) => self.received += bytes as u64,
                Err(source) => {
                    let offset = self.received;
                    return Some(Err(PlayError::Read { offset, source }));
                }
            }
        };
        Some(self.reassembler.lend(found).map_err(PlayError::Stream))
    }

    /// What has been read, skipped and passed over so far.
    #[must_use]
    pub const fn reassembler(&self) -> &Reassembler<N> {
        &self.reassembler
    }
}
