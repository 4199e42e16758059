//! `rao eval`.

use super::policy::PolicyArgs;
#[cfg(feature = "openai")]
use super::server::{Served, ServerArgs, Visit};
use anyhow::Context;
#[cfg(feature = "openai")]
use rao_backends::openai::OpenAi;
use rao_trainer::config::Config;
use rao_trainer::environments::EnvironmentName;
#[cfg(feature = "openai")]
use rao_trainer::environments::{RootTask, Seating};
use rao_trainer::evaluate::{Played, Scores, Suite, judge};
#[cfg(feature = "openai")]
use rao_trainer::language::HarnessError;
#[cfg(feature = "openai")]
use rao_trainer::rollout::InProcess;
use rao_trainer::rollout::Progress;
use rao_trainer::{environments, table, with_domain};
#[cfg(feature = "openai")]
use rao_tree::Environment;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao eval --policy runs/train-001                             all held-out tasks that the run's own evaluation took
  rao eval --policy runs/train-001 --tasks extreme --limit 0   all 136 extreme ones
  rao eval --policy runs/train-001 --arm flat --tasks easy
  rao eval --policy runs/train-001 --quant q8_0                as llama.cpp samples it, quantised
  rao eval --policy policy.gguf --tasks medium                 a file of `rao export`
  rao eval --policy runs/train-001 --items trees.jsonl         and what came of every tree
  rao eval --policy http://127.0.0.1:8080/v1 --harness code --work number-search --tasks easy --limit 5")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Difficulties, separated by commas: easy, medium, hard, extreme. Default: as the run was evaluated.
    #[arg(long, value_delimiter = ',', value_name = "DIFFICULTY")]
    tasks: Option<Vec<String>>,
    /// Tasks per difficulty; 0 takes all there are. Default: as the run was evaluated.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write a line of JSON for every tree: task, success, nodes, tokens, critical path, seconds. With --set eval.trees=1 its seconds are a
    /// latency.
    #[arg(long, value_name = "FILE.jsonl")]
    items: Option<PathBuf>,
    /// Print the scores as JSON instead of the table.
    #[arg(long)]
    json: bool,
    #[cfg(feature = "openai")]
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn run(args: Args, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "openai")]
    if let Some(url) = args.policy.url() {
        return run_served(&args, url, progress).await;
    }
    let (mut engine, mut config) = args.policy.open(None)?;
    args.narrow(&mut config)?;
    let mut items = Items::create(args.items.as_deref())?;
    let (depth, vocab) = (args.policy.arm.depth(&config), engine.vocab());
    let scores = with_domain!(environments::domain(&config)?, domain => {
        judge(&mut engine, &Suite::of(&domain), &config, (depth, vocab), "evaluation", progress, |tree| items.add(tree)).await?
    });
    items.end()?;
    show(&args, Some(config.environment), &scores, progress)
}

impl Args {
    /// Takes the tasks that were asked for.
    fn narrow(&self, config: &mut Config) -> anyhow::Result<()> {
        if let Some(names) = &self.tasks {
            config.eval.difficulties = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        }
        if let Some(limit) = self.limit {
            let eval = &mut config.eval;
            (eval.easy, eval.medium, eval.hard, eval.extreme) = (limit, limit, limit, limit);
        }
        Ok(())
    }
}

/// The file of `--items`, where one was asked for.
struct Items {
    file: Option<(PathBuf, BufWriter<File>)>,
    /// What went wrong with it, said when the evaluation has ended.
    error: Option<std::io::Error>,
}

impl Items {
    fn create(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| -> anyhow::Result<_> {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok((path.to_owned(), BufWriter::new(file)))
        };
        let file = path.map(open).transpose()?;
        Ok(Self { file, error: None })
    }

    fn add(&mut self, tree: &Played) {
        let Some((_, file)) = &mut self.file else { return };
        let line = serde_json::to_string(tree).expect("numbers and names have a JSON form");
        let written = writeln!(file, "{line}");
        self.error = self.error.take().or(written.err());
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        let error = self.error.take().or(file.flush().err());
        error.map_or(Ok(()), |error| {
            Err(error).with_context(|| format!("cannot write {}", path.display()))
        })
    }
}

#[cfg(feature = "openai")]
async fn run_served(args: &Args, url: &str, progress: &Arc<Progress>) -> anyhow::Result<ExitCode> {
    struct Judge<'a>(&'a Arc<Progress>, Items);

    impl Visit for Judge<'_> {
        type Output = Scores;

        async fn visit<T: RootTask + Sync, E: Environment<Error = HarnessError> + Send + 'static>(
            mut self,
            engine: &mut InProcess<OpenAi>,
            suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E + Sync>,
            config: &Config,
            arm: (u8, usize),
        ) -> anyhow::Result<Scores> {
            let each = |tree: &Played| self.1.add(tree);
            let scores = judge(engine, suite, config, arm, "evaluation", self.0, each).await?;
            self.1.end()?;
            Ok(scores)
        }
    }

    let mut served = Served::open(url, &args.server, args.policy.settings(), args.policy.arm)?;
    args.narrow(&mut served.config)?;
    let items = Items::create(args.items.as_deref())?;
    let scores = served.visit(Judge(progress, items)).await?;
    let code = show(args, None, &scores, progress)?;
    // What the agents got wrong says more than a score of 0.
    eprintln!("{}", served.tally);
    Ok(code)
}

fn show(
    args: &Args,
    environment: Option<EnvironmentName>,
    scores: &Scores,
    progress: &Progress,
) -> anyhow::Result<ExitCode> {
    if progress.is_stopped() {
        return Ok(ExitCode::from(130));
    }
    let text = if args.json {
        format!(
            "{}
",
            serde_json::to_string(scores)?
        )
    } else {
        table::arm(environment, args.policy.arm.name(), scores)
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
