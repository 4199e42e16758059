//! `rao eval`.

use super::policy::{Arm, load};
use anyhow::bail;
use rao_trainer::environments::textcraft::Difficulty;
use rao_trainer::rollout::Progress;
use rao_trainer::train::judge;
use rao_trainer::{environments, table};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao eval --policy runs/train-001                             all held-out tasks that the run's own evaluation took
  rao eval --policy runs/train-001 --tasks extreme --limit 0   all 136 extreme ones
  rao eval --policy runs/train-001 --arm flat --tasks easy")]
pub struct Args {
    /// Run directory of `rao train`.
    #[arg(long, value_name = "RUN")]
    policy: PathBuf,
    /// Which of its policies.
    #[arg(long, value_enum, default_value_t = Arm::Recursive)]
    arm: Arm,
    /// Difficulties, separated by commas: easy, medium, hard, extreme.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "DIFFICULTY",
        default_value = "easy,medium,hard,extreme"
    )]
    tasks: Vec<String>,
    /// Tasks per difficulty; 0 takes all there are. Default: as the run was evaluated.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Another configuration key for this evaluation, for example eval.limits.depth=6; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print the scores as JSON instead of the table.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    let (policy, config) = load(&args.policy, args.arm, &args.settings)?;
    let mut wanted = Vec::new();
    for name in &args.tasks {
        wanted.push(name.parse::<Difficulty>()?);
    }
    let mut benchmark = environments::benchmark(&config.world)?;
    benchmark.val.retain(|task| wanted.contains(&task.difficulty));
    if benchmark.val.is_empty() {
        bail!("the benchmark has no held-out task of these difficulties");
    }
    let mut config = config;
    if let Some(limit) = args.limit {
        let eval = &mut config.eval;
        (eval.easy, eval.medium, eval.hard, eval.extreme) = (limit, limit, limit, limit);
    }
    let depth = args.arm.depth(&config);
    let scores = judge(&policy, &benchmark, &config, depth, "evaluation", progress).await?;
    if progress.is_stopped() {
        return Ok(ExitCode::from(130));
    }
    if args.json {
        println!("{}", serde_json::to_string(&scores)?);
    } else {
        print!("{}", table::arm(args.arm.name(), &scores));
    }
    Ok(ExitCode::SUCCESS)
}
