//! What a GGUF file says of itself, read before its weights are.

use super::error::LoadError;
use super::walk::walk;
use super::{backend, log};
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString};
use std::io::Read;
use std::path::Path;
use std::ptr::NonNull;

/// The architecture that can be sampled.
const ARCHITECTURE: &str = "qwen3";
/// Kinds of files (`general.type`).
const MODEL: &str = "model";
const ADAPTER: &str = "adapter";
/// Matrices of a block that llama.cpp adapts.
const ADAPTABLE: [&str; 7] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];
/// What its converter writes adapters in. Products with some other types end the process.
const ADAPTER_TYPES: [sys::ggml_type; 4] = [
    sys::GGML_TYPE_F32,
    sys::GGML_TYPE_F16,
    sys::GGML_TYPE_BF16,
    sys::GGML_TYPE_Q8_0,
];

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
    let header = Header::open(path)?;
    header.expect_kind(MODEL)?;
    header.expect_architecture()?;
    header.expect_whole()?;
    let vocab = header
        .array_len("tokenizer.ggml.tokens")
        .or_else(|| {
            header
                .number("qwen3.vocab_size")
                .and_then(|size| usize::try_from(size).ok())
        })
        .filter(|vocab| *vocab > 0)
        .ok_or_else(|| header.not_gguf("it has neither tokens nor the size of its vocabulary"))?;
    let context_length = header
        .number("qwen3.context_length")
        .and_then(|length| u32::try_from(length).ok())
        .ok_or_else(|| header.not_gguf("it does not say its context length"))?;
    Ok(FileInfo {
        vocab,
        context_length,
        fingerprint: header.text("rao.vocabulary"),
        weights_version: header.number("rao.weights_version"),
        bytes: header.bytes,
    })
}

/// What the header of an adapter's file says.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// Matrices that it changes.
    pub matrices: usize,
    /// Over its rank, it scales every change.
    pub alpha: f32,
    /// Fingerprint of the tokens' texts (`rao.vocabulary`), where its writer knew them.
    pub fingerprint: Option<String>,
    /// Version of the policy that base and adapter make together (`rao.weights_version`); `None` in files of others.
    pub weights_version: Option<u64>,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Reads the header of a LoRA adapter and checks that llama.cpp can apply all of it: it ends the process over some, and passes over parts
/// of others. Whether it fits a base is found when it is loaded.
///
/// # Errors
/// [`LoadError`]: no file, no GGUF, no adapter, another architecture, cut off, tensors that cannot be applied.
pub fn inspect_adapter(path: &Path) -> Result<AdapterInfo, LoadError> {
    let header = Header::open(path)?;
    header.expect_kind(ADAPTER)?;
    header.expect_architecture()?;
    header.expect_whole()?;
    let refused = |reason: String| LoadError::Adapter {
        path: path.to_owned(),
        reason,
    };
    if header.text("adapter.type").as_deref() != Some("lora") {
        return Err(refused("its adapter.type is not \"lora\"".to_owned()));
    }
    // llama.cpp takes none, and 0, for a scale of 1.
    let alpha = header
        .float("adapter.lora.alpha")
        .filter(|alpha| *alpha > 0.0 && alpha.is_finite());
    let alpha = alpha.ok_or_else(|| refused("its adapter.lora.alpha is no number above 0".to_owned()))?;
    if header.find("adapter.alora.invocation_tokens").is_some() {
        return Err(refused(
            "it is to be switched on by certain tokens, which is not supported".to_owned(),
        ));
    }
    let mut matrices = 0;
    for tensor in header.tensors() {
        if !adaptable(&tensor.name) {
            return Err(refused(format!(
                "tensor {:?} cannot be applied; the matrices of blocks can be adapted, and an output layer that is not tied",
                tensor.name
            )));
        }
        if !tensor.is_matrix || !ADAPTER_TYPES.contains(&tensor.kind) {
            return Err(refused(format!(
                "tensor {:?} is no matrix in f32, f16, bf16 or q8_0",
                tensor.name
            )));
        }
        matrices += usize::from(tensor.name.ends_with(".lora_a"));
    }
    if matrices == 0 {
        return Err(refused("it changes nothing".to_owned()));
    }
    Ok(AdapterInfo {
        matrices,
        alpha,
        fingerprint: header.text("rao.vocabulary"),
        weights_version: header.number("rao.weights_version"),
        bytes: header.bytes,
    })
}

/// Whether llama.cpp applies a tensor of that name. An adapted embedding ends the process where the output layer is tied to it.
fn adaptable(name: &str) -> bool {
    let base = name.strip_suffix(".lora_a").or_else(|| name.strip_suffix(".lora_b"));
    let Some(base) = base.and_then(|base| base.strip_suffix(".weight")) else {
        return false;
    };
    base == "output"
        || base
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
            .is_some_and(|(_, role)| ADAPTABLE.contains(&role))
}

/// llama.cpp's own reader of the header. Its getters end the process where a key has another type, so the type is asked for first.
struct Header<'p> {
    context: NonNull<sys::gguf_context>,
    path: &'p Path,
    /// Of the file.
    bytes: u64,
}

/// What the header says of one tensor.
struct TensorInfo {
    name: String,
    kind: sys::ggml_type,
    /// Whether it has two dimensions, neither of them empty.
    is_matrix: bool,
}

