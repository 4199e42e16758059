//! The one place that names what learns: everything else trains a [`Trainee`] and samples from its [`Sampler`]s.

use crate::config::{Backend, CONTEXT_MAX, Config, Rao, Rollout};
use crate::environments::textcraft::vocabulary::{self, VOCAB, Word};
use crate::rollout::{InProcess, Transcript};
use crate::sampler::{self, OpenError, WITHOUT_LLAMA_CPP};
use rao_backends::candle::gguf::{self, GgufError, SpecialTokens, TokenKind, Vocabulary, VocabularyError};
use rao_backends::candle::sampler::{Geometry, PackError, Sampler as CandleSampler, SamplerOptions, SamplerWeights};
use rao_backends::candle::{
    Action, AdamWConfig, BatchError, ConfigError, Device, Learner, ModelConfig, PackedBatch, Qwen3, TrainError,
    Weights, WeightsError,
};
use rao_tree::{Mask, Token, WeightsVersion};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

pub use crate::sampler::Sampler;
pub use rao_backends::candle::{Objective, SequenceRatio, StepReport};

/// Longest context of the policies that are trained here.
const WINDOW: usize = CONTEXT_MAX as usize;
/// Keys and values that one sampler keeps, in bytes: 2,000 contexts of 64 tokens of the tiny model. What does not fit is computed again.
const CACHE_BYTES: usize = 128 << 20;

/// The token that no sequence holds; a sequence has no token that begins it either.
const PADDING: Token = Token(0);

/// One node's tokens, and what its actions weigh in the gradient.
#[derive(Clone, Debug)]
pub struct Sequence<'a> {
    /// What it read and said.
    pub transcript: &'a Transcript,
    /// By action, what each of its tokens weighs: the weighted advantage, discounted by turn; 0 counts in the mean and trains nothing. 1
    /// imitates.
    pub weights: Vec<f32>,
}

