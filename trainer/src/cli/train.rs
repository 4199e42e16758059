//! `rao train`.

use anyhow::Context;
use rao_trainer::config::Config;
use rao_trainer::rollout::Progress;
use rao_trainer::run::RunDir;
use rao_trainer::train::{Outcome, Plan, quickstart};
use rao_trainer::{environments, table};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao train                                          the quickstart
  rao train --set seed=3 --set rao.steps=20          another seed, a shorter run
  rao train --set world.source=generated --set world.seed=7
  rao train --set rao.estimator.lambda=0.4 --run runs/lambda
  rao train --print-config > my.toml; rao train --config my.toml")]
pub struct Args {
    /// Configuration in TOML; keys that it does not name keep their defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One key of the configuration by its dotted path; may be repeated, and wins over the file.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Directory of the run; it must be empty or not exist. Default: the first free runs/train-NNN.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Print the resolved configuration, every key with its value, and do nothing.
    #[arg(long)]
    print_config: bool,
    /// Print the summary as JSON instead of the table.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    let config = Config::resolve(args.config.as_deref(), &args.settings)?;
    if args.print_config {
        super::print(&config.to_toml()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let benchmark = environments::benchmark(&config.world)?;
    let plan = Plan::new(&config, &benchmark)?;
    let run = RunDir::create(args.run.as_deref(), &config)?;
    let outcome = quickstart(plan, &run, progress)
        .await
        .with_context(|| format!("the run in {} did not finish", run.path().display()))?;
    match outcome {
        Outcome::Finished(summary) if args.json => super::print(&format!("{}\n", serde_json::to_string(&summary)?))?,
        Outcome::Finished(summary) => {
            super::print(&format!(
                "{}\nseed {}: trained in {:.0} s, {:.0} s in all; everything is in {}\n",
                table::render(&summary),
                summary.seed,
                summary.train_seconds,
                summary.total_seconds,
                run.path().display(),
            ))?;
        }
        Outcome::Interrupted => {
            eprintln!(
                "rao: interrupted; the policies trained so far are in {}",
                run.path().display()
            );
            return Ok(ExitCode::from(130));
        }
    }
    Ok(ExitCode::SUCCESS)
}
