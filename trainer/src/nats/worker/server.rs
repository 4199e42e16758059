//! A server beside the worker that samples for it.

use super::super::NatsError;
use super::super::link::PAUSE;
use super::shift::LOOK;
use crate::config::{Config, WeightsFormat};
use crate::rollout::Progress;
use crate::run::{self, RunError};
use rao_backends::openai::{ApiKey, OpenAi, OpenAiError, OpenAiOptions, Wire};
use rao_tree::WeightsVersion;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

/// What says that a directory has its worker.
const CLAIM: &str = ".rao-worker";
/// Begins the names of directories into which weights are being read.
const PARTIAL: &str = ".rao-new-";
/// The GGUF file.
const MODEL: &str = "model.gguf";

/// A server of the worker's own: nobody else has it load weights, or trees would be sampled under several versions of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerServer {
    /// Where its endpoints begin, as [`OpenAiOptions::url`].
    pub url: String,
    /// What it is asked for; `None` for the one model that it serves.
    pub model: Option<String>,
    /// Its key.
    pub api_key: Option<ApiKey>,
    /// Requests under way at once, at least 1.
    pub requests: usize,
    /// What it reads: a GGUF file, or a directory with safetensors.
    pub format: WeightsFormat,
    /// Where the weights are put: `model.gguf`, or `config.json` and `model.safetensors`. Made where it is not there.
    pub directory: PathBuf,
    /// Has the server load what lies there: run by `sh` whenever it is new, with the path in `RAO_WEIGHTS` and the version in
    /// `RAO_WEIGHTS_VERSION`. When it ends, with success, the weights before are served no longer; those of that path may still be loading.
    pub reload: String,
}

