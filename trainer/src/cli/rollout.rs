//! `rao rollout`.

use super::policy::PolicyArgs;
#[cfg(feature = "openai")]
use super::server::{Served, ServerArgs, Visit};
use anyhow::anyhow;
#[cfg(feature = "openai")]
use rao_backends::openai::OpenAi;
use rao_trainer::config::Config;
use rao_trainer::environments::{Domain, RootTask, Seating};
use rao_trainer::evaluate::Suite;
#[cfg(feature = "openai")]
use rao_trainer::language::{
    HarnessError,
    speech::{ByteSpeech, Speech},
};
use rao_trainer::live::{Growth, Screen, Words};
#[cfg(feature = "openai")]
use rao_trainer::rollout::InProcess;
use rao_trainer::rollout::{Job, Progress, RolloutEngine, Settings, SharedSink};
use rao_trainer::run::write_whole;
use rao_trainer::trace::Trace;
use rao_trainer::{environments, evaluate, seed, with_domain};
use rao_tree::{Environment, Token};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao rollout --policy runs/train-001 --task textcraft_synth.val.1
  rao rollout --policy runs/train-001 --task medium --temperature 1 --seed 5
  rao rollout --policy runs/train-001 --task hard --live
  rao rollout --policy runs/train-001 --task hard --trace hard.rao && rao trace hard.rao
  rao rollout --policy http://127.0.0.1:8080/v1 --harness code --work aggregation --task hard --live")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Identifier of a task, or a difficulty: its first held-out task.
    #[arg(long, value_name = "ID")]
    task: String,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Seed of the rollout.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the event log to this file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Nodes to print.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Show the tree while it grows.
    #[arg(long)]
    live: bool,
    /// Print figures as JSON instead of the tree.
    #[arg(long)]
    json: bool,
    #[cfg(feature = "openai")]
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return Err(anyhow!("--temperature takes a finite number of at least 0"));
    }
    #[cfg(feature = "openai")]
    if let Some(url) = args.policy.url() {
        let mut served = Served::open(url, &args.server, args.policy.settings(), args.policy.arm)?;
        let code = served.visit(Roll(&args, progress)).await?;
        eprintln!("{}", served.tally);
        return Ok(code);
    }
    let (mut engine, config) = args.policy.open(Some(1))?;
    let arm = (args.policy.arm.depth(&config), engine.vocab());
    with_domain!(environments::domain(&config)?, domain => {
        let words = words_of(&domain);
        Roll(&args, progress).roll(&mut engine, &Suite::of(&domain), domain.train(), &config, arm, words).await
    })
}

/// What a domain's tokens say.
fn words_of<D: Domain>(_: &D) -> Words {
    Box::new(|tokens: &[Token]| D::LANGUAGE.render(tokens.iter().copied()))
}

/// One rollout.
struct Roll<'a>(&'a Args, &'a Arc<Progress>);

#[cfg(feature = "openai")]
impl Visit for Roll<'_> {
    type Output = ExitCode;

    async fn visit<T: RootTask + Sync, E: Environment<Error = HarnessError> + Send + 'static>(
        self,
        engine: &mut InProcess<OpenAi>,
        suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E + Sync>,
        config: &Config,
        arm: (u8, usize),
    ) -> anyhow::Result<ExitCode> {
        let words = Box::new(|tokens: &[Token]| ByteSpeech.text(tokens).unwrap_or_default());
        self.roll(engine, suite, &[], config, arm, words).await
    }
}

impl Roll<'_> {
    async fn roll<T: RootTask, E: Environment>(
        self,
        engine: &mut impl RolloutEngine<E>,
        suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E>,
        train: &[T],
        config: &Config,
        (depth, vocab): (u8, usize),
        words: Words,
    ) -> anyhow::Result<ExitCode> {
        let Self(args, progress) = self;
        let task = find(suite.tasks, train, &args.task)?;
        let seating = Seating {
            depth_max: depth,
            shuffle: false,
        };
        let seed = seed::derive(args.seed, &[4]);
        let job = Job {
            root: (suite.root)(task, seating, seed),
            task: task.id().to_owned(),
            seed,
            limits: evaluate::limits(&config.eval, task.difficulty(), depth, suite.action_max),
        };
        let screen = args.live.then(|| {
            let size = console::Term::stderr().size();
            let size = (usize::from(size.0), usize::from(size.1));
            Arc::new(Mutex::new(Screen::new(Growth::new(words), std::io::stderr(), size)))
        });
        let settings = Settings {
            keep_log: true,
            sink: screen.clone().map(|screen| screen as SharedSink),
            ..evaluate::settings(args.temperature, vocab, progress)
        };
        let rollouts = engine.rollout(vec![job], &settings).await?;
        if let Some(screen) = screen {
            // What a panic left half drawn is drawn anew.
            screen.lock().unwrap_or_else(PoisonError::into_inner).finish()?;
        }
        let Some(rollout) = rollouts.first() else {
            return Ok(ExitCode::from(130));
        };
        if let Some(path) = &args.trace {
            write_whole(path, &rollout.log)?;
        }
        let text = if args.json {
            let nodes = rollout.tree.nodes();
            let found = serde_json::json!({
                "task": task.id(),
                "difficulty": task.difficulty(),
                "success": rollout.success(),
                "judged": rollout.is_judged(),
                "nodes": nodes.len(),
                "depth": nodes.iter().map(|node| node.depth.0).max(),
                "tokens": rollout.tokens(),
                "sampled": rollout.sampled(),
                "critical_path": rollout.critical_path(),
                "faults": rollout.faults,
                "seconds": rollout.seconds,
            });
            format!("{found}\n")
        } else {
            let (tree, _) = Trace::read(&rollout.log);
            let faults: String = rollout.faults.iter().map(|fault| format!("broke: {fault}\n")).collect();
            format!(
                "{}: {} task\n{}{faults}{:.3} s\n",
                task.id(),
                task.difficulty(),
                tree.draw(args.nodes),
                rollout.seconds
            )
        };
        super::print(&text)?;
        Ok(if progress.is_stopped() {
            ExitCode::from(130)
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn find<'a, T: RootTask>(val: &'a [T], train: &'a [T], name: &str) -> anyhow::Result<&'a T> {
    let by_id = val.iter().chain(train).find(|task| task.id() == name);
    let by_difficulty = || val.iter().find(|task| task.difficulty().name() == name);
    by_id.or_else(by_difficulty).ok_or_else(|| {
        let example = val.first().map_or("", RootTask::id);
        anyhow!("no task {name:?}: --task takes an identifier such as {example}, or easy, medium, hard or extreme")
    })
}
