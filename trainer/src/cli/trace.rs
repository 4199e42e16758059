//! `rao trace`.

use anyhow::Context;
use rao_proto::Frames;
use rao_trainer::trace::Trace;
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

/// Prints what can be read; what cannot is an error all the same.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = args.file.display();
    let log = std::fs::read(&args.file).with_context(|| format!("cannot read {name}"))?;
    let (trace, stopped) = Trace::read(&log);
    if args.json {
        for record in Frames::new(&log).map_while(Result::ok) {
            super::print(&format!("{}\n", serde_json::to_string(&record)?))?;
        }
    } else {
        super::print(&trace.draw(args.nodes))?;
    }
    match stopped {
        Some(error) => Err(error).with_context(|| format!("{name}: everything before this was read")),
        None => Ok(ExitCode::SUCCESS),
    }
}
