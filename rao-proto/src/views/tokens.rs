//! Views of tokens, and the varints they are on the wire.

use core::fmt;
use core::iter::FusedIterator;

use serde::de::Error as _;
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::BorrowedBytes;
use crate::types::Token;

/// Tokens borrowed from memory or from a frame; equal when they hold the same tokens, wherever they lie.
///
/// Varints rather than fixed `u32`: ids of a 150,000-entry vocabulary take 3 bytes at most, those of a byte-level one 1 or 2.
#[derive(Clone, Copy)]
pub struct Tokens<'a>(TokensRepr<'a>);

#[derive(Clone, Copy)]
enum TokensRepr<'a> {
    Slice(&'a [Token]),
    /// Exactly `len` canonical varints.
    Varints {
        bytes: &'a [u8],
        len: usize,
    },
}

impl<'a> Tokens<'a> {
    /// No tokens.
    pub const EMPTY: Self = Self::new(&[]);

    /// A view of tokens in memory.
    #[must_use]
    pub const fn new(tokens: &'a [Token]) -> Self {
        Self(TokensRepr::Slice(tokens))
    }

    /// `None` unless `bytes` are whole, canonical varints of at most 32 bits.
    fn from_varints(bytes: &'a [u8]) -> Option<Self> {
        let (mut rest, mut len) = (bytes, 0);
        while !rest.is_empty() {
            (_, rest) = split_varint(rest)?;
            len += 1;
        }
        Some(Self(TokensRepr::Varints { bytes, len }))
    }

    /// Writes the byte count and the varints to the front of `out` and returns how many bytes that are; `None` where they do not fit.
    pub(crate) fn write(&self, out: &mut [u8]) -> Option<usize> {
        match self.0 {
            TokensRepr::Varints { bytes, .. } => super::write_bytes(bytes.len(), out, |out| out.copy_from_slice(bytes)),
            TokensRepr::Slice(tokens) => {
                super::write_bytes(bytes_of(tokens), out, |out| fill_with_varints(tokens, out))
            }
        }
    }

    /// How many tokens; constant time.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            TokensRepr::Slice(tokens) => tokens.len(),
            TokensRepr::Varints { len, .. } => len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens in order.
    #[must_use]
    pub const fn iter(&self) -> TokensIter<'a> {
        TokensIter(self.0)
    }
}

/// Iterator over [`Tokens`].
#[derive(Clone)]
pub struct TokensIter<'a>(TokensRepr<'a>);

impl Iterator for TokensIter<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        match &mut self.0 {
            TokensRepr::Slice(tokens) => {
                let (first, rest) = tokens.split_first()?;
                *tokens = rest;
                Some(*first)
            }
            TokensRepr::Varints { bytes, len } => {
                let (token, rest) = split_varint(bytes)?;
                *bytes = rest;
                *len -= 1;
                Some(Token(token))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = Tokens(self.0).len();
        (len, Some(len))
    }
}

impl ExactSizeIterator for TokensIter<'_> {}
impl FusedIterator for TokensIter<'_> {}

impl<'a> IntoIterator for Tokens<'a> {
    type Item = Token;
    type IntoIter = TokensIter<'a>;
    fn into_iter(self) -> TokensIter<'a> {
        self.iter()
    }
}

impl<'a> From<&'a [Token]> for Tokens<'a> {
    fn from(tokens: &'a [Token]) -> Self {
        Self::new(tokens)
    }
}

impl Default for Tokens<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for Tokens<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Tokens<'_> {}

impl fmt::Debug for Tokens<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|token| token.0)).finish()
    }
}

/// Frames hold the byte count and the varints; human-readable formats get a list of numbers.
impl Serialize for Tokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_seq(self.iter());
        }
        match self.0 {
            TokensRepr::Varints { bytes, .. } => serializer.serialize_bytes(bytes),
            // A tuple has no prefix of its own on the wire, so the byte count and the varints come out as `serialize_bytes` would.
            TokensRepr::Slice(tokens) => {
                let bytes = bytes_of(tokens);
                let mut tuple = serializer.serialize_tuple(1 + tokens.len())?;
                tuple.serialize_element(&(bytes as u64))?;
                tokens.iter().try_for_each(|token| tuple.serialize_element(token))?;
                tuple.end()
            }
        }
    }
}

