//! llama.cpp's own quantisation of a file.

use super::{backend, log};
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How weights are stored, by llama.cpp's names: bits per weight, then the variant. Those with a K mix several kinds of blocks and need rows
/// of a multiple of 256; other rows get the nearest kind that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quantisation {
    name: &'static str,
    ftype: sys::llama_ftype,
}

/// A name that is none of [`Quantisation::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no quantisation {name:?}; there are {}", Quantisation::ALL.map(|one| one.name).join(", "))]
pub struct UnknownQuantisation {
    /// What was asked for.
    pub name: String,
}

impl Quantisation {
    /// All that are offered, from fine to coarse.
    pub const ALL: [Self; 15] = [
        Self::new("f16", sys::LLAMA_FTYPE_MOSTLY_F16),
        Self::new("q8_0", sys::LLAMA_FTYPE_MOSTLY_Q8_0),
        Self::new("q6_k", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
        Self::new("q5_k_m", sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
        Self::new("q5_k_s", sys::LLAMA_FTYPE_MOSTLY_Q5_K_S),
        Self::new("q5_1", sys::LLAMA_FTYPE_MOSTLY_Q5_1),
        Self::new("q5_0", sys::LLAMA_FTYPE_MOSTLY_Q5_0),
        Self::new("q4_k_m", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
        Self::new("q4_k_s", sys::LLAMA_FTYPE_MOSTLY_Q4_K_S),
        Self::new("q4_1", sys::LLAMA_FTYPE_MOSTLY_Q4_1),
        Self::new("q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
        Self::new("q3_k_l", sys::LLAMA_FTYPE_MOSTLY_Q3_K_L),
        Self::new("q3_k_m", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
        Self::new("q3_k_s", sys::LLAMA_FTYPE_MOSTLY_Q3_K_S),
        Self::new("q2_k", sys::LLAMA_FTYPE_MOSTLY_Q2_K),
    ];

    const fn new(name: &'static str, ftype: sys::llama_ftype) -> Self {
        Self { name, ftype }
    }
}

impl fmt::Display for Quantisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Quantisation {
    type Err = UnknownQuantisation;

    fn from_str(name: &str) -> Result<Self, UnknownQuantisation> {
        let found = Self::ALL.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| UnknownQuantisation { name: name.to_owned() })
    }
}

/// A file that could not be quantised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: llama.cpp does not quantise it: {reason}", path.display())]
pub struct QuantiseError {
    /// The file that was read.
    pub path: PathBuf,
    /// llama.cpp's words.
    pub reason: String,
}

/// Reads the GGUF file `source`, in f32 or f16, and writes it quantised to `target`, whole or not at all as far as llama.cpp sees to it. Its other
/// keys are kept.
///
/// # Errors
/// [`QuantiseError`].
pub fn quantise(source: &Path, target: &Path, kind: Quantisation) -> Result<(), QuantiseError> {
    let failed = |reason: String| QuantiseError {
        path: source.to_owned(),
        reason,
    };
    super::inspect(source).map_err(|error| failed(error.to_string()))?;
    backend().map_err(|error| failed(error.to_string()))?;
    let name = |path: &Path| path.to_str().and_then(|path| CString::new(path).ok());
    let (Some(from), Some(to)) = (name(source), name(target)) else {
        return Err(failed("a path is not UTF-8".to_owned()));
    };
    let _alone = super::thread::load_lock();
    log::clear();
    // SAFETY: both paths are strings that end with a zero, and the defaults hold no pointers but null.
    let status = unsafe {
        let mut params = sys::llama_model_quantize_default_params();
        params.ftype = kind.ftype;
        params.nthread = 1;
        sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params)
    };
    if status == 0 {
        Ok(())
    } else {
        Err(failed(log::reason()))
    }
}
