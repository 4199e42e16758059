//! Files of a model directory.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TextError;
use crate::files;

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const SPECIAL_TOKENS: &str = "special_tokens_map.json";
pub(super) const GENERATION_CONFIG: &str = "generation_config.json";
pub(super) const CONFIG: &str = "config.json";
pub(super) const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// Where transformers keeps the templates that are not the default one, as `NAME.jinja`.
pub(super) const MORE_TEMPLATES: &str = "additional_chat_templates";

/// Longest file that is read, in bytes: twenty times the tokenizer of Qwen3.
const FILE_MAX: u64 = 256 << 20;

/// The file's bytes; `None` where there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TextError> {
    match files::read(path, FILE_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The file as JSON; `null` where there is no such file.
pub(super) fn json(path: &Path) -> Result<Value, TextError> {
    let Some(bytes) = read(path)? else {
        return Ok(Value::Null);
    };
    serde_json::from_slice(&bytes).map_err(|source| TextError::Json {
        path: path.to_owned(),
        source,
    })
}

/// The file as text; `None` where there is no such file.
pub(super) fn text(path: &Path) -> Result<Option<String>, TextError> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| TextError::Io {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
    })?;
    Ok(Some(text))
}

/// Names of the files in [`MORE_TEMPLATES`], sorted, without their ending.
pub(super) fn more_templates(model: &Path) -> Result<Vec<String>, TextError> {
    let path = model.join(MORE_TEMPLATES);
    let io = |source| TextError::Io {
        path: path.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = PathBuf::from(entry.map_err(io)?.file_name());
        if name.extension().is_some_and(|ending| ending == "jinja") {
            names.extend(name.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

/// The text of a special token: files hold either the text itself or an object that describes it.
pub(super) fn special<'a>(file: &'a Value, role: &str) -> Option<&'a str> {
    let token = &file[role];
    token.as_str().or_else(|| token["content"].as_str())
}
