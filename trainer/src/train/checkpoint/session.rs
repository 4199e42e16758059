//! What a run writes while it trains.

use super::{Checkpoints, Cursor, Stage, State};
use crate::backend::Trainee;
use crate::config::Config;
use crate::run::RunDir;
use crate::train::TrainError;
use crate::train::metrics::Metrics;
use crate::train::optimize::Spent;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// The metrics and checkpoints of a run that is under way.
pub struct Session {
    metrics: Metrics,
    checkpoints: Checkpoints,
    every: usize,
    started: Instant,
    /// Wall clock of earlier attempts, in seconds.
    before: f64,
    recursive: Option<Spent>,
    finished: Vec<Stage>,
    /// Root successes since the last checkpoint: their sum and number.
    successes: (f64, usize),
}

impl Session {
    /// Goes on from `state`, or begins where there is none: what was written later is taken away.
    ///
    /// # Errors
    /// [`TrainError::Metrics`].
    pub fn open(
        run: &RunDir,
        config: &Config,
        checkpoints: Checkpoints,
        state: Option<&State>,
    ) -> Result<Self, TrainError> {
        let none = BTreeMap::new();
        let (length, events) = state.map_or((0, &none), |state| (state.metrics, &state.events));
        Ok(Self {
            metrics: Metrics::open(&run.path().join("metrics.jsonl"), length, events)?,
            checkpoints,
            every: config.checkpoint.every,
            started: Instant::now(),
            before: state.map_or(0.0, |state| state.seconds),
            recursive: state.and_then(|state| state.recursive),
            finished: state.map_or_else(Vec::new, |state| state.finished.clone()),
            successes: (0.0, 0),
        })
    }

    /// Wall clock of the run, of all attempts, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// Writes the metrics of a step.
    ///
    /// # Errors
    /// [`TrainError::Metrics`].
    pub fn write(&mut self, step: &impl Serialize) -> Result<(), TrainError> {
        Ok(self.metrics.write(step)?)
    }

    /// Takes in the root success of a step: the best checkpoint of an arm is the one after the highest mean.
    pub fn score(&mut self, root_success: f64) {
        self.successes.0 += root_success;
        self.successes.1 += 1;
    }

    /// A step was taken: writes a checkpoint if one is due, or if the run is about to stop.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`], [`TrainError::Metrics`].
    pub fn stepped(&mut self, cursor: &Cursor, trainee: &Trainee, stops: bool) -> Result<(), TrainError> {
        let due = self.every > 0 && cursor.spent.steps.is_multiple_of(self.every);
        if due || stops {
            self.save(cursor, Some(trainee))?;
        }
        Ok(())
    }

    /// A stage has ended, and its policy is in the run directory.
    pub fn finish(&mut self, stage: Stage, spent: Spent) {
        if stage == Stage::Recursive {
            self.recursive = Some(spent);
        }
        self.finished.push(stage);
    }

    /// What the recursive arm came to, once it has ended.
    #[must_use]
    pub fn recursive(&self) -> Option<Spent> {
        self.recursive
    }

    /// Writes a checkpoint. A stage that has not begun needs no policy: it begins with one that is finished.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`], [`TrainError::Metrics`].
    pub fn save(&mut self, cursor: &Cursor, trainee: Option<&Trainee>) -> Result<(), TrainError> {
        let (metrics, events) = self.metrics.sync()?;
        let state = State {
            cursor: cursor.clone(),
            weights: trainee.map_or(0, |trainee| trainee.version().0),
            recursive: self.recursive,
            finished: self.finished.clone(),
            seconds: self.seconds(),
            metrics,
            events,
        };
        let (sum, count) = std::mem::take(&mut self.successes);
        let score = (count > 0).then(|| sum / count as f64);
        Ok(self.checkpoints.write(&state, trainee, score)?)
    }
}
