//! The environments that ship with the trainer.

pub mod textcraft;

use crate::config::World;
use std::path::Path;
use textcraft::{Benchmark, generator, official};

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
    /// Neither a known name nor a directory.
    #[error(
        "`world.source` takes \"official\", \"generated\" or a directory in the official layout; {0:?} is none of these"
    )]
    UnknownSource(String),
}

/// The world and the tasks that the configuration names.
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
