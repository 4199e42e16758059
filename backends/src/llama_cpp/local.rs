//! The policy without a thread of its own: for devices that have one.

use super::engine::Engine;
use super::error::{LlamaCppError, LoadError};
use super::file::FileInfo;
use super::gather::Gatherer;
use super::options::{LlamaCppOptions, ModelFile};
use super::thread::load;
use rao_tree::{Policy, Request, SequenceId, WeightsVersion};

/// Samples a GGUF file on the thread that calls it; [`on_this_thread`] makes one. What the [module](super) promises holds, but for clones and
/// for restarts: a panic is the caller's.
pub struct Local<'m> {
    engine: Engine<'m>,
    gatherer: Gatherer,
    info: FileInfo,
    version: WeightsVersion,
    window: usize,
}

impl Local<'_> {
    /// As [`LlamaCpp::publish_adapter`](super::LlamaCpp::publish_adapter).
    ///
    /// # Errors
    /// [`LoadError`]: the file is refused, and the old weights stay.
    pub fn publish_adapter(&mut self, file: &ModelFile, version: WeightsVersion) -> Result<(), LoadError> {
        self.engine.adapt(&self.info, file.path())?;
        self.version = version;
        Ok(())
    }

    /// What the header of the file says.
    #[must_use]
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    /// Longest context it takes, in tokens.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }
}

/// Loads a file and calls `body` with a policy that samples it, without another thread. The deadline of the options is not kept: nobody else is there to
/// keep it.
///
/// # Errors
/// [`LoadError`] names the file and what is wrong with it.
pub fn on_this_thread<R>(
    file: &ModelFile,
    version: WeightsVersion,
    options: LlamaCppOptions,
    body: impl FnOnce(&mut Local<'_>) -> R,
) -> Result<R, LoadError> {
    let options = options.in_range();
    let (model, info) = load(file, &options)?;
    let mut engine = Engine::new(&model, &options)?;
    if let Some(adapter) = file.adapter() {
        engine.adapt(&info, adapter)?;
    }
    let mut policy = Local {
        engine,
        gatherer: Gatherer::default(),
        window: info.context_length.min(options.window) as usize,
        info,
        version,
    };
    Ok(body(&mut policy))
}

impl Policy for Local<'_> {
    type Error = LlamaCppError;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, LlamaCppError> {
        let Self { engine, gatherer, .. } = self;
        gatherer.sample(batch, 0, self.info.vocab, self.window, |jobs| engine.run(jobs))
    }

    fn weights(&self) -> WeightsVersion {
        self.version
    }

    fn forget(&mut self, sequence: SequenceId) {
        self.engine.forget((0, sequence));
    }
}
