//! The policies of a run, by name.

use anyhow::Context;
use rao_trainer::backend::Trainee;
use rao_trainer::config::Config;
use rao_trainer::run::RunDir;
use std::path::Path;

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

/// A policy of a run, with the run's configuration as changed by `settings`.
pub fn load(path: &Path, arm: Arm, settings: &[String]) -> anyhow::Result<(Trainee, Config)> {
    let run = RunDir::open(path)?;
    let config = Config::resolve(Some(&path.join("config.toml")), settings)?;
    let policy = Trainee::load(&run.policy(arm.name()), &config)
        .with_context(|| format!("cannot load the {} policy of {}", arm.name(), path.display()))?;
    Ok((policy, config))
}
