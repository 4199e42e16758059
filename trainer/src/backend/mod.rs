//! The one place that names what learns: everything else trains a [`Trainee`] and samples from its [`Sampler`]s.

mod checkpoint;
mod error;
pub mod memory;
mod pack;
mod quant;
mod resume;

use crate::config::{Backend, CONTEXT_MAX, Config, Dtype, Rao, Rollout};
use crate::environments::Language;
use crate::rollout::{InProcess, Transcript};
use crate::sampler::{self, OpenError, WITHOUT_LLAMA_CPP};
use checkpoint::{Start, kept, tokenizer, words};
use pack::pack;
#[cfg(feature = "llama-cpp")]
use quant::temporary_file;
use rao_backends::candle::gguf::{self, Vocabulary};
use rao_backends::candle::sampler::{Geometry, Sampler as CandleSampler, SamplerOptions, SamplerWeights};
use rao_backends::candle::{AdamWConfig, Device, Learner, Qwen3, Var, Weights};
use rao_backends::text::Tokenizer;
use rao_tree::WeightsVersion;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use crate::sampler::Sampler;
pub use checkpoint::CheckpointError;
pub use error::BackendError;
pub use quant::Quant;
pub use rao_backends::candle::{Objective, SequenceRatio, StepReport};

/// Longest context of the policies that are trained here.
const WINDOW: usize = CONTEXT_MAX as usize;

/// One node's tokens, and what its actions weigh in the gradient.
#[derive(Clone, Debug)]
pub struct Sequence<'a> {
    /// What it read and said.
    pub transcript: &'a Transcript,
    /// By action, what each of its tokens weighs: the weighted advantage, discounted by turn; 0 counts in the mean and trains nothing. 1
    /// imitates.
    pub weights: Vec<f32>,
}

/// The policy under training: weights and optimizer on one side, samplers on the other.
pub struct Trainee {
    learner: Learner,
    version: WeightsVersion,
    /// The checkpoint that it began with: what lies beside its weights goes where the policy goes.
    origin: Option<PathBuf>,
    /// How updates are computed.
    options: crate::config::Learner,
    /// What it speaks.
    language: Language,
    /// What files call the tokens, once it was asked for: a large tokenizer takes a second to read, and every update may be a file.
    vocabulary: OnceLock<Vocabulary>,
}

impl Trainee {
    /// A policy from scratch or from a checkpoint, ready for imitation.
    ///
    /// # Errors
    /// [`BackendError`] for a shape that does not fit together, or a checkpoint that cannot be trained here.
    pub fn new(config: &Config) -> Result<Self, BackendError> {
        Self::around(Start::new(config, &device(&config.device)?)?, config)
    }

    /// The policy that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`BackendError`]: it names the file and what is wrong with it.
    pub fn load(directory: &Path, config: &Config) -> Result<Self, BackendError> {
        Self::around(Start::load(directory, config, &device(&config.device)?)?, config)
    }

    /// Whether only an adapter learns.
    #[must_use]
    pub fn is_adapted(&self) -> bool {
        self.learner.model.adapter().is_some()
    }