impl<'p> Header<'p> {
    fn open(path: &'p Path) -> Result<Self, LoadError> {
        backend()?;
        let io = |source| LoadError::Io {
            path: path.to_owned(),
            source,
        };
        let (mut file, bytes) = crate::files::open(path).map_err(io)?;
        let mut magic = [0; 4];
        let not_gguf = |reason: String| LoadError::NotGguf {
            path: path.to_owned(),
            reason,
        };
        if bytes < 24 || file.read_exact(&mut magic).is_err() || magic != *b"GGUF" {
            return Err(not_gguf("it does not begin with the letters GGUF".to_owned()));
        }
        walk(&file, bytes - magic.len() as u64).map_err(not_gguf)?;
        let _alone = super::thread::load_lock();
        log::clear();
        let name = path.to_str().and_then(|path| CString::new(path).ok());
        let name = name.ok_or_else(|| not_gguf("its path is not UTF-8".to_owned()))?;
        let options = sys::gguf_init_params {
            no_alloc: true,
            ctx: std::ptr::null_mut(),
        };
        // SAFETY: the path is a string that ends with a zero; without allocation no context is made.
        let context = NonNull::new(unsafe { sys::gguf_init_from_file(name.as_ptr(), options) });
        let context = context.ok_or_else(|| not_gguf(log::reason()))?;
        Ok(Self { context, path, bytes })
    }

    fn not_gguf(&self, reason: &str) -> LoadError {
        LoadError::NotGguf {
            path: self.path.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Models need not say that they are.
    fn expect_kind(&self, expected: &'static str) -> Result<(), LoadError> {
        let found = self.text("general.type").unwrap_or_else(|| MODEL.to_owned());
        if found == expected {
            return Ok(());
        }
        Err(LoadError::Kind {
            path: self.path.to_owned(),
            found,
            expected,
        })
    }

    fn expect_architecture(&self) -> Result<(), LoadError> {
        let found = self.text("general.architecture").unwrap_or_default();
        if found == ARCHITECTURE {
            return Ok(());
        }
        let path = self.path.to_owned();
        Err(LoadError::Architecture { path, found })
    }

    fn expect_whole(&self) -> Result<(), LoadError> {
        let (needed, len) = (self.end(), self.bytes);
        if len >= needed {
            return Ok(());
        }
        let path = self.path.to_owned();
        Err(LoadError::Truncated { path, needed, len })
    }

    fn find(&self, key: &str) -> Option<(i64, sys::gguf_type)> {
        let key = CString::new(key).ok()?;
        // SAFETY: the context is alive, and the key's index comes from it.
        unsafe {
            let at = sys::gguf_find_key(self.context.as_ptr(), key.as_ptr());
            (at >= 0).then(|| (at, sys::gguf_get_kv_type(self.context.as_ptr(), at)))
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        let (at, kind) = self.find(key)?;
        if kind != sys::GGUF_TYPE_STRING {
            return None;
        }
        // SAFETY: it is a string, which lives as long as the context.
        let text = unsafe { CStr::from_ptr(sys::gguf_get_val_str(self.context.as_ptr(), at)) };
        Some(text.to_string_lossy().into_owned())
    }

    fn number(&self, key: &str) -> Option<u64> {
        let (at, kind) = self.find(key)?;
        // SAFETY: the types are what the getters expect.
        match kind {
            sys::GGUF_TYPE_UINT32 => Some(unsafe { sys::gguf_get_val_u32(self.context.as_ptr(), at) }.into()),
            sys::GGUF_TYPE_UINT64 => Some(unsafe { sys::gguf_get_val_u64(self.context.as_ptr(), at) }),
            _ => None,
        }
    }

    fn float(&self, key: &str) -> Option<f32> {
        let (at, kind) = self.find(key)?;
        // SAFETY: it is such a number.
        (kind == sys::GGUF_TYPE_FLOAT32).then(|| unsafe { sys::gguf_get_val_f32(self.context.as_ptr(), at) })
    }

    fn array_len(&self, key: &str) -> Option<usize> {
        let (at, kind) = self.find(key)?;
        // SAFETY: it is an array.
        (kind == sys::GGUF_TYPE_ARRAY).then(|| unsafe { sys::gguf_get_arr_n(self.context.as_ptr(), at) })
    }

    fn tensors(&self) -> impl Iterator<Item = TensorInfo> {
        let context = self.context.as_ptr();
        // SAFETY: the context is alive as long as the iterator, indices are below the number of tensors, names end with a zero, and there
        // are four dimensions, 1 where a tensor has fewer.
        (0..unsafe { sys::gguf_get_n_tensors(context) }).map(move |at| unsafe {
            let name = CStr::from_ptr(sys::gguf_get_tensor_name(context, at));
            let sizes = std::slice::from_raw_parts(sys::gguf_get_tensor_ne(context, at), 4);
            TensorInfo {
                name: name.to_string_lossy().into_owned(),
                kind: sys::gguf_get_tensor_type(context, at),
                is_matrix: sizes[0] > 0 && sizes[1] > 0 && sizes[2..] == [1, 1],
            }
        })
    }

    /// Where the last tensor ends, in bytes from the start of the file.
    fn end(&self) -> u64 {
        // SAFETY: the context is alive, and indices are below the number of tensors.
        unsafe {
            let data = sys::gguf_get_data_offset(self.context.as_ptr()) as u64;
            (0..sys::gguf_get_n_tensors(self.context.as_ptr()))
                .map(|at| {
                    let offset = sys::gguf_get_tensor_offset(self.context.as_ptr(), at) as u64;
                    let size = sys::gguf_get_tensor_size(self.context.as_ptr(), at) as u64;
                    data.saturating_add(offset).saturating_add(size)
                })
                .max()
                .unwrap_or(data)
        }
    }
}

impl Drop for Header<'_> {
    fn drop(&mut self) {
        // SAFETY: it was opened here and is used by nobody else.
        unsafe { sys::gguf_free(self.context.as_ptr()) }
    }
}
