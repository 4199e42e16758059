//! What a policy is told when it is made.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A GGUF file that stays where it is as long as this lives: a path, or something that removes the file when it is dropped. A model may come
/// with an adapter in a file of its own.
#[derive(Clone)]
pub struct ModelFile {
    file: Guard,
    adapter: Option<Guard>,
}

type Guard = Arc<dyn AsRef<Path> + Send + Sync>;

impl ModelFile {
    /// Around a path or its guard.
    pub fn new(path: impl AsRef<Path> + Send + Sync + 'static) -> Self {
        Self {
            file: Arc::new(path),
            adapter: None,
        }
    }

    /// The same model with this LoRA adapter, in the place of any other.
    #[must_use]
    pub fn with_adapter(self, adapter: Self) -> Self {
        Self {
            adapter: Some(adapter.file),
            ..self
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        (*self.file).as_ref()
    }

    /// Where its adapter is.
    #[must_use]
    pub fn adapter(&self) -> Option<&Path> {
        self.adapter.as_deref().map(AsRef::as_ref)
    }
}

impl std::fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFile")
            .field("path", &self.path())
            .field("adapter", &self.adapter())
            .finish()
    }
}

/// What keys and values are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPrecision {
    /// Exact: what training wants.
    F32,
    /// Half the memory; logits move by about 1e-3.
    F16,
}

/// How much memory and how many cores a [`LlamaCpp`](super::LlamaCpp) may use, and what it insists on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlamaCppOptions {
    /// Contexts that keep their keys and values, and that are decoded side by side; 1..=256. Results do not depend on it.
    pub slots: u32,
    /// Longest context in tokens, prompt and completion together; what exceeds it ends as [`rao_tree::Stop::ContextOverflow`]. The
    /// model's own limit applies as well. Each slot takes memory for it, rounded up to 256.
    pub window: u32,
    /// Threads that decode. They wait for one another by spinning: where another program takes one of their cores, all of them stand still.
    pub threads: u32,
    /// Tokens decoded at once. Results do not depend on it.
    pub batch: u32,
    /// Keys and values.
    pub kv: KvPrecision,
    /// Shared tokens from which on a new context starts from a copy of another's; `u32::MAX` for never. Results do not depend on it.
    pub share_min: u32,
    /// Size of the vocabulary that the caller speaks; a file with another is refused.
    pub vocab: Option<usize>,
    /// Fingerprint of the caller's tokens; a file with another, or none, is refused.
    pub fingerprint: Option<String>,
    /// How long an answer is waited for, loading included.
    pub deadline: Duration,
}

impl Default for LlamaCppOptions {
    /// 32 slots of 4096 tokens, every core but one, 512 tokens at once, keys and values in f16, any vocabulary, ten minutes.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = cores.saturating_sub(1).max(1);
        Self {
            slots: 32,
            window: 4096,
            threads: u32::try_from(threads).unwrap_or(1),
            batch: 512,
            kv: KvPrecision::F16,
            share_min: 16,
            vocab: None,
            fingerprint: None,
            deadline: Duration::from_secs(600),
        }
    }
}

impl LlamaCppOptions {
    /// Options outside their range are brought inside.
    pub(super) fn in_range(self) -> Self {
        Self {
            slots: self.slots.clamp(1, 256),
            window: self.window.max(1),
            threads: self.threads.max(1),
            batch: self.batch.max(1),
            ..self
        }
    }
}
