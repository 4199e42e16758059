//! A second reader of the format, by its tables and without serde: what it finds wrong, the decoder must refuse, and the other way round.

use core::fmt::{self, Display, Formatter};

use super::crc32;
use crate::frame::{CHECKSUM_LEN, DecodeError, FRAME_MAX, HEADER_LEN, Malformed, OVERHEAD, VERSION};

/// Displays the bytes of a trace, or of one frame, a field to a line: offset, bytes, name, value.
///
/// ```
/// use rao_proto::{Event, Record, encode, testing::HexDump};
///
/// let mut frame = [0; 16];
/// let len = encode(&Record { at_us: 300, event: Event::RunClosed { nodes: 3, tokens: 2 } }, &mut frame)?;
/// let dump = HexDump(&frame[..len]).to_string();
/// assert_eq!(dump.lines().nth(2), Some("     5  ac 02                                at_us                 300"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Takes any bytes. What is wrong with them stands on a line of its own, `!` behind the offset, in the words of [`DecodeError`] and
/// [`Malformed`]; there is such a line exactly if [`Frames`](crate::Frames) would yield an error or skip an unknown event. What cannot be
/// understood follows raw: the rest of a payload, or the rest of the bytes where the end of a frame cannot be told.
///
/// Fields of more than 240 bytes are cut to their first 24, and a line says their length and CRC-32; values are cut to what fits a line.
/// So a dump changes when any byte does, and stays readable.
#[derive(Clone, Copy, Debug)]
pub struct HexDump<'a>(pub &'a [u8]);

impl Display for HexDump<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut offset = 0;
        while let Some(rest) = self.0.get(offset..).filter(|rest| !rest.is_empty()) {
            if offset > 0 {
                writeln!(f)?;
            }
            offset += write_frame(f, offset, rest)?;
        }
        Ok(())
    }
}

/// What a field is on the wire; the table of the specification.
#[derive(Clone, Copy)]
enum Type {
    U8,
    U16,
    U32,
    U64,
    Event,
    Success,
    Text,
    Bytes,
    OptionU32,
    OptionU64,
    Tokens,
    Logprobs,
    Limit,
    Status,
    Reason,
}

type Fields = &'static [(&'static str, Type)];

/// The events by number, with their fields.
const EVENTS: [(&str, Fields); 11] = [
    (
        "run opened",
        &[
            ("task", Type::Text),
            ("seed", Type::U64),
            ("limits.depth_max", Type::U8),
            ("limits.nodes_max", Type::U32),
            ("limits.children_max", Type::U16),
            ("limits.steps_max", Type::U16),
            ("limits.tokens_max", Type::U64),
            ("limits.action_max", Type::U32),
            ("limits.context_max", Type::U32),
            ("limits.concurrent_max", Type::U32),
            ("limits.deadline_us", Type::OptionU64),
            ("weights", Type::U64),
        ],
    ),
    (
        "spawn",
        &[
            ("node", Type::U32),
            ("parent", Type::OptionU32),
            ("depth", Type::U8),
            ("task", Type::Text),
            ("budget.depth", Type::U8),
            ("budget.nodes", Type::U32),
            ("budget.children", Type::U16),
            ("budget.steps", Type::U16),
            ("budget.tokens", Type::U64),
            ("budget.deadline_us", Type::OptionU64),
        ],
    ),
    (
        "refuse",
        &[("parent", Type::U32), ("index", Type::U8), ("limit", Type::Limit)],
    ),
    ("observe", &[("node", Type::U32), ("tokens", Type::Tokens)]),
    (
        "act",
        &[
            ("node", Type::U32),
            ("tokens", Type::Tokens),
            ("logprobs", Type::Logprobs),
            ("weights", Type::U64),
        ],
    ),
    (
        "return",
        &[("node", Type::U32), ("status", Type::Status), ("value", Type::Bytes)],
    ),
    ("cancel", &[("node", Type::U32), ("reason", Type::Reason)]),
    ("score", &[("node", Type::U32), ("success", Type::Success)]),
    ("run closed", &[("nodes", Type::U32), ("tokens", Type::U64)]),
    ("restart", &[("node", Type::U32)]),
    ("allow", &[("node", Type::U32), ("masks", Type::Bytes)]),
];

