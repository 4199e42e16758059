//! `rao eval`.

use super::policy::{Arm, load};
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
    /// Difficulties, separated by commas: easy, medium, hard, extreme. Default: as the run was evaluated.
    #[arg(long, value_delimiter = ',', value_name = "DIFFICULTY")]
    tasks: Option<Vec<String>>,
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
    let (policy, mut config) = load(&args.policy, args.arm, &args.settings)?;
    if let Some(names) = &args.tasks {
        config.eval.difficulties = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    }
    if let Some(limit) = args.limit {
        let eval = &mut config.eval;
        (eval.easy, eval.medium, eval.hard, eval.extreme) = (limit, limit, limit, limit);
    }
    let benchmark = environments::benchmark(&config.world)?;
    let depth = args.arm.depth(&config);
    let scores = judge(&policy, &benchmark, &config, depth, "evaluation", progress).await?;
    if progress.is_stopped() {
        return Ok(ExitCode::from(130));
    }
    let text = if args.json {
        format!(
            "{}
",
            serde_json::to_string(&scores)?
        )
    } else {
        table::arm(args.arm.name(), &scores)
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
