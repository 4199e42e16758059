//! The worker's side: takes tasks, rolls them out, and sends their trees home.

mod desk;
mod puller;
#[cfg(feature = "openai")]
mod server;
mod shift;
mod weights;

use super::announcement::Announcement;
use super::link::{Link, PAUSE, REQUEST};
use super::{NatsError, WorkerBackend};
use crate::environments;
use crate::rollout::Progress;
use crate::with_domain;
use puller::Puller;
#[cfg(feature = "openai")]
pub use server::WorkerServer;
use shift::Shift;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// What samples.
    pub backend: WorkerBackend,
    /// Threads that sample; 0 takes one per core, for llama.cpp one fewer.
    pub threads: usize,
    /// Trees under way at once, at least 1.
    pub trees: usize,
    /// How long it waits for a trainer, for the next task, for the NATS server to come back, or for a server of its own to load new weights,
    /// before it ends with an error.
    pub patience: Duration,
}

/// Takes tasks and sends trees until somebody asks to stop: then those under way are finished and sent, and the others given back. `say` is
/// told what a person would want to know.
///
/// # Errors
/// [`NatsError`]: there is no trainer, no task or no server for as long as patience lasts, it is of another version, or the policy failed. Tasks that
/// were not ended go to other workers.
pub async fn work(
    link: &Link,
    options: &WorkerOptions,
    progress: &Arc<Progress>,
    say: impl Fn(&str),
) -> Result<(), NatsError> {
    #[cfg(feature = "openai")]
    let _claim = match &options.backend {
        WorkerBackend::OpenAi(server) => Some(server.claim()?),
        _ => None,
    };
    let Some(mut announcement) = newest(link, options, progress).await? else {
        return Ok(());
    };
    let mut puller = None;
    let mut left = Vec::new();
    loop {
        let config = announcement.config()?;
        let domain = environments::domain(&config)?;
        left = with_domain!(domain, domain => {
            match Shift::begin(link, options, progress, &domain, announcement, config, &say).await? {
                Some(mut shift) => {
                    // Not before it can do anything with them: a worker that cannot begin costs no task a delivery.
                    let puller = puller.get_or_insert_with(|| Puller::start(link, options.trees.max(1)));
                    shift.run(puller, left).await?
                }
                None => left,
            }
        });
        match newest(link, options, progress).await? {
            Some(next) => announcement = next,
            None => break,
        }
    }
    if let Some(puller) = puller {
        left.extend(puller.stop().await);
    }
    for ticket in left {
        ticket.give_back().await;
    }
    // What was acknowledged last is still on its way.
    let _ = tokio::time::timeout(REQUEST, link.client.flush()).await;
    Ok(())
}

/// The newest announcement; `None` if somebody asks to stop.
async fn newest(link: &Link, options: &WorkerOptions, progress: &Progress) -> Result<Option<Announcement>, NatsError> {
    let begun = Instant::now();
    while !progress.is_stopped() {
        match link.announcement().await {
            Ok(Some(announcement)) => return Ok(Some(announcement)),
            // The stream is made by the trainer.
            Ok(None) | Err(NatsError::Server { .. }) if begun.elapsed() < options.patience => {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(None) | Err(NatsError::Server { .. }) => {
                return Err(NatsError::NoTrainer {
                    place: link.place().to_owned(),
                    waited: begun.elapsed(),
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
