//! The one place that names where trees of training are rolled out.

use super::TrainError;
use crate::backend::{BackendError, Trainee};
use crate::config::{Config, Engine};
use crate::rollout::{InProcess, Job, Rollout, RolloutEngine, Settings};
use crate::sampler::{OpenError, Sampler};
use rao_tree::Environment;

/// What a binary without NATS says.
const WITHOUT_NATS: &str =
    "built without `nats`, which rolls out on other machines: cargo build --release --features nats";

/// Rolls out the trees of training.
pub(super) enum Rollouts {
    /// In this process.
    Here(InProcess<Sampler>),
    /// By workers elsewhere.
    #[cfg(feature = "nats")]
    Elsewhere(Box<crate::nats::Distributed>),
}

/// Whether this binary rolls out as it is configured to.
///
/// # Errors
/// [`BackendError`] says how to get one that does.
pub(super) fn check(config: &Config) -> Result<(), BackendError> {
    match config.rollout.engine {
        Engine::InProcess => Trainee::check(config),
        Engine::Nats if cfg!(feature = "nats") => config.rollout.quant.parse::<crate::backend::Quant>().map(drop),
        Engine::Nats => Err(OpenError::NotBuilt(WITHOUT_NATS).into()),
    }
}

impl Rollouts {
    /// As the configuration says, with the policy's weights.
    pub async fn open(trainee: &Trainee, config: &Config) -> Result<Self, TrainError> {
        check(config)?;
        match config.rollout.engine {
            Engine::InProcess => Ok(Self::Here(trainee.engine(config, config.threads)?.reserved())),
            #[cfg(feature = "nats")]
            Engine::Nats => {
                let engine = crate::nats::Distributed::open(trainee, config).await?;
                Ok(Self::Elsewhere(Box::new(engine)))
            }
            #[cfg(not(feature = "nats"))]
            Engine::Nats => Err(BackendError::from(OpenError::NotBuilt(WITHOUT_NATS)).into()),
        }
    }

    /// See [`RolloutEngine::rollout`].
    pub async fn rollout<E: Environment + Send + 'static>(
        &mut self,
        jobs: Vec<Job<E>>,
        settings: &Settings,
    ) -> Result<Vec<Rollout>, TrainError> {
        Ok(match self {
            Self::Here(engine) => engine.rollout(jobs, settings).await?,
            #[cfg(feature = "nats")]
            Self::Elsewhere(engine) => engine.rollout(jobs, settings).await?,
        })
    }

    /// Samples from the policy as it is now.
    pub async fn publish(&mut self, trainee: &Trainee, config: &Config) -> Result<(), TrainError> {
        match self {
            Self::Here(engine) => trainee.publish(engine, &config.rollout)?,
            #[cfg(feature = "nats")]
            Self::Elsewhere(engine) => engine.publish(trainee).await?,
        }
        Ok(())
    }

    /// What happened to samplers of this process.
    pub fn incidents(&mut self) -> Vec<String> {
        match self {
            Self::Here(engine) => engine.policies_mut().filter_map(|sampler| sampler.incident()).collect(),
            #[cfg(feature = "nats")]
            Self::Elsewhere(_) => Vec::new(),
        }
    }

    /// What happened on the way to other machines, since it was asked last.
    pub fn take_notices(&mut self) -> Vec<String> {
        match self {
            Self::Here(_) => Vec::new(),
            #[cfg(feature = "nats")]
            Self::Elsewhere(engine) => engine.take_notices(),
        }
    }
}
