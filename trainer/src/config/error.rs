//! [`ConfigError`].

use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// The file, or the `--set` argument.
        origin: String,
        /// What the parser says.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{path}`{}", .nearest.as_ref().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file, or the `--set` argument.
        origin: String,
        /// Dotted path of the key.
        path: String,
        /// Dotted path of the most similar key.
        nearest: Option<String>,
    },
    /// A value of the wrong type.
    #[error("{origin}: `{path}` takes {expected}, not {found}")]
    WrongType {
        /// The file, or the `--set` argument.
        origin: String,
        /// Dotted path of the key.
        path: String,
        /// Type of the default.
        expected: &'static str,
        /// Type that was given.
        found: &'static str,
    },
    /// A value outside its range.
    #[error("`{path}`: {message}")]
    OutOfRange {
        /// Dotted path of the key.
        path: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
}