    /// Writes what learns: `config.json` and `model.safetensors`, with the checkpoint's tokenizer; or the adapter as PEFT has it, which names
    /// the checkpoint below it. Each file appears whole or not at all.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn save(&self, directory: &Path) -> Result<(), BackendError> {
        if self.is_adapted() {
            return self.export_adapter(directory);
        }
        self.learner.model.weights().save(directory)?;
        self.copy_tokenizer(directory)
    }

    /// Writes a Hugging Face directory with all weights, adapter merged, in files of at most so many bytes.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn export_merged(
        &self,
        directory: &Path,
        dtype: Dtype,
        max_shard_bytes: Option<u64>,
    ) -> Result<(), BackendError> {
        self.merged()?.save_as(directory, kept(dtype), max_shard_bytes)?;
        self.copy_tokenizer(directory)
    }

    /// Writes the adapter as PEFT has it.
    ///
    /// # Errors
    /// [`BackendError::NoAdapter`] where all weights learn.
    pub fn export_adapter(&self, directory: &Path) -> Result<(), BackendError> {
        let adapter = self.learner.model.adapter().ok_or(BackendError::NoAdapter)?;
        let base = self.origin.as_deref().unwrap_or(Path::new(""));
        Ok(adapter.save(directory, &base.display().to_string())?)
    }

    /// Writes the adapter as a GGUF file, in `f32` or `f16`, for llama.cpp to add to a file of the checkpoint, quantised or not.
    ///
    /// # Errors
    /// [`BackendError::NoAdapter`] where all weights learn; [`BackendError::Gguf`].
    pub fn export_adapter_gguf(&self, quant: gguf::Quant, path: &Path) -> Result<(), BackendError> {
        let model = &self.learner.model;
        let adapter = model.adapter().ok_or(BackendError::NoAdapter)?;
        let mut numbers = Vec::new();
        for (module, a, b) in adapter.modules() {
            numbers.push((module, values(a)?, values(b)?));
        }
        let tensors: Vec<_> = numbers
            .iter()
            .map(|(module, a, b)| gguf::AdapterTensor { module, a, b })
            .collect();
        let vocabulary = self.vocabulary()?;
        let adapter = gguf::Adapter {
            tensors: &tensors,
            rank: adapter.config().rank,
            alpha: adapter.config().alpha as f32,
            version: self.version,
            fingerprint: Some(vocabulary.fingerprint()),
        };
        Ok(gguf::save_adapter(&adapter, model.config(), quant, path)?)
    }

    /// Writes a GGUF file with these weights, adapter merged, and the names of the tokens, whole or not at all.
    ///
    /// # Errors
    /// [`BackendError::Gguf`]; a file that was there is as it was.
    pub fn export(&self, quant: Quant, path: &Path) -> Result<(), BackendError> {
        self.write_gguf(&self.merged()?, quant, path)
    }

    fn write_gguf(&self, weights: &Weights, quant: Quant, path: &Path) -> Result<(), BackendError> {
        let vocabulary = self.vocabulary()?;
        let written = |quant, path: &Path| -> Result<(), BackendError> {
            Ok(gguf::save(weights, vocabulary, quant, self.version, path)?)
        };
        match quant {
            Quant::Written(quant) => written(quant, path),
            #[cfg(feature = "llama-cpp")]
            Quant::Made(kind) => {
                let exact = temporary_file()?;
                written(gguf::Quant::F32, &exact)?;
                // Beside its place, so that it appears there whole or not at all.
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let made = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?.into_temp_path();
                rao_backends::llama_cpp::quantise(&exact, &made, kind)?;
                Ok(made.persist(path).map_err(|error| error.error)?)
            }
        }
    }

    /// All weights in f32, with what the adapter adds.
    fn merged(&self) -> Result<Weights, BackendError> {
        let model = &self.learner.model;
        match model.adapter() {
            Some(adapter) => Ok(adapter.merge(model.weights())?),
            None => Ok(model.weights().share()),
        }
    }

    /// What a file calls the tokens: as the checkpoint's tokenizer does, or the compact token language.
    fn vocabulary(&self) -> Result<&Vocabulary, BackendError> {
        if let Some(vocabulary) = self.vocabulary.get() {
            return Ok(vocabulary);
        }
        let vocab = self.vocab();
        let vocabulary = match self.tokenizer()? {
            // Of whatever kind it is: the names are the same.
            Some(tokenizer) if tokenizer.fingerprint(vocab)? == self.language.fingerprint(vocab) => {
                words(self.language, vocab)?
            }
            Some(tokenizer) => Vocabulary::from_tokenizer(&tokenizer, vocab)?,
            None => words(self.language, vocab)?,
        };
        Ok(self.vocabulary.get_or_init(|| vocabulary))
    }

    /// The tokenizer that lies beside the checkpoint.
    fn tokenizer(&self) -> Result<Option<Tokenizer>, BackendError> {
        Ok(self.origin.as_deref().map(tokenizer).transpose()?.flatten())
    }

    fn copy_tokenizer(&self, directory: &Path) -> Result<(), BackendError> {
        match self.tokenizer()? {
            Some(tokenizer) => Ok(tokenizer.save(directory)?),
            None => Ok(()),
        }
    }

    /// Tokens of the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.learner.model.config().vocab_size
    }

    /// How many numbers the policy is made of, without an adapter.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.learner.model.config().parameters()
    }

    /// How many numbers learn.
    #[must_use]
    pub fn trained_parameters(&self) -> usize {
        self.learner.model.trained_parameters()
    }

    /// A copy of the policy with a fresh optimizer.
    ///
    /// # Errors
    /// [`BackendError::Weights`].
    pub fn fork(&self, rao: &Rao) -> Result<Self, BackendError> {
        let model = &self.learner.model;
        let (weights, adapter) = match model.adapter() {
            // The base does not learn, so that one is enough.
            Some(adapter) => (model.weights().share(), Some(adapter.copy()?)),
            None => (model.weights().copy()?, None),
        };
        let start = Start {
            weights,
            adapter,
            origin: self.origin.clone(),
        };
        Self::assemble(start, rao, self.options.clone(), self.language)
    }

    fn around(start: Start, config: &Config) -> Result<Self, BackendError> {
        let language = config.environment.language();
        Self::assemble(start, &config.rao, config.learner.clone(), language)
    }

    fn assemble(
        start: Start,
        rao: &Rao,
        options: crate::config::Learner,
        language: Language,
    ) -> Result<Self, BackendError> {
        let Start {
            weights,
            adapter,
            origin,
        } = start;
        let adamw = AdamWConfig {
            beta1: rao.beta1,
            beta2: rao.beta2,
            weight_decay: rao.weight_decay,
            clip_norm: rao.grad_clip,
            ..AdamWConfig::default()
        };
        let mut model = Qwen3::new(weights).with_checkpointing(options.checkpointing);
        if options.tokens > 0 {
            model = model.with_micro_tokens(options.tokens);
        }
        if let Some(adapter) = adapter {
            model = model.with_adapter(adapter)?;
        }
        Ok(Self {
            learner: Learner::new(model, adamw)?,
            version: WeightsVersion(0),
            origin,
            options,
            language,
            vocabulary: OnceLock::new(),
        })
    }

    /// Gives back what only updates need: the optimizer's moments, and intermediates.
    ///
    /// # Errors
    /// [`BackendError::Learn`].
    pub fn retire(&mut self) -> Result<(), BackendError> {
        Ok(self.learner.retire()?)
    }

    /// One update of the weights.
    ///
    /// # Errors
    /// [`BackendError`]; the weights are as they were.
    pub fn update(
        &mut self,
        sequences: &[Sequence<'_>],
        objective: Objective,
        temperature: f32,
        lr: f64,
    ) -> Result<StepReport, BackendError> {
        let batch = pack(sequences, self.vocab(), temperature)?;
        let report = self.learner.update(&batch, objective, lr)?;
        self.version.0 += 1;
        Ok(report)
    }

    /// How likely these weights find every token of the sequences' actions, in their order, in nats.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn logprobs(&self, sequences: &[Sequence<'_>], temperature: f32) -> Result<Vec<f32>, BackendError> {
        Ok(self.learner.logprobs(&pack(sequences, self.vocab(), temperature)?)?)
    }

    /// The weights as they are: one more with every update.
    #[must_use]
    pub fn version(&self) -> WeightsVersion {
        self.version
    }

    /// Whether the configured sampler is in this binary and knows the configured quantisation.
    ///
    /// # Errors
    /// [`BackendError`] says how to get it, or what there is.
    pub fn check(config: &Config) -> Result<(), BackendError> {
        match config.rollout.backend {
            Backend::Candle => Ok(()),
            Backend::LlamaCpp if cfg!(feature = "llama-cpp") => config.rollout.quant.parse::<Quant>().map(drop),
            Backend::LlamaCpp => Err(OpenError::NotBuilt(WITHOUT_LLAMA_CPP).into()),
        }
    }

    /// An engine that samples these weights in full precision, whatever `rollout.backend` says, with the cache that `rollout` gives it.
    ///
    /// # Errors
    /// [`BackendError::Pack`].
    pub fn exact_engine(&self, rollout: &Rollout, threads: usize) -> Result<InProcess<Sampler>, BackendError> {
        Ok(exact_engine(&self.pack()?, self.version, rollout, threads))
    }

    /// An engine that samples these weights as `rollout` says, on so many threads; 0 takes one per core.
    ///
    /// # Errors
    /// [`BackendError`]: the sampler is not in this binary, or refuses the weights.
    pub fn engine(&self, config: &Config, threads: usize) -> Result<InProcess<Sampler>, BackendError> {
        Self::check(config)?;
        match config.rollout.backend {
            Backend::Candle => self.exact_engine(&config.rollout, threads),
            #[cfg(feature = "llama-cpp")]
            Backend::LlamaCpp => {
                let file = self.files(&config.rollout)?;
                let context = config.limits.context.max(config.eval.limits.context);
                Ok(sampler::open_file(
                    file,
                    self.version,
                    &config.rollout,
                    threads,
                    context,
                    (self.vocab(), self.vocabulary()?.fingerprint().to_owned()),
                )?)
            }
            #[cfg(not(feature = "llama-cpp"))]
            Backend::LlamaCpp => Err(OpenError::NotBuilt(WITHOUT_LLAMA_CPP).into()),
        }
    }

    /// Hands the engine's samplers the current weights.
    ///
    /// # Errors
    /// [`BackendError`]; the samplers keep the weights that they had.
    pub fn publish(&self, engine: &mut InProcess<Sampler>, rollout: &Rollout) -> Result<(), BackendError> {
        let mut packed = None;
        for sampler in engine.policies_mut() {
            match sampler {
                Sampler::Candle(sampler) => {
                    let weights = match &packed {
                        Some(weights) => Arc::clone(weights),
                        None => Arc::clone(packed.insert(self.pack()?)),
                    };
                    sampler.publish(weights, self.version);
                }
                #[cfg(feature = "llama-cpp")]
                Sampler::LlamaCpp(sampler) => {
                    // Megabytes instead of gigabytes: what does not learn stays where it is.
                    let published = if self.is_adapted() {
                        sampler.publish_adapter(self.adapter_file()?, self.version)
                    } else {
                        sampler.publish(self.files(rollout)?, self.version)
                    };
                    published.map_err(|error| BackendError::Publish(error.to_string()))?;
                }
                #[cfg(feature = "openai")]
                Sampler::OpenAi(_) => {
                    let reason = "a server is handed its weights by whoever runs it".to_owned();
                    return Err(BackendError::Publish(reason));
                }
            }
        }
        #[cfg(not(feature = "llama-cpp"))]
        let _ = rollout;
        Ok(())
    }

    /// These weights in a file that is removed once no sampler needs it, with the adapter in one of its own.
    #[cfg(feature = "llama-cpp")]
    fn files(&self, rollout: &Rollout) -> Result<rao_backends::llama_cpp::ModelFile, BackendError> {
        let path = temporary_file()?;
        self.write_gguf(self.learner.model.weights(), rollout.quant.parse()?, &path)?;
        let file = rao_backends::llama_cpp::ModelFile::new(path);
        if self.is_adapted() {
            Ok(file.with_adapter(self.adapter_file()?))
        } else {
            Ok(file)
        }
    }

    #[cfg(feature = "llama-cpp")]
    fn adapter_file(&self) -> Result<rao_backends::llama_cpp::ModelFile, BackendError> {
        let path = temporary_file()?;
        self.export_adapter_gguf(gguf::Quant::F32, &path)?;
        Ok(rao_backends::llama_cpp::ModelFile::new(path))
    }

    fn pack(&self) -> Result<Arc<SamplerWeights>, BackendError> {
        packed(&self.learner.model)
    }
}

