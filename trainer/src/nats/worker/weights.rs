//! From the object store into a sampler.

use super::super::announcement::Announcement;
use super::super::link::Link;
use super::super::{NatsError, WorkerBackend, store};
use super::WorkerOptions;
#[cfg(feature = "openai")]
use super::WorkerServer;
use crate::config::{Config, WeightsFormat};
use crate::rollout::{InProcess, Progress};
use crate::sampler::Sampler;
use rao_tree::WeightsVersion;
#[cfg(feature = "candle")]
use std::sync::Arc;
use tempfile::TempDir;
#[cfg(feature = "llama-cpp")]
use {
    rao_backends::llama_cpp::ModelFile,
    std::path::{Path, PathBuf},
};

/// The files of a version, in a directory that is removed when they were read.
pub(super) struct Files {
    folder: TempDir,
    version: WeightsVersion,
    #[cfg(feature = "openai")]
    vocab: usize,
}

impl WeightsFormat {
    /// As `nats.weights` has it.
    const fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
        }
    }
}

impl WorkerBackend {
    fn format(&self) -> WeightsFormat {
        match self {
            Self::Candle => WeightsFormat::Safetensors,
            Self::LlamaCpp => WeightsFormat::Gguf,
            #[cfg(feature = "openai")]
            Self::OpenAi(server) => server.format,
        }
    }

    /// A directory for files, on the disk that they stay on.
    fn folder(&self) -> Result<TempDir, NatsError> {
        match self {
            #[cfg(feature = "openai")]
            Self::OpenAi(server) => server.folder(),
            Self::Candle | Self::LlamaCpp => tempfile::tempdir().map_err(|source| NatsError::File {
                path: std::env::temp_dir(),
                source,
            }),
        }
    }
}

fn failed(error: impl ToString) -> NatsError {
    NatsError::Backend(error.to_string())
}

impl Files {
    /// Reads those that the worker's backend samples.
    pub async fn fetch(link: &Link, announcement: &Announcement, backend: &WorkerBackend) -> Result<Self, NatsError> {
        let format = backend.format();
        let mut files = announcement
            .files
            .iter()
            .filter(|file| file.format == format)
            .peekable();
        if files.peek().is_none() {
            let names = announcement.files.iter().map(|file| file.format.name());
            let published = names.collect::<Vec<_>>().join(", ");
            return Err(NatsError::Format {
                published,
                needed: format.name(),
            });
        }
        let folder = backend.folder()?;
        let objects = link.store("weights").await?;
        for file in files {
            store::get_file(&objects, &file.object, &folder.path().join(&file.name)).await?;
        }
        Ok(Self {
            folder,
            version: announcement.weights(),
            #[cfg(feature = "openai")]
            vocab: announcement.vocab,
        })
    }

    /// Samplers of these weights; `None` if somebody asks to stop.
    pub async fn open(
        self,
        config: &Config,
        options: &WorkerOptions,
        progress: &Progress,
    ) -> Result<Option<InProcess<Sampler>>, NatsError> {
        if progress.is_stopped() {
            return Ok(None);
        }
        match &options.backend {
            #[cfg(feature = "candle")]
            WorkerBackend::Candle => {
                let folder = self.folder.path();
                crate::backend::open_saved(folder, self.version, &config.rollout, options.threads)
                    .map(Some)
                    .map_err(failed)
            }
            #[cfg(feature = "llama-cpp")]
            WorkerBackend::LlamaCpp => {
                let (context, language) = (config.limits.context, config.environment.language());
                let version = self.version;
                let file = self.into_file();
                let info = rao_backends::llama_cpp::inspect(file.path()).map_err(failed)?;
                let vocab = info.vocab.max(language.vocab);
                let names = (vocab, language.fingerprint(vocab));
                crate::sampler::open_file(file, version, &config.rollout, options.threads, context, names)
                    .map(Some)
                    .map_err(failed)
            }
            #[cfg(feature = "openai")]
            WorkerBackend::OpenAi(server) => {
                let policy = self.load(server, config, options, progress).await?;
                let stall = config.rollout.stall();
                Ok(policy.map(|policy| InProcess::new(vec![policy]).with_stall(stall)))
            }
            #[allow(unreachable_patterns, reason = "a binary with all backends has no others")]
            backend => Err(not_built(backend)),
        }
    }

    /// Hands them to samplers that have no tree under way; false if somebody asks to stop.
    pub async fn swap(
        self,
        engine: &mut InProcess<Sampler>,
        config: &Config,
        options: &WorkerOptions,
        progress: &Progress,
    ) -> Result<bool, NatsError> {
        if progress.is_stopped() {
            return Ok(false);
        }
        #[cfg(not(feature = "openai"))]
        let _ = config;
        match &options.backend {
            #[cfg(feature = "candle")]
            WorkerBackend::Candle => {
                let (weights, version) = (
                    crate::backend::read_saved(self.folder.path()).map_err(failed)?,
                    self.version,
                );
                for sampler in engine.policies_mut() {
                    #[allow(irrefutable_let_patterns, reason = "a binary with one backend has no others")]
                    if let Sampler::Candle(sampler) = sampler {
                        sampler.publish(Arc::clone(&weights), version);
                    }
                }
                Ok(true)
            }
            #[cfg(feature = "llama-cpp")]
            WorkerBackend::LlamaCpp => {
                let (version, file) = (self.version, self.into_file());
                for sampler in engine.policies_mut() {
                    #[allow(irrefutable_let_patterns, reason = "a binary with one backend has no others")]
                    if let Sampler::LlamaCpp(sampler) = sampler {
                        sampler.publish(file.clone(), version).map_err(failed)?;
                    }
                }
                Ok(true)
            }
            #[cfg(feature = "openai")]
            WorkerBackend::OpenAi(server) => {
                let policy = self.load(server, config, options, progress).await?;
                let loaded = policy.is_some();
                for (sampler, policy) in engine.policies_mut().zip(policy) {
                    *sampler = policy;
                }
                Ok(loaded)
            }
            #[allow(unreachable_patterns, reason = "a binary with all backends has no others")]
            backend => Err(not_built(backend)),
        }
    }

    #[cfg(feature = "openai")]
    async fn load(
        self,
        server: &WorkerServer,
        config: &Config,
        options: &WorkerOptions,
        progress: &Progress,
    ) -> Result<Option<Sampler>, NatsError> {
        let patience = (options.patience, progress);
        let policy = server
            .load(self.folder.path(), self.version, config, self.vocab, patience)
            .await?;
        Ok(policy.map(|policy| Sampler::OpenAi(Box::new(policy))))
    }

    /// Removed when no sampler needs it.
    #[cfg(feature = "llama-cpp")]
    fn into_file(self) -> ModelFile {
        let path = self.folder.path().join("model.gguf");
        ModelFile::new(Kept {
            path,
            _folder: self.folder,
        })
    }
}

/// A file and the directory that it is removed with.
#[cfg(feature = "llama-cpp")]
struct Kept {
    path: PathBuf,
    _folder: TempDir,
}

#[cfg(feature = "llama-cpp")]
impl AsRef<Path> for Kept {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// What a binary without a backend says.
#[allow(dead_code, reason = "a binary with all backends never says it")]
fn not_built(backend: &WorkerBackend) -> NatsError {
    NatsError::Backend(match backend {
        WorkerBackend::LlamaCpp => crate::sampler::WITHOUT_LLAMA_CPP.to_owned(),
        _ => {
            "built without `candle`, which samples in full precision: cargo build --release --features nats".to_owned()
        }
    })
}