const LIMITS: [&str; 6] = ["depth", "nodes", "children", "steps", "tokens", "context"];
const STATUSES: [&str; 6] = ["finished", "failed", "truncated", "timed out", "cancelled", "invalid"];
const REASONS: [&str; 2] = ["parent ended", "caller"];

/// Writes one frame, or what there is of it; returns how many bytes that was, at least one.
fn write_frame(f: &mut Formatter<'_>, offset: usize, bytes: &[u8]) -> Result<usize, fmt::Error> {
    let (needed, available) = (OVERHEAD, bytes.len());
    let raw = |f: &mut Formatter<'_>, from: usize, wrong: DecodeError| {
        write_wrong(f, offset + from, &wrong)?;
        write_rows(f, offset + from, &bytes[from..], &"raw")?;
        Ok(available)
    };
    if bytes[0] != VERSION {
        return raw(f, 0, DecodeError::Version { found: bytes[0] });
    }
    write_field(f, offset, &bytes[..1], "version", &VERSION)?;
    let Some(&[a, b, c, d]) = bytes.get(1..HEADER_LEN).and_then(|length| length.as_array()) else {
        return raw(f, 1, DecodeError::Torn { needed, available });
    };
    let payload_len = u32::from_le_bytes([a, b, c, d]);
    write_field(f, offset + 1, &bytes[1..HEADER_LEN], "length", &payload_len)?;
    if payload_len as usize > FRAME_MAX - OVERHEAD {
        return raw(f, HEADER_LEN, DecodeError::TooLong { payload_len });
    }
    let checksum_at = HEADER_LEN + payload_len as usize;
    let needed = checksum_at + CHECKSUM_LEN;
    let Some(stored) = bytes.get(checksum_at..needed) else {
        return raw(f, HEADER_LEN, DecodeError::Torn { needed, available });
    };
    let payload = Payload {
        f,
        offset: offset + HEADER_LEN,
        rest: &bytes[HEADER_LEN..checksum_at],
    };
    payload.write()?;
    let computed = crc32(&bytes[..checksum_at]);
    let stored_le = stored.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    write_field(
        f,
        offset + checksum_at,
        stored,
        "checksum",
        &format_args!("{stored_le:08x}"),
    )?;
    if stored_le != computed {
        let wrong = DecodeError::Checksum {
            stored: stored_le,
            computed,
        };
        write_wrong(f, offset + checksum_at, &wrong)?;
    }
    Ok(needed)
}

/// A payload, field by field from its front.
struct Payload<'f, 'b, 'o> {
    f: &'f mut Formatter<'o>,
    /// Of what is left.
    offset: usize,
    rest: &'b [u8],
}

impl<'b> Payload<'_, 'b, '_> {
    fn write(mut self) -> fmt::Result {
        let Some(_) = self.field("at_us", Type::U64)? else {
            return Ok(());
        };
        let Some(Value::Event(number, event)) = self.field("event", Type::Event)? else {
            return Ok(());
        };
        let Some((_, fields)) = event else {
            return self.give_up(&format_args!("unknown event {number}"));
        };
        let (mut tokens, mut logprobs) = (None, None);
        for (name, ty) in *fields {
            match self.field(name, *ty)? {
                None => return Ok(()),
                Some(Value::Tokens(_, count)) => tokens = Some(count),
                Some(Value::Logprobs(numbers)) => logprobs = Some(numbers.len()),
                Some(_) => {}
            }
        }
        match (tokens, logprobs, self.rest.len()) {
            (Some(tokens), Some(logprobs), 0) if tokens != logprobs => {
                write_wrong(self.f, self.offset, &Malformed::Count { tokens, logprobs })
            }
            (.., 0) => Ok(()),
            (.., bytes) => self.give_up(&Malformed::Trailing { bytes }),
        }
    }

