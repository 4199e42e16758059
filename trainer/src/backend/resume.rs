//! What a training that is interrupted leaves, and goes on from.

use super::checkpoint::{Start, origin};
use super::{BackendError, Trainee, device};
use crate::config::Config;
use rao_backends::candle::{Adapter, Weights};
use rao_tree::WeightsVersion;
use std::path::Path;

/// Moments and steps of the optimizer.
const OPTIMIZER: &str = "optimizer.safetensors";

impl Trainee {
    /// Writes what [`resume`](Self::resume) needs: the policy as [`save`](Self::save) does, and `optimizer.safetensors` beside it.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn save_training(&self, directory: &Path) -> Result<(), BackendError> {
        self.save(directory)?;
        Ok(self.learner.optim.save(&directory.join(OPTIMIZER))?)
    }

    /// The policy of a run that was interrupted, as if it had never left memory: what lies beside the checkpoint that the run began with still goes
    /// where it goes.
    ///
    /// # Errors
    /// [`BackendError`]: it names the file and what is wrong with it.
    pub fn reopen(directory: &Path, config: &Config) -> Result<Self, BackendError> {
        let start = Start::load(directory, config, &device(&config.device)?)?;
        let origin = origin(config);
        Self::around(Start { origin, ..start }, config)
    }

    /// As [`fork`](Self::fork), with the numbers that lie in `directory` instead of these.
    ///
    /// # Errors
    /// [`BackendError`]: it names the file and what is wrong with it.
    pub fn fork_from(&self, directory: &Path, config: &Config) -> Result<Self, BackendError> {
        let device = device(&config.device)?;
        let model = &self.learner.model;
        let (weights, adapter) = if self.is_adapted() {
            let weights = model.weights().share();
            let adapter = Adapter::load(directory, weights.config(), &device)?;
            (weights, Some(adapter))
        } else {
            (Weights::load(directory, &device)?, None)
        };
        let start = Start {
            weights,
            adapter,
            origin: self.origin.clone(),
        };
        Self::assemble(start, &config.rao, self.options.clone(), self.language)
    }

    /// Goes on with the optimizer that [`save_training`](Self::save_training) wrote beside these weights, of that version.
    ///
    /// # Errors
    /// [`BackendError::Weights`] names the file and what is wrong with it.
    pub fn resume(&mut self, directory: &Path, version: WeightsVersion) -> Result<(), BackendError> {
        self.learner.optim.load(&directory.join(OPTIMIZER))?;
        self.version = version;
        Ok(())
    }
}
