//! The main job, on one page: warm start, recursive agent optimization, the flat twin, evaluation.

use super::metrics::Metrics;
use super::optimize::{Arm, Budget, optimize};
use super::{TrainError, warm_start};
use crate::backend::memory::{Memory, peak};
use crate::backend::{BackendError, Trainee};
use crate::config::Config;
use crate::display::Phase;
use crate::environments::{Difficulty, Domain, RootTask};
use crate::evaluate::{Scores, Suite, first_trees, judge};
use crate::record::Recorder;
use crate::rollout::Progress;
use crate::run::{RunDir, Summary};
use std::sync::Arc;
use std::time::Instant;

/// How the main job ended.
#[derive(Debug)]
pub enum Outcome {
    /// To its end.
    Finished(Box<Summary>),
    /// Somebody asked to stop. The policies that were trained so far are in the run directory.
    Interrupted,
}

/// A run that has been checked as far as it can be before there is a run directory.
pub struct Plan<'a, D: Domain> {
    config: &'a Config,
    domain: &'a D,
    base: Trainee,
    memory: Memory,
    tasks: Vec<&'a D::Task>,
}

impl<'a, D: Domain> Plan<'a, D> {
    /// Checks the model's shape, the device, and that there is something to train on.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn new(config: &'a Config, domain: &'a D) -> Result<Self, TrainError> {
        let of = |difficulty| {
            let tasks = domain.train().iter();
            tasks.filter(move |task| task.difficulty() == difficulty)
        };
        let difficulty = config.rao.difficulty;
        for needed in [Difficulty::Easy, difficulty] {
            if of(needed).next().is_none() {
                return Err(TrainError::NoTasks { difficulty: needed });
            }
        }
        Trainee::check(config)?;
        let memory = Memory::predict(config)?;
        memory
            .check(config)
            .map_err(|error| BackendError::Memory(Box::new(error)))?;
        Ok(Self {
            config,
            domain,
            base: Trainee::new(config)?,
            memory,
            tasks: of(difficulty).collect(),
        })
    }
}

/// Trains and evaluates what was planned, and leaves everything in `run`.
///
/// # Errors
/// [`TrainError`]; what had been written by then stays in the run directory.
pub async fn quickstart<D: Domain>(
    plan: Plan<'_, D>,
    run: &RunDir,
    progress: &Arc<Progress>,
) -> Result<Outcome, TrainError> {
    let Plan {
        config,
        domain,
        mut base,
        memory,
        tasks,
    } = plan;
    let started = Instant::now();
    let recorder = Recorder::new(run, config.record.groups);
    let mut metrics = Metrics::create(&run.path().join("metrics.jsonl"))?;

    let phase = Phase::of_steps("warm start", config.warmstart.steps as u64, progress);
    warm_start(&mut base, domain, config, &mut metrics, &phase, progress)?;
    base.save(&run.policy("base"))?;
    base.retire()?;
    if progress.is_stopped() {
        return Ok(Outcome::Interrupted);
    }
    phase.end("cloned the teacher");

    let mut recursive = base.fork(&config.rao)?;
    let phase = Phase::of_steps("RAO", config.rao.steps as u64, progress);
    let arm = Arm {
        name: "recursive",
        depth: config.limits.depth,
        budget: Budget::Steps,
        tasks: tasks.clone(),
        seed: crate::seed::derive(config.seed, &[1]),
        recorder: &recorder,
    };
    let spent = optimize(&mut recursive, domain, arm, config, &mut metrics, &phase, progress).await?;
    phase.end(&format!(
        "{} steps, {} environment tokens, {:.0} s",
        spent.steps, spent.tokens, spent.seconds
    ));
    recursive.save(&run.policy("recursive"))?;
    recursive.retire()?;

    let mut flat = None;
    if config.flat.enabled && !progress.is_stopped() {
        let mut twin = base.fork(&config.rao)?;
        let phase = Phase::of_steps("flat twin", config.rao.steps as u64, progress);
        let arm = Arm {
            name: "flat",
            depth: 0,
            budget: Budget::Tokens(spent.tokens),
            tasks,
            seed: crate::seed::derive(config.seed, &[2]),
            recorder: &recorder,
        };
        let spent = optimize(&mut twin, domain, arm, config, &mut metrics, &phase, progress).await?;
        phase.end(&format!(
            "{} steps, {} environment tokens, {:.0} s",
            spent.steps, spent.tokens, spent.seconds
        ));
        twin.save(&run.policy("flat"))?;
        twin.retire()?;
        flat = Some(twin);
    }
    let train_seconds = started.elapsed().as_secs_f64();
    if progress.is_stopped() {
        return Ok(Outcome::Interrupted);
    }

    let evaluator = Evaluator {
        config,
        domain,
        recorder: &recorder,
        progress,
    };
    let recursive = evaluator
        .scores(&recursive, "recursive", "eval: RAO", config.eval.limits.depth)
        .await?;
    let flat = match flat {
        Some(twin) => Some(evaluator.scores(&twin, "flat", "eval: flat", 0).await?),
        None => None,
    };
    if progress.is_stopped() {
        return Ok(Outcome::Interrupted);
    }
    let total_seconds = started.elapsed().as_secs_f64();
    let summary = Summary {
        environment: config.environment,
        recursive,
        flat,
        train_seconds,
        total_seconds,
        seed: config.seed,
        memory_predicted: memory.total(),
        memory_peak: peak(),
    };
    run.write_summary(&summary)?;
    Ok(Outcome::Finished(Box::new(summary)))
}

/// Evaluates policies of a run.
struct Evaluator<'a, D> {
    config: &'a Config,
    domain: &'a D,
    recorder: &'a Recorder,
    progress: &'a Arc<Progress>,
}

impl<D: Domain> Evaluator<'_, D> {
    /// Scores a policy and keeps a tree of every difficulty.
    async fn scores(&self, policy: &Trainee, arm: &str, name: &'static str, depth: u8) -> Result<Scores, TrainError> {
        let Self {
            config,
            domain,
            recorder,
            progress,
        } = self;
        let mut engine = policy.exact_engine(&config.rollout, config.threads)?.reserved();
        let suite = Suite::of(*domain);
        let seat = (depth, policy.vocab());
        let scores = judge(&mut engine, &suite, config, seat, name, progress, |_| ()).await?;
        if recorder.is_on() && !progress.is_stopped() {
            for (difficulty, tree) in first_trees(&mut engine, &suite, config, seat, progress).await? {
                recorder.tree(&format!("{arm}-eval-{difficulty}"), &tree)?;
            }
        }
        Ok(scores)
    }
}
