//! `rao rollout` and `rao trace`.

use anyhow::{Context, anyhow};
use rao_trainer::backend::Trainee;
use rao_trainer::config::Config;
use rao_trainer::environments::textcraft::Task;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::rollout::{Job, Progress, RolloutEngine, Settings};
use rao_trainer::run::RunDir;
use rao_trainer::{environments, evaluate, seed, trace};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Which policy of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arm {
    /// The one trained by recursive agent optimization.
    Recursive,
    /// Its flat twin, which cannot spawn.
    Flat,
    /// The one after the warm start, which may spawn.
    Base,
}

impl Arm {
    /// Its name, in the run directory and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recursive => "recursive",
            Self::Flat => "flat",
            Self::Base => "base",
        }
    }

    /// Deepest node of its trees.
    pub fn depth(self, config: &Config) -> u8 {
        if self == Self::Flat { 0 } else { config.eval.limits.depth }
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao rollout --policy runs/train-001 --task textcraft_synth.val.1
  rao rollout --policy runs/train-001 --task medium --temperature 1 --seed 5
  rao rollout --policy runs/train-001 --task hard --trace hard.rao && rao trace hard.rao")]
pub struct Args {
    /// Run directory of `rao train`.
    #[arg(long, value_name = "RUN")]
    policy: PathBuf,
    /// Which of its policies.
    #[arg(long, value_enum, default_value_t = Arm::Recursive)]
    arm: Arm,
    /// Identifier of a task, or a difficulty: its first held-out task.
    #[arg(long, value_name = "ID")]
    task: String,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Seed of the rollout.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the event log to this file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Nodes to print.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Another configuration key for this rollout, for example eval.limits.depth=6; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Arguments of `rao trace`.
#[derive(clap::Args)]
pub struct TraceArgs {
    /// An event log.
    file: PathBuf,
    /// Nodes to print.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
}

/// A policy of a run, with the run's configuration as changed by `settings`.
pub fn load(path: &Path, arm: Arm, settings: &[String]) -> anyhow::Result<(Trainee, Config)> {
    let run = RunDir::open(path)?;
    let config = Config::resolve(Some(&path.join("config.toml")), settings)?;
    let policy = Trainee::load(&run.policy(arm.name()), &config.rao)
        .with_context(|| format!("cannot load the {} policy of {}", arm.name(), path.display()))?;
    Ok((policy, config))
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return Err(anyhow!("--temperature takes a finite number of at least 0"));
    }
    let (policy, config) = load(&args.policy, args.arm, &args.settings)?;
    let benchmark = environments::benchmark(&config.world)?;
    let task = find(&benchmark.val, &benchmark.train, &args.task)?;
    let depth = args.arm.depth(&config);
    let options = AgentOptions { depth_max: depth, slots: config.agent.slots, shuffle_slots: false };
    let seed = seed::derive(args.seed, &[4]);
    let job = Job {
        root: Agent::root(&benchmark.world, task, options, seed),
        task: task.id.clone(),
        seed,
        limits: config.eval.limits.at_depth(depth),
    };
    let settings = Settings { keep_log: true, ..evaluate::settings(&config.eval, args.temperature, progress) };
    let mut engine = policy.engine(1)?;
    let rollouts = engine.rollout(vec![job], &settings).await?;
    let Some(rollout) = rollouts.first() else { return Ok(ExitCode::from(130)) };
    if let Some(path) = &args.trace {
        std::fs::write(path, &rollout.log).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}: {} task", task.id, task.difficulty);
    print!("{}", trace::render(&rollout.log, args.nodes)?);
    println!("{:.3} s", rollout.seconds);
    Ok(ExitCode::SUCCESS)
}

pub fn trace(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let log = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    print!("{}", trace::render(&log, args.nodes).with_context(|| args.file.display().to_string())?);
    Ok(ExitCode::SUCCESS)
}

fn find<'a>(val: &'a [Task], train: &'a [Task], name: &str) -> anyhow::Result<&'a Task> {
    let by_id = val.iter().chain(train).find(|task| task.id == name);
    let by_difficulty = || val.iter().find(|task| task.difficulty.name() == name);
    by_id.or_else(by_difficulty).ok_or_else(|| {
        let example = val.first().map_or("", |task| task.id.as_str());
        anyhow!("no task {name:?}: --task takes an identifier such as {example}, or easy, medium, hard or extreme")
    })
}
