//! One record to bytes and back. SPEC.md fixes the layout.

use postcard::ser_flavors::Size;

use crate::checksum::checksum;
use crate::event::{Event, KINDS, Record};
use crate::write::write;

/// First byte of every frame that this crate writes, and the only one that it reads.
pub const VERSION: u8 = 1;

/// Largest frame in bytes, version byte and checksum included.
///
/// What must fit whole is one action. The longest context that the Qwen3 family takes is 131,072 tokens; an id below 2^21 takes 3 bytes
/// and its log-probability 4, so such an action takes 917,504 bytes, and this is the next power of two. Buffers need not be that large: a
/// writer's needs [`encoded_len`], a reader on a small device takes the frames that fit its own.
pub const FRAME_MAX: usize = 1 << 20;

/// Bytes before the payload: version and length.
pub(crate) const HEADER_LEN: usize = 5;
/// Bytes after the payload.
pub(crate) const CHECKSUM_LEN: usize = 4;
/// What a frame adds to its payload; also the shortest stretch of bytes that can be a frame.
pub(crate) const OVERHEAD: usize = HEADER_LEN + CHECKSUM_LEN;
const PAYLOAD_MAX: usize = FRAME_MAX - OVERHEAD;

/// Why a record was not encoded; nothing of `out` is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The caller's slice is too short for this frame.
    #[error("frame takes {needed} bytes, {available} are available")]
    BufferTooSmall {
        /// What the frame takes.
        needed: usize,
        /// What the slice has.
        available: usize,
    },
    /// The frame would be longer than [`FRAME_MAX`]. Observations can be split; anything else has to be shortened.
    #[error("frame would take {len} bytes, the limit is {FRAME_MAX}")]
    TooLong {
        /// What the frame would take.
        len: usize,
    },
    /// An act without exactly one log-probability for each token.
    #[error("act has {tokens} tokens and {logprobs} log-probabilities")]
    Count {
        /// How many tokens.
        tokens: usize,
        /// How many log-probabilities.
        logprobs: usize,
    },
}

/// Why bytes are not a frame, or a frame not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the frame does. More bytes may cure it.
    #[error("torn frame: {available} of at least {needed} bytes")]
    Torn {
        /// Length of the frame as far as it is known: exact once version and length are there.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// Not a frame of this version of the format, or no frame at all.
    #[error("version {found}, expected {VERSION}")]
    Version {
        /// The first byte.
        found: u8,
    },
    /// The length field claims a frame above [`FRAME_MAX`].
    #[error("payload of {payload_len} bytes would exceed the frame limit of {FRAME_MAX}")]
    TooLong {
        /// What the length field says.
        payload_len: u32,
    },
    /// The bytes are not what was written.
    #[error("checksum {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// What the frame says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A sound frame with an event that this version of the crate does not know. [`Frames`](crate::Frames) skips and counts these.
    #[error("unknown event {kind}")]
    UnknownEvent {
        /// Number of the event.
        kind: u32,
        /// Length of the frame, so that it can be skipped.
        frame_len: usize,
    },
    /// A sound frame whose payload no writer of this format makes.
    #[error("malformed payload: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: Malformed,
        /// Length of the frame, so that it can be skipped.
        frame_len: usize,
    },
}

/// What is wrong with a payload whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A field runs past the end of the payload.
    #[error("a field runs past the end")]
    Short,
    /// Bytes follow the last field.
    #[error("{bytes} bytes follow the last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A varint does not fit its type.
    #[error("an integer is out of range")]
    Integer,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A value outside its type: an unknown status, limit or reason, an option neither absent nor present, a success outside 0..=1, tokens
    /// that are not whole varints, log-probabilities that are not whole, finite and at most 0.
    #[error("a value is outside its type")]
    Value,
    /// An act without exactly one log-probability for each token.
    #[error("act has {tokens} tokens and {logprobs} log-probabilities")]
    Count {
        /// How many tokens.
        tokens: usize,
        /// How many log-probabilities.
        logprobs: usize,
    },
    /// A varint is longer than it need be. One record has one encoding, so that equal traces are equal bytes.
    #[error("an integer is longer than it need be")]
    NotCanonical,
}