/// From frames only: borrows the bytes.
impl<'de: 'a, 'a> Deserialize<'de> for Tokens<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_bytes(BorrowedBytes)?;
        Self::from_varints(bytes).ok_or_else(|| D::Error::custom("tokens are not whole canonical varints"))
    }
}

/// Takes one LEB128 varint off the front; `None` where it is torn, longer than it need be, or above 32 bits.
fn split_varint(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(VARINT_LEN_MAX) {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let overlong = byte == 0 && index > 0;
            let overflow = index + 1 == VARINT_LEN_MAX && byte > 0x0F;
            return if overlong || overflow {
                None
            } else {
                Some((value, &bytes[index + 1..]))
            };
        }
    }
    None
}

/// Fills `out` with the varints of `tokens`, which take exactly that many bytes.
///
/// Every varint is laid out whole and written with the zeros behind it, which the next one covers: no branch depends on its length, which
/// cannot be foreseen. The last ones, where the zeros would not fit, go byte by byte.
fn fill_with_varints(tokens: &[Token], mut out: &mut [u8]) {
    for token in tokens {
        let (varint, len) = varint(token.0);
        match out.first_chunk_mut() {
            Some(window) => *window = varint,
            None => out.iter_mut().zip(varint).for_each(|(out, byte)| *out = byte),
        }
        out = out.split_at_mut_checked(len).map_or(&mut [], |(_, rest)| rest);
    }
}

/// The varint of `value`, zeros behind it, and its length.
fn varint(value: u32) -> ([u8; 8], usize) {
    let value = u64::from(value);
    // Seven bits to a byte, in halves: 14 bits to two bytes, then 7 to one.
    let halves = value & 0x3FFF | (value & 0x0FFF_C000) << 2;
    let groups = halves & 0x007F_007F | (halves & 0x3F80_3F80) << 1 | (value & 0xF000_0000) << 4;
    let above = |max| u64::from(value > max);
    let more = [above(0x7F), above(0x3FFF), above(0x1F_FFFF), above(0x0FFF_FFFF)];
    let continued = more[0] << 7 | more[1] << 15 | more[2] << 23 | more[3] << 31;
    let len = 1 + more[0] + more[1] + more[2] + more[3];
    ((groups | continued).to_le_bytes(), len as usize)
}

/// Bytes of all varints together.
fn bytes_of(tokens: &[Token]) -> usize {
    tokens.iter().fold(0, |bytes, token| bytes + varint_len(token.0))
}

/// Bytes of `value` as a varint: 7 bits each, at least one. Comparisons rather than leading zeros: those of several tokens go at once.
const fn varint_len(value: u32) -> usize {
    1 + (value > 0x7F) as usize
        + (value > 0x3FFF) as usize
        + (value > 0x1F_FFFF) as usize
        + (value > 0x0FFF_FFFF) as usize
}

/// 32 bits in groups of 7.
const VARINT_LEN_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_lengths_change_where_seven_bits_run_out() {
        for (value, len) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (2_097_151, 3),
            (2_097_152, 4),
        ] {
            assert_eq!(varint_len(value), len, "{value}");
        }
        assert_eq!(
            [varint_len((1 << 28) - 1), varint_len(1 << 28), varint_len(u32::MAX)],
            [4, 5, 5]
        );
    }

    #[test]
    fn varints_have_one_form() {
        assert_eq!(split_varint(&[0x00]), Some((0, &[][..])));
        assert_eq!(split_varint(&[0xAC, 0x02, 0x07]), Some((300, &[0x07][..])));
        assert_eq!(split_varint(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), Some((u32::MAX, &[][..])));
        let refused: [&[u8]; 6] = [
            &[],
            &[0x80],
            &[0x80, 0x00],
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x1F],
            &[0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        ];
        for bytes in refused {
            assert_eq!(split_varint(bytes), None, "{bytes:02x?}");
        }
    }
}
