//! Where the events go.

use rao_proto::{EncodeError, EventSink, Record, encode};

/// The bytes of a run, in a buffer of the caller.
pub struct Trace<'b> {
    buffer: &'b mut [u8],
    len: usize,
    error: Option<EncodeError>,
}

impl<'b> Trace<'b> {
    /// Nothing recorded yet.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self {
            buffer,
            len: 0,
            error: None,
        }
    }

    /// The frames so far.
    ///
    /// # Errors
    /// Why some are missing: that of the first event that did not fit.
    pub fn into_bytes(self) -> Result<&'b [u8], EncodeError> {
        self.error.map_or(Ok(&self.buffer[..self.len]), Err)
    }
}

impl EventSink for Trace<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if self.error.is_none() {
            match encode(record, &mut self.buffer[self.len..]) {
                Ok(len) => self.len += len,
                Err(error) => self.error = Some(error),
            }
        }
    }
}
