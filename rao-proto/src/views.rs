//! Tokens and log-probabilities, borrowed from the sampler's memory or straight from a frame.
//!
//! On the wire both are a byte count (varint) and that many bytes: tokens as canonical LEB128 varints, log-probabilities as little-endian
//! IEEE 754 binary32. The byte count is what lets a decoded view borrow the frame; the bytes are checked once, when the view is made.

use core::fmt;

use serde::de::Visitor;

use crate::write::write;

mod logprobs;
mod tokens;

pub use logprobs::{LogprobError, Logprobs, LogprobsIter};
pub use tokens::{Tokens, TokensIter};

/// Writes `len` (varint) to the front of `out`, has `fill` write that many bytes behind it, and returns how many there are in all; `None`
/// where they do not fit.
fn write_bytes(len: usize, out: &mut [u8], fill: impl FnOnce(&mut [u8])) -> Option<usize> {
    let prefix = write(&(len as u64), out)?;
    fill(out.get_mut(prefix..prefix.checked_add(len)?)?);
    Some(prefix + len)
}

struct BorrowedBytes;

impl<'de> Visitor<'de> for BorrowedBytes {
    type Value = &'de [u8];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("borrowed bytes")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<&'de [u8], E> {
        Ok(bytes)
    }
}
