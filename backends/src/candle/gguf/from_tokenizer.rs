//! A [`Vocabulary`] out of a [`Tokenizer`]: what llama.cpp's converter makes of a Qwen model.

use serde::Deserialize;
use serde_json::Value;

use super::{SpecialTokens, TokenKind, Vocabulary, VocabularyError};
use crate::text::{Entry, TextError, Tokenizer};

/// How Qwen2 and its successors cut text into words, and what llama.cpp calls it.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = "qwen2";

/// Why a tokenizer makes no vocabulary of a GGUF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerVocabularyError {
    /// The tokenizer cannot be read, or is larger than the model.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The texts of its tokens make no vocabulary.
    #[error("{path}: {source}")]
    Vocabulary {
        /// The tokenizer's file.
        path: std::path::PathBuf,
        /// What is wrong with them.
        source: VocabularyError,
    },
    /// llama.cpp would cut text elsewhere, and find other tokens.
    #[error("{path}: {part} is not that of Qwen2 and its successors, the only one that can be exported")]
    NotQwen {
        /// The tokenizer's file.
        path: std::path::PathBuf,
        /// What is different.
        part: &'static str,
    },
    /// Tools that generate text would not know where to stop.
    #[error("{path}: no eos_token beside it: name one in tokenizer_config.json")]
    NoEos {
        /// The tokenizer's file.
        path: std::path::PathBuf,
    },
}

/// The parts of `tokenizer.json` that a vocabulary is made of.
#[derive(Deserialize)]
struct Definition {
    #[serde(default)]
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// A merge in either of its spellings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

impl Vocabulary {
    /// The vocabulary of a Hugging Face tokenizer of Qwen2's kind, for a model with `vocab_size` rows: byte-level BPE with its merges, special
    /// tokens as [control](TokenKind::Control), other added tokens as [words](TokenKind::Word), `[PAD7]` for a row 7 without a token.
    ///
    /// llama.cpp finds the same tokens in the same text, if the text is in Unicode's normal form C: it does not normalise. A tokenizer
    /// without a token for the beginning, as Qwen's, gets its padding for that; llama.cpp is told not to add it.
    ///
    /// # Errors
    /// [`TokenizerVocabularyError`].
    pub fn from_tokenizer(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Self, TokenizerVocabularyError> {
        let path = || tokenizer.path().to_owned();
        let definition: Definition = serde_json::from_slice(tokenizer.definition())
            .map_err(|source| TextError::Json { path: path(), source })?;
        let not_qwen = |part| TokenizerVocabularyError::NotQwen { path: path(), part };
        if definition.model.r#type != "BPE" {
            return Err(not_qwen("the model"));
        }
        if !is_qwen2(&definition.pre_tokenizer) {
            return Err(not_qwen("the pre-tokenizer"));
        }
        let eos = tokenizer
            .eos()
            .ok_or_else(|| TokenizerVocabularyError::NoEos { path: path() })?;
        let pad = tokenizer.pad().unwrap_or(eos);
        let special = SpecialTokens {
            bos: tokenizer.bos().unwrap_or(pad),
            eos,
            pad,
        };

        let tokens = tokenizer.entries(vocab_size)?.into_iter().map(|entry| match entry {
            Entry::Normal(text) => (text, TokenKind::Normal),
            Entry::Added(text, true) => (text, TokenKind::Control),
            Entry::Added(text, false) => (text, TokenKind::Word),
            Entry::Unused(text) => (text, TokenKind::Unused),
        });
        let merges = definition.model.merges.into_iter().map(|merge| match merge {
            Merge::Text(text) => text,
            Merge::Pair(left, right) => format!("{left} {right}"),
        });
        Self::new(tokens, special)
            .and_then(|vocabulary| vocabulary.with_merges(QWEN2, merges.collect()))
            .map_err(|source| TokenizerVocabularyError::Vocabulary { path: path(), source })
    }
}

/// Whether text is split at [`QWEN2_WORDS`], and its bytes are spelt as GPT-2 spells them.
fn is_qwen2(pre_tokenizer: &Value) -> bool {
    let [split, bytes] = pre_tokenizer["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice) else {
        return false;
    };
    pre_tokenizer["type"] == "Sequence"
        && split["type"] == "Split"
        && split["pattern"]["Regex"] == QWEN2_WORDS
        && split["behavior"] == "Isolated"
        && split["invert"] == false
        && bytes["type"] == "ByteLevel"
        && bytes["add_prefix_space"] == false
        && bytes["use_regex"] == false
}