impl DecodeError {
    /// Length of the frame where the frame itself is sound and only its content is not understood: a reader may go on after it. `None`
    /// where the length cannot be trusted.
    #[must_use]
    pub const fn frame_len(&self) -> Option<usize> {
        match *self {
            Self::UnknownEvent { frame_len, .. } | Self::Malformed { frame_len, .. } => Some(frame_len),
            Self::Torn { .. } | Self::Version { .. } | Self::TooLong { .. } | Self::Checksum { .. } => None,
        }
    }
}

/// Bytes that [`encode`] takes for this record, exactly.
///
/// # Errors
/// [`EncodeError::TooLong`] and [`EncodeError::Count`], as [`encode`].
pub fn encoded_len(record: &Record<'_>) -> Result<usize, EncodeError> {
    counts(&record.event).map_err(|(tokens, logprobs)| EncodeError::Count { tokens, logprobs })?;
    let len = OVERHEAD + payload_len(record);
    if len > FRAME_MAX {
        Err(EncodeError::TooLong { len })
    } else {
        Ok(len)
    }
}

/// Writes one frame to the front of `out` and returns its length.
///
/// # Errors
/// [`EncodeError`]; then what `out` holds is unspecified.
pub fn encode(record: &Record<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    counts(&record.event).map_err(|(tokens, logprobs)| EncodeError::Count { tokens, logprobs })?;
    let available = out.len();
    let room = available.min(FRAME_MAX).saturating_sub(CHECKSUM_LEN);
    // The payload is written first and measured afterwards: the common case takes one pass.
    let Some(payload_len) = write_before_checksum(record, &mut out[..room]) else {
        let needed = encoded_len(record)?;
        return Err(EncodeError::BufferTooSmall { needed, available });
    };
    let checksum_at = HEADER_LEN + payload_len;
    let sum = checksum(&out[..checksum_at]);
    out[checksum_at..checksum_at + CHECKSUM_LEN].copy_from_slice(&sum.to_le_bytes());
    Ok(checksum_at + CHECKSUM_LEN)
}

/// Writes header and payload to the front of `out` and returns the length of the payload; `None` where they do not fit.
fn write_before_checksum(record: &Record<'_>, out: &mut [u8]) -> Option<usize> {
    #[cfg(target_pointer_width = "64")]
    if let Some(len) = crate::spawn::write(record, out) {
        return Some(len);
    }
    let len = write_payload(record, out.get_mut(HEADER_LEN..)?)?;
    write_header(len, out);
    Some(len)
}

/// Writes version and length; `payload_len` is at most [`PAYLOAD_MAX`], so that the cast keeps every bit.
pub(crate) fn write_header(payload_len: usize, out: &mut [u8]) {
    out[0] = VERSION;
    out[1..HEADER_LEN].copy_from_slice(&(payload_len as u32).to_le_bytes());
}

/// Writes the payload to the front of `out` and returns its length; `None` where it does not fit.
fn write_payload(record: &Record<'_>, out: &mut [u8]) -> Option<usize> {
    let (kind, node, tokens) = match record.event {
        Event::Observe { node, tokens } | Event::Act { node, tokens, .. } => (record.event.kind(), node, tokens),
        _ => return write(record, out),
    };
    // The same bytes as above in a fifth of the time: serde has no way to hand over many numbers at once.
    let mut len = write(&(record.at_us, kind, node), out)?;
    len += tokens.write(out.get_mut(len..)?)?;
    if let Event::Act { logprobs, weights, .. } = record.event {
        len += logprobs.write(out.get_mut(len..)?)?;
        len += write(&weights, out.get_mut(len..)?)?;
    }
    Some(len)
}

/// Reads the frame at the front of `bytes`; returns the record, which borrows from them, and the length of the frame.
///
/// Never panics and never looks beyond `bytes`, whatever they are. What it accepts, [`encode`] turns into the same bytes.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), DecodeError> {
    let (payload, frame_len) = split_frame(bytes)?;
    match decode_payload(payload) {
        Ok(record) => Ok((record, frame_len)),
        Err(PayloadError::UnknownEvent(kind)) => Err(DecodeError::UnknownEvent { kind, frame_len }),
        Err(PayloadError::Malformed(reason)) => Err(DecodeError::Malformed { reason, frame_len }),
    }
}

