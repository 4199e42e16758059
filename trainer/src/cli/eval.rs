//! `rao eval`.

use super::policy::PolicyArgs;
use rao_trainer::evaluate::judge;
use rao_trainer::rollout::Progress;
use rao_trainer::{environments, table};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao eval --policy runs/train-001                             all held-out tasks that the run's own evaluation took
  rao eval --policy runs/train-001 --tasks extreme --limit 0   all 136 extreme ones
  rao eval --policy runs/train-001 --arm flat --tasks easy
  rao eval --policy runs/train-001 --quant q8_0                as llama.cpp samples it, quantised
  rao eval --policy policy.gguf --tasks medium                 a file of `rao export`")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Difficulties, separated by commas: easy, medium, hard, extreme. Default: as the run was evaluated.
    #[arg(long, value_delimiter = ',', value_name = "DIFFICULTY")]
    tasks: Option<Vec<String>>,
    /// Tasks per difficulty; 0 takes all there are. Default: as the run was evaluated.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print the scores as JSON instead of the table.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    let (mut engine, mut config) = args.policy.open(None)?;
    if let Some(names) = &args.tasks {
        config.eval.difficulties = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    }
    if let Some(limit) = args.limit {
        let eval = &mut config.eval;
        (eval.easy, eval.medium, eval.hard, eval.extreme) = (limit, limit, limit, limit);
    }
    let benchmark = environments::benchmark(&config.world)?;
    let (depth, vocab) = (args.policy.arm.depth(&config), engine.vocab());
    let scores = judge(&mut engine, &benchmark, &config, (depth, vocab), "evaluation", progress).await?;
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
        table::arm(args.policy.arm.name(), &scores)
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
