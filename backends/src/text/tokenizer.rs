//! [`Tokenizer`]: text as token ids, and back.

use std::fmt;
use std::io::Write;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use rao_tree::Token;

use super::TextError;
use super::directory::{
    self, CHAT_TEMPLATE, GENERATION_CONFIG, MORE_TEMPLATES, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG,
};
use super::special::Special;
use crate::files::whole::write_whole;

/// Files that belong to a tokenizer, beside further chat templates. `vocab.json` and `merges.txt` say again what `tokenizer.json` says.
const FILES: [&str; 5] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    GENERATION_CONFIG,
    CHAT_TEMPLATE,
];

/// White space in a row. Patterns such as Qwen's try to end at every character of it, `fancy-regex` gives up after a million tries, and crate
/// `tokenizers` takes that for the end of the text.
const WHITE_SPACE_MAX: usize = 499_999;

/// The tokenizer of a Hugging Face model directory.
///
/// Encodes what it is given and nothing more: no token is added, text is neither cut nor padded, whatever the files say about that. Texts of
/// special tokens become these tokens wherever they stand.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Its `tokenizer.json`.
    path: PathBuf,
    /// What [`save`](Self::save) writes: names relative to the directory, and bytes as they were read.
    files: Vec<(PathBuf, Vec<u8>)>,
    len: usize,
    special: Special,
}