impl WorkerServer {
    /// Claims the directory, and with it the server, for as long as what it returns is kept.
    ///
    /// # Errors
    /// [`NatsError::Backend`] if another worker has it, [`NatsError::File`].
    pub(super) fn claim(&self) -> Result<Option<Arc<File>>, NatsError> {
        let failed = |path: &Path, source| NatsError::File {
            path: path.to_owned(),
            source,
        };
        let directory = &self.directory;
        std::fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
        let claim = run::lock(directory, CLAIM).map_err(|error| match error {
            RunError::Io { path, source } => NatsError::File { path, source },
            _ => NatsError::Backend(format!(
                "another worker puts its weights into {}: every worker needs a server and a directory of its own",
                directory.display()
            )),
        })?;
        // Of workers that were killed while they read weights.
        let left = std::fs::read_dir(directory).map_err(|source| failed(directory, source))?;
        for entry in left.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                std::fs::remove_dir_all(entry.path()).map_err(|source| failed(&entry.path(), source))?;
            }
        }
        Ok(claim)
    }

    /// Somewhere to put new weights beside the old ones.
    pub(super) fn folder(&self) -> Result<tempfile::TempDir, NatsError> {
        let folder = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&self.directory);
        folder.map_err(|source| NatsError::File {
            path: self.directory.clone(),
            source,
        })
    }

    /// Puts these weights in their place, has the server load them, and waits until it answers with them. `None` if somebody asks to stop
    /// meanwhile.
    ///
    /// # Errors
    /// [`NatsError::Backend`]: the command fails; the server does not answer for as long as patience lasts, is not one for weights like these, or has
    /// too little room.
    pub(super) async fn load(
        &self,
        folder: &Path,
        version: WeightsVersion,
        config: &Config,
        vocab: usize,
        (patience, progress): (Duration, &Progress),
    ) -> Result<Option<OpenAi>, NatsError> {
        let weights = self.put(folder)?;
        // Of the trees' own time, beyond which they are worth nothing.
        let tree = Duration::from_secs_f64(config.limits.seconds.max(1.0));
        let window = config.limits.context as usize;
        let options = OpenAiOptions {
            model: self.model.clone(),
            api_key: self.api_key.clone(),
            version,
            concurrency: self.requests.max(1),
            timeout: tree / 4,
            deadline: tree / 2,
            // Within the deadline.
            retries: u32::MAX,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            // What fails for so long is the server. The trees under way are worth nothing then, but nobody has ended them: others will.
            failures_max: 1,
            ..OpenAiOptions::new(&self.url, Wire::Distribution { vocab, window })
        };
        let end = Instant::now() + patience;
        let loading = async {
            self.reload(&weights, version, end).await?;
            let policy = self.open(options, end).await?;
            self.check_room(policy, window)
        };
        tokio::select! {
            loaded = loading => loaded.map(Some),
            () = stopped(progress) => Ok(None),
        }
    }

    /// Moves the files to where the server reads them, each whole. Returns what it is to read.
    fn put(&self, folder: &Path) -> Result<PathBuf, NatsError> {
        let names: &[&str] = match self.format {
            WeightsFormat::Gguf => &[MODEL],
            WeightsFormat::Safetensors => &["config.json", "model.safetensors"],
        };
        for name in names {
            let path = self.directory.join(name);
            std::fs::rename(folder.join(name), &path).map_err(|source| NatsError::File { path, source })?;
        }
        let directory = std::path::absolute(&self.directory).map_err(|source| NatsError::File {
            path: self.directory.clone(),
            source,
        })?;
        Ok(match self.format {
            WeightsFormat::Gguf => directory.join(MODEL),
            WeightsFormat::Safetensors => directory,
        })
    }

    async fn reload(&self, weights: &Path, version: WeightsVersion, end: Instant) -> Result<(), NatsError> {
        let failed =
            |reason: String| NatsError::Backend(format!("{:?} did not reload the server: {reason}", self.reload));
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(&self.reload)
            .env("RAO_WEIGHTS", weights)
            .env("RAO_WEIGHTS_VERSION", version.0.to_string())
            .stdin(Stdio::null());
        // Ctrl-C is the worker's: it still has trees to finish, and the server with it.
        #[cfg(unix)]
        command.process_group(0);
        let mut running = Running(command.spawn().map_err(|error| failed(format!("sh: {error}")))?);
        match timeout_at(end, running.0.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(failed(status.to_string())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("it has not ended for as long as --patience".to_owned())),
        }
    }

    /// A policy over the server, once it answers.
    async fn open(&self, options: OpenAiOptions, end: Instant) -> Result<OpenAi, NatsError> {
        let failed = |error: &dyn std::fmt::Display| NatsError::Backend(error.to_string());
        let opening = async {
            loop {
                let options = options.clone();
                let opened = tokio::task::spawn_blocking(move || OpenAi::open(options)).await;
                match opened.map_err(|error| failed(&error))? {
                    // It is still loading.
                    Err(OpenAiError::Unreachable { .. }) => tokio::time::sleep(PAUSE).await,
                    opened => return opened.map_err(|error| failed(&error)),
                }
            }
        };
        timeout_at(end, opening).await.unwrap_or_else(|_| {
            let url = &self.url;
            Err(failed(&format_args!(
                "{url} has not answered for as long as --patience: did the server start, and could it load the weights?"
            )))
        })
    }

    /// An agent that has less room than the trainer means it to have would be another agent.
    fn check_room(&self, policy: OpenAi, window: usize) -> Result<OpenAi, NatsError> {
        match policy.window() {
            Some(room) if room < window => Err(NatsError::Backend(format!(
                "{} has room for {room} tokens of context, and an agent may take {window}: give each of its slots that many (llama-server: \
                 --ctx-size {window} times --parallel; vLLM: --max-model-len {window})",
                self.url
            ))),
            _ => Ok(policy),
        }
    }
}

/// Ends when somebody asks to stop.
async fn stopped(progress: &Progress) {
    while !progress.is_stopped() {
        tokio::time::sleep(LOOK).await;
    }
}

/// A command, killed with all that it started if it is dropped before it has ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Until it was waited for, its number is nobody else's.
        if let Some(id) = self.0.id() {
            let group = format!("-{id}");
            // Where that fails it has ended.
            let _ = std::process::Command::new("kill")
                .args(["-KILL", "--", &group])
                .status();
        }
    }
}
