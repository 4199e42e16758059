//! The kinds of work that ship with the trainer, and the seam between them and it: [`Domain`].
//!
//! | module | what an agent does | sub-tasks |
//! |---|---|---|
//! | [`textcraft`] | crafts items by recipe out of one inventory | missing ingredients, side by side where they do not need each other |
//! | [`number_search`] | finds a hidden number, a few numbers at a look | parts of the range, all side by side |
//! | [`aggregation`] | answers a question about a log that is longer than its window | parts of the log, all side by side |
//! | [`multi_hop`] | follows a chain of facts through documents | the rest of the chain: nothing to do side by side |
//!
//! Each has its world (tasks from a seed or from files, and what is right) apart from how its agents speak. A task that agents of a language are
//! given is a [`TextTask`]; what a tiny model is trained on is a [`Domain`].

pub mod aggregation;
mod difficulty;
mod domain;
pub mod multi_hop;
pub mod number_search;
mod rest;
mod sizes;
mod task;
pub mod textcraft;

pub use difficulty::{Difficulty, DifficultyError};
pub use domain::{Domain, Flaws, Language, RootTask, Seating};
pub use sizes::{SizeError, Sizes};
pub use task::TextTask;

use crate::config::{Config, World};
use aggregation::Aggregation;
use number_search::NumberSearch;
use serde::{Deserialize, Serialize};
use std::path::Path;
use textcraft::{Benchmark, TextCraft, generator, official};

/// Which environment a run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnvironmentName {
    /// Craft an item from an inventory.
    #[default]
    #[serde(rename = "textcraft")]
    TextCraft,
    /// Find a hidden number by looking at one after the other.
    NumberSearch,
    /// Answer questions about a log.
    Aggregation,
}

/// An environment with its tasks, ready to be trained on.
#[derive(Clone, Debug)]
pub enum AnyDomain {
    /// Craft an item from an inventory.
    TextCraft(TextCraft),
    /// Find a hidden number by looking at one after the other.
    NumberSearch(NumberSearch),
    /// Answer questions about a log.
    Aggregation(Aggregation),
}

/// Does the same with whichever domain it is: `with_domain!(domain => expression)` binds it to a name, with the type that it has.
#[macro_export]
macro_rules! with_domain {
    ($any:expr, $domain:ident => $body:expr) => {
        match $any {
            $crate::environments::AnyDomain::TextCraft($domain) => $body,
            $crate::environments::AnyDomain::NumberSearch($domain) => $body,
            $crate::environments::AnyDomain::Aggregation($domain) => $body,
        }
    };
}

impl EnvironmentName {
    /// Every environment.
    pub const ALL: [Self; 3] = [Self::TextCraft, Self::NumberSearch, Self::Aggregation];

    /// Its name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TextCraft => "textcraft",
            Self::NumberSearch => "number-search",
            Self::Aggregation => "aggregation",
        }
    }

    /// What its agents speak.
    #[must_use]
    pub const fn language(self) -> Language {
        match self {
            Self::TextCraft => TextCraft::LANGUAGE,
            Self::NumberSearch => NumberSearch::LANGUAGE,
            Self::Aggregation => Aggregation::LANGUAGE,
        }
    }

    /// The smallest window in which an agent can do the least that there is to do.
    #[must_use]
    pub const fn window_min(self) -> u32 {
        match self {
            Self::TextCraft => 8,
            Self::NumberSearch => number_search::agent::WINDOW_MIN,
            Self::Aggregation => aggregation::agent::WINDOW_MIN,
        }
    }

    /// The environment of a task by its identifier: other than TextCraft's, whose files name them as they like, they begin with the name.
    #[must_use]
    pub fn of_task(id: &str) -> Self {
        let begins = |name: &Self| id.strip_prefix(name.name()).is_some_and(|rest| rest.starts_with('.'));
        Self::ALL.into_iter().find(begins).unwrap_or_default()
    }
}

/// The benchmark that the configuration names cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// A directory in the official layout.
    #[error(transparent)]
    Official(#[from] official::OfficialError),
    /// A generated world.
    #[error(transparent)]
    Generator(#[from] generator::GeneratorError),
    /// Tasks that are too large for the language of their agents.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// More items than two tokens can name.
    #[error("`agent.written_names` is for worlds of at most {most} items; this one has {items}", most = textcraft::vocabulary::NAMES)]
    Names {
        /// How many.
        items: usize,
    },
    /// Neither a known name nor a directory.
    #[error(
        "`world.source` takes \"official\", \"generated\" or a directory in the official layout; {0:?} is none of these"
    )]
    UnknownSource(String),
}

/// The environment that the configuration names, with its tasks.
///
/// # Errors
/// [`BenchmarkError`].
pub fn domain(config: &Config) -> Result<AnyDomain, BenchmarkError> {
    let (seed, window, sizes) = (config.world.seed, config.limits.context, config.world.windows);
    Ok(match config.environment {
        EnvironmentName::TextCraft => {
            let benchmark = benchmark(&config.world)?;
            let items = benchmark.world.len();
            if config.agent.written_names && items > textcraft::vocabulary::NAMES as usize {
                return Err(BenchmarkError::Names { items });
            }
            AnyDomain::TextCraft(TextCraft {
                benchmark,
                slots: config.agent.slots,
                interface: config.agent.interface(),
            })
        }
        EnvironmentName::NumberSearch => AnyDomain::NumberSearch(NumberSearch::new(seed, window, sizes)?),
        EnvironmentName::Aggregation => AnyDomain::Aggregation(Aggregation::new(seed, window, sizes)?),
    })
}

/// The world and the tasks of TextCraft that the configuration names.
///
/// # Errors
/// [`BenchmarkError`].
pub fn benchmark(world: &World) -> Result<Benchmark, BenchmarkError> {
    match world.source.as_str() {
        "official" => Ok(official::embedded()?),
        "generated" => Ok(generator::generate(&generator::Spec {
            seed: world.seed,
            ..generator::Spec::default()
        })?),
        path if Path::new(path).is_dir() => Ok(official::load(Path::new(path))?),
        other => Err(BenchmarkError::UnknownSource(other.to_owned())),
    }
}
