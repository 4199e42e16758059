//! The thread that talks to the server.

use super::error::OpenAiError;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Runs tasks until it is dropped, which ends them where they are.
pub(super) struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start() -> Result<Self, OpenAiError> {
        let fail = |error: std::io::Error| OpenAiError::Thread(error.to_string());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let _ = runtime.block_on(stopped);
            // A name that is still being looked up keeps nobody.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("rao-openai".to_owned())
            .spawn(run)
            .map_err(fail)?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What a task panicked with was reported where it happened.
            let _ = thread.join();
        }
    }
}
