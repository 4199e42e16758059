//! The compact token language that a tiny model speaks in number search.
//!
//! ```text
//! prompt      FIND [LONG] [DEEP]          LONG: more looks than fit into a window; DEEP: this node may not spawn
//! PROBE       MISS | HIT Ha Tb Uc         looks at the next number that nobody has looked at; HIT says which it is
//! SPAWN #n    one of OK NONE | OK Ha Tb Uc | FAIL for each of the n children, which share all that is left
//! ANSWER NONE | ANSWER Ha Tb Uc           ends the node
//! ```
//! `END` follows where nothing is left to look at. A number is written in three digits, each of which has tokens of its own for its place.

use crate::environments::Language;
use crate::environments::rest::PARTS_MAX;
use rao_tree::Token;

/// Numbers are below this: they have three digits.
pub const NUMBERS: u32 = 1_000;
/// Tokens of the longest action, `ANSWER Ha Tb Uc`.
pub const ACTION_MAX: u32 = 4;

const FIRST_PARTS: u32 = 16;
const FIRST_DIGIT: u32 = 24;
/// Size of the vocabulary.
pub const VOCAB: usize = FIRST_DIGIT as usize + 30;

/// A token with a meaning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The table of the module says what each one means.
pub enum Word {
    Find,
    Long,
    Deep,
    Probe,
    Miss,
    Hit,
    End,
    Spawn,
    Ok,
    Fail,
    Answer,
    None,
    Err,
    /// How many children, 2 to 4.
    Parts(u8),
    /// A digit and its place, 0 for hundreds.
    Digit(u8, u8),
}

const PLAIN: [(Word, u32, &str); 13] = [
    (Word::Find, 1, "FIND"),
    (Word::Long, 2, "LONG"),
    (Word::Deep, 3, "DEEP"),
    (Word::Probe, 4, "PROBE"),
    (Word::Miss, 5, "MISS"),
    (Word::Hit, 6, "HIT"),
    (Word::End, 7, "END"),
    (Word::Spawn, 8, "SPAWN"),
    (Word::Ok, 9, "OK"),
    (Word::Fail, 10, "FAIL"),
    (Word::Answer, 11, "ANSWER"),
    (Word::None, 12, "NONE"),
    (Word::Err, 13, "ERR"),
];
const PLACES: [char; 3] = ['H', 'T', 'U'];

impl Word {
    /// The token of this word.
    #[must_use]
    pub fn token(self) -> Token {
        Token(match self {
            Self::Parts(parts) => FIRST_PARTS + u32::from(parts.min(PARTS_MAX)),
            Self::Digit(place, digit) => FIRST_DIGIT + 10 * u32::from(place.min(2)) + u32::from(digit.min(9)),
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
            id if (id as usize) < VOCAB => {
                let (place, digit) = ((id - FIRST_DIGIT) / 10, (id - FIRST_DIGIT) % 10);
                Some(Self::Digit(place as u8, digit as u8))
            }
            _ => None,
        }
    }

    /// A number below [`NUMBERS`], as it is written; of a larger one its last three digits.
    #[must_use]
    pub fn number(number: u32) -> [Self; 3] {
        let digit = |place, unit: u32| Self::Digit(place, (number / unit % 10) as u8);
        [digit(0, 100), digit(1, 10), digit(2, 1)]
    }

    /// Reads what [`number`](Self::number) writes.
    #[must_use]
    pub fn read(words: &[Self]) -> Option<u32> {
        match *words {
            [Self::Digit(0, hundreds), Self::Digit(1, tens), Self::Digit(2, units)] => {
                Some(100 * u32::from(hundreds) + 10 * u32::from(tens) + u32::from(units))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parts(parts) => write!(f, "#{parts}"),
            Self::Digit(place, digit) => write!(f, "{}{digit}", PLACES[usize::from(*place).min(2)]),
            plain => f.write_str(
                PLAIN
                    .iter()
                    .find(|(word, ..)| word == plain)
                    .map_or("?", |&(.., name)| name),
            ),
        }
    }
}

/// The language, as those see it who do not speak it. No single word of an agent's ends its node: `stop` is one that no agent ever says.
pub const LANGUAGE: Language = Language {
    vocab: VOCAB,
    action_max: ACTION_MAX,
    stop: Token(7),
    word: |token| Word::parse(token).map(|word| word.to_string()),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_the_vocabulary_reads_back() {
        let words: Vec<Word> = (0..VOCAB as u32).filter_map(|id| Word::parse(Token(id))).collect();
        assert_eq!(words.len(), PLAIN.len() + 3 + 30);
        let names: std::collections::HashSet<String> = words.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), words.len(), "a name for each");
        for word in words {
            assert_eq!(Word::parse(word.token()), Some(word));
        }
        assert_eq!(Word::parse(Token(VOCAB as u32)), None);
    }

    #[test]
    fn numbers_read_back() {
        for number in 0..NUMBERS {
            assert_eq!(Word::read(&Word::number(number)), Some(number));
        }
        assert_eq!(LANGUAGE.render(Word::number(207).map(Word::token)), "H2 T0 U7");
        assert_eq!(
            Word::read(&[Word::Digit(0, 1), Word::Digit(2, 1), Word::Digit(1, 1)]),
            None
        );
    }

    #[test]
    fn it_is_the_one_that_exported_files_were_written_in() {
        // A change here makes them useless to those who read them.
        assert_eq!(LANGUAGE.fingerprint(VOCAB), "450e222237c4a021");
    }
}
