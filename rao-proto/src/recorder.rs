//! A sink that writes a trace through a closure of the caller.

use crate::event::Record;
use crate::frame::{EncodeError, encode};
use crate::sink::EventSink;

/// Writes a trace as its events happen: each becomes one frame, encoded in a buffer of `N` bytes and handed whole to `write`.
///
/// `write` is whatever keeps bytes: a file, a UART, a flash page. What it is given, one call after the other, is a trace. Whether to collect
/// several frames before they go out is its own business (`std::io::BufWriter`).
///
/// The first error is kept and nothing is written after it, since a trace with a hole tells another story; the run goes on. Ask
/// [`finish`](Self::finish) when it is over.
///
/// ```
/// use rao_proto::{Event, EventSink, Record, Recorder};
/// use std::io::Write;
///
/// # let path = std::env::temp_dir().join(format!("rao-proto-recorder-{}.trace", std::process::id()));
/// let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
/// let mut recorder = Recorder::<_, _, 256>::new(|frame: &[u8]| file.write_all(frame)).capped(1 << 20);
/// recorder.record(&Record { at_us: 0, event: Event::RunClosed { nodes: 1, tokens: 40 } });
/// assert_eq!(recorder.finish()?, 13);
/// file.flush()?;
/// assert_eq!(std::fs::metadata(&path)?.len(), 13);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recorder<W, E, const N: usize> {
    write: W,
    buffer: [u8; N],
    bytes: u64,
    bytes_max: u64,
    error: Option<RecordError<E>>,
}

/// Why a trace ends before its run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError<E> {
    /// A record could not be encoded: with [`BufferTooSmall`](EncodeError::BufferTooSmall), the recorder's `N` is too small for it.
    #[error("at byte {offset}: {source}")]
    Encode {
        /// Where its frame would begin; also the length of the trace.
        offset: u64,
        /// Why.
        source: EncodeError,
    },
    /// The next frame would pass the cap.
    #[error("at byte {offset}: a frame of {needed} bytes would pass the cap of {bytes_max}")]
    Full {
        /// Where the frame would begin; also the length of the trace.
        offset: u64,
        /// What the frame takes.
        needed: usize,
        /// The cap.
        bytes_max: u64,
    },
    /// The closure failed. How much of the frame it had already taken is its own knowledge: the trace may have a torn tail.
    #[error("at byte {offset}: not written: {source}")]
    Write {
        /// Where the frame begins; all before it was taken whole.
        offset: u64,
        /// What the closure says.
        source: E,
    },
}

impl<W, E, const N: usize> Recorder<W, E, N>
where
    W: FnMut(&[u8]) -> Result<(), E>,
{
    /// Nothing is written until the first event.
    #[must_use]
    pub const fn new(write: W) -> Self {
        Self {
            write,
            buffer: [0; N],
            bytes: 0,
            bytes_max: u64::MAX,
            error: None,
        }
    }

    /// The same with a cap: a frame that would make the trace longer than `bytes_max` is not written, and neither is any after it.
    #[must_use]
    pub fn capped(self, bytes_max: u64) -> Self {
        Self { bytes_max, ..self }
    }

    /// Length of the trace so far: whole frames that `write` took.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Why nothing more is written, if so.
    #[must_use]
    pub const fn error(&self) -> Option<&RecordError<E>> {
        self.error.as_ref()
    }

    /// Ends the recording and says how long the trace is.
    ///
    /// # Errors
    /// The first [`RecordError`]: from its offset on the trace is missing.
    pub fn finish(self) -> Result<u64, RecordError<E>> {
        self.error.map_or(Ok(self.bytes), Err)
    }

    fn write(&mut self, record: &Record<'_>) -> Result<(), RecordError<E>> {
        let (offset, bytes_max) = (self.bytes, self.bytes_max);
        let needed = encode(record, &mut self.buffer).map_err(|source| RecordError::Encode { offset, source })?;
        if bytes_max - offset < needed as u64 {
            let full = RecordError::Full {
                offset,
                needed,
                bytes_max,
            };
            return Err(full);
        }
        (self.write)(&self.buffer[..needed]).map_err(|source| RecordError::Write { offset, source })?;
        self.bytes += needed as u64;
        Ok(())
    }
}

impl<W, E, const N: usize> EventSink for Recorder<W, E, N>
where
    W: FnMut(&[u8]) -> Result<(), E>,
{
    fn record(&mut self, record: &Record<'_>) {
        if self.error.is_none() {
            self.error = self.write(record).err();
        }
    }
}
