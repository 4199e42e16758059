//! `rao trace`.

use anyhow::Context;
use rao_trainer::trace;
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
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = args.file.display();
    let log = std::fs::read(&args.file).with_context(|| format!("cannot read {name}"))?;
    print!("{}", trace::render(&log, args.nodes).with_context(|| name.to_string())?);
    Ok(ExitCode::SUCCESS)
}
