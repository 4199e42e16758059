//! The compact token language that a tiny model speaks in aggregation.
//!
//! ```text
//! prompt      COUNT v | MORE v w | BOTH v w | FIRST v | LAST v     then [LONG] [DEEP]
//! READ        user kind place @t, then v [w] once more       the next record that nobody has read
//! v | w | NONE                                            labels the record: the value that it has of those asked about
//! SPAWN #n    one of OK .. | FAIL for each of the n children, which share all that is left; what they answered follows OK
//! SUM         RES Ta Ub [Ta Ub]                                   of all labels and children's answers; so are the others
//! COMPARE     RES v | RES w | RES SAME                            of which there are more
//! LEAST       RES @t | RES NONE                                   the earliest time
//! GREATEST    RES @t | RES NONE                                   the latest time
//! ANSWER      ends the node with what the latest tool said: COUNT with Ta Ub, BOTH with two of them, MORE with v, w or SAME, FIRST and LAST with
//!             @t or NONE
//! ```
//! `LONG` says that there are more records than a window holds, `DEEP` that this node may not spawn, `END` follows where nothing is left to read.
//! Numbers have two digits, tens and units, and are read, never written. Times are half days.

use super::world::{Field, Filter};
use crate::environments::Language;
use crate::environments::rest::PARTS_MAX;
use rao_tree::Token;

/// Numbers are below this: they have two digits.
pub const NUMBERS: u32 = 100;
/// Times are below this: the half days of a log.
pub const TIMES: u32 = 60;
/// Tokens of the longest action: `SPAWN #n`.
pub const ACTION_MAX: u32 = 2;

const FIRST_PARTS: u32 = 24;
const FIRST_DIGIT: u32 = 32;
const FIRST_VALUE: u32 = FIRST_DIGIT + 20;
/// Where the values of each field begin.
const OFFSETS: [u32; 3] = [
    0,
    Field::User.values().len() as u32,
    (Field::User.values().len() + Field::Kind.values().len()) as u32,
];
const FIRST_TIME: u32 = FIRST_VALUE + OFFSETS[2] + Field::Place.values().len() as u32;
/// Size of the vocabulary.
pub const VOCAB: usize = (FIRST_TIME + TIMES) as usize;

/// A token with a meaning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The table of the module says what each one means.
pub enum Word {
    Count,
    More,
    Both,
    First,
    Last,
    Long,
    Deep,
    Read,
    End,
    Spawn,
    Ok,
    Fail,
    Sum,
    Compare,
    Least,
    Greatest,
    Res,
    Answer,
    None,
    Same,
    Err,
    /// How many children, 2 to 4.
    Parts(u8),
    Tens(u8),
    Units(u8),
    /// Who, what or where.
    Value(Filter),
    Time(u8),
}

const PLAIN: [(Word, u32, &str); 21] = [
    (Word::Count, 1, "COUNT"),
    (Word::More, 2, "MORE"),
    (Word::Both, 3, "BOTH"),
    (Word::First, 4, "FIRST"),
    (Word::Last, 5, "LAST"),
    (Word::Long, 6, "LONG"),
    (Word::Deep, 7, "DEEP"),
    (Word::Read, 8, "READ"),
    (Word::End, 9, "END"),
    (Word::Spawn, 11, "SPAWN"),
    (Word::Ok, 12, "OK"),
    (Word::Fail, 13, "FAIL"),
    (Word::Sum, 14, "SUM"),
    (Word::Compare, 15, "COMPARE"),
    (Word::Least, 16, "LEAST"),
    (Word::Greatest, 17, "GREATEST"),
    (Word::Res, 18, "RES"),
    (Word::Answer, 19, "ANSWER"),
    (Word::None, 20, "NONE"),
    (Word::Same, 21, "SAME"),
    (Word::Err, 22, "ERR"),
];