/// The payload of the frame at the front, its checksum verified, and the length of the frame.
pub(crate) fn split_frame(bytes: &[u8]) -> Result<(&[u8], usize), DecodeError> {
    let frame_len = claimed_len(bytes)?;
    let frame = bytes.get(..frame_len).ok_or(DecodeError::Torn {
        needed: frame_len,
        available: bytes.len(),
    })?;
    let torn = DecodeError::Torn {
        needed: OVERHEAD,
        available: bytes.len(),
    };
    let (checked, &stored) = frame.split_last_chunk().ok_or(torn)?;
    let stored = u32::from_le_bytes(stored);
    let computed = checksum(checked);
    if stored == computed {
        Ok((&checked[HEADER_LEN..], frame_len))
    } else {
        Err(DecodeError::Checksum { stored, computed })
    }
}

/// Length of the frame that the version and the length at the front speak of, whether or not its bytes are there.
pub(crate) fn claimed_len(bytes: &[u8]) -> Result<usize, DecodeError> {
    let torn = DecodeError::Torn {
        needed: OVERHEAD,
        available: bytes.len(),
    };
    let (&found, rest) = bytes.split_first().ok_or(torn)?;
    if found != VERSION {
        return Err(DecodeError::Version { found });
    }
    let payload_len = u32::from_le_bytes(*rest.first_chunk().ok_or(torn)?);
    // A length that does not even fit `usize` is above the limit, too.
    match usize::try_from(payload_len) {
        Ok(len) if len <= PAYLOAD_MAX => Ok(OVERHEAD + len),
        _ => Err(DecodeError::TooLong { payload_len }),
    }
}

pub(crate) enum PayloadError {
    UnknownEvent(u32),
    Malformed(Malformed),
}

impl From<Malformed> for PayloadError {
    fn from(reason: Malformed) -> Self {
        Self::Malformed(reason)
    }
}

impl From<postcard::Error> for PayloadError {
    fn from(error: postcard::Error) -> Self {
        Self::Malformed(match error {
            postcard::Error::DeserializeUnexpectedEnd => Malformed::Short,
            postcard::Error::DeserializeBadVarint => Malformed::Integer,
            postcard::Error::DeserializeBadUtf8 => Malformed::Utf8,
            _ => Malformed::Value,
        })
    }
}

/// The number of the payload's event where this version of the crate does not know it. What every version knows of it, its time and its
/// number, has one encoding there as well.
pub(crate) fn unknown_event(payload: &[u8]) -> Option<Result<u32, Malformed>> {
    // Every record begins with its time and the number of its event, whatever follows.
    let (head, rest) = postcard::take_from_bytes::<(u64, u32)>(payload).ok()?;
    let canonical = postcard::serialize_with_flavor(&head, Size::default()).ok()?;
    let kind = match payload.len() - rest.len() {
        len if len == canonical => Ok(head.1),
        _ => Err(Malformed::NotCanonical),
    };
    (head.1 >= KINDS).then_some(kind)
}

pub(crate) fn decode_payload(payload: &[u8]) -> Result<Record<'_>, PayloadError> {
    #[cfg(target_pointer_width = "64")]
    if let Some(record) = crate::spawn::read(payload) {
        return Ok(record);
    }
    decode_by_serde(payload)
}

/// Any event, and why it is none.
fn decode_by_serde(payload: &[u8]) -> Result<Record<'_>, PayloadError> {
    if let Some(kind) = unknown_event(payload) {
        return Err(PayloadError::UnknownEvent(kind?));
    }
    let (record, rest) = postcard::take_from_bytes::<Record<'_>>(payload)?;
    if !rest.is_empty() {
        return Err(Malformed::Trailing { bytes: rest.len() }.into());
    }
    counts(&record.event).map_err(|(tokens, logprobs)| Malformed::Count { tokens, logprobs })?;
    // The canonical encoding is the shortest: any other is longer.
    if payload_len(&record) != payload.len() {
        return Err(Malformed::NotCanonical.into());
    }
    Ok(record)
}

/// The one rule that spans two fields; its `Err` carries both counts.
fn counts(event: &Event<'_>) -> Result<(), (usize, usize)> {
    match event {
        Event::Act { tokens, logprobs, .. } if tokens.len() != logprobs.len() => Err((tokens.len(), logprobs.len())),
        _ => Ok(()),
    }
}

