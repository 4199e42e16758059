//! `rao worker`.

use anyhow::bail;
use rao_trainer::config::Config;
use rao_trainer::live::harmless;
use rao_trainer::nats::{Link, WorkerBackend, WorkerOptions, work};
use rao_trainer::rollout::Progress;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use toml::Table;

/// Longest patience, in seconds: eleven days.
const PATIENCE_MAX: f64 = 1e6;

#[derive(clap::Args)]
#[command(after_help = "\
The training runs elsewhere, with the same server and name:
  rao train --set rollout.engine=nats --set nats.url=nats://127.0.0.1:4222 --set nats.name=rao

Examples:
  nats-server -js -sd /var/lib/nats                                  the server, on this machine alone
  rao worker --nats nats://127.0.0.1:4222                            a worker beside it
  rao worker --nats tls://rao:PASSWORD@hub.example:4222 --trees 32   another machine, over TLS
  rao worker --nats tls://hub.example --creds worker.creds --policy-backend llama-cpp --threads 3    an edge device, quantised

Workers come and go as they like: the trees of one that dies are given to others. Ctrl-C finishes and sends those under way. See docs/deploy.md")]
pub struct Args {
    /// URL of the NATS server, or several of a cluster, separated by commas. Other machines than this one take credentials.
    #[arg(long, value_name = "URL")]
    nats: String,
    /// File of credentials, as NATS makes them.
    #[arg(long, value_name = "FILE")]
    creds: Option<String>,
    /// The training's nats.name.
    #[arg(long, value_name = "NAME", default_value = "rao")]
    name: String,
    /// What samples: candle takes the training's weights in full precision, llama-cpp its GGUF file.
    #[arg(long, value_enum, default_value_t = if cfg!(feature = "candle") { Backend::Candle } else { Backend::LlamaCpp })]
    policy_backend: Backend,
    /// Threads that sample; 0 takes one per core, for llama-cpp one fewer.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Trees under way at once; each of their live agents takes a context of memory.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    trees: u16,
    /// Seconds to wait for a trainer, for the next task, or for the server to come back, before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0)]
    patience: f64,
}

/// What samples at a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// In full precision.
    Candle,
    /// llama.cpp, as the training's rollout.quant says.
    LlamaCpp,
    /// A server: refused, see `rao worker --policy-backend openai`.
    #[value(hide = true)]
    Openai,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    let backend = match args.policy_backend {
        Backend::Candle => WorkerBackend::Candle,
        Backend::LlamaCpp => WorkerBackend::LlamaCpp,
        Backend::Openai => bail!(
            "a server behind the OpenAI protocol cannot be handed new weights, and cannot be held to the compact token language that training \
             speaks: take candle or llama-cpp, on the machine that the server runs on"
        ),
    };
    if !(args.patience > 0.0 && args.patience <= PATIENCE_MAX) {
        bail!("--patience takes a number of seconds above 0 and up to 1e6");
    }
    let nats = [
        ("url", args.nats),
        ("creds", args.creds.unwrap_or_default()),
        ("name", args.name),
    ];
    let nats: Table = nats
        .map(|(key, text)| (key.to_owned(), text.into()))
        .into_iter()
        .collect();
    let rollout = Table::from_iter([("engine".to_owned(), "nats".into())]);
    let table = Table::from_iter([("nats".to_owned(), nats.into()), ("rollout".to_owned(), rollout.into())]);
    let config = Config::layered(vec![(table, "the command line".to_owned())])?;
    let options = WorkerOptions {
        backend,
        threads: args.threads,
        trees: usize::from(args.trees),
        patience: Duration::from_secs_f64(args.patience),
    };
    let link = Link::connect(&config.nats).await?;
    eprintln!(
        "rao: connected; waiting for a training at nats.name={:?}",
        config.nats.name
    );
    work(&link, &options, progress, |text| eprintln!("rao: {}", harmless(text))).await?;
    eprintln!("rao: {} trees rolled out; nothing was lost", progress.trees());
    Ok(ExitCode::SUCCESS)
}
