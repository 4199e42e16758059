//! The main job, on one page: warm start, recursive agent optimization, the flat twin, evaluation.

use super::TrainError;
use super::checkpoint::{Checkpoints, Cursor, Saved, Session, Stage};
use super::optimize::{Arm, Budget, Spent, optimize};
use super::warmstart::{self, warm_start};
use crate::backend::memory::{Memory, peak};
use crate::backend::{BackendError, Trainee};
use crate::config::Config;
use crate::display::Phase;
use crate::environments::{Difficulty, Domain, RootTask};
use crate::evaluate::{Scores, Suite, first_trees, judge};
use crate::record::Recorder;
use crate::rollout::Progress;
use crate::run::{RunDir, Summary};
use rao_tree::WeightsVersion;
use std::sync::Arc;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How the main job ended.
#[derive(Debug)]
pub enum Outcome {
    /// To its end.
    Finished(Box<Summary>),
    /// Somebody asked to stop. What was trained so far is in the run directory, and goes on from there.
    Interrupted,
}

/// A run that has been checked as far as it can be before there is a run directory.
pub struct Plan<'a, D: Domain> {
    config: &'a Config,
    domain: &'a D,
    /// None where there may be a checkpoint to begin with.
    base: Option<Trainee>,
    memory: Memory,
    tasks: Vec<&'a D::Task>,
}

impl<'a, D: Domain> Plan<'a, D> {
    /// Checks the model's shape, the device, and that there is something to train on.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn new(config: &'a Config, domain: &'a D) -> Result<Self, TrainError> {
        let plan = Self::to_resume(config, domain)?;
        let base = Some(Trainee::new(config)?);
        Ok(Self { base, ..plan })
    }

    /// The same for a run that was begun: its policy is in its directory.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn to_resume(config: &'a Config, domain: &'a D) -> Result<Self, TrainError> {
        Self::check(config, domain)?;
        let memory = Memory::predict(config)?;
        memory
            .check(config)
            .map_err(|error| BackendError::Memory(Box::new(error)))?;
        Ok(Self {
            config,
            domain,
            base: None,
            memory,
            tasks: of(domain, config.rao.difficulty).collect(),
        })
    }

    /// Checks what takes no memory: that there is something to train on, and that this binary samples as it should.
    ///
    /// # Errors
    /// [`TrainError::NoTasks`], [`TrainError::Backend`].
    pub fn check(config: &Config, domain: &D) -> Result<(), TrainError> {
        for difficulty in [Difficulty::Easy, config.rao.difficulty] {
            if of(domain, difficulty).next().is_none() {
                return Err(TrainError::NoTasks { difficulty });
            }
        }
        Ok(super::rollouts::check(config)?)
    }
}

/// Whether what the run needs of other machines can be reached now: a server of workers, with `rollout.engine=nats`.
///
/// # Errors
/// [`TrainError`].
pub async fn reach(config: &Config) -> Result<(), TrainError> {
    #[cfg(feature = "nats")]
    if config.rollout.engine == crate::config::Engine::Nats {
        crate::nats::Link::connect(&config.nats).await?;
    }
    let _ = config;
    Ok(())
}

/// Tasks to train on.
fn of<D: Domain>(domain: &D, difficulty: Difficulty) -> impl Iterator<Item = &D::Task> {
    let tasks = domain.train().iter();
    tasks.filter(move |task| task.difficulty() == difficulty)
}

/// Trains and evaluates what was planned, and leaves everything in `run`; goes on from its newest checkpoint where there is one.
///
/// # Errors
/// [`TrainError`]; what had been written by then stays in the run directory, and the checkpoints are whole.
pub async fn quickstart<D: Domain>(
    plan: Plan<'_, D>,
    run: &RunDir,
    progress: &Arc<Progress>,
) -> Result<Outcome, TrainError> {
    let Plan {
        config,
        domain,
        base,
        memory,
        tasks,
    } = plan;
    let checkpoints = Checkpoints::new(run, &config.checkpoint)?;
    let saved = checkpoints.newest()?;
    if let Some(saved) = saved.as_ref().filter(|saved| saved.by != VERSION) {
        eprintln!(
            "rao: warning: {} was written by rao {}: what follows may differ in the last bits",
            saved.path.display(),
            saved.by
        );
    }
    let mut training = Training {
        config,
        domain,
        run,
        tasks,
        session: Session::open(run, config, checkpoints, saved.as_ref().map(|saved| &saved.state))?,
        recorder: Recorder::new(run, config.record.groups),
        progress,
    };
    let stage = saved
        .as_ref()
        .map_or(Stage::Warmstart, |saved| saved.state.cursor.stage);

    let base = if stage == Stage::Warmstart {
        training.warm_start(base, saved.as_ref())?
    } else {
        Some(Trainee::reopen(&run.policy(Stage::Warmstart.policy()), config)?)
    };
    let Some(base) = base else {
        return Ok(Outcome::Interrupted);
    };
    let Some(recursive) = training.arm(&base, Stage::Recursive, saved.as_ref()).await? else {
        return Ok(Outcome::Interrupted);
    };
    let mut flat = None;
    if config.flat.enabled {
        flat = training.arm(&base, Stage::Flat, saved.as_ref()).await?;
        if flat.is_none() {
            return Ok(Outcome::Interrupted);
        }
    }
    let train_seconds = match &saved {
        Some(saved) if stage == Stage::Evaluation => saved.state.seconds,
        _ => training.session.seconds(),
    };

    let depth = config.eval.limits.depth;
    let recursive = training
        .scores(&recursive, Stage::Recursive, "eval: RAO", depth)
        .await?;
    let flat = match flat {
        Some(twin) => Some(training.scores(&twin, Stage::Flat, "eval: flat", 0).await?),
        None => None,
    };
    if progress.is_stopped() {
        return Ok(Outcome::Interrupted);
    }
    let summary = Summary {
        environment: config.environment,
        recursive,
        flat,
        train_seconds,
        total_seconds: training.session.seconds(),
        seed: config.seed,
        memory_predicted: memory.total(),
        memory_peak: peak(),
    };
    run.write_summary(&summary)?;
    Ok(Outcome::Finished(Box::new(summary)))
}

