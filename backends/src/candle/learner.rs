//! [`Learner`]: a model and its optimiser, and the step that moves one by the other.

use super::batch::PackedBatch;
use super::loss::{Objective, StepReport};
use super::model::{Qwen3, TrainError};
use super::optim::{AdamW, AdamWConfig};

/// A model that learns.
#[derive(Debug)]
pub struct Learner {
    /// What is trained.
    pub model: Qwen3,
    /// What moves it.
    pub optim: AdamW,
}

impl Learner {
    /// A learner at its first step.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a constant outside its range, or the device is out of memory.
    pub fn new(model: Qwen3, config: AdamWConfig) -> Result<Self, TrainError> {
        let optim = AdamW::new(model.trained(), config)?;
        Ok(Self { model, optim })
    }

    /// Gives back what only updates need: moments and intermediates. The optimiser begins anew if there is another update.
    ///
    /// # Errors
    /// The device failed.
    pub fn retire(&mut self) -> Result<(), TrainError> {
        self.model.release();
        self.optim = AdamW::new(self.model.trained(), self.optim.config())?;
        Ok(())
    }

    /// One step of the objective on the whole batch: gradients of its parts are summed in the order of the batch, whatever thread
    /// finishes first, and divided by the number of all its actions.
    ///
    /// A batch in which every weight is 0 has no gradient; the optimiser still steps, on momentum and decay.
    ///
    /// # Errors
    /// [`TrainError`], with [`TrainError::Setting`] for an objective or learning rate outside its range; the weights are as before.
    pub fn update(&mut self, batch: &PackedBatch, objective: Objective, lr: f64) -> Result<StepReport, TrainError> {
        objective.validate()?;
        let holds = lr.is_finite() && lr >= 0.0;
        TrainError::check(holds, "the learning rate", "finite and not below 0", lr)?;
        let (tally, gradients) = self.model.gradients(batch, objective)?;
        let norm = self.optim.step(self.model.trained().1, &gradients, lr)?;
        self.model.recycle(gradients);
        Ok(tally.report(norm, batch.actions.len()))
    }

    /// Log-probabilities of all actions of the batch under the present weights.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn logprobs(&self, batch: &PackedBatch) -> Result<Vec<f32>, TrainError> {
        self.model.logprobs(batch)
    }
}