    /// Writes the next field; `None` where it cannot be read, and then everything that is left is written.
    fn field(&mut self, name: &str, ty: Type) -> Result<Option<Value<'b>>, fmt::Error> {
        let mut after = self.rest;
        match ty.read(&mut after) {
            Ok(value) => {
                let len = self.rest.len() - after.len();
                write_field(self.f, self.offset, &self.rest[..len], name, &value)?;
                (self.offset, self.rest) = (self.offset + len, after);
                Ok(Some(value))
            }
            Err(reason) => self.give_up(&format_args!("{name}: {reason}")).map(|()| None),
        }
    }

    fn give_up(&mut self, wrong: &dyn Display) -> fmt::Result {
        write_wrong(self.f, self.offset, wrong)?;
        write_rows(self.f, self.offset, self.rest, &"raw")
    }
}

impl Type {
    /// Takes one value of this type off the front of `rest`.
    fn read<'b>(self, rest: &mut &'b [u8]) -> Result<Value<'b>, Malformed> {
        Ok(match self {
            Self::U8 => Value::Number(u64::from(take(rest, 1)?[0])),
            Self::U16 => Value::Number(varint(rest, 16)?),
            Self::U32 => Value::Number(varint(rest, 32)?),
            Self::U64 => Value::Number(varint(rest, 64)?),
            Self::Event => {
                let number = varint(rest, 32)?;
                Value::Event(number, usize::try_from(number).ok().and_then(|index| EVENTS.get(index)))
            }
            Self::Success => match float(take(rest, 4)?) {
                success if (0.0..=1.0).contains(&success) => Value::Success(success),
                _ => return Err(Malformed::Value),
            },
            Self::Text => {
                let text = core::str::from_utf8(counted(rest)?).map_err(|_| Malformed::Utf8)?;
                Value::Text(text)
            }
            Self::Bytes => Value::Bytes(counted(rest)?),
            Self::OptionU32 => option(rest, 32)?,
            Self::OptionU64 => option(rest, 64)?,
            Self::Tokens => {
                let bytes = counted(rest)?;
                let (mut left, mut count) = (bytes, 0);
                while !left.is_empty() {
                    varint(&mut left, 32).map_err(|_| Malformed::Value)?;
                    count += 1;
                }
                Value::Tokens(bytes, count)
            }
            Self::Logprobs => {
                let (numbers, torn) = counted(rest)?.as_chunks();
                let sound = |number: &[u8; 4]| (f32::MIN..=0.0).contains(&float(number));
                if !torn.is_empty() || !numbers.iter().all(sound) {
                    return Err(Malformed::Value);
                }
                Value::Logprobs(numbers)
            }
            Self::Limit => Value::Choice(choice(rest, &LIMITS)?, ""),
            Self::Reason => Value::Choice(choice(rest, &REASONS)?, ""),
            Self::Status => match choice(rest, &STATUSES)? {
                "truncated" => Value::Choice("truncated: ", choice(rest, &LIMITS)?),
                status => Value::Choice(status, ""),
            },
        })
    }
}

/// A value as it is shown.
#[derive(Clone, Copy)]
enum Value<'b> {
    Number(u64),
    Event(u64, Option<&'static (&'static str, Fields)>),
    Absent,
    Choice(&'static str, &'static str),
    Success(f32),
    Text(&'b str),
    Bytes(&'b [u8]),
    /// Varints that were checked, and how many.
    Tokens(&'b [u8], usize),
    Logprobs(&'b [[u8; 4]]),
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Event(number, event) => write!(f, "{number}, {}", event.map_or("unknown", |(name, _)| name)),
            Self::Absent => f.write_str("none"),
            Self::Choice(name, limit) => write!(f, "{name}{limit}"),
            Self::Success(success) => write!(f, "{success:?}"),
            Self::Text(text) => {
                let cut = text.char_indices().nth(TEXT_SHOWN).map_or(text.len(), |(cut, _)| cut);
                write!(f, "\"{}\"", text[..cut].escape_debug())?;
                write_total(f, cut < text.len(), text.len(), "bytes")
            }
            Self::Bytes(bytes) => {
                let shown = &bytes[..bytes.len().min(TEXT_SHOWN)];
                write!(f, "b\"{}\"", shown.escape_ascii())?;
                write_total(f, shown.len() < bytes.len(), bytes.len(), "bytes")
            }
            Self::Tokens(mut bytes, count) => {
                // They were checked when the value was made.
                let tokens = core::iter::from_fn(|| varint(&mut bytes, 32).ok());
                f.debug_list().entries(tokens.take(NUMBERS_SHOWN)).finish()?;
                write_total(f, NUMBERS_SHOWN < count, count, "tokens")
            }
            Self::Logprobs(numbers) => {
                let shown = numbers.iter().take(NUMBERS_SHOWN).map(|number| float(number));
                f.debug_list().entries(shown).finish()?;
                write_total(f, NUMBERS_SHOWN < numbers.len(), numbers.len(), "log-probabilities")
            }
        }
    }
}

fn take<'b>(rest: &mut &'b [u8], len: usize) -> Result<&'b [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(len).ok_or(Malformed::Short)?;
    *rest = after;
    Ok(taken)
}

