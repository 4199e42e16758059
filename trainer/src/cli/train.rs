//! `rao train`.

use anyhow::Context;
use rao_trainer::config::Config;
use rao_trainer::environments::Domain;
use rao_trainer::rollout::Progress;
use rao_trainer::run::{RunDir, Summary};
use rao_trainer::train::{Outcome, Plan, quickstart, reach};
use rao_trainer::{environments, table, with_domain};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao train                                          the quickstart
  rao train --set seed=3 --set rao.steps=20          another seed, a shorter run
  rao train --set world.source=generated --set world.seed=7
  rao train --set environment=number-search          another kind of work, with its own recipe; also aggregation
  rao train --set rao.estimator.lambda=0.4 --run runs/lambda
  rao train --print-config > my.toml; rao train --config my.toml
  rao train --resume runs/train-001                  go on after Ctrl-C, a crash or a full disk
  rao train --set model.path=DIR --set lora.rank=16 --dtype bf16 --dry-run    a checkpoint: what it would do, and take of memory
  rao train --set model.path=DIR --set lora.rank=16 --dtype bf16              and training it")]
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
    /// Go on with a run that was interrupted, from its newest checkpoint. It ends as it would have without the interruption.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "settings", "run", "device", "dtype", "dry_run", "print_config"])]
    resume: Option<PathBuf>,
    /// Where the learner computes: cpu, cuda or metal. Short for --set device=...
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// How a frozen base is kept, with lora.rank above 0: f32, bf16 or f16. Short for --set dtype=...
    #[arg(long, value_name = "TYPE")]
    dtype: Option<String>,
    /// Say what the run would do, and how much memory it would take, by part; and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the resolved configuration, every key with its value, and do nothing.
    #[arg(long)]
    print_config: bool,
    /// Print the summary as JSON instead of the table.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.resume {
        return resume(path, args.json, progress).await;
    }
    let mut settings = args.settings.clone();
    settings.extend(args.device.iter().map(|device| format!("device={device}")));
    settings.extend(args.dtype.iter().map(|dtype| format!("dtype={dtype}")));
    let config = Config::resolve(args.config.as_deref(), &settings)?;
    if args.print_config {
        super::print(&config.to_toml()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        return with_domain!(environments::domain(&config)?, domain => super::dry_run::run(&config, &domain, args.json));
    }
    with_domain!(environments::domain(&config)?, domain => train(&args, &config, &domain, progress).await)
}

async fn train(
    args: &Args,
    config: &Config,
    domain: &impl Domain,
    progress: &Arc<Progress>,
) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(config, domain)?;
    reach(config).await?;
    let run = RunDir::create(args.run.as_deref(), config)?;
    carry_out(plan, &run, args.json, progress).await
}

/// Goes on with a run.
async fn resume(path: &Path, json: bool, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    let run = RunDir::resume(path)?;
    if let Some(summary) = run.summary()? {
        eprintln!("rao: the run in {} has come to its end", path.display());
        say(&summary, &run, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = run.config()?;
    with_domain!(environments::domain(&config)?, domain => {
        carry_out(Plan::to_resume(&config, &domain)?, &run, json, progress).await
    })
}

async fn carry_out<D: Domain>(
    plan: Plan<'_, D>,
    run: &RunDir,
    json: bool,
    progress: &Arc<Progress>,
) -> anyhow::Result<ExitCode> {
    let path = run.path().display();
    let outcome = quickstart(plan, run, progress).await.with_context(|| {
        format!("the run in {path} did not finish; once the cause is gone, `rao train --resume {path}` goes on with it")
    })?;
    match outcome {
        Outcome::Finished(summary) => {
            say(&summary, run, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted => {
            eprintln!("rao: interrupted; to go on: rao train --resume {path}");
            Ok(ExitCode::from(130))
        }
    }
}

/// Prints what a run came to.
fn say(summary: &Summary, run: &RunDir, json: bool) -> anyhow::Result<()> {
    if json {
        return super::print(&format!("{}\n", serde_json::to_string(summary)?));
    }
    super::print(&format!(
        "{}\nseed {}: trained in {:.0} s, {:.0} s in all; everything is in {}\n",
        table::render(summary),
        summary.seed,
        summary.train_seconds,
        summary.total_seconds,
        run.path().display(),
    ))
}
