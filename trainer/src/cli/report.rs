//! `rao report`.

use anyhow::Context;
use rao_trainer::live::harmless;
use rao_trainer::report::{Caps, Report};
use rao_trainer::run::write_whole;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao report runs/train-001                        the curves, the table and the trees of one run
  rao report runs/train-001 runs/train-002         runs that differ in their seed alone become one curve with a band
  rao report runs/ablations -o ablations.html      all runs of `rao experiment`
  rao report hard.rao                              the tree of an event log (`rao rollout --trace hard.rao`)")]
pub struct Args {
    /// Run directories, directories of runs, and event logs.
    #[arg(required = true, value_name = "RUN")]
    paths: Vec<PathBuf>,
    /// Where to write the page.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Its heading. Default: what was named first.
    #[arg(long)]
    title: Option<String>,
    /// Trees with more nodes than this are left out.
    #[arg(long, value_name = "N", default_value_t = Caps::default().nodes)]
    nodes: usize,
    /// Nodes of all trees of the page; what would pass it is left out.
    #[arg(long, value_name = "N", default_value_t = Caps::default().nodes_in_all)]
    nodes_in_all: usize,
    /// Print the page's data as JSON instead of writing the page.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let title = args.title.clone().unwrap_or_else(|| {
        let name = args.paths.first().and_then(|path| path.file_name());
        name.unwrap_or_default().to_string_lossy().into_owned()
    });
    let caps = Caps {
        nodes: args.nodes,
        nodes_in_all: args.nodes_in_all,
    };
    let report = Report::gather(&args.paths, &title, caps)?;
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string(&report)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = report.render()?;
    write_whole(&args.output, page.as_bytes()).context("the page could not be written")?;
    for note in &report.notes {
        eprintln!("rao: {}", harmless(note));
    }
    let runs: usize = report.arms.iter().map(|arm| arm.runs.len()).sum();
    super::print(&format!(
        "{}: {} arms, {runs} curves, {} groups of trees, {} KB; open it in any browser\n",
        args.output.display(),
        report.arms.len(),
        report.groups.len(),
        page.len() / 1000,
    ))?;
    Ok(ExitCode::SUCCESS)
}
