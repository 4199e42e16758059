//! A server beside the worker that samples for it.

use super::super::NatsError;
use super::super::link::PAUSE;
use crate::config::{Config, WeightsFormat};
use crate::rollout::Progress;
use rao_backends::openai::{ApiKey, OpenAi, OpenAiError, OpenAiOptions, Wire};
use rao_tree::WeightsVersion;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// What says that a directory has its worker.
const CLAIM: &str = ".rao-worker";

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
    /// Has the server load what lies there: run by the shell whenever it is new, with the path in `RAO_WEIGHTS` and the version in
    /// `RAO_WEIGHTS_VERSION`. When it ends, with success, the weights before are served no longer; those of that path may still be loading.
    pub reload: String,
}

/// Held as long as a worker has new weights put into a directory.
pub(super) struct Claim {
    _file: std::fs::File,
}

impl WorkerServer {
    /// Claims the directory, and with it the server.
    ///
    /// # Errors
    /// [`NatsError::Backend`] if another worker has it, [`NatsError::File`].
    pub(super) fn claim(&self) -> Result<Claim, NatsError> {
        let path = self.directory.join(CLAIM);
        let open = || {
            std::fs::create_dir_all(&self.directory)?;
            let file = std::fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            match file.try_lock() {
                Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => Err(error),
                Err(TryLockError::WouldBlock) => Ok(None),
                Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Claim { _file: file })),
            }
        };
        let claim = open().map_err(|source| NatsError::File {
            path: path.clone(),
            source,
        })?;
        claim.ok_or_else(|| {
            let directory = self.directory.display();
            NatsError::Backend(format!(
                "another worker puts its weights into {directory}: every worker needs a server and a directory of its own"
            ))
        })
    }

    /// Somewhere to put new weights beside the old ones.
    pub(super) fn folder(&self) -> Result<tempfile::TempDir, NatsError> {
        tempfile::tempdir_in(&self.directory).map_err(|source| NatsError::File {
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
        self.reload(&weights, version, patience).await?;
        let window = config.limits.context as usize;
        let begun = Instant::now();
        while !progress.is_stopped() {
            let options = OpenAiOptions {
                model: self.model.clone(),
                api_key: self.api_key.clone(),
                version,
                concurrency: self.requests.max(1),
                // Every token is a request of its own.
                timeout: Duration::from_secs(60),
                deadline: Duration::from_secs(120),
                backoff: Duration::from_millis(100),
                ..OpenAiOptions::new(&self.url, Wire::Distribution { vocab, window })
            };
            let opened = tokio::task::spawn_blocking(move || OpenAi::open(options)).await;
            match opened.map_err(|error| NatsError::Backend(error.to_string()))? {
                Ok(policy) => return self.check_room(policy, window).map(Some),
                // It is still loading.
                Err(OpenAiError::Unreachable { .. }) if begun.elapsed() < patience => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(NatsError::Backend(error.to_string())),
            }
        }
        Ok(None)
    }

    /// Moves the files to where the server reads them, each whole. Returns what it is to read.
    fn put(&self, folder: &Path) -> Result<PathBuf, NatsError> {
        let moved = || {
            for file in std::fs::read_dir(folder)? {
                let file = file?;
                std::fs::rename(file.path(), self.directory.join(file.file_name()))?;
            }
            std::path::absolute(&self.directory)
        };
        let directory = moved().map_err(|source| NatsError::File {
            path: self.directory.clone(),
            source,
        })?;
        Ok(match self.format {
            WeightsFormat::Gguf => directory.join("model.gguf"),
            WeightsFormat::Safetensors => directory,
        })
    }

    async fn reload(&self, weights: &Path, version: WeightsVersion, patience: Duration) -> Result<(), NatsError> {
        let failed =
            |reason: String| NatsError::Backend(format!("{:?} did not reload the server: {reason}", self.reload));
        let mut command = if cfg!(windows) {
            let mut command = Command::new("cmd");
            command.arg("/C");
            command
        } else {
            let mut command = Command::new("sh");
            command.arg("-c");
            command
        };
        command
            .arg(&self.reload)
            .env("RAO_WEIGHTS", weights)
            .env("RAO_WEIGHTS_VERSION", version.0.to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        // Ctrl-C is the worker's: it still has trees to finish, and the server with it.
        #[cfg(unix)]
        command.process_group(0);
        match tokio::time::timeout(patience, command.status()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(failed(status.to_string())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("it has not ended for {} s", patience.as_secs()))),
        }
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
