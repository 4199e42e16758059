//! [`Quant`]: how a GGUF file stores matrices.

use super::BackendError;
use rao_backends::candle::gguf;
use std::fmt;
use std::str::FromStr;

/// How the matrices of a GGUF file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quant {
    /// By this crate's own writer.
    Written(gguf::Quant),
    /// By llama.cpp, from a file in f32.
    #[cfg(feature = "llama-cpp")]
    Made(rao_backends::llama_cpp::Quantisation),
}

impl Quant {
    /// The weights as they are.
    pub const F32: Self = Self::Written(gguf::Quant::F32);

    /// All that this binary can write.
    #[must_use]
    pub fn names() -> Vec<String> {
        #[allow(unused_mut, reason = "llama.cpp adds its own")]
        let mut names: Vec<String> = gguf::Quant::ALL.iter().map(ToString::to_string).collect();
        #[cfg(feature = "llama-cpp")]
        for kind in rao_backends::llama_cpp::Quantisation::ALL {
            let name = kind.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl FromStr for Quant {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, BackendError> {
        if let Ok(quant) = name.parse() {
            return Ok(Self::Written(quant));
        }
        #[cfg(feature = "llama-cpp")]
        if let Ok(kind) = name.parse() {
            return Ok(Self::Made(kind));
        }
        Err(BackendError::Quant { name: name.to_owned() })
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(quant) => quant.fmt(f),
            #[cfg(feature = "llama-cpp")]
            Self::Made(kind) => kind.fmt(f),
        }
    }
}

/// A file that is removed with its name.
#[cfg(feature = "llama-cpp")]
pub(super) fn temporary_file() -> std::io::Result<tempfile::TempPath> {
    let file = tempfile::Builder::new().prefix("rao-").suffix(".gguf").tempfile()?;
    Ok(file.into_temp_path())
}