/// A run under way.
struct Training<'a, D: Domain> {
    config: &'a Config,
    domain: &'a D,
    run: &'a RunDir,
    tasks: Vec<&'a D::Task>,
    session: Session,
    recorder: Recorder,
    progress: &'a Arc<Progress>,
}

impl<D: Domain> Training<'_, D> {
    /// The policy after the warm start; `None` if somebody asked to stop.
    fn warm_start(&mut self, base: Option<Trainee>, saved: Option<&Saved>) -> Result<Option<Trainee>, TrainError> {
        let config = self.config;
        let (mut base, cursor) = match (saved, base) {
            (Some(saved), _) => {
                let mut base = Trainee::reopen(&saved.path, config)?;
                base.resume(&saved.path, WeightsVersion(saved.state.weights))?;
                (base, saved.state.cursor.clone())
            }
            (None, Some(base)) => (base, warmstart::begin(config)),
            (None, None) => (Trainee::new(config)?, warmstart::begin(config)),
        };
        let phase = Phase::of_steps("warm start", config.warmstart.steps as u64, self.progress);
        let write = (&mut self.session, &phase);
        let Some(spent) = warm_start(&mut base, self.domain, cursor, config, write, self.progress)? else {
            return Ok(None);
        };
        phase.end("cloned the teacher");
        self.end(Stage::Warmstart, spent, &mut base)?;
        Ok(Some(base))
    }

    /// The policy that an arm ends with; `None` if somebody asked to stop.
    async fn arm(
        &mut self,
        base: &Trainee,
        stage: Stage,
        saved: Option<&Saved>,
    ) -> Result<Option<Trainee>, TrainError> {
        let (config, progress) = (self.config, self.progress);
        let saved = saved.filter(|saved| saved.state.cursor.stage >= stage);
        if saved.is_some_and(|saved| saved.state.cursor.stage > stage) {
            return Ok(Some(base.fork_from(&self.run.policy(stage.policy()), config)?));
        }
        let (name, number, depth, budget) = match stage {
            Stage::Flat => {
                let tokens = self.session.recursive().map_or(0, |spent| spent.tokens);
                ("flat twin", crate::seed::FLAT, 0, Budget::Tokens(tokens))
            }
            _ => ("RAO", crate::seed::RECURSIVE, config.limits.depth, Budget::Steps),
        };
        let seed = crate::seed::derive(config.seed, &[number]);
        let (mut trainee, cursor) = match saved {
            Some(saved) if saved.state.cursor.spent.steps > 0 => {
                let mut trainee = base.fork_from(&saved.path, config)?;
                trainee.resume(&saved.path, WeightsVersion(saved.state.weights))?;
                (trainee, saved.state.cursor.clone())
            }
            _ => (base.fork(&config.rao)?, Arm::<D::Task>::begin(stage, seed)),
        };
        let phase = Phase::of_steps(name, config.rao.steps as u64, progress);
        let arm = Arm {
            stage,
            depth,
            budget,
            tasks: self.tasks.clone(),
            seed,
            recorder: &self.recorder,
        };
        let write = (&mut self.session, &phase);
        let Some(spent) = optimize(&mut trainee, self.domain, arm, cursor, config, write, progress).await? else {
            return Ok(None);
        };
        phase.end(&format!(
            "{} steps, {} environment tokens, {:.0} s",
            spent.steps, spent.tokens, spent.seconds
        ));
        self.end(stage, spent, &mut trainee)?;
        Ok(Some(trainee))
    }

    /// A stage has ended: keeps its policy, and says where the next one begins.
    fn end(&mut self, stage: Stage, spent: Spent, trainee: &mut Trainee) -> Result<(), TrainError> {
        trainee.save(&self.run.policy(stage.policy()))?;
        trainee.retire()?;
        self.session.finish(stage, spent);
        let next = match stage {
            Stage::Warmstart => Stage::Recursive,
            Stage::Recursive if self.config.flat.enabled => Stage::Flat,
            _ => Stage::Evaluation,
        };
        // The seed is the next stage's own affair, which begins anew.
        self.session.save(&Cursor::new(next, 0), None)
    }

    /// Scores a policy and keeps a tree of every difficulty.
    async fn scores(&self, policy: &Trainee, arm: Stage, name: &'static str, depth: u8) -> Result<Scores, TrainError> {
        let Self {
            config,
            domain,
            recorder,
            progress,
            ..
        } = self;
        let mut engine = policy.exact_engine(&config.rollout, config.threads)?.reserved();
        let suite = Suite::of(*domain);
        let seat = (depth, policy.vocab());
        let scores = judge(&mut engine, &suite, config, seat, name, progress, |_| ()).await?;
        if recorder.is_on() && !progress.is_stopped() {
            for (difficulty, tree) in first_trees(&mut engine, &suite, config, seat, progress).await? {
                recorder.tree(&format!("{}-eval-{difficulty}", arm.name()), &tree)?;
            }
        }
        Ok(scores)
    }
}
