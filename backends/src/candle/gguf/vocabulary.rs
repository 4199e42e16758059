//! [`Vocabulary`]: what the tokens of a policy are called.

use std::collections::HashMap;

use rao_tree::Token;

use super::metadata::Metadata;
use crate::fingerprint::fingerprint;

/// What stands in for the merges of a vocabulary that has none: llama.cpp refuses an empty list. Two spaces in GPT-2's spelling; no
/// vocabulary of whole words holds either of them, so it never applies.
const NO_MERGES: &str = "Ġ Ġ";
/// How text is cut into words before merging, unless [`Vocabulary::with_merges`] says otherwise.
const PRE_TOKENIZER: &str = "gpt-2";
/// What a token is to a tokenizer (`llama_token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A piece of text in GPT-2's spelling of bytes, found through merges.
    Normal,
    /// A mark that text cannot spell unless the tokenizer is told to look for marks, such as the end of a turn. Not shown.
    Control,
    /// A word that is always one token, wherever it stands in a text, and is shown as it is spelt.
    Word,
    /// A row of the embedding that means nothing. Neither found nor shown.
    Unused,
}

/// Tokens that readers look for by their role. All are named, because llama.cpp takes token 11 for the first two where a file is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of a sequence. Never added by a tokenizer: a policy gets its prompt as it was trained.
    pub bos: Token,
    /// End of what the policy says. Tools that generate text stop at it.
    pub eos: Token,
    /// Fills what is not there.
    pub pad: Token,
}

/// Token texts by identifier, as a byte-level BPE vocabulary (llama.cpp's `gpt2`), and a fingerprint of them.
///
/// A policy with a token language of its own has a vocabulary of [words](TokenKind::Word) and no merges. llama.cpp loads it although the
/// 256 byte tokens of GPT-2 are not in it: a text is cut at the words, the longest first, and whatever lies between two of them (spaces,
/// say) is left out without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    tokens: Vec<(String, TokenKind)>,
    merges: Vec<String>,
    pre_tokenizer: String,
    special: SpecialTokens,
    chat_template: Option<String>,
    fingerprint: String,
}

/// Why token texts make no vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// A text must tell its token from all others.
    #[error("tokens {first} and {second} are both spelt {text:?}: give each a text of its own")]
    Duplicate {
        /// The token that came first.
        first: usize,
        /// The one that repeats it.
        second: usize,
        /// Their text.
        text: String,
    },
    /// llama.cpp would invent a text, or cut this one.
    #[error("the text of token {token} is empty or holds a NUL character: give it another")]
    Unspellable {
        /// Which.
        token: usize,
    },
    /// A special token outside the vocabulary.
    #[error("`{role}` is token {}, but there are only {tokens}", token.0)]
    Special {
        /// `bos`, `eos` or `pad`.
        role: &'static str,
        /// What it was said to be.
        token: Token,
        /// Tokens of the vocabulary.
        tokens: usize,
    },
    /// A merge is two pieces with one space between them.
    #[error("merge {index} is {text:?}, not two pieces with one space between them")]
    Merge {
        /// Which.
        index: usize,
        /// Its text.
        text: String,
    },
}

impl Vocabulary {
    /// Names every token, in the order of their identifiers.
    ///
    /// # Errors
    /// [`VocabularyError`] names the token: every text has to be there, and only once.
    pub fn new(
        tokens: impl IntoIterator<Item = (String, TokenKind)>,
        special: SpecialTokens,
    ) -> Result<Self, VocabularyError> {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut seen = HashMap::with_capacity(tokens.len());
        for (token, (text, _)) in tokens.iter().enumerate() {
            if text.is_empty() || text.contains('\0') {
                return Err(VocabularyError::Unspellable { token });
            }
            if let Some(first) = seen.insert(text.as_str(), token) {
                return Err(VocabularyError::Duplicate {
                    first,
                    second: token,
                    text: text.clone(),
                });
            }
        }
        for (role, token) in [("bos", special.bos), ("eos", special.eos), ("pad", special.pad)] {
            if token.0 as usize >= tokens.len() {
                let tokens = tokens.len();
                return Err(VocabularyError::Special { role, token, tokens });
            }
        }
        let fingerprint = fingerprint(tokens.iter().map(|(text, _)| text.as_str()));
        Ok(Self {
            tokens,
            merges: vec![NO_MERGES.to_owned()],
            pre_tokenizer: PRE_TOKENIZER.to_owned(),
            special,
            chat_template: None,
            fingerprint,
        })
    }

    /// The same with the merges of a byte-level BPE, best first, and llama.cpp's name of the rule that cuts text into words before
    /// (`gpt-2`, `qwen2`, ...). llama.cpp refuses a rule that it does not know.
    ///
    /// # Errors
    /// [`VocabularyError::Merge`].
    pub fn with_merges(mut self, pre_tokenizer: &str, merges: Vec<String>) -> Result<Self, VocabularyError> {
        let is_pair = |text: &str| matches!(text.split(' ').collect::<Vec<_>>()[..], [left, right] if !left.is_empty() && !right.is_empty());
        if let Some(index) = merges.iter().position(|text| !is_pair(text)) {
            let text = merges[index].clone();
            return Err(VocabularyError::Merge { index, text });
        }
        if !merges.is_empty() {
            self.merges = merges;
        }
        self.pre_tokenizer = pre_tokenizer.to_owned();
        Ok(self)
    }

    /// The same with the Jinja template that makes a conversation a prompt, for tools that chat.
    #[must_use]
    pub fn with_chat_template(self, source: &str) -> Self {
        let chat_template = Some(source.to_owned());
        Self { chat_template, ..self }
    }

    /// Tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// No tokens at all; [`new`](Self::new) refuses that, since nothing could be the special ones.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// What tells this vocabulary from others: [`crate::fingerprint`] of all texts.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The keys of a tokenizer.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        metadata.string("tokenizer.ggml.model", "gpt2");
        metadata.string("tokenizer.ggml.pre", &self.pre_tokenizer);
        metadata.strings(
            "tokenizer.ggml.tokens",
            self.tokens.iter().map(|(text, _)| text.as_str()),
        );
        metadata.i32s(
            "tokenizer.ggml.token_type",
            self.tokens.iter().map(|(_, kind)| kind.code()),
        );
        metadata.strings("tokenizer.ggml.merges", self.merges.iter().map(String::as_str));
        let SpecialTokens { bos, eos, pad } = self.special;
        for (role, token) in [("bos", bos), ("eos", eos), ("padding", pad)] {
            metadata.u32(&format!("tokenizer.ggml.{role}_token_id"), token.0);
        }
        metadata.bool("tokenizer.ggml.add_bos_token", false);
        metadata.bool("tokenizer.ggml.add_eos_token", false);
        if let Some(source) = &self.chat_template {
            metadata.string("tokenizer.chat_template", source);
        }
    }
}

impl TokenKind {
    fn code(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Control => 3,
            Self::Word => 4,
            Self::Unused => 5,
        }
    }
}
