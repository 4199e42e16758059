//! The command line: parses, calls the library, prints for people (or, with `--json`, for programs).

mod eval;
mod rollout;
mod train;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rao_trainer::rollout::Progress;
use std::process::ExitCode;
use std::sync::Arc;

/// Trains one policy to solve tasks by delegating to new instances of itself.
#[derive(Parser)]
#[command(name = "rao", version, about, long_about = None, after_help = "\
Begin with:  rao train                              warm start, RAO, flat twin, evaluation: minutes on two cores
then:        rao rollout --policy runs/train-001 --task textcraft_synth.val.1
and:         rao eval --policy runs/train-001 --tasks hard,extreme")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a policy from scratch and evaluate it; without arguments, the quickstart.
    Train(train::Args),
    /// Evaluate the policies of a run on held-out tasks.
    Eval(eval::Args),
    /// Roll one task out and print the tree.
    Rollout(rollout::Args),
    /// Print the tree of an event log that `rao rollout --trace` wrote.
    Trace(rollout::TraceArgs),
}

/// Runs the command and says what went wrong, with its causes, on standard error.
pub fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rao: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("rao-async")
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let progress = Arc::new(Progress::default());
    runtime.spawn(stop_on_interrupt(Arc::clone(&progress)));
    let code = runtime.block_on(async {
        match args.command {
            Command::Train(args) => train::run(args, &progress).await,
            Command::Eval(args) => eval::run(args, &progress).await,
            Command::Rollout(args) => rollout::run(args, &progress).await,
            Command::Trace(args) => rollout::trace(&args),
        }
    });
    runtime.shutdown_background();
    code
}

/// The first Ctrl-C finishes what must be finished; the second stops at once.
async fn stop_on_interrupt(progress: Arc<Progress>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if progress.is_stopped() {
            std::process::exit(130);
        }
        progress.stop();
        eprintln!("\nrao: stopping: saving what has been trained; Ctrl-C again stops at once");
    }
}
