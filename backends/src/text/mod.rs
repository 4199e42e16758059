//! What a Hugging Face model directory says about text: its [`Tokenizer`] and its [`ChatTemplate`].
//!
//! A policy works on tokens. This module is the way there and back: a [`Conversation`] becomes text as `apply_chat_template` of transformers
//! writes it, byte by byte, and text becomes the token ids that the model was trained with.
//!
//! # What it is not
//! - A downloader: a directory is read as it lies there.
//! - A parser of answers: tool calls that a model writes are the caller's to read.
//! - A sandbox: a template is as trusted as the model beside it. It can neither read files nor the clock, but it can loop for long.

mod directory;
mod error;
mod python;
mod special;
mod strftime;
mod template;
mod tojson;
mod tokenizer;

pub use error::TextError;
pub use strftime::CivilTime;
pub use template::{ChatTemplate, Conversation};
#[cfg(feature = "candle")]
pub(crate) use tokenizer::Entry;
pub use tokenizer::Tokenizer;