/// Seven bits to a byte, lowest first, no byte more than it needs, at most `bits` of them in all.
fn varint(rest: &mut &[u8], bits: u32) -> Result<u64, Malformed> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = u64::from(take(rest, 1)?[0]);
        let (low, more) = (byte & 0x7F, byte & 0x80 != 0);
        let room = bits - shift;
        if room < 7 && low >> room != 0 || room <= 7 && more {
            return Err(Malformed::Integer);
        }
        value |= low << shift;
        shift += 7;
        match (more, low) {
            (true, _) => {}
            (false, 0) if shift > 7 => return Err(Malformed::NotCanonical),
            (false, _) => return Ok(value),
        }
    }
}

/// A length in bytes, and the bytes. A length is at most that of a frame; what is more runs past the end in any case.
fn counted<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], Malformed> {
    let len = usize::try_from(varint(rest, 64)?).map_err(|_| Malformed::Short)?;
    take(rest, len)
}

fn option(rest: &mut &[u8], bits: u32) -> Result<Value<'static>, Malformed> {
    match take(rest, 1)? {
        [0] => Ok(Value::Absent),
        [1] => varint(rest, bits).map(Value::Number),
        _ => Err(Malformed::Value),
    }
}

fn choice(rest: &mut &[u8], names: &[&'static str]) -> Result<&'static str, Malformed> {
    let number = usize::try_from(varint(rest, 32)?).unwrap_or(usize::MAX);
    names.get(number).copied().ok_or(Malformed::Value)
}

/// Not a number where there are not four bytes.
fn float(bytes: &[u8]) -> f32 {
    bytes.as_array().map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes))
}

fn write_field(f: &mut Formatter<'_>, offset: usize, bytes: &[u8], name: &str, value: &dyn Display) -> fmt::Result {
    write_rows(f, offset, bytes, &format_args!("{name:<NAME$} {value}"))
}

/// Bytes, the first row with what they are.
fn write_rows(f: &mut Formatter<'_>, offset: usize, bytes: &[u8], what: &dyn Display) -> fmt::Result {
    let cut = if bytes.len() > LONG { SHOWN } else { bytes.len() };
    for (row, chunk) in bytes[..cut].chunks(ROW).enumerate() {
        write!(f, "{:>6} ", offset + row * ROW)?;
        chunk.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        if row == 0 {
            write!(f, "{:pad$}  {what}", "", pad = 3 * (ROW - chunk.len()))?;
        }
        writeln!(f)?;
    }
    if cut < bytes.len() {
        writeln!(
            f,
            "        .. {} bytes in all, CRC-32 {:08x}",
            bytes.len(),
            crc32(bytes)
        )?;
    }
    Ok(())
}

fn write_wrong(f: &mut Formatter<'_>, offset: usize, wrong: &dyn Display) -> fmt::Result {
    writeln!(f, "{offset:>6}  ! {wrong}")
}

fn write_total(f: &mut Formatter<'_>, cut: bool, count: usize, what: &str) -> fmt::Result {
    if cut { write!(f, ".. {count} {what}") } else { Ok(()) }
}

/// Bytes to a row: the longest varint fits, and a line stays within 100 columns.
const ROW: usize = 12;
/// Characters of the longest name.
const NAME: usize = 21;
/// A field above this is cut to so many bytes: a screen holds twenty rows, and two show how it begins.
const LONG: usize = 20 * ROW;
const SHOWN: usize = 2 * ROW;
/// What fits behind a name: characters of a text, numbers of a list.
const TEXT_SHOWN: usize = 32;
const NUMBERS_SHOWN: usize = 8;
