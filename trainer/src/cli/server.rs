//! Policies on servers: agents that speak, over text environments.

use super::policy::Arm;
use anyhow::Context;
use rao_backends::openai::{ApiKey, OpenAi, OpenAiOptions, Wire};
use rao_trainer::config::Config;
use rao_trainer::environments::textcraft::book::Book;
use rao_trainer::environments::textcraft::text::{Options, Task as CraftTask};
use rao_trainer::environments::{self, Difficulty, RootTask, Seating, TextTask, aggregation, multi_hop, number_search};
use rao_trainer::evaluate::Suite;
use rao_trainer::language::speech::{ByteSpeech, Speech};
use rao_trainer::language::{Caps, Fork, HarnessError, Setup, Tally, ToolCalls};
#[cfg(feature = "code")]
use rao_trainer::language::{CodeCells, Sandbox};
use rao_trainer::rollout::InProcess;
use rao_tree::Environment;
use std::num::NonZeroU32;
use std::sync::Arc;

/// How a policy behind an URL is asked, and about what.
#[derive(clap::Args)]
#[command(next_help_heading = "Policies on servers (--policy http://...)")]
pub struct ServerArgs {
    /// How its agents act: by Python cells in a sandbox, or by tool calls.
    #[arg(long, value_enum, default_value_t = Harness::default())]
    harness: Harness,
    /// What they work on.
    #[arg(long, value_enum, default_value_t = Work::TextCraft)]
    work: Work,
    /// What a child has of its parent's world, in TextCraft.
    #[arg(long, value_enum, default_value_t = ForkName::Shared)]
    fork: ForkName,
    /// The model to ask for. Default: the one that the server serves.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The environment variable that holds the server's key.
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    api_key: String,
    /// Bytes of an agent's conversation: three to four for each token that the server's window has.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1_024..=4_194_304))]
    context: u32,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 32)]
    requests: usize,
    /// More members for the body of every request, as a JSON object, for example {"chat_template_kwargs": {"enable_thinking": false}}.
    #[arg(long, value_name = "JSON")]
    request_body: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Harness {
    /// Python cells.
    #[cfg(feature = "code")]
    #[cfg_attr(feature = "code", default)]
    Code,
    /// Tool calls in Qwen3's format.
    #[cfg_attr(not(feature = "code"), default)]
    Tools,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Work {
    /// Craft an item out of an inventory.
    #[value(name = "textcraft")]
    TextCraft,
    /// Find a hidden number.
    NumberSearch,
    /// Answer a question about a long log.
    Aggregation,
    /// Follow a chain of facts through documents.
    MultiHop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ForkName {
    /// The very same.
    Shared,
    /// A copy.
    Copy,
    /// What the task began with.
    Fresh,
}

impl From<ForkName> for Fork {
    fn from(name: ForkName) -> Self {
        match name {
            ForkName::Shared => Self::Shared,
            ForkName::Copy => Self::Copy,
            ForkName::Fresh => Self::Fresh,
        }
    }
}

/// Whether a policy is on a server.
pub fn is_url(policy: &str) -> bool {
    policy.starts_with("http://") || policy.starts_with("https://")
}

/// The defaults of agents that speak, where they differ from those of the compact languages.
const DEFAULTS: [&str; 14] = [
    "eval.easy=8",
    "eval.medium=8",
    "eval.hard=8",
    "eval.extreme=8",
    "eval.nodes.easy=50",
    "eval.nodes.medium=100",
    "eval.nodes.hard=200",
    "eval.nodes.extreme=400",
    "eval.limits.depth=4",
    "eval.limits.nodes=400",
    "eval.limits.steps=25",
    "eval.limits.tokens=10000000",
    "eval.limits.concurrent=64",
    "eval.limits.seconds=1800",
];

/// Tokens of one action, at most. Through messages a token is a byte.
const ACTION_MAX: u32 = 8_192;

/// A policy on a server and the work for it.
pub struct Served<'a> {
    args: &'a ServerArgs,
    pub config: Config,
    engine: InProcess<OpenAi>,
    speech: Arc<dyn Speech>,
    pub tally: Arc<Tally>,
    depth: u8,
}

/// What is done with the tasks of a kind of work and the roots that its agents begin at.
pub trait Visit {
    type Output;

    async fn visit<T: RootTask + Sync, E: Environment<Error = HarnessError> + Send + 'static>(
        self,
        engine: &mut InProcess<OpenAi>,
        suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E + Sync>,
        config: &Config,
        arm: (u8, usize),
    ) -> anyhow::Result<Self::Output>;
}

