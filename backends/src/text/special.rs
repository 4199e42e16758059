//! [`Special`]: which tokens begin, end and fill.

use std::path::Path;

use rao_tree::Token;
use serde_json::Value as Json;

use super::directory::{self, CONFIG, GENERATION_CONFIG, SPECIAL_TOKENS, TOKENIZER_CONFIG};
use super::{TextError, Tokenizer};

/// Tokens by their role, where a model has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Special {
    pub(super) bos: Option<Token>,
    pub(super) eos: Option<Token>,
    pub(super) pad: Option<Token>,
    /// Every token that ends what the model says, the first of them `eos`.
    pub(super) stops: Vec<Token>,
}

impl Special {
    /// Texts in the tokenizer's files come first; the ids of `generation_config.json`, and of `config.json` after it, fill what these leave.
    pub(super) fn read(model: &Path, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let named = [TOKENIZER_CONFIG, SPECIAL_TOKENS];
        let named = read_all(model, named)?;
        let numbered = read_all(model, [GENERATION_CONFIG, CONFIG])?;
        let by_text = |role| find_text(model, &named, role, tokenizer);
        let by_id = |role| find_ids(model, &numbered, role, tokenizer);

        let mut special = Self {
            bos: by_text("bos_token")?,
            eos: by_text("eos_token")?,
            pad: by_text("pad_token")?,
            stops: Vec::new(),
        };
        let ends = by_id("eos_token_id")?;
        special.eos = special.eos.or_else(|| ends.first().copied());
        if special.pad.is_none() {
            special.pad = by_id("pad_token_id")?.first().copied();
        }
        for token in special.eos.into_iter().chain(ends) {
            if !special.stops.contains(&token) {
                special.stops.push(token);
            }
        }
        Ok(special)
    }
}

type Files = [(&'static str, Json); 2];

fn read_all(model: &Path, names: [&'static str; 2]) -> Result<Files, TextError> {
    let [first, second] = names;
    Ok([
        (first, directory::json(&model.join(first))?),
        (second, directory::json(&model.join(second))?),
    ])
}

/// The token that the first file to name the role names.
fn find_text(
    model: &Path,
    files: &Files,
    role: &'static str,
    tokenizer: &Tokenizer,
) -> Result<Option<Token>, TextError> {
    for (name, file) in files {
        if let Some(text) = directory::special(file, role) {
            let id = tokenizer.id(text).ok_or_else(|| TextError::Special {
                path: model.join(name),
                role,
                token: format!("{text:?}"),
            })?;
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The tokens that the first file to number the role numbers: one, or a list.
fn find_ids(model: &Path, files: &Files, role: &'static str, tokenizer: &Tokenizer) -> Result<Vec<Token>, TextError> {
    for (name, file) in files {
        let ids = match &file[role] {
            Json::Null => continue,
            Json::Array(ids) => ids.as_slice(),
            id => std::slice::from_ref(id),
        };
        let token = |id: &Json| {
            let token = id.as_u64().and_then(|id| u32::try_from(id).ok()).map(Token);
            let known = token.filter(|token| (token.0 as usize) < tokenizer.len());
            known.ok_or_else(|| TextError::Special {
                path: model.join(name),
                role,
                token: id.to_string(),
            })
        };
        return ids.iter().map(token).collect();
    }
    Ok(Vec::new())
}
