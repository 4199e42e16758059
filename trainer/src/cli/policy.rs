//! The policies of a run, by name.

#[cfg(feature = "candle")]
use anyhow::Context;
use anyhow::bail;
#[cfg(feature = "candle")]
use rao_trainer::backend::Trainee;
use rao_trainer::config::Config;
use rao_trainer::rollout::InProcess;
#[cfg(feature = "candle")]
use rao_trainer::run::RunDir;
use rao_trainer::sampler::{self, Sampler};
#[cfg(feature = "candle")]
use rao_trainer::train::checkpoint::{self, Stage};
use std::path::PathBuf;

/// Which policy of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arm {
    /// The one trained by recursive agent optimization.
    Recursive,
    /// Its flat twin, which cannot spawn.
    Flat,
    /// The one after the warm start, which may spawn.
    Base,
}

impl Arm {
    /// Its name, in the run directory and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recursive => "recursive",
            Self::Flat => "flat",
            Self::Base => "base",
        }
    }

    /// Deepest node of its trees.
    pub fn depth(self, config: &Config) -> u8 {
        if self == Self::Flat {
            0
        } else {
            config.eval.limits.depth
        }
    }
}

#[cfg(feature = "candle")]
impl Arm {
    /// Where the policy of a checkpoint lies: that of a step, or the best.
    fn checkpoint(self, run: &RunDir, which: &str) -> anyhow::Result<PathBuf> {
        let stage = match self {
            Self::Recursive => Stage::Recursive,
            Self::Flat => Stage::Flat,
            Self::Base => Stage::Warmstart,
        };
        let all = checkpoint::list(run)?;
        // Where a stage begins, it has no policy of its own.
        let of_arm = || all.iter().filter(|entry| entry.stage == stage && entry.step > 0);
        let found = match which {
            "best" => checkpoint::best(&all, stage),
            step => of_arm().find(|entry| step.parse() == Ok(entry.step)),
        };
        let steps: Vec<String> = of_arm().map(|entry| entry.step.to_string()).collect();
        found.map(|entry| entry.path.clone()).with_context(|| {
            format!(
                "{} has no checkpoint {which} of {}: there are {}",
                run.path().display(),
                self.name(),
                if steps.is_empty() {
                    "none".to_owned()
                } else {
                    steps.join(", ")
                }
            )
        })
    }
}

/// Where a policy comes from and what samples it: what `rao eval` and `rao rollout` have in common.
#[derive(clap::Args)]
pub struct PolicyArgs {
    /// Run directory of `rao train`, a GGUF file of `rao export`, or the URL of an OpenAI-compatible server, with its version.
    #[arg(long, value_name = "RUN|FILE.gguf|URL")]
    policy: PathBuf,
    /// Which policy of the run.
    #[arg(long, value_enum, default_value_t = Arm::Recursive)]
    pub arm: Arm,
    /// A checkpoint of that arm in the place of its last policy: the step that it was written before, or `best`, the one after the steps with the
    /// highest root success.
    #[arg(long, value_name = "STEP|best")]
    checkpoint: Option<String>,
    /// What samples it. Default: candle for a run, llama-cpp for a GGUF file.
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// How llama.cpp's copy of a run's weights is stored, for example q8_0.
    #[arg(long, value_name = "QUANT")]
    quant: Option<String>,
    /// Another configuration key, for example eval.limits.depth=6; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// What samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// In full precision.
    Candle,
    /// llama.cpp, quantised or not.
    LlamaCpp,
}

impl PolicyArgs {
    /// The server that has the policy, if one has.
    #[cfg(feature = "openai")]
    pub fn url(&self) -> Option<&str> {
        let text = self.policy.to_str()?;
        super::server::is_url(text).then_some(text)
    }

    /// Other configuration keys.
    #[cfg(feature = "openai")]
    pub fn settings(&self) -> &[String] {
        &self.settings
    }

    /// The configuration that the policy was trained under, as changed by the settings, and an engine of at most so many threads (0: as
    /// configured) that samples it.
    pub fn open(&self, threads: Option<usize>) -> anyhow::Result<(InProcess<Sampler>, Config)> {
        if self.policy.is_file() {
            if self.backend == Some(Backend::Candle) || self.quant.is_some() || self.checkpoint.is_some() {
                bail!(
                    "{} is a GGUF file: llama.cpp samples it, as it is quantised; leave --backend, --quant and --checkpoint out",
                    self.policy.display()
                );
            }
            let config = Config::resolve(None, &self.settings)?;
            let threads = threads.unwrap_or(config.threads);
            let context = config.eval.limits.context;
            let engine = sampler::open(
                &self.policy,
                &config.rollout,
                threads,
                context,
                config.environment.language(),
            )?;
            return Ok((engine, config));
        }
        self.open_run(threads)
    }

    #[cfg(feature = "candle")]
    fn open_run(&self, threads: Option<usize>) -> anyhow::Result<(InProcess<Sampler>, Config)> {
        let run = RunDir::open(&self.policy)?;
        // However it was trained: in full precision unless something else is asked for.
        let backend = match (self.backend, &self.quant) {
            (Some(Backend::LlamaCpp), _) | (None, Some(_)) => "llama-cpp",
            (Some(Backend::Candle), Some(_)) => {
                bail!("--quant is for --backend llama-cpp: candle samples in full precision")
            }
            _ => "candle",
        };
        let mut settings = vec![format!("rollout.backend={backend}")];
        settings.extend(self.quant.iter().map(|quant| format!("rollout.quant={quant}")));
        settings.extend_from_slice(&self.settings);
        let config = Config::resolve(Some(&self.policy.join("config.toml")), &settings)?;
        let trained = Config::resolve(Some(&self.policy.join("config.toml")), &[])?.environment;
        if config.environment != trained {
            bail!(
                "the policies of {} speak the language of {}, and not that of {}: leave `environment` as it is",
                self.policy.display(),
                trained.name(),
                config.environment.name()
            );
        }
        let path = match &self.checkpoint {
            Some(checkpoint) => self.arm.checkpoint(&run, checkpoint)?,
            None => run.policy(self.arm.name()),
        };
        let policy = Trainee::load(&path, &config).with_context(|| {
            format!(
                "cannot load the {} policy of {}",
                self.arm.name(),
                self.policy.display()
            )
        })?;
        let engine = policy.engine(&config, threads.unwrap_or(config.threads))?;
        Ok((engine, config))
    }

    #[cfg(not(feature = "candle"))]
    fn open_run(&self, _: Option<usize>) -> anyhow::Result<(InProcess<Sampler>, Config)> {
        bail!(
            "{} is no GGUF file; runs are read by `candle`, without which this binary was built: cargo build --release --features candle",
            self.policy.display()
        )
    }
}
