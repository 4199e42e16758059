//! Views of log-probabilities.

use core::fmt;
use core::iter::FusedIterator;

use serde::de::Error as _;
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::BorrowedBytes;

/// Natural-log probabilities borrowed from memory or from a frame, each checked to be finite and at most 0; equal when they hold the same
/// numbers, wherever they lie.
#[derive(Clone, Copy)]
pub struct Logprobs<'a>(LogprobsRepr<'a>);

#[derive(Clone, Copy)]
enum LogprobsRepr<'a> {
    Slice(&'a [f32]),
    LittleEndian(&'a [[u8; 4]]),
}

/// A log-probability that is above 0, infinite or not a number.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("log-probability {index} must be finite and at most 0, got {value}")]
pub struct LogprobError {
    /// Position in the slice.
    pub index: usize,
    /// What was found there.
    pub value: f32,
}

impl<'a> Logprobs<'a> {
    /// No log-probabilities.
    pub const EMPTY: Self = Self(LogprobsRepr::Slice(&[]));

    /// Checks every number: finite, at most 0.
    ///
    /// A sampler whose rounding can land above 0 clamps before it reports; silently clamping here would hide one that reports something
    /// else altogether.
    ///
    /// # Errors
    /// [`LogprobError`] names the first that fails.
    pub const fn new(logprobs: &'a [f32]) -> Result<Self, LogprobError> {
        // All of them without a branch first, which takes several at a time; which one it was only matters where one fails.
        let (mut index, mut sound) = (0, true);
        while index < logprobs.len() {
            sound &= is_logprob(logprobs[index]);
            index += 1;
        }
        if sound {
            return Ok(Self(LogprobsRepr::Slice(logprobs)));
        }
        index = 0;
        while is_logprob(logprobs[index]) {
            index += 1;
        }
        let value = logprobs[index];
        Err(LogprobError { index, value })
    }

    /// `None` unless `bytes` are whole little-endian numbers that [`Logprobs::new`] would take.
    fn from_le_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks();
        let sound = numbers
            .iter()
            .fold(true, |sound, number| sound & is_logprob(f32::from_le_bytes(*number)));
        (sound && rest.is_empty()).then_some(Self(LogprobsRepr::LittleEndian(numbers)))
    }

    /// Writes the byte count and the numbers to the front of `out` and returns how many bytes that are; `None` where they do not fit.
    pub(crate) fn write(&self, out: &mut [u8]) -> Option<usize> {
        match self.0 {
            LogprobsRepr::LittleEndian(numbers) => super::write_bytes(size_of_val(numbers), out, |out| {
                out.copy_from_slice(numbers.as_flattened());
            }),
            LogprobsRepr::Slice(logprobs) => super::write_bytes(size_of_val(logprobs), out, |out| {
                for (out, logprob) in out.as_chunks_mut().0.iter_mut().zip(logprobs) {
                    *out = logprob.to_le_bytes();
                }
            }),
        }
    }

    /// How many; constant time.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            LogprobsRepr::Slice(logprobs) => logprobs.len(),
            LogprobsRepr::LittleEndian(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The log-probabilities in order, bit for bit as they were recorded.
    #[must_use]
    pub const fn iter(&self) -> LogprobsIter<'a> {
        LogprobsIter(self.0)
    }
}

/// Finite and at most 0.
const fn is_logprob(value: f32) -> bool {
    value.is_finite() && value <= 0.0
}

/// Iterator over [`Logprobs`].
#[derive(Clone)]
pub struct LogprobsIter<'a>(LogprobsRepr<'a>);

impl Iterator for LogprobsIter<'_> {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        match &mut self.0 {
            LogprobsRepr::Slice(logprobs) => {
                let (first, rest) = logprobs.split_first()?;
                *logprobs = rest;
                Some(*first)
            }
            LogprobsRepr::LittleEndian(numbers) => {
                let (first, rest) = numbers.split_first()?;
                *numbers = rest;
                Some(f32::from_le_bytes(*first))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = Logprobs(self.0).len();
        (len, Some(len))
    }
}

impl ExactSizeIterator for LogprobsIter<'_> {}
impl FusedIterator for LogprobsIter<'_> {}

impl<'a> IntoIterator for Logprobs<'a> {
    type Item = f32;
    type IntoIter = LogprobsIter<'a>;
    fn into_iter(self) -> LogprobsIter<'a> {
        self.iter()
    }
}

impl<'a> TryFrom<&'a [f32]> for Logprobs<'a> {
    type Error = LogprobError;
    fn try_from(logprobs: &'a [f32]) -> Result<Self, LogprobError> {
        Self::new(logprobs)
    }
}

impl Default for Logprobs<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for Logprobs<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Logprobs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Frames hold the byte count and the numbers, little-endian; human-readable formats get a list of numbers.
impl Serialize for Logprobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_seq(self.iter());
        }
        match self.0 {
            LogprobsRepr::LittleEndian(numbers) => serializer.serialize_bytes(numbers.as_flattened()),
            // As for tokens: a tuple writes what `serialize_bytes` would.
            LogprobsRepr::Slice(logprobs) => {
                let mut tuple = serializer.serialize_tuple(1 + logprobs.len())?;
                tuple.serialize_element(&(size_of_val(logprobs) as u64))?;
                logprobs
                    .iter()
                    .try_for_each(|logprob| tuple.serialize_element(logprob))?;
                tuple.end()
            }
        }
    }
}

/// From frames only: borrows the bytes.
impl<'de: 'a, 'a> Deserialize<'de> for Logprobs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_bytes(BorrowedBytes)?;
        Self::from_le_bytes(bytes)
            .ok_or_else(|| D::Error::custom("log-probabilities are not whole, finite and at most 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_refuse_what_is_no_probability() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE] {
            assert_eq!(Logprobs::new(&[-1.0, bad]).unwrap_err().index, 1);
            assert!(Logprobs::from_le_bytes(&bad.to_le_bytes()).is_none());
        }
        assert_eq!(
            Logprobs::new(&[0.0, -0.0, f32::MIN]).map(|logprobs| logprobs.len()),
            Ok(3)
        );
        assert!(Logprobs::from_le_bytes(&[0; 5]).is_none());
    }
}