fn packed(model: &Qwen3) -> Result<Arc<SamplerWeights>, BackendError> {
    let geometry = Geometry::from(model.config());
    Ok(SamplerWeights::pack_from(&geometry, |name| model.effective(name))?)
}

/// An engine of so many samplers of the same weights; 0 takes one per core.
fn exact_engine(
    weights: &Arc<SamplerWeights>,
    version: WeightsVersion,
    rollout: &Rollout,
    threads: usize,
) -> InProcess<Sampler> {
    let threads = sampler::threads(threads);
    let options = SamplerOptions {
        window: WINDOW,
        cache_bytes: (rollout.cache << 20) / threads,
        ..SamplerOptions::default()
    };
    let samplers = (0..threads).map(|_| {
        let sampler = CandleSampler::new(Arc::clone(weights), version, options);
        Sampler::Candle(Box::new(sampler))
    });
    InProcess::new(samplers.collect()).with_stall(rollout.stall())
}

/// What samplers take of a policy that was saved with all its weights.
#[cfg(feature = "nats")]
pub(crate) fn read_saved(directory: &Path) -> Result<Arc<SamplerWeights>, BackendError> {
    packed(&Qwen3::new(Weights::load(directory, &Device::Cpu)?))
}

/// An engine that samples a policy that was saved with all its weights, in full precision.
///
/// # Errors
/// [`BackendError`].
#[cfg(feature = "nats")]
pub(crate) fn open_saved(
    directory: &Path,
    version: WeightsVersion,
    rollout: &Rollout,
    threads: usize,
) -> Result<InProcess<Sampler>, BackendError> {
    Ok(exact_engine(&read_saved(directory)?, version, rollout, threads))
}