fn payload_len(record: &Record<'_>) -> usize {
    // Counting has no buffer to overflow, and no type of a record refuses to be serialized.
    postcard::serialize_with_flavor(record, Size::default()).unwrap_or(usize::MAX - OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, Token, WeightsVersion};
    use crate::views::{Logprobs, Tokens};

    /// Two ways to write an action: what is written by hand must be what serde writes, for any room.
    #[test]
    fn actions_are_written_as_serde_writes_them() {
        let tokens: [Token; 70] = core::array::from_fn(|index| Token(u32::MAX >> (index % 32)));
        let logprobs: [f32; 70] = core::array::from_fn(|index| -(index as f32) / 3.0);
        for len in [0, 1, 5, 31, 70] {
            let (tokens, node) = (Tokens::new(&tokens[..len]), NodeId(300));
            let act = Event::Act {
                node,
                tokens,
                logprobs: Logprobs::new(&logprobs[..len]).unwrap(),
                weights: WeightsVersion(1 << 40),
            };
            for event in [act, Event::Observe { node, tokens }] {
                let record = Record { at_us: 1 << 20, event };
                let (mut by_serde, mut by_hand) = ([0; 700], [0; 700]);
                let expected = postcard::to_slice(&record, &mut by_serde).unwrap();
                for room in 0..expected.len() {
                    assert_eq!(write_payload(&record, &mut by_hand[..room]), None);
                }
                assert_eq!(write_payload(&record, &mut by_hand), Some(expected.len()));
                assert_eq!(by_hand[..expected.len()], *expected);

                let mut again = [0; 700];
                let decoded = decode_payload(expected).ok().unwrap();
                assert_eq!(write_payload(&decoded, &mut again), Some(expected.len()));
                assert_eq!(again, by_hand);
            }
        }
    }

    /// The same for spawns, and back: what is read by hand, serde reads alike, whatever the bytes.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn spawns_are_written_and_read_as_serde_does() {
        use crate::types::{Budget, Depth};

        // Both sides of every length of a varint, and those that are left to serde.
        let mut numbers = [0; 20];
        for (pair, exponent) in numbers.chunks_mut(2).zip((7..=63).step_by(7).chain([63])) {
            pair.copy_from_slice(&[(1 << exponent) - 1, 1 << exponent]);
        }
        numbers[19] = u64::MAX;
        for (index, &number) in numbers.iter().enumerate() {
            let other = numbers[(7 * index) % numbers.len()];
            let event = Event::Spawn {
                node: NodeId(number as u32),
                parent: (index % 3 > 0).then_some(NodeId(other as u32)),
                depth: Depth(number as u8),
                task: &"Größe 🌲 ".repeat(10)["Größe 🌲 ".len() * (index % 10)..],
                budget: Budget {
                    depth: other as u8,
                    nodes: other as u32,
                    children: number as u16,
                    steps: other as u16,
                    tokens: number,
                    deadline_us: (index % 4 > 0).then_some(other),
                },
            };
            let record = Record { at_us: other, event };
            let (mut by_serde, mut by_hand) = ([0; 300], [0; 300]);
            let expected = postcard::to_slice(&record, &mut by_serde).unwrap();
            for room in 0..HEADER_LEN + expected.len() {
                assert_eq!(write_before_checksum(&record, &mut by_hand[..room]), None);
            }
            assert_eq!(write_before_checksum(&record, &mut by_hand), Some(expected.len()));
            assert_eq!(by_hand[HEADER_LEN..][..expected.len()], *expected);
            let left_to_serde = number.max(other) >> 56 > 0;
            assert!(left_to_serde || crate::spawn::write(&record, &mut by_hand).is_some());
            assert!(left_to_serde || crate::spawn::read(expected) == Some(record));
            assert_eq!(decode_payload(expected).ok(), Some(record));

            for end in 0..expected.len() {
                assert_eq!(crate::spawn::read(&expected[..end]), None);
                for change in 1..=u8::MAX {
                    expected[end] ^= change;
                    if let Some(read) = crate::spawn::read(expected) {
                        assert_eq!(decode_by_serde(expected).ok(), Some(read));
                    }
                    expected[end] ^= change;
                }
            }
        }
    }
}