impl<'a> Served<'a> {
    /// Asks the server what it serves.
    pub fn open(url: &str, args: &'a ServerArgs, settings: &[String], arm: Arm) -> anyhow::Result<Self> {
        let defaults = DEFAULTS.map(str::to_owned);
        let mut config = Config::resolve(None, &[&defaults[..], settings].concat())?;
        // The key's bounds are those of models that this program makes.
        config.eval.limits.context = args.context;
        let mut options = OpenAiOptions::new(url, Wire::Chat);
        options.model.clone_from(&args.model);
        options.api_key = std::env::var(&args.api_key).ok().map(ApiKey::new);
        options.concurrency = args.requests.max(1);
        if let Some(body) = &args.request_body {
            options.extra = serde_json::from_str(body).context("--request-body takes a JSON object")?;
        }
        let policy = OpenAi::open(options).with_context(|| format!("no policy at {url}"))?;
        Ok(Self {
            args,
            depth: arm.depth(&config),
            config,
            engine: InProcess::new(vec![policy]),
            speech: Arc::new(ByteSpeech),
            tally: Arc::new(Tally::default()),
        })
    }

    fn count(&self, difficulty: Difficulty) -> usize {
        let eval = &self.config.eval;
        let count = match difficulty {
            Difficulty::Easy => eval.easy,
            Difficulty::Medium => eval.medium,
            Difficulty::Hard => eval.hard,
            Difficulty::Extreme => eval.extreme,
        };
        // What is generated has no end.
        if count == 0 { 100 } else { count }
    }

    /// Tasks of every difficulty, as many as the configuration asks for.
    fn generate<T>(&self, of: impl Fn(Difficulty, usize) -> Vec<T>) -> Vec<T> {
        let difficulties = self.config.eval.difficulties.iter();
        difficulties
            .flat_map(|&difficulty| of(difficulty, self.count(difficulty)))
            .collect()
    }

    /// Does something with the work that was asked for.
    pub async fn visit<V: Visit>(&mut self, visit: V) -> anyhow::Result<V::Output> {
        let seed = self.config.seed;
        match self.args.work {
            Work::TextCraft => {
                let benchmark = environments::benchmark(&self.config.world)?;
                let book = Arc::new(Book::from(&*benchmark.world));
                let options = Options {
                    fork: self.args.fork.into(),
                    depth_max: Some(self.depth),
                };
                let tasks: Vec<CraftTask> = benchmark
                    .val
                    .iter()
                    .map(|task| CraftTask::synth(&book, task, options))
                    .collect();
                self.with(&tasks, visit).await
            }
            Work::NumberSearch => {
                let width = NonZeroU32::new(16).context("a look covers something")?;
                let tasks =
                    self.generate(|difficulty, count| number_search::world::generate(seed, difficulty, width, count));
                self.with(&tasks, visit).await
            }
            Work::Aggregation => {
                let of = |difficulty, count| {
                    let times = match difficulty {
                        Difficulty::Easy => 1,
                        Difficulty::Medium => 4,
                        Difficulty::Hard => 8,
                        Difficulty::Extreme => 16,
                    };
                    let spec = aggregation::world::Spec {
                        window: WINDOW,
                        times: NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN),
                        read_max: READ_MAX,
                    };
                    aggregation::world::generate(seed, &spec, count)
                };
                let tasks = self.generate(of);
                self.with(&tasks, visit).await
            }
            Work::MultiHop => {
                let corpus = Arc::new(multi_hop::world::Corpus::generate(seed, PEOPLE)?);
                let tasks =
                    self.generate(|difficulty, count| multi_hop::world::generate(seed, &corpus, difficulty, count));
                self.with(&tasks, visit).await
            }
        }
    }

    async fn with<T, V: Visit>(&mut self, tasks: &[T], visit: V) -> anyhow::Result<V::Output>
    where
        T: TextTask + Sync,
        T::Root: Send + 'static,
    {
        let (speech, tally) = (Arc::clone(&self.speech), Arc::clone(&self.tally));
        let setup = move |seating: Seating| {
            Arc::new(Setup {
                speech: Arc::clone(&speech),
                caps: Caps::default(),
                depth_max: seating.depth_max,
                tally: Arc::clone(&tally),
            })
        };
        let arm = (self.depth, ByteSpeech::VOCAB);
        match self.args.harness {
            #[cfg(feature = "code")]
            Harness::Code => {
                let root = |task: &T, seating, _| CodeCells::root(task.root(), setup(seating), Sandbox::default());
                let suite = Suite {
                    tasks,
                    root,
                    action_max: ACTION_MAX,
                    windows: [None; 4],
                };
                visit.visit(&mut self.engine, &suite, &self.config, arm).await
            }
            Harness::Tools => {
                let root = |task: &T, seating, _| ToolCalls::root(task.root(), setup(seating));
                let suite = Suite {
                    tasks,
                    root,
                    action_max: ACTION_MAX,
                    windows: [None; 4],
                };
                visit.visit(&mut self.engine, &suite, &self.config, arm).await
            }
        }
    }
}

/// Characters that an agent can be expected to keep in view, in aggregation.
const WINDOW: NonZeroU32 = NonZeroU32::new(16_000).unwrap();
/// Records that one look shows.
const READ_MAX: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// People of the corpus, in multi-hop search.
const PEOPLE: usize = 200;
