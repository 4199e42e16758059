//! Tokens for policies without a tokenizer at hand, such as a server that takes messages: UTF-8 bytes are tokens 0 to 255, and each boundary of a
//! message is one token of its own.
//!
//! A conversation is, for every message, the token of who says it, its bytes, and [`END`]; what a policy continues ends with [`ASSISTANT`].

use rao_tree::Token;

/// A system message begins.
pub const SYSTEM: Token = Token(256);
/// A user's message begins.
pub const USER: Token = Token(257);
/// The policy's turn begins.
pub const ASSISTANT: Token = Token(258);
/// What a call gave back begins.
pub const TOOL: Token = Token(259);
/// A message ends.
pub const END: Token = Token(260);
/// Tokens there are.
pub const VOCAB: usize = 261;