impl Word {
    /// The token of this word.
    #[must_use]
    pub fn token(self) -> Token {
        Token(match self {
            Self::Parts(parts) => FIRST_PARTS + u32::from(parts.min(PARTS_MAX)),
            Self::Tens(digit) => FIRST_DIGIT + u32::from(digit.min(9)),
            Self::Units(digit) => FIRST_DIGIT + 10 + u32::from(digit.min(9)),
            Self::Value(filter) => FIRST_VALUE + OFFSETS[filter.field as usize] + u32::from(filter.value),
            Self::Time(time) => FIRST_TIME + u32::from(time).min(TIMES - 1),
            plain => PLAIN
                .iter()
                .find(|(word, ..)| *word == plain)
                .map_or(0, |&(_, id, _)| id),
        })
    }

    /// The word of a token; `None` for padding and reserved ones.
    #[must_use]
    pub fn parse(token: Token) -> Option<Self> {
        match token.0 {
            id if id < FIRST_PARTS => PLAIN.iter().find(|&&(_, plain, _)| plain == id).map(|&(word, ..)| word),
            id if id < FIRST_DIGIT => {
                let parts = (id - FIRST_PARTS) as u8;
                (2..=PARTS_MAX).contains(&parts).then_some(Self::Parts(parts))
            }
            id if id < FIRST_DIGIT + 10 => Some(Self::Tens((id - FIRST_DIGIT) as u8)),
            id if id < FIRST_VALUE => Some(Self::Units((id - FIRST_DIGIT - 10) as u8)),
            id if id < FIRST_TIME => {
                let value = id - FIRST_VALUE;
                let field = Field::ALL
                    .into_iter()
                    .rev()
                    .find(|&field| OFFSETS[field as usize] <= value)?;
                let value = (value - OFFSETS[field as usize]) as u8;
                Some(Self::Value(Filter { field, value }))
            }
            id if (id as usize) < VOCAB => Some(Self::Time((id - FIRST_TIME) as u8)),
            _ => None,
        }
    }

    /// A number below [`NUMBERS`], as it is written; a larger one is written as the largest.
    #[must_use]
    pub fn number(number: u32) -> [Self; 2] {
        let number = number.min(NUMBERS - 1) as u8;
        [Self::Tens(number / 10), Self::Units(number % 10)]
    }

    /// A time, or that there is none.
    #[must_use]
    pub fn time(time: Option<u32>) -> Self {
        time.map_or(Self::None, |time| Self::Time(time.min(TIMES - 1) as u8))
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parts(parts) => write!(f, "#{parts}"),
            Self::Tens(digit) => write!(f, "T{digit}"),
            Self::Units(digit) => write!(f, "U{digit}"),
            Self::Value(filter) => f.write_str(filter.name()),
            Self::Time(time) => write!(f, "@{time}"),
            plain => f.write_str(
                PLAIN
                    .iter()
                    .find(|(word, ..)| word == plain)
                    .map_or("?", |&(.., name)| name),
            ),
        }
    }
}

/// The language, as those see it who do not speak it.
pub const LANGUAGE: Language = Language {
    vocab: VOCAB,
    action_max: ACTION_MAX,
    stop: Token(19),
    word: |token| Word::parse(token).map(|word| word.to_string()),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_the_vocabulary_reads_back() {
        let words: Vec<Word> = (0..VOCAB as u32).filter_map(|id| Word::parse(Token(id))).collect();
        assert_eq!(words.len(), PLAIN.len() + 3 + 20 + 19 + TIMES as usize);
        let names: std::collections::HashSet<String> = words.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), words.len(), "a name for each");
        for word in words {
            assert_eq!(Word::parse(word.token()), Some(word));
        }
        assert_eq!(Word::parse(Token(VOCAB as u32)), None);
        assert_eq!(Word::number(7), [Word::Tens(0), Word::Units(7)]);
        assert_eq!(Word::number(123), Word::number(99));
    }

    #[test]
    fn it_is_the_one_that_exported_files_were_written_in() {
        // A change here makes them useless to those who read them.
        assert_eq!(LANGUAGE.fingerprint(VOCAB), "e3a297ff4fd1ef22");
    }
}
