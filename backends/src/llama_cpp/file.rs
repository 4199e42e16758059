//! What a GGUF file says of itself, read before its weights are.

use super::error::LoadError;
use super::{backend, log};
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::ptr::NonNull;

/// The architecture that can be sampled.
const ARCHITECTURE: &str = "qwen3";

/// What the header of a GGUF file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Longest context that the model was made for, in tokens.
    pub context_length: u32,
    /// Fingerprint of the tokens' texts (`rao.vocabulary`); `None` in files of others.
    pub fingerprint: Option<String>,
    /// Version of the weights (`rao.weights_version`); `None` in files of others.
    pub weights_version: Option<u64>,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Reads the header and checks that the weights it speaks of are there.
///
/// # Errors
/// [`LoadError`]: no file, no GGUF, another architecture, cut off.
pub fn inspect(path: &Path) -> Result<FileInfo, LoadError> {
    backend()?;
    let io = |source| LoadError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let mut magic = [0; 4];
    let not_gguf = |reason: String| LoadError::NotGguf {
        path: path.to_owned(),
        reason,
    };
    if bytes < 24 || file.read_exact(&mut magic).is_err() || magic != *b"GGUF" {
        return Err(not_gguf("it does not begin with the letters GGUF".to_owned()));
    }
    let _alone = super::thread::load_lock();
    log::clear();
    let header = Header::open(path).ok_or_else(|| not_gguf(log::reason()))?;
    let found = header.text("general.architecture").unwrap_or_default();
    if found != ARCHITECTURE {
        let path = path.to_owned();
        return Err(LoadError::Architecture { path, found });
    }
    let needed = header.end();
    if bytes < needed {
        let (path, len) = (path.to_owned(), bytes);
        return Err(LoadError::Truncated { path, needed, len });
    }
    let vocab = header
        .array_len("tokenizer.ggml.tokens")
        .or_else(|| {
            header
                .number("qwen3.vocab_size")
                .and_then(|size| usize::try_from(size).ok())
        })
        .filter(|vocab| *vocab > 0)
        .ok_or_else(|| not_gguf("it has neither tokens nor the size of its vocabulary".to_owned()))?;
    let context_length = header
        .number("qwen3.context_length")
        .and_then(|length| u32::try_from(length).ok())
        .ok_or_else(|| not_gguf("it does not say its context length".to_owned()))?;
    Ok(FileInfo {
        vocab,
        context_length,
        fingerprint: header.text("rao.vocabulary"),
        weights_version: header.number("rao.weights_version"),
        bytes,
    })
}

/// llama.cpp's own reader of the header. Its getters end the process where a key has another type, so the type is asked for first.
struct Header(NonNull<sys::gguf_context>);

impl Header {
    fn open(path: &Path) -> Option<Self> {
        let path = CString::new(path.to_str()?).ok()?;
        let options = sys::gguf_init_params {
            no_alloc: true,
            ctx: std::ptr::null_mut(),
        };
        // SAFETY: the path is a string that ends with a zero; without allocation no context is made.
        NonNull::new(unsafe { sys::gguf_init_from_file(path.as_ptr(), options) }).map(Self)
    }

    fn find(&self, key: &str) -> Option<(i64, sys::gguf_type)> {
        let key = CString::new(key).ok()?;
        // SAFETY: the context is alive, and the key's index comes from it.
        unsafe {
            let at = sys::gguf_find_key(self.0.as_ptr(), key.as_ptr());
            (at >= 0).then(|| (at, sys::gguf_get_kv_type(self.0.as_ptr(), at)))
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        let (at, kind) = self.find(key)?;
        if kind != sys::GGUF_TYPE_STRING {
            return None;
        }
        // SAFETY: it is a string, which lives as long as the context.
        let text = unsafe { CStr::from_ptr(sys::gguf_get_val_str(self.0.as_ptr(), at)) };
        Some(text.to_string_lossy().into_owned())
    }

    fn number(&self, key: &str) -> Option<u64> {
        let (at, kind) = self.find(key)?;
        // SAFETY: the types are what the getters expect.
        match kind {
            sys::GGUF_TYPE_UINT32 => Some(unsafe { sys::gguf_get_val_u32(self.0.as_ptr(), at) }.into()),
            sys::GGUF_TYPE_UINT64 => Some(unsafe { sys::gguf_get_val_u64(self.0.as_ptr(), at) }),
            _ => None,
        }
    }

    fn array_len(&self, key: &str) -> Option<usize> {
        let (at, kind) = self.find(key)?;
        // SAFETY: it is an array.
        (kind == sys::GGUF_TYPE_ARRAY).then(|| unsafe { sys::gguf_get_arr_n(self.0.as_ptr(), at) })
    }

    /// Where the last tensor ends, in bytes from the start of the file.
    fn end(&self) -> u64 {
        // SAFETY: the context is alive, and indices are below the number of tensors.
        unsafe {
            let data = sys::gguf_get_data_offset(self.0.as_ptr()) as u64;
            (0..sys::gguf_get_n_tensors(self.0.as_ptr()))
                .map(|at| {
                    let offset = sys::gguf_get_tensor_offset(self.0.as_ptr(), at) as u64;
                    let size = sys::gguf_get_tensor_size(self.0.as_ptr(), at) as u64;
                    data.saturating_add(offset).saturating_add(size)
                })
                .max()
                .unwrap_or(data)
        }
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        // SAFETY: it was opened here and is used by nobody else.
        unsafe { sys::gguf_free(self.0.as_ptr()) }
    }
}
