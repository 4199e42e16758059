//! `rao experiment`.

use anyhow::Context;
use rao_trainer::config::Config;
use rao_trainer::environments::{self, Difficulty, Domain};
use rao_trainer::evaluate::Score;
use rao_trainer::experiment::{Experiment, Planned, State};
use rao_trainer::rollout::Progress;
use rao_trainer::run::{RunDir, Summary};
use rao_trainer::train::{Outcome, Plan, quickstart};
use rao_trainer::with_domain;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "\
The file has a table of cells, each with the keys of `rao train --print-config` that it changes:

  seeds = [0, 1, 2]
  [common]
  flat.enabled = false
  [cells.base]
  [cells.sparse]
  rao.estimator.rule = \"sparse\"

Examples:
  rao experiment grid.toml                 runs what is missing in runs/grid; again after an interruption
  rao experiment grid.toml --dry-run       what there is to do
  rao report runs/grid -o grid.html        the result as a page")]
pub struct Args {
    /// The grid, in TOML.
    file: PathBuf,
    /// Where the runs lie. Default: runs/ and the file's name.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Say which runs there are and which are missing, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print what was found as JSON instead of the table.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    let experiment = Experiment::read(&args.file)?;
    let folder = args.dir.clone().unwrap_or_else(|| {
        let name = args.file.file_stem().unwrap_or_default();
        Path::new("runs").join(name)
    });
    // All of them first: a directory that is in the way is better known before an hour of work.
    let states: Vec<State> = experiment
        .runs
        .iter()
        .map(|run| run.state(&folder))
        .collect::<Result<_, _>>()?;
    if args.dry_run {
        for (run, state) in experiment.runs.iter().zip(states) {
            let state = match state {
                State::New => "to be run",
                State::Begun => "was interrupted: to be gone on with",
                State::Finished => "finished",
            };
            super::print(&format!("{:<32} {state}\n", run.name))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all = experiment.runs.len();
    for (index, (run, state)) in experiment.runs.iter().zip(states).enumerate() {
        if state == State::Finished {
            continue;
        }
        eprintln!("rao: {} of {all}: {}", index + 1, run.name);
        let path = folder.join(&run.name);
        let outcome = with_domain!(environments::domain(&run.config)?, domain => carry_out(&run.config, &domain, &path, state, progress).await)?;
        if matches!(outcome, Outcome::Interrupted) {
            eprintln!("rao: interrupted; the same command goes on with {}", run.name);
            return Ok(ExitCode::from(130));
        }
    }
    let found = experiment.runs.iter().map(|run| {
        let summary = RunDir::open(&folder.join(&run.name))?.summary()?;
        anyhow::Ok(summary.map(|summary| (run, summary)))
    });
    let found: Vec<(&Planned, Summary)> = found.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    if args.json {
        let runs: serde_json::Map<_, _> = found
            .iter()
            .map(|(run, summary)| Ok((run.name.clone(), serde_json::to_value(summary)?)))
            .collect::<Result<_, serde_json::Error>>()?;
        super::print(&format!("{}\n", serde_json::Value::Object(runs)))?;
    } else {
        let shown = folder.display();
        super::print(&format!(
            "{}\n{all} runs in {shown}; rao report {shown}\n",
            table(&found)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn carry_out(
    config: &Config,
    domain: &impl Domain,
    path: &Path,
    state: State,
    progress: &Arc<Progress>,
) -> anyhow::Result<Outcome> {
    let (plan, run) = if state == State::Begun {
        (Plan::to_resume(config, domain)?, RunDir::resume(path)?)
    } else {
        (Plan::new(config, domain)?, RunDir::create(Some(path), config)?)
    };
    quickstart(plan, &run, progress)
        .await
        .with_context(|| format!("the run in {} did not finish", path.display()))
}

/// Success by cell and difficulty: the mean over the seeds, and the least and the most.
fn table(found: &[(&Planned, Summary)]) -> String {
    let mut out = String::from(
        "cell                arm        tasks    seeds  greedy               T=1                  nodes   crit. path\n",
    );
    let mut cells: Vec<&str> = found.iter().map(|(run, _)| run.cell.as_str()).collect();
    cells.dedup();
    for cell in cells {
        for arm in ["recursive", "flat"] {
            for difficulty in Difficulty::ALL {
                let of = |summary: &Summary| match arm {
                    "recursive" => summary.recursive.of(difficulty).copied(),
                    _ => summary.flat.as_ref().and_then(|flat| flat.of(difficulty).copied()),
                };
                let members = found.iter().filter(|(run, _)| run.cell == cell);
                let scores: Vec<Score> = members.filter_map(|(_, summary)| of(summary)).collect();
                if scores.is_empty() {
                    continue;
                }
                let spread = |of: fn(&Score) -> f64| {
                    let values = scores.iter().map(of);
                    let (least, most) = values
                        .clone()
                        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                            (least.min(value), most.max(value))
                        });
                    (values.sum::<f64>() / scores.len() as f64, least, most)
                };
                let share = |of: fn(&Score) -> f64| {
                    let (mean, least, most) = spread(of);
                    format!("{mean:.2} ({least:.2} to {most:.2})")
                };
                // Writing to a string does not fail.
                let _ = writeln!(
                    out,
                    "{cell:<19} {arm:<10} {:<8} {:>5}  {:<20} {:<20} {:>5.0} {:>12.0}",
                    difficulty.name(),
                    scores.len(),
                    share(|score| score.greedy),
                    share(|score| score.t1),
                    spread(|score| score.nodes).0,
                    spread(|score| score.critical_path).0,
                );
            }
        }
    }
    out
}