/// One row of a model's embedding, as files of llama.cpp describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A piece of text in GPT-2's spelling of bytes.
    Normal(String),
    /// An added token, and whether it is special.
    Added(String, bool),
    /// No token has this id.
    Unused(String),
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where they are there, `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and
    /// `config.json`, which say what tokens are for.
    ///
    /// # Errors
    /// [`TextError`]: a file cannot be read, is no tokenizer, or names a special token that there is none of.
    pub fn load(model: &Path) -> Result<Self, TextError> {
        let path = model.join(TOKENIZER);
        let mut names: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
        let more = directory::more_templates(model)?;
        names.extend(
            more.into_iter()
                .map(|name| Path::new(MORE_TEMPLATES).join(format!("{name}.jinja"))),
        );
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            if let Some(bytes) = directory::read(&model.join(&name))? {
                files.push((name, bytes));
            }
        }
        let definition = match files.first() {
            Some((name, bytes)) if name == Path::new(TOKENIZER) => bytes,
            _ => {
                let source = std::io::ErrorKind::NotFound.into();
                return Err(TextError::Io { path, source });
            }
        };
        let refused = |source| TextError::Tokenizer {
            path: path.clone(),
            source,
        };
        // Over some damage the crate panics (0.23, `decoders/mod.rs`); nothing of what it was making is left.
        let read = catch_unwind(|| tokenizers::Tokenizer::from_bytes(definition));
        let read = read.unwrap_or_else(|_| Err("the crate that reads it panicked".into()));
        let mut inner = read.map_err(refused)?;
        inner.with_padding(None).with_truncation(None).map_err(refused)?;
        let len = inner
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        let mut tokenizer = Self {
            inner,
            path,
            files,
            len,
            special: Special::default(),
        };
        tokenizer.special = Special::read(model, &tokenizer)?;
        Ok(tokenizer)
    }

    /// Ids there are, added tokens included: one more than the highest. Fewer tokens if the file leaves ids out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No tokens at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Checks that a model with so many rows of its embedding has one for every token. Models often have more: rows are padded.
    ///
    /// # Errors
    /// [`TextError::TooLarge`].
    pub fn check_fits(&self, vocab_size: usize) -> Result<(), TextError> {
        if self.len <= vocab_size {
            return Ok(());
        }
        Err(TextError::TooLarge {
            path: self.path.clone(),
            tokens: self.len,
            rows: vocab_size,
        })
    }

    /// The ids of a text. Nothing is added; texts of special tokens become these tokens.
    ///
    /// # Errors
    /// [`TextError::Conversion`]: a vocabulary without a token for some byte, and without one for what is unknown.
    /// [`TextError::WhiteSpace`]: half a million characters of it in a row.
    pub fn encode(&self, text: &str) -> Result<Vec<Token>, TextError> {
        if text.len() > WHITE_SPACE_MAX && longest_space(text) > WHITE_SPACE_MAX {
            return Err(TextError::WhiteSpace { max: WHITE_SPACE_MAX });
        }
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|source| self.failed(source))?;
        Ok(encoding.get_ids().iter().copied().map(Token).collect())
    }

    /// The text of tokens, with or without the special ones among them. Tokens that end within a character give U+FFFD for it; ids without
    /// a token give nothing.
    ///
    /// # Errors
    /// [`TextError::Conversion`].
    pub fn decode(&self, tokens: &[Token], skip_special: bool) -> Result<String, TextError> {
        let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
        self.inner
            .decode(&ids, skip_special)
            .map_err(|source| self.failed(source))
    }

    /// What a token is called: in a byte-level vocabulary GPT-2's spelling of bytes, where `Ġ` is a space. `None` for an unused id.
    #[must_use]
    pub fn token(&self, id: Token) -> Option<String> {
        self.inner.id_to_token(id.0)
    }

    /// The token that is called so.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<Token> {
        self.inner.token_to_id(token).map(Token)
    }

    /// Beginning of a sequence. Qwen has none.
    #[must_use]
    pub fn bos(&self) -> Option<Token> {
        self.special.bos
    }

    /// End of a turn (`eos_token`).
    #[must_use]
    pub fn eos(&self) -> Option<Token> {
        self.special.eos
    }

    /// Fills what is not there.
    #[must_use]
    pub fn pad(&self) -> Option<Token> {
        self.special.pad
    }

    /// Every token that ends what the model says: [`eos`](Self::eos), then those of `generation_config.json`, or of `config.json` where
    /// the former has none. No token twice.
    #[must_use]
    pub fn stops(&self) -> &[Token] {
        &self.special.stops
    }

    /// What tells a vocabulary from others: [`crate::fingerprint`] of the texts of so many rows, with `[PAD7]` where row 7 has no token.
    ///
    /// # Errors
    /// [`TextError::TooLarge`].
    pub fn fingerprint(&self, vocab_size: usize) -> Result<String, TextError> {
        Ok(crate::fingerprint(self.entries(vocab_size)?.iter().map(Entry::text)))
    }

    /// Writes the files that were read, byte for byte, into another directory: the tokenizer, its settings and the chat templates. Each
    /// appears whole or not at all, `tokenizer.json` last.
    ///
    /// # Errors
    /// [`TextError::Io`]; a file that was there before is then the old one or the new one.
    pub fn save(&self, model: &Path) -> Result<(), TextError> {
        for (name, bytes) in self.files.iter().rev() {
            let path = model.join(name);
            let written = std::fs::create_dir_all(path.parent().unwrap_or(model))
                .and_then(|()| write_whole(&path, |file| file.write_all(bytes)));
            written.map_err(|source| TextError::Io { path, source })?;
        }
        Ok(())
    }

    /// What every row of an embedding is called.
    pub(crate) fn entries(&self, rows: usize) -> Result<Vec<Entry>, TextError> {
        self.check_fits(rows)?;
        let added = self.inner.get_added_tokens_decoder();
        // As llama.cpp's converter has it.
        let mut entries: Vec<Entry> = (0..rows).map(|id| Entry::Unused(format!("[PAD{id}]"))).collect();
        for (text, id) in self.inner.get_vocab(true) {
            entries[id as usize] = match added.get(&id) {
                Some(token) => Entry::Added(text, token.special),
                None => Entry::Normal(text),
            };
        }
        Ok(entries)
    }

    /// The bytes of `tokenizer.json`.
    #[cfg(feature = "candle")]
    pub(crate) fn definition(&self) -> &[u8] {
        &self.files[0].1
    }

    /// Its `tokenizer.json`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: tokenizers::Error) -> TextError {
        TextError::Conversion {
            path: self.path.clone(),
            source,
        }
    }
}

impl fmt::Debug for Tokenizer {
    /// Without its vocabulary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, len, special) = (&self.path, self.len, &self.special);
        f.debug_struct("Tokenizer")
            .field("path", path)
            .field("len", &len)
            .field("special", special)
            .finish_non_exhaustive()
    }
}

/// Characters of the longest stretch of white space.
fn longest_space(text: &str) -> usize {
    let (mut longest, mut current) = (0, 0);
    for letter in text.chars() {
        current = if letter.is_whitespace() { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    longest
}

impl Entry {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Normal(text) | Self::Added(text, _) | Self::Unused(text) => text,
        }
    }
}
