//! `rao worker`.

use anyhow::bail;
use rao_trainer::config::Config;
use rao_trainer::live::harmless;
use rao_trainer::nats::{Link, WorkerBackend, WorkerOptions, work};
use rao_trainer::rollout::Progress;
use std::path::PathBuf;
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
  rao worker --nats nats://127.0.0.1:4222 --policy-backend openai --server http://127.0.0.1:8080/v1 \\
      --weights /var/lib/rao --reload 'systemctl restart llama-server'                               a server that somebody else built

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
    /// What samples: candle takes the training's weights in full precision, llama-cpp its GGUF file, openai has a server load either.
    #[arg(long, value_enum, default_value_t = if cfg!(feature = "candle") { Backend::Candle } else { Backend::LlamaCpp })]
    policy_backend: Backend,
    /// Threads that sample; 0 takes one per core, for llama-cpp one fewer.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Trees under way at once; each of their live agents takes a context of memory.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    trees: u16,
    /// Seconds to wait for a trainer, for the next task, for the NATS server to come back, or for --server to load new weights, before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0)]
    patience: f64,
    #[command(flatten)]
    server: ServerArgs,
}

/// What samples at a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// In full precision.
    Candle,
    /// llama.cpp, as the training's rollout.quant says.
    LlamaCpp,
    /// A server beside the worker: llama-server or vLLM.
    #[value(name = "openai")]
    OpenAi,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Servers (--policy-backend openai)")]
struct ServerArgs {
    /// Where the server's endpoints begin, with the version: http://127.0.0.1:8080/v1. The server is this worker's alone.
    #[arg(long, value_name = "URL", required_if_eq("policy_backend", "openai"))]
    server: Option<String>,
    /// Where the server reads its weights: they are put there as model.gguf, or as config.json and model.safetensors.
    #[arg(long, value_name = "DIRECTORY", required_if_eq("policy_backend", "openai"))]
    weights: Option<PathBuf>,
    /// Command that has the server load new weights, run by sh with their path in RAO_WEIGHTS. It ends once the old ones are served no
    /// longer; the new ones may still be loading.
    #[arg(long, value_name = "COMMAND", required_if_eq("policy_backend", "openai"))]
    reload: Option<String>,
    /// What the server reads: gguf for llama-server (the default), safetensors for vLLM.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The model to ask for. Default: the one that the server serves.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The environment variable that holds the server's key. Default: OPENAI_API_KEY, where it is set.
    #[arg(long, value_name = "VARIABLE")]
    api_key: Option<String>,
    /// Requests under way at once. Default: 32.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    requests: Option<u16>,
}

/// What a server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A GGUF file.
    Gguf,
    /// A directory with config.json and model.safetensors.
    Safetensors,
}

impl ServerArgs {
    /// What is said about a server that nobody asks.
    fn check_unused(&self) -> anyhow::Result<()> {
        let given = [
            ("--server", self.server.is_some()),
            ("--weights", self.weights.is_some()),
            ("--reload", self.reload.is_some()),
            ("--format", self.format.is_some()),
            ("--model", self.model.is_some()),
            ("--api-key", self.api_key.is_some()),
            ("--requests", self.requests.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => bail!("{option} is for --policy-backend openai"),
            None => Ok(()),
        }
    }

    #[cfg(feature = "openai")]
    fn backend(self) -> anyhow::Result<WorkerBackend> {
        use anyhow::Context;
        use rao_backends::openai::ApiKey;
        use rao_trainer::config::WeightsFormat;
        use rao_trainer::nats::WorkerServer;

        let needed = "--policy-backend openai takes --server, --weights and --reload";
        Ok(WorkerBackend::OpenAi(Box::new(WorkerServer {
            url: self.server.context(needed)?,
            model: self.model,
            api_key: match self.api_key {
                Some(variable) => {
                    let key = std::env::var(&variable);
                    Some(key.context("--api-key names an environment variable, and there is none of that name")?)
                }
                None => std::env::var("OPENAI_API_KEY").ok(),
            }
            .map(ApiKey::new),
            requests: self.requests.map_or(32, usize::from),
            format: match self.format {
                Some(Format::Gguf) | None => WeightsFormat::Gguf,
                Some(Format::Safetensors) => WeightsFormat::Safetensors,
            },
            directory: self.weights.context(needed)?,
            reload: self.reload.context(needed)?,
        })))
    }

    #[cfg(not(feature = "openai"))]
    fn backend(self) -> anyhow::Result<WorkerBackend> {
        bail!("built without `openai`, which asks servers: cargo build --release --features nats,openai")
    }
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    if args.policy_backend != Backend::OpenAi {
        args.server.check_unused()?;
    }
    let backend = match args.policy_backend {
        Backend::Candle => WorkerBackend::Candle,
        Backend::LlamaCpp => WorkerBackend::LlamaCpp,
        Backend::OpenAi if args.threads > 0 => {
            bail!("--threads is for backends that sample here: the server of --policy-backend openai has its own")
        }
        Backend::OpenAi => args.server.backend()?,
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
