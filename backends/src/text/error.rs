//! [`TextError`].

use std::io;
use std::path::PathBuf;

/// Why a model directory cannot be read or a text not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file is missing, unreadable or cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: serde_json::Error,
    },
    /// A `tokenizer.json` that crate `tokenizers` does not take.
    #[error("{path}: not a tokenizer: {source}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the crate said.
        source: tokenizers::Error,
    },
    /// A text that cannot be encoded, or tokens that cannot be decoded.
    #[error("{path}: {source}")]
    Conversion {
        /// The tokenizer's file.
        path: PathBuf,
        /// What crate `tokenizers` said.
        source: tokenizers::Error,
    },
    /// Crate `tokenizers` would split the text wrongly from there on, without a word.
    #[error("more than {max} characters of white space in a row: no tokenizer is sure to take that, shorten them")]
    WhiteSpace {
        /// Characters in a row that are allowed.
        max: usize,
    },
    /// A special token that the tokenizer does not have.
    #[error("{path}: {role} is {token}, which is no token of tokenizer.json: the two files are of different models")]
    Special {
        /// The file that names it.
        path: PathBuf,
        /// The key.
        role: &'static str,
        /// What it holds.
        token: String,
    },
    /// The model's embedding has fewer rows than there are tokens.
    #[error(
        "{path}: the tokenizer has {tokens} tokens, the model's embedding {rows} rows: they are of different models"
    )]
    TooLarge {
        /// The tokenizer's file.
        path: PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The model comes without a chat template: a base model, say.
    #[error(
        "{path}: neither chat_template.jinja nor a chat_template in tokenizer_config.json: take an instruction-tuned model, or add one"
    )]
    NoTemplate {
        /// The directory.
        path: PathBuf,
    },
    /// A chat template that does not compile, or fails on this conversation.
    #[error("{path}{}: {reason}", at(*line))]
    Template {
        /// The file; with the name of the template where the file holds several.
        path: String,
        /// Line of the template, from 1. Where a `tokenizer_config.json` holds the template, a line of that string.
        line: Option<usize>,
        /// What is wrong there.
        reason: String,
    },
    /// The template itself refused the conversation (`raise_exception`).
    #[error("{path}{}: the template refuses this conversation: {reason}", at(*line))]
    Refused {
        /// The file; with the name of the template where the file holds several.
        path: String,
        /// Line of the template, from 1.
        line: Option<usize>,
        /// The template's words.
        reason: String,
    },
    /// There is nothing to render.
    #[error("a conversation needs one message at least")]
    NoMessages,
    /// A message is a JSON object with a `role`.
    #[error("message {index} is {found}, not an object")]
    Message {
        /// Which, from 0.
        index: usize,
        /// What it is instead.
        found: String,
    },
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}