fn values(var: &Var) -> Result<Vec<f32>, BackendError> {
    let read = var.flatten_all().and_then(|flat| flat.to_vec1());
    read.map_err(|error| BackendError::Device(error.to_string()))
}

fn device(name: &str) -> Result<Device, BackendError> {
    match name {
        "cpu" => Ok(Device::Cpu),
        #[cfg(feature = "cuda")]
        "cuda" => Device::new_cuda(0).map_err(|error| BackendError::Device(error.to_string())),
        #[cfg(feature = "metal")]
        "metal" => Device::new_metal(0).map_err(|error| BackendError::Device(error.to_string())),
        name => Err(BackendError::UnknownDevice {
            name: name.to_owned(),
            known: DEVICES,
        }),
    }
}

/// What [`device`] knows in this build.
const DEVICES: &str = match (cfg!(feature = "cuda"), cfg!(feature = "metal")) {
    (false, false) => "\"cpu\"",
    (true, false) => "\"cpu\" or \"cuda\"",
    (false, true) => "\"cpu\" or \"metal\"",
    (true, true) => "\"cpu\", \"cuda\" or \"metal\"",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environments::textcraft::vocabulary::VOCAB;
    use rao_backends::candle::ModelConfig;

    #[test]
    fn the_quickstarts_model_is_the_one_that_the_benches_measure() {
        let trainee = Trainee::new(&Config::default()).unwrap();
        assert_eq!(trainee.learner.model.config(), &ModelConfig::tiny(VOCAB));
    }
}
