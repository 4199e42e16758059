//! `rao rollout`.

use super::policy::PolicyArgs;
use anyhow::anyhow;
use rao_trainer::environments::textcraft::Task;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::rollout::{Job, Progress, RolloutEngine, Settings};
use rao_trainer::run::write_whole;
use rao_trainer::trace::Trace;
use rao_trainer::{environments, evaluate, seed};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao rollout --policy runs/train-001 --task textcraft_synth.val.1
  rao rollout --policy runs/train-001 --task medium --temperature 1 --seed 5
  rao rollout --policy runs/train-001 --task hard --trace hard.rao && rao trace hard.rao")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
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
    /// Print figures as JSON instead of the tree.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return Err(anyhow!("--temperature takes a finite number of at least 0"));
    }
    let (mut engine, config) = args.policy.open(Some(1))?;
    let benchmark = environments::benchmark(&config.world)?;
    let task = find(&benchmark.val, &benchmark.train, &args.task)?;
    let depth = args.policy.arm.depth(&config);
    let options = AgentOptions {
        depth_max: depth,
        slots: config.agent.slots,
        shuffle_slots: false,
    };
    let seed = seed::derive(args.seed, &[4]);
    let job = Job {
        root: Agent::root(&benchmark.world, task, options, seed),
        task: task.id.clone(),
        seed,
        limits: evaluate::limits(&config.eval, task.difficulty, depth),
    };
    let settings = Settings {
        keep_log: true,
        ..evaluate::settings(args.temperature, engine.vocab(), progress)
    };
    let rollouts = engine.rollout(vec![job], &settings).await?;
    let Some(rollout) = rollouts.first() else {
        return Ok(ExitCode::from(130));
    };
    if let Some(path) = &args.trace {
        write_whole(path, &rollout.log)?;
    }
    let text = if args.json {
        let nodes = rollout.tree.nodes();
        let found = serde_json::json!({
            "task": task.id,
            "difficulty": task.difficulty,
            "success": rollout.success(),
            "judged": rollout.is_judged(),
            "nodes": nodes.len(),
            "depth": nodes.iter().map(|node| node.depth.0).max(),
            "tokens": rollout.tokens(),
            "sampled": rollout.sampled(),
            "critical_path": rollout.critical_path(),
            "faults": rollout.faults,
            "seconds": rollout.seconds,
        });
        format!("{found}\n")
    } else {
        let (tree, _) = Trace::read(&rollout.log);
        let faults: String = rollout
            .faults
            .iter()
            .map(|fault| format!("environment broke: {fault}\n"))
            .collect();
        format!(
            "{}: {} task\n{}{faults}{:.3} s\n",
            task.id,
            task.difficulty,
            tree.draw(args.nodes),
            rollout.seconds
        )
    };
    super::print(&text)?;
    Ok(if progress.is_stopped() {
        ExitCode::from(130)
    } else {
        ExitCode::SUCCESS
    })
}

fn find<'a>(val: &'a [Task], train: &'a [Task], name: &str) -> anyhow::Result<&'a Task> {
    let by_id = val.iter().chain(train).find(|task| task.id == name);
    let by_difficulty = || val.iter().find(|task| task.difficulty.name() == name);
    by_id.or_else(by_difficulty).ok_or_else(|| {
        let example = val.first().map_or("", |task| task.id.as_str());
        anyhow!("no task {name:?}: --task takes an identifier such as {example}, or easy, medium, hard or extreme")
    })
}
