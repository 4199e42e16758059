//! Views of tokens, and the varints they are on the wire.

use core::fmt;
use core::iter::FusedIterator;

use serde::de::Error as _;
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::BorrowedBytes;
use crate::types::Token;
use crate::varint;

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

/// Takes the varint of one token off the front.
fn split_varint(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (value, rest) = varint::split::<32>(bytes)?;
    Some((value as u32, rest))
}

/// Fills `out` with the varints of `tokens`, which take exactly that many bytes.
///
/// Every varint is laid out whole and written with the zeros behind it, which the next one covers: no branch depends on its length, which
/// cannot be foreseen. The last ones, where the zeros would not fit, go byte by byte.
fn fill_with_varints(tokens: &[Token], mut out: &mut [u8]) {
    for token in tokens {
        let (bytes, len) = varint::short(token.0);
        match out.first_chunk_mut() {
            Some(window) => *window = bytes,
            None => out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = byte),
        }
        out = out.split_at_mut_checked(len).map_or(&mut [], |(_, rest)| rest);
    }
}

/// Bytes of all varints together.
fn bytes_of(tokens: &[Token]) -> usize {
    tokens.iter().fold(0, |bytes, token| bytes + varint::short_len(token.0))
}
