//! Where events go.

use crate::event::Record;

/// Takes the events of a run as they happen.
///
/// # For implementers
/// `record` returns nothing, on purpose: a run does not stop, branch or score differently because a disk is full, and a driver that has no
/// I/O has nobody to hand an I/O error to. A sink that can fail keeps its first error, ignores what follows, and gives the error to its
/// owner when asked. [`Recorder`](crate::Recorder) is one for whatever takes bytes; this is one for a buffer:
///
/// ```
/// use rao_proto::{EncodeError, EventSink, Record, encode};
///
/// /// A trace in a fixed buffer.
/// struct Trace<'b> {
///     buffer: &'b mut [u8],
///     len: usize,
///     error: Option<EncodeError>,
/// }
///
/// impl Trace<'_> {
///     /// The frames so far, or why some are missing.
///     fn finish(&self) -> Result<&[u8], EncodeError> {
///         self.error.map_or(Ok(&self.buffer[..self.len]), Err)
///     }
/// }
///
/// impl EventSink for Trace<'_> {
///     fn record(&mut self, record: &Record<'_>) {
///         if self.error.is_none() {
///             match encode(record, &mut self.buffer[self.len..]) {
///                 Ok(written) => self.len += written,
///                 Err(error) => self.error = Some(error),
///             }
///         }
///     }
/// }
/// ```
///
/// # For callers
/// Events arrive in the order in which they happened. What a record borrows is valid during the call only.
pub trait EventSink {
    /// Takes one event. Must not panic and should not block.
    fn record(&mut self, record: &Record<'_>);
}

/// Drops every event.
impl EventSink for () {
    fn record(&mut self, _: &Record<'_>) {}
}

impl<S: EventSink + ?Sized> EventSink for &mut S {
    fn record(&mut self, record: &Record<'_>) {
        (**self).record(record);
    }
}
