//! The compact token language that a tiny model speaks in TextCraft.
//!
//! Item names never reach the model: each node numbers the items it has seen with its own slot tokens, so that items of tiers it was
//! never trained on look like those it was. Amounts are read, not written: the environment fills them in. [`Interface`] says what may be
//! otherwise.
//!
//! ```text
//! prompt      GOAL Sg #n [DEEP]                     DEEP: this node may not spawn
//! INFO Sx     RES (Sy #missing)*                    what is missing to make the wanted amount of x; nothing listed: ready
//!             RES BASE                              x cannot be made
//! CRAFT Sx    OK | ERR                              only what is missing and was not made since
//! SPAWN Sx [AND Sy [AND Sz]] GO                     one OK | FAIL for each, in that order; GO is left out after the third
//! FINISH                                            ends the node
//! ```
//!
//! With [`Interface::amounts`] `#n` stands behind every item of CRAFT and SPAWN. With [`Interface::names`] an item is two tokens everywhere, its
//! [`name`]: the same in every node and every task, to be spelled by who wants it. What names nothing that the node has seen, or something that may
//! not be asked for, is answered with ERR.

use crate::environments::Language;
use rao_tree::Token;
use serde::{Deserialize, Serialize};

/// Slot tokens of the vocabulary: items that one node can tell apart.
pub const SLOTS: u32 = 64;
/// Largest amount that has a token of its own; larger ones are shown as this.
pub const AMOUNT_MAX: u32 = 32;
/// Most children of one SPAWN.
pub const SPAWN_MAX: usize = 3;
/// Items that have a [`name`].
pub const NAMES: u32 = SLOTS * SLOTS;
/// Tokens of the longest action: `SPAWN a AND b AND c`.
pub const ACTION_MAX: u32 = 6;

/// What agents may say, and what is filled in for them. The default is the easiest to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What may be handed on.
    pub spawn: Spawning,
    /// Up to [`SPAWN_MAX`] children in one SPAWN, at work side by side; otherwise one.
    pub parallel: bool,
    /// The agent writes how many of an item it wants crafted or delivered. Otherwise that is what was last shown as missing.
    pub amounts: bool,
    /// The agent spells the names of items. Otherwise it points at one of those that it has seen.
    pub names: bool,
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            spawn: Spawning::Missing,
            parallel: true,
            amounts: false,
            names: false,
        }
    }
}

impl Interface {
    /// Most children of one SPAWN.
    #[must_use]
    pub fn spawn_max(self) -> usize {
        if self.parallel { SPAWN_MAX } else { 1 }
    }

    /// Tokens of the longest action.
    #[must_use]
    pub fn action_max(self) -> u32 {
        ACTION_MAX + SPAWN_MAX as u32 * (u32::from(self.amounts) + u32::from(self.names))
    }
}

/// What may be handed on to a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spawning {
    /// What was last shown as missing and has not been made since.
    #[default]
    Missing,
    /// Every item that the agent has seen, its own goal too.
    Free,
}

/// The two tokens that an item is called by in every node, where names are spelled; they are those of slots. Below [`NAMES`] no two items share one.
///
/// The factor, odd and so without a loss, spreads neighbours: an item of a world is not known by its first token alone.
#[must_use]
pub fn name(item: u32) -> [Word; 2] {
    let spread = item.wrapping_mul(2_531) % NAMES;
    [Word::Slot(spread / SLOTS), Word::Slot(spread % SLOTS)]
}

const FIRST_SLOT: u32 = 16;
const FIRST_AMOUNT: u32 = FIRST_SLOT + SLOTS;
/// Size of the vocabulary.
pub const VOCAB: usize = (FIRST_AMOUNT + AMOUNT_MAX + 1) as usize;

/// A token with a meaning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The table of the module says what each one means.
pub enum Word {
    Goal,
    Deep,
    Info,
    Res,
    Base,
    Craft,
    Ok,
    Err,
    Spawn,
    And,
    Go,
    Finish,
    Fail,
    /// A slot by its number.
    Slot(u32),
    /// An amount.
    Amount(u32),
}

const PLAIN: [(Word, u32, &str); 13] = [
    (Word::Goal, 1, "GOAL"),
    (Word::Deep, 2, "DEEP"),
    (Word::Info, 3, "INFO"),
    (Word::Res, 4, "RES"),
    (Word::Base, 5, "BASE"),
    (Word::Craft, 6, "CRAFT"),
    (Word::Ok, 7, "OK"),
    (Word::Err, 8, "ERR"),
    (Word::Spawn, 9, "SPAWN"),
    (Word::And, 10, "AND"),
    (Word::Go, 11, "GO"),
    (Word::Finish, 12, "FINISH"),
    (Word::Fail, 13, "FAIL"),
];

impl Word {
    /// The token of this word; amounts above [`AMOUNT_MAX`] are shown as that.
    #[must_use]
    pub fn token(self) -> Token {
        match self {
            Self::Slot(slot) => Token(FIRST_SLOT + slot.min(SLOTS - 1)),
            Self::Amount(amount) => Token(FIRST_AMOUNT + amount.min(AMOUNT_MAX)),
            plain => Token(
                PLAIN
                    .iter()
                    .find(|(word, ..)| *word == plain)
                    .map_or(0, |&(_, id, _)| id),
            ),
        }
    }

    /// The word of a token; `None` for padding and reserved ones.
    #[must_use]
    pub fn parse(token: Token) -> Option<Self> {
        match token.0 {
            id if id < FIRST_SLOT => PLAIN.iter().find(|&&(_, plain, _)| plain == id).map(|&(word, ..)| word),
            id if id < FIRST_AMOUNT => Some(Self::Slot(id - FIRST_SLOT)),
            id if (id as usize) < VOCAB => Some(Self::Amount(id - FIRST_AMOUNT)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "S{slot}"),
            Self::Amount(amount) => write!(f, "#{amount}"),
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
    stop: Token(12),
    word: |token| Word::parse(token).map(|word| word.to_string()),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_the_vocabulary_reads_back() {
        let mut words = 0;
        for id in 0..VOCAB as u32 {
            if let Some(word) = Word::parse(Token(id)) {
                assert_eq!(word.token(), Token(id));
                words += 1;
            }
        }
        assert_eq!(words, PLAIN.len() + SLOTS as usize + AMOUNT_MAX as usize + 1);
        assert_eq!(VOCAB, 113);
        assert_eq!(Word::parse(Token(VOCAB as u32)), None);
        assert_eq!(LANGUAGE.stop, Word::Finish.token());
        let names: Vec<String> = LANGUAGE.names(VOCAB).collect();
        let unused = names.iter().filter(|name| name.starts_with('<')).count();
        assert_eq!((names.len(), names.len() - unused), (VOCAB, words));
        let name = |word: Word| names[word.token().0 as usize].as_str();
        assert_eq!((name(Word::Slot(12)), name(Word::Finish)), ("S12", "FINISH"));
    }

    #[test]
    fn no_two_items_share_a_name() {
        let mut names: Vec<[u32; 2]> = (0..NAMES).map(|item| name(item).map(|word| word.token().0)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES as usize);
    }

    #[test]
    fn it_is_the_one_that_exported_files_were_written_in() {
        // A change here makes them useless to those who read them.
        assert_eq!(LANGUAGE.fingerprint(VOCAB), "1a2df053abe9e010");
    }
}
