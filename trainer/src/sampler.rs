//! The one place that names what samples, as `backend` is the one that names what learns.

use crate::config::Rollout;
use crate::environments::Language;
use crate::rollout::InProcess;
#[cfg(feature = "llama-cpp")]
use rao_backends::llama_cpp::{KvPrecision, LlamaCpp, LlamaCppError, LlamaCppOptions, LoadError, ModelFile};
use rao_tree::{Policy, Request, SequenceId, WeightsVersion};
use std::path::Path;

/// A policy that is sampled, by whichever backend.
#[non_exhaustive]
pub enum Sampler {
    /// In full precision, one thread each.
    #[cfg(feature = "candle")]
    Candle(Box<rao_backends::candle::sampler::Sampler>),
    /// A GGUF file, quantised or not.
    #[cfg(feature = "llama-cpp")]
    LlamaCpp(LlamaCpp),
    /// A server, which draws nothing itself.
    #[cfg(feature = "openai")]
    OpenAi(Box<rao_backends::openai::OpenAi>),
}

/// A sampler failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// The Candle sampler.
    #[cfg(feature = "candle")]
    #[error(transparent)]
    Candle(rao_backends::SamplerError),
    /// The llama.cpp sampler.
    #[cfg(feature = "llama-cpp")]
    #[error(transparent)]
    LlamaCpp(#[from] LlamaCppError),
    /// The server.
    #[cfg(feature = "openai")]
    #[error(transparent)]
    OpenAi(#[from] rao_backends::openai::OpenAiError),
}

/// A GGUF file cannot be sampled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The backend is not in this binary.
    #[error("{0}")]
    NotBuilt(&'static str),
    /// The file is refused.
    #[cfg(feature = "llama-cpp")]
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What a binary without llama.cpp says.
pub const WITHOUT_LLAMA_CPP: &str =
    "built without `llama-cpp`, which samples GGUF files: cargo build --release --features llama-cpp";

impl Sampler {
    /// Why a thread that it samples on had to be restarted, if one had. What was drawn is the same as without.
    #[must_use]
    pub fn incident(&self) -> Option<String> {
        match self {
            #[cfg(feature = "candle")]
            Self::Candle(_) => None,
            #[cfg(feature = "llama-cpp")]
            Self::LlamaCpp(sampler) => sampler.incident(),
            #[cfg(feature = "openai")]
            Self::OpenAi(_) => None,
        }
    }
}

impl Policy for Sampler {
    type Error = SamplerError;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, SamplerError> {
        match self {
            #[cfg(feature = "candle")]
            Self::Candle(sampler) => sampler.sample(batch).map_err(SamplerError::Candle),
            #[cfg(feature = "llama-cpp")]
            Self::LlamaCpp(sampler) => Ok(sampler.sample(batch)?),
            #[cfg(feature = "openai")]
            Self::OpenAi(sampler) => Ok(sampler.sample(batch)?),
        }
    }

    fn weights(&self) -> WeightsVersion {
        match self {
            #[cfg(feature = "candle")]
            Self::Candle(sampler) => sampler.weights(),
            #[cfg(feature = "llama-cpp")]
            Self::LlamaCpp(sampler) => sampler.weights(),
            #[cfg(feature = "openai")]
            Self::OpenAi(sampler) => sampler.weights(),
        }
    }

    fn forget(&mut self, sequence: SequenceId) {
        match self {
            #[cfg(feature = "candle")]
            Self::Candle(sampler) => sampler.forget(sequence),
            #[cfg(feature = "llama-cpp")]
            Self::LlamaCpp(sampler) => sampler.forget(sequence),
            #[cfg(feature = "openai")]
            Self::OpenAi(sampler) => sampler.forget(sequence),
        }
    }
}

/// So many threads, or one per core for 0.
#[cfg(feature = "candle")]
pub(crate) fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    }
}

impl Sampler {
    /// Tokens of its vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        match self {
            #[cfg(feature = "candle")]
            Self::Candle(sampler) => sampler.vocab(),
            #[cfg(feature = "llama-cpp")]
            Self::LlamaCpp(sampler) => sampler.info().vocab,
            #[cfg(feature = "openai")]
            Self::OpenAi(sampler) => sampler.vocab(),
        }
    }
}

impl InProcess<Sampler> {
    /// Takes the memory of the samplers' caches now, as `rollout.cache` says, so that what a run takes is known from its beginning on.
    /// llama.cpp does so by itself, a server wherever it is.
    #[must_use]
    pub fn reserved(mut self) -> Self {
        for sampler in self.policies_mut() {
            match sampler {
                #[cfg(feature = "candle")]
                Sampler::Candle(sampler) => sampler.reserve(),
                #[cfg(feature = "llama-cpp")]
                Sampler::LlamaCpp(_) => {}
                #[cfg(feature = "openai")]
                Sampler::OpenAi(_) => {}
            }
        }
        self
    }

    /// Tokens of the policy's vocabulary, which every sampler shares.
    pub fn vocab(&mut self) -> usize {
        self.policies_mut().map(|sampler| sampler.vocab()).next().unwrap_or(0)
    }
}

/// An engine that samples a GGUF file of a policy that speaks `language`: one worker, on whose behalf `threads` threads decode (0: every core
/// but one). `context` is its longest context, in tokens.
///
/// # Errors
/// [`OpenError`]: this binary was built without llama.cpp, or the file is refused.
#[cfg(feature = "llama-cpp")]
pub fn open(
    path: &Path,
    rollout: &Rollout,
    threads: usize,
    context: u32,
    language: Language,
) -> Result<InProcess<Sampler>, OpenError> {
    let info = rao_backends::llama_cpp::inspect(path)?;
    let file = ModelFile::new(path.to_owned());
    let version = WeightsVersion(info.weights_version.unwrap_or(0));
    let vocab = info.vocab.max(language.vocab);
    let fingerprint = language.fingerprint(vocab);
    open_file(file, version, rollout, threads, context, (vocab, fingerprint))
}

/// The same for a file that is removed when it is no longer needed, of so many tokens with such a fingerprint.
#[cfg(feature = "llama-cpp")]
pub(crate) fn open_file(
    file: ModelFile,
    version: WeightsVersion,
    rollout: &Rollout,
    threads: usize,
    context: u32,
    (vocab, fingerprint): (usize, String),
) -> Result<InProcess<Sampler>, OpenError> {
    let defaults = LlamaCppOptions::default();
    let options = LlamaCppOptions {
        slots: rollout.slots,
        window: context,
        threads: match threads {
            0 => defaults.threads,
            threads => u32::try_from(threads).unwrap_or(u32::MAX),
        },
        kv: KvPrecision::F32,
        vocab: Some(vocab),
        fingerprint: Some(fingerprint),
        ..defaults
    };
    let sampler = LlamaCpp::load(file, version, options)?;
    Ok(InProcess::new(vec![Sampler::LlamaCpp(sampler)]).with_stall(rollout.stall()))
}

/// This binary has no llama.cpp.
///
/// # Errors
/// Always [`OpenError::NotBuilt`].
#[cfg(not(feature = "llama-cpp"))]
pub fn open(_: &Path, _: &Rollout, _: usize, _: u32, _: Language) -> Result<InProcess<Sampler>, OpenError> {
    Err(OpenError::NotBuilt(WITHOUT_LLAMA_CPP))
}