/// The backend failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The model's shape.
    #[error("model: {0}")]
    Config(#[from] ConfigError),
    /// A device that this binary cannot use.
    #[error(
        "`device` is {name:?}: this binary was built for {known}; features `cuda` and `metal` add the devices of those names"
    )]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// What this binary was built with.
        known: &'static str,
    },
    /// A device that is not there.
    #[error("device: {0}")]
    Device(String),
    /// Weights that cannot be made, read or written.
    #[error("weights: {0}")]
    Weights(#[from] WeightsError),
    /// A GGUF file that cannot be written.
    #[error("GGUF: {0}")]
    Gguf(#[from] GgufError),
    /// A quantisation that there is not.
    #[error("no quantisation {name:?}: there are {}{}", Quant::names().join(", "), if cfg!(feature = "llama-cpp") { "" } else { "; feature `llama-cpp` adds llama.cpp's K-quants" })]
    Quant {
        /// What was asked for.
        name: String,
    },
    /// llama.cpp does not quantise.
    #[cfg(feature = "llama-cpp")]
    #[error(transparent)]
    Quantise(#[from] rao_backends::llama_cpp::QuantiseError),
    /// A temporary file cannot be made.
    #[error("temporary file: {0}")]
    Temporary(#[from] std::io::Error),
    /// The sampler is not in this binary, or refuses the file.
    #[error("sampler: {0}")]
    Open(#[from] OpenError),
    /// The sampler refuses new weights.
    #[error("sampler: {0}")]
    Publish(String),
    /// Token names that make no vocabulary.
    #[error("vocabulary: {0}")]
    Vocabulary(#[from] VocabularyError),
    /// Weights that cannot be sampled from.
    #[error("sampler: {0}")]
    Pack(#[from] PackError),
    /// A batch that cannot be trained on.
    #[error("batch: {0}")]
    Batch(#[from] BatchError),
    /// A sequence that does not say for each of its actions what it weighs.
    #[error("sequence {sequence} has {actions} actions and {weights} weights")]
    Unpaired {
        /// Which sequence of the update.
        sequence: usize,
        /// Its actions.
        actions: usize,
        /// Its weights.
        weights: usize,
    },
    /// An update that failed; the weights are as they were.
    #[error("update: {0}")]
    Learn(#[from] TrainError),
}

/// The policy under training: weights and optimizer on one side, samplers on the other.
pub struct Trainee {
    learner: Learner,
    version: WeightsVersion,
}

impl Trainee {
    /// A policy from scratch, ready for imitation.
    ///
    /// # Errors
    /// [`BackendError::Config`] for a shape that does not fit together.
    pub fn new(config: &Config) -> Result<Self, BackendError> {
        let model = &config.model;
        let shape = ModelConfig {
            hidden_size: model.hidden,
            num_hidden_layers: model.layers,
            num_attention_heads: model.heads,
            num_key_value_heads: model.kv_heads,
            head_dim: model.head_dim,
            intermediate_size: model.ff,
            rope_theta: model.rope_theta,
            max_position_embeddings: WINDOW,
            ..ModelConfig::tiny(VOCAB)
        };
        shape.validate()?;
        Self::around(
            Weights::new(&shape, config.seed, &device(&config.device)?)?,
            &config.rao,
        )
    }

    /// The policy that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`BackendError::Weights`]: it names the file and what is wrong with it.
    pub fn load(directory: &Path, config: &Config) -> Result<Self, BackendError> {
        Self::around(Weights::load(directory, &device(&config.device)?)?, &config.rao)
    }

    /// Writes `config.json` and `model.safetensors`, each whole or not at all.
    ///
    /// # Errors
    /// [`BackendError::Weights`].
    pub fn save(&self, directory: &Path) -> Result<(), BackendError> {
        Ok(self.learner.model.weights().save(directory)?)
    }

    /// Writes a GGUF file with these weights and the names of the tokens, whole or not at all.
    ///
    /// # Errors
    /// [`BackendError::Gguf`]; a file that was there is as it was.
    pub fn export(&self, quant: Quant, path: &Path) -> Result<(), BackendError> {
        let written = |quant, path: &Path| {
            let weights = self.learner.model.weights();
            Ok(gguf::save(weights, &vocabulary()?, quant, self.version, path)?)
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

    /// How many numbers the policy is made of.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.learner.model.config().parameters()
    }

    /// A copy of the policy with a fresh optimizer.
    ///
    /// # Errors
    /// [`BackendError::Weights`].
    pub fn fork(&self, rao: &Rao) -> Result<Self, BackendError> {
        Self::around(self.learner.model.weights().copy()?, rao)
    }

    fn around(weights: Weights, rao: &Rao) -> Result<Self, BackendError> {
        let adamw = AdamWConfig {
            beta1: rao.beta1,
            beta2: rao.beta2,
            weight_decay: rao.weight_decay,
            clip_norm: rao.grad_clip,
            ..AdamWConfig::default()
        };
        Ok(Self {
            learner: Learner::new(Qwen3::new(weights), adamw)?,
            version: WeightsVersion(0),
        })
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
        let batch = pack(sequences, temperature)?;
        let report = self.learner.update(&batch, objective, lr)?;
        self.version.0 += 1;
        Ok(report)
    }

    /// How likely these weights find every token of the sequences' actions, in their order, in nats.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn logprobs(&self, sequences: &[Sequence<'_>], temperature: f32) -> Result<Vec<f32>, BackendError> {
        Ok(self.learner.logprobs(&pack(sequences, temperature)?)?)
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

    /// An engine that samples these weights in full precision, whatever `rollout.backend` says.
    ///
    /// # Errors
    /// [`BackendError::Pack`].
    pub fn exact_engine(&self, threads: usize) -> Result<InProcess<Sampler>, BackendError> {
        let weights = self.pack()?;
        let options = SamplerOptions {
            window: WINDOW,
            cache_bytes: CACHE_BYTES,
            ..SamplerOptions::default()
        };
        let samplers = (0..sampler::threads(threads)).map(|_| {
            let sampler = CandleSampler::new(Arc::clone(&weights), self.version, options);
            Sampler::Candle(Box::new(sampler))
        });
        Ok(InProcess::new(samplers.collect()))
    }

    /// An engine that samples these weights as `rollout` says, on so many threads; 0 takes one per core.
    ///
    /// # Errors
    /// [`BackendError`]: the sampler is not in this binary, or refuses the weights.
    pub fn engine(&self, config: &Config, threads: usize) -> Result<InProcess<Sampler>, BackendError> {
        Self::check(config)?;
        match config.rollout.backend {
            Backend::Candle => self.exact_engine(threads),
            #[cfg(feature = "llama-cpp")]
            Backend::LlamaCpp => {
                let file = self.file(&config.rollout)?;
                let context = config.limits.context.max(config.eval.limits.context);
                Ok(sampler::open_file(
                    file,
                    self.version,
                    &config.rollout,
                    threads,
                    context,
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
                Sampler::LlamaCpp(sampler) => sampler
                    .publish(self.file(rollout)?, self.version)
                    .map_err(|error| BackendError::Publish(error.to_string()))?,
            }
        }
        #[cfg(not(feature = "llama-cpp"))]
        let _ = rollout;
        Ok(())
    }

    /// These weights in a file that is removed once no sampler needs it.
    #[cfg(feature = "llama-cpp")]
    fn file(&self, rollout: &Rollout) -> Result<rao_backends::llama_cpp::ModelFile, BackendError> {
        let path = temporary_file()?;
        self.export(rollout.quant.parse()?, &path)?;
        Ok(rao_backends::llama_cpp::ModelFile::new(path))
    }

    fn pack(&self) -> Result<Arc<SamplerWeights>, BackendError> {
        let weights = self.learner.model.weights();
        let geometry = Geometry::from(weights.config());
        let tensors = weights
            .iter()
            .map(|(name, var)| (name.to_owned(), var.as_tensor().clone()))
            .collect();
        Ok(SamplerWeights::pack(&geometry, &tensors)?)
    }
}

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
fn temporary_file() -> std::io::Result<tempfile::TempPath> {
    let file = tempfile::Builder::new().prefix("rao-").suffix(".gguf").tempfile()?;
    Ok(file.into_temp_path())
}

/// The compact token language as a file names it: tools that generate text stop after `FINISH`.
fn vocabulary() -> Result<Vocabulary, VocabularyError> {
    let tokens = vocabulary::names()
        .zip(0..)
        .map(|(name, id)| match Word::parse(Token(id)) {
            Some(_) => (name, TokenKind::Word),
            None => (name, TokenKind::Unused),
        });
    let special = SpecialTokens {
        bos: PADDING,
        eos: Word::Finish.token(),
        pad: PADDING,
    };
    Vocabulary::new(tokens, special)
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

/// Sequences as the learner takes them: tokens one after the other, one choice per action token.
fn pack(sequences: &[Sequence<'_>], temperature: f32) -> Result<PackedBatch, BackendError> {
    let words = Mask::words(VOCAB);
    let mut batch = PackedBatch::new(words);
    batch.temperature = temperature;
    let mut tokens = Vec::new();
    let mut actions = Vec::new();
    for (sequence, Sequence { transcript, weights }) in sequences.iter().enumerate() {
        if transcript.actions.len() != weights.len() {
            return Err(BackendError::Unpaired {
                sequence,
                actions: transcript.actions.len(),
                weights: weights.len(),
            });
        }
        tokens.clear();
        tokens.extend(transcript.tokens.iter().map(|token| token.0));
        actions.clear();
        let turns = transcript.actions.iter().zip(weights);
        let weights = turns.flat_map(|(span, &weight)| (0..span.len).map(move |_| weight));
        let drawn = transcript
            .action_positions()
            .zip(weights)
            .zip(&transcript.logprobs)
            .zip(transcript.masks.chunks(words));
        actions.extend(drawn.map(|(((position, weight), &logprob), mask)| Action {
            index: position as usize,
            behaviour_logprob: logprob,
            weight,
            mask,
        }));
        batch.push(&tokens, &actions)?;
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickstarts_model_is_the_one_that_the_benches_measure() {
        let trainee = Trainee::new(&Config::default()).unwrap();
        assert_eq!(trainee.learner.model.config(), &ModelConfig::tiny(VOCAB));
    }

    #[test]
    fn the_names_of_the_tokens_make_a_vocabulary() {
        let vocabulary = vocabulary().unwrap();
        assert_eq!(vocabulary.len(), VOCAB);
        assert_eq!(vocabulary.fingerprint(), sampler::fingerprint());
    }

    #[test]
    fn every_token_of_an_action_weighs_what_its_action_does() {
        let span = |start, len| crate::rollout::Span { start, len };
        let transcript = Transcript {
            tokens: [1, 2, 3, 4, 5].map(Token).to_vec(),
            actions: vec![span(1, 1), span(3, 2)],
            logprobs: vec![-0.5; 3],
            masks: vec![u64::MAX; 3 * Mask::words(VOCAB)],
        };
        let packed = |weights: &[f32]| {
            let weights = weights.to_vec();
            let transcript = &transcript;
            pack(&[Sequence { transcript, weights }], 1.0)
        };
        assert_eq!(packed(&[0.25, 0.5]).unwrap().weights, [0.25, 0.5, 0.5]);
        let error = packed(&[0.25]).unwrap_err().to_string();
        assert_eq!(error, "sequence 0 has 2 actions and 1 weights");
    }
}
