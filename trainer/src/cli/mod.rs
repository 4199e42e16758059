//! The command line: parses, calls the library, prints for people (or, with `--json`, for programs).

#[cfg(feature = "candle")]
mod dry_run;
#[cfg(any(feature = "candle", feature = "llama-cpp"))]
mod eval;
#[cfg(feature = "candle")]
mod experiment;
#[cfg(feature = "candle")]
mod export;
#[cfg(any(feature = "candle", feature = "llama-cpp"))]
mod policy;
mod report;
#[cfg(any(feature = "candle", feature = "llama-cpp"))]
mod rollout;
#[cfg(all(feature = "openai", any(feature = "candle", feature = "llama-cpp")))]
mod server;
mod trace;
#[cfg(feature = "candle")]
mod train;
#[cfg(all(feature = "nats", any(feature = "candle", feature = "llama-cpp")))]
mod worker;

use clap::{Parser, Subcommand};
use rao_trainer::live::harmless;
use std::io::Write;
use std::process::ExitCode;

/// Trains one policy to solve tasks by delegating to new instances of itself.
#[derive(Parser)]
#[command(
    name = "rao",
    version,
    after_help = "\
Begin with:  rao train                              warm start, RAO, flat twin, evaluation: minutes on two cores
then:        rao rollout --policy runs/train-001 --task medium
and:         rao eval --policy runs/train-001 --tasks hard,extreme
and:         rao report runs/train-001              curves, tables and trees as one page of HTML"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a policy from scratch and evaluate it; without arguments, the quickstart.
    #[cfg(feature = "candle")]
    Train(train::Args),
    /// Train a grid of configurations and seeds from one file; what has ended is not run again.
    #[cfg(feature = "candle")]
    Experiment(experiment::Args),
    /// Evaluate a policy of a run on held-out tasks.
    #[cfg(any(feature = "candle", feature = "llama-cpp"))]
    Eval(eval::Args),
    /// Roll one task out and print the tree.
    #[cfg(any(feature = "candle", feature = "llama-cpp"))]
    Rollout(rollout::Args),
    /// Write a policy for other programs: GGUF for llama.cpp, safetensors for Hugging Face.
    #[cfg(feature = "candle")]
    Export(export::Args),
    /// Roll trees out for a training on another machine, met at a NATS server.
    #[cfg(all(feature = "nats", any(feature = "candle", feature = "llama-cpp")))]
    Worker(worker::Args),
    /// (this binary was built without the feature `nats`)
    #[cfg(not(all(feature = "nats", any(feature = "candle", feature = "llama-cpp"))))]
    Worker {
        /// Ignored.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
    /// Make one page of HTML from runs: curves, tables, and the trees to be opened node by node.
    Report(report::Args),
    /// Print the tree of an event log that `rao rollout --trace` wrote.
    Trace(trace::Args),
    /// (this binary was built without the feature `candle`)
    #[cfg(not(feature = "candle"))]
    #[cfg_attr(feature = "llama-cpp", command(aliases = ["export", "experiment"]))]
    #[cfg_attr(not(feature = "llama-cpp"), command(aliases = ["eval", "rollout", "export", "experiment"]))]
    Train {
        /// Ignored.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<String>,
    },
}

/// Runs the command and says what went wrong, with its causes, on standard error.
pub fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rao: {}", harmless(&describe(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output. A reader that has gone away (`rao trace FILE | head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The error and its causes in one line; a cause that the message before it already quotes is not said twice.
fn describe(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            line = if line.is_empty() {
                cause
            } else {
                format!("{line}: {cause}")
            };
        }
    }
    line
}

/// What a binary says to commands that it cannot carry out.
#[cfg(not(feature = "candle"))]
const WITHOUT_CANDLE: &str =
    "built without `candle`, which trains and samples: cargo build --release --features candle";

/// The same of workers.
#[cfg(not(all(feature = "nats", any(feature = "candle", feature = "llama-cpp"))))]
const WITHOUT_NATS: &str = "built without `nats` and something that samples: cargo build --release --features nats";

#[cfg(not(any(feature = "candle", feature = "llama-cpp")))]
fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Report(args) => report::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Train { .. } => anyhow::bail!(WITHOUT_CANDLE),
        Command::Worker { .. } => anyhow::bail!(WITHOUT_NATS),
    }
}

#[cfg(any(feature = "candle", feature = "llama-cpp"))]
fn run(command: Command) -> anyhow::Result<ExitCode> {
    use anyhow::Context;
    use rao_trainer::rollout::Progress;
    use std::sync::Arc;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("rao-async")
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let progress = Arc::new(Progress::default());
    runtime.spawn(stop_on_interrupt(Arc::clone(&progress)));
    let code = runtime.block_on(async {
        match command {
            #[cfg(feature = "candle")]
            Command::Train(args) => train::run(args, &progress).await,
            #[cfg(not(feature = "candle"))]
            Command::Train { .. } => anyhow::bail!(WITHOUT_CANDLE),
            Command::Eval(args) => eval::run(args, &progress).await,
            Command::Rollout(args) => rollout::run(args, &progress).await,
            #[cfg(feature = "candle")]
            Command::Export(args) => export::run(&args),
            #[cfg(feature = "candle")]
            Command::Experiment(args) => experiment::run(args, &progress).await,
            #[cfg(feature = "nats")]
            Command::Worker(args) => worker::run(args, &progress).await,
            #[cfg(not(feature = "nats"))]
            Command::Worker { .. } => anyhow::bail!(WITHOUT_NATS),
            Command::Report(args) => report::run(&args),
            Command::Trace(args) => trace::run(&args),
        }
    });
    runtime.shutdown_background();
    code
}

/// The first Ctrl-C, or SIGTERM of whoever runs services, finishes what must be finished; the second stops at once.
#[cfg(any(feature = "candle", feature = "llama-cpp"))]
async fn stop_on_interrupt(progress: std::sync::Arc<rao_trainer::rollout::Progress>) {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    loop {
        #[cfg(unix)]
        let asked = {
            let terminated = async {
                match &mut terminate {
                    Some(terminate) => terminate.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
                terminated = terminated => terminated,
            }
        };
        #[cfg(not(unix))]
        let asked = tokio::signal::ctrl_c().await.is_ok();
        if !asked {
            return;
        }
        if progress.is_stopped() {
            std::process::exit(130);
        }
        progress.stop();
        eprintln!("\nrao: stopping once the work under way is safe; Ctrl-C again stops at once");
    }
}
