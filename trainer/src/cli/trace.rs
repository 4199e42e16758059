//! `rao trace`.

use anyhow::{Context, bail};
use rao_backends::files;
use rao_trainer::live::harmless;
use rao_trainer::trace::{LOG_MAX, Records, Trace};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `rao trace`.
#[derive(clap::Args)]
pub struct Args {
    /// An event log.
    file: PathBuf,
    /// Nodes to print.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Print the events as JSON, one a line, instead of the tree.
    #[arg(long)]
    json: bool,
}

/// Errors that are printed; the rest are counted.
const ERRORS_MAX: usize = 20;

/// Prints what can be read; what cannot is an error all the same.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = args.file.display();
    let log = files::read(&args.file, LOG_MAX).with_context(|| format!("cannot read {name}"))?;
    let (trace, errors) = Trace::read(&log);
    if args.json {
        for (_, record) in Records::new(&log).flatten() {
            super::print(&format!("{}\n", serde_json::to_string(&record)?))?;
        }
    } else {
        super::print(&trace.draw(args.nodes))?;
    }
    for error in errors.iter().take(ERRORS_MAX) {
        eprintln!("{}", harmless(&format!("{name}: {error}")));
    }
    match errors.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => bail!("{name}: {count} places are damaged or contradict the rest; everything else was read"),
    }
}
