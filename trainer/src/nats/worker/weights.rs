//! From the object store into a sampler.

use super::super::announcement::Announcement;
use super::super::link::Link;
use super::super::{NatsError, WorkerBackend, store};
use super::WorkerOptions;
use crate::config::{Config, WeightsFormat};
use crate::rollout::InProcess;
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
}

impl WorkerBackend {
    const fn format(self) -> (WeightsFormat, &'static str) {
        match self {
            Self::Candle => (WeightsFormat::Safetensors, "safetensors"),
            Self::LlamaCpp => (WeightsFormat::Gguf, "gguf"),
        }
    }
}

fn failed(error: impl ToString) -> NatsError {
    NatsError::Backend(error.to_string())
}

impl Files {
    /// Reads those that the worker's backend samples.
    pub async fn fetch(link: &Link, announcement: &Announcement, backend: WorkerBackend) -> Result<Self, NatsError> {
        let (format, needed) = backend.format();
        let mut files = announcement
            .files
            .iter()
            .filter(|file| file.format == format)
            .peekable();
        if files.peek().is_none() {
            let names = announcement.files.iter().map(|file| match file.format {
                WeightsFormat::Safetensors => "safetensors",
                WeightsFormat::Gguf => "gguf",
            });
            let published = names.collect::<Vec<_>>().join(", ");
            return Err(NatsError::Format { published, needed });
        }
        let folder = tempfile::tempdir().map_err(|source| NatsError::File {
            path: std::env::temp_dir(),
            source,
        })?;
        let objects = link.store("weights").await?;
        for file in files {
            store::get_file(&objects, &file.object, &folder.path().join(&file.name)).await?;
        }
        Ok(Self {
            folder,
            version: announcement.weights(),
        })
    }

    /// Samplers of these weights.
    pub fn open(self, config: &Config, options: &WorkerOptions) -> Result<InProcess<Sampler>, NatsError> {
        match options.backend {
            #[cfg(feature = "candle")]
            WorkerBackend::Candle => {
                let folder = self.folder.path();
                crate::backend::open_saved(folder, self.version, &config.rollout, options.threads).map_err(failed)
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
                    .map_err(failed)
            }
            #[allow(unreachable_patterns, reason = "a binary with all backends has no others")]
            backend => Err(not_built(backend)),
        }
    }

    /// Hands them to samplers that have no tree under way.
    pub fn swap(self, engine: &mut InProcess<Sampler>, options: &WorkerOptions) -> Result<(), NatsError> {
        let version = self.version;
        match options.backend {
            #[cfg(feature = "candle")]
            WorkerBackend::Candle => {
                let weights = crate::backend::read_saved(self.folder.path()).map_err(failed)?;
                for sampler in engine.policies_mut() {
                    #[allow(irrefutable_let_patterns, reason = "a binary with one backend has no others")]
                    if let Sampler::Candle(sampler) = sampler {
                        sampler.publish(Arc::clone(&weights), version);
                    }
                }
                Ok(())
            }
            #[cfg(feature = "llama-cpp")]
            WorkerBackend::LlamaCpp => {
                let file = self.into_file();
                for sampler in engine.policies_mut() {
                    #[allow(irrefutable_let_patterns, reason = "a binary with one backend has no others")]
                    if let Sampler::LlamaCpp(sampler) = sampler {
                        sampler.publish(file.clone(), version).map_err(failed)?;
                    }
                }
                Ok(())
            }
            #[allow(unreachable_patterns, reason = "a binary with all backends has no others")]
            backend => Err(not_built(backend)),
        }
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
fn not_built(backend: WorkerBackend) -> NatsError {
    NatsError::Backend(match backend {
        WorkerBackend::Candle => {
            "built without `candle`, which samples in full precision: cargo build --release --features nats".to_owned()
        }
        WorkerBackend::LlamaCpp => crate::sampler::WITHOUT_LLAMA_CPP.to_owned(),
    })
}
