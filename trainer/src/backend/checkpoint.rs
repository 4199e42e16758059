//! Where a policy begins: fresh weights, or a Hugging Face checkpoint; and what its tokens are called.

use super::{BackendError, WINDOW};
use crate::config::{Config, Dtype, Lora};
use crate::environments::{EnvironmentName, Language};
use rao_backends::candle::gguf::{SpecialTokens, TokenKind, Vocabulary};
use rao_backends::candle::{Adapter, AdapterError, DType, Device, LoraConfig, ModelConfig, Target, Weights};
use rao_backends::text::Tokenizer;
use rao_tree::Token;
use std::path::{Path, PathBuf};

/// The token that no sequence holds; a sequence has no token that begins it either.
const PADDING: Token = Token(0);

/// A checkpoint that reads well, and that the environments cannot speak to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The embedding has too few rows.
    #[error(
        "{path}: the model has {found} tokens, and the compact token language of {} takes {}: make the embedding larger",
        .environment.name(), .environment.language().vocab
    )]
    Tokens {
        /// The directory.
        path: PathBuf,
        /// Rows of the embedding.
        found: usize,
        /// Whose language.
        environment: EnvironmentName,
    },
    /// The tokenizer calls a token by another name.
    #[error(
        "{path}: token {token} is {found:?}, where the compact token language of {} has {expected:?}: train a checkpoint whose first {} tokens are that language, or one without tokenizer.json, whose tokens mean nothing yet",
        .environment.name(), .environment.language().vocab
    )]
    Language {
        /// The tokenizer's file.
        path: PathBuf,
        /// The token.
        token: u32,
        /// What the tokenizer calls it.
        found: String,
        /// What the environment calls it.
        expected: String,
        /// Whose language.
        environment: EnvironmentName,
    },
    /// Agents have more context than the model has positions.
    #[error("{path}: the model reaches {found} positions, and `{key}` asks for {needed}: set it to {found} or less")]
    Positions {
        /// The directory.
        path: PathBuf,
        /// Positions of the model.
        found: usize,
        /// The longest context that is configured.
        needed: u32,
        /// The key that asks for it.
        key: &'static str,
    },
}

/// What a policy starts from.
pub(super) struct Start {
    pub(super) weights: Weights,
    pub(super) adapter: Option<Adapter>,
    /// The checkpoint, where there is one.
    pub(super) origin: Option<PathBuf>,
}

impl Start {
    /// What the configuration says: `model.path`, or fresh weights of its shape; with a fresh adapter if `lora.rank` says so.
    pub(super) fn new(config: &Config, device: &Device) -> Result<Self, BackendError> {
        let origin = origin(config);
        let weights = match &origin {
            None => Weights::new(&shape(config)?, config.seed, device)?,
            Some(path) => {
                let weights = open(path, config.dtype, device)?;
                check(path, &weights, config)?;
                weights
            }
        };
        let adapter = match lora(&config.lora)? {
            Some(lora) => Some(Adapter::new(weights.config(), lora, config.seed, device)?),
            None => None,
        };
        Ok(Self {
            weights,
            adapter,
            origin,
        })
    }

    /// A policy that was saved: all of its weights, or an adapter and the name of the checkpoint below it.
    pub(super) fn load(directory: &Path, config: &Config, device: &Device) -> Result<Self, BackendError> {
        if !Adapter::is_in(directory) {
            let weights = Weights::load(directory, device)?;
            return Ok(Self {
                weights,
                adapter: None,
                origin: Some(absolute(directory)),
            });
        }
        let named = LoraConfig::base(directory)?;
        // The checkpoint may have moved since: then the configuration can say where.
        let path = if Path::new(&named).is_dir() || config.model.path.is_empty() {
            PathBuf::from(named)
        } else {
            absolute(Path::new(&config.model.path))
        };
        let weights = open(&path, config.dtype, device)?;
        let adapter = Adapter::load(directory, weights.config(), device)?;
        Ok(Self {
            weights,
            adapter: Some(adapter),
            origin: Some(path),
        })
    }
}

/// The checkpoint that the configuration names, if it does.
pub(super) fn origin(config: &Config) -> Option<PathBuf> {
    let path = &config.model.path;
    (!path.is_empty()).then(|| absolute(Path::new(path)))
}

/// The shape that the configuration gives.
pub(super) fn shape(config: &Config) -> Result<ModelConfig, BackendError> {
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
        ..ModelConfig::tiny(config.environment.language().vocab)
    };
    shape.validate()?;
    Ok(shape)
}

/// What is adapted, if anything is.
pub(super) fn lora(lora: &Lora) -> Result<Option<LoraConfig>, AdapterError> {
    if lora.rank == 0 {
        return Ok(None);
    }
    let targets: Result<Vec<Target>, _> = lora.targets.iter().map(|name| name.parse()).collect();
    let mut targets = targets?;
    targets.sort_unstable();
    targets.dedup();
    let whole = LoraConfig::new(lora.rank);
    let alpha = if lora.alpha > 0.0 { lora.alpha } else { whole.alpha };
    Ok(Some(LoraConfig {
        alpha,
        targets,
        ..whole
    }))
}

/// How a matrix is kept.
pub(super) fn kept(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::Bf16 => DType::BF16,
        Dtype::F16 => DType::F16,
    }
}

fn open(path: &Path, dtype: Dtype, device: &Device) -> Result<Weights, BackendError> {
    Ok(Weights::load_as(path, kept(dtype), device)?)
}

/// Refuses a checkpoint that the environments cannot speak to.
fn check(path: &Path, weights: &Weights, config: &Config) -> Result<(), BackendError> {
    let shape = weights.config();
    let path = || path.to_owned();
    let environment = config.environment;
    let language = environment.language();
    if shape.vocab_size < language.vocab {
        return Err(CheckpointError::Tokens {
            path: path(),
            found: shape.vocab_size,
            environment,
        }
        .into());
    }
    for (key, context) in [
        ("limits.context", config.limits.context),
        ("eval.limits.context", config.eval.limits.context),
    ] {
        if context as usize > shape.max_position_embeddings {
            return Err(CheckpointError::Positions {
                path: path(),
                found: shape.max_position_embeddings,
                needed: context,
                key,
            }
            .into());
        }
    }
    let Some(tokenizer) = tokenizer(&path())? else {
        return Ok(());
    };
    tokenizer.check_fits(shape.vocab_size)?;
    for token in 0..language.vocab as u32 {
        // A row that means nothing may be called anything.
        let Some(expected) = (language.word)(Token(token)) else {
            continue;
        };
        let found = tokenizer.token(Token(token)).unwrap_or_default();
        if found != expected {
            return Err(CheckpointError::Language {
                path: tokenizer.path().to_owned(),
                token,
                found,
                expected,
                environment,
            }
            .into());
        }
    }
    Ok(())
}

/// The tokenizer beside a checkpoint, if it has one.
pub(super) fn tokenizer(directory: &Path) -> Result<Option<Tokenizer>, BackendError> {
    if directory.join("tokenizer.json").is_file() {
        Ok(Some(Tokenizer::load(directory)?))
    } else {
        Ok(None)
    }
}

/// What a file calls the tokens of a model of so many: the compact token language, and rows without a meaning. Tools that generate text
/// stop after the language's last word.
pub(super) fn words(language: Language, vocab: usize) -> Result<Vocabulary, BackendError> {
    let tokens = language.names(vocab).zip(0..).map(|(name, id)| {
        let kind = match (language.word)(Token(id)) {
            Some(_) => TokenKind::Word,
            None => TokenKind::Unused,
        };
        (name, kind)
    });
    let special = SpecialTokens {
        bos: PADDING,
        eos: language.stop,
        pad: PADDING,
    };
    Ok(Vocabulary::new(tokens, special)?)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_tokens_make_a_vocabulary() {
        for language in EnvironmentName::ALL.map(EnvironmentName::language) {
            for vocab in [language.vocab, language.vocab + 87] {
                let vocabulary = words(language, vocab).unwrap();
                assert_eq!(vocabulary.len(), vocab);
                assert_eq!(vocabulary.fingerprint(), language.fingerprint(vocab));
            }
        }
    }
}
