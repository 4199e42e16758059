//! Where rollouts run. In this process on one thread per policy; other engines carry the same jobs elsewhere.

use super::worker::Worker;
use super::{Job, Rollout, RolloutError, Settings};
use async_trait::async_trait;
use futures::future::join_all;
use rao_tree::{Environment, Policy};
use std::sync::{Arc, Mutex, PoisonError};

/// Carries out rollouts.
#[async_trait]
pub trait RolloutEngine<E>: Send {
    /// Rolls out every job and returns the rollouts in the order of the jobs. Fewer come back only after
    /// [`super::Progress::stop`], under [`Settings::cancel_on_stop`].
    async fn rollout(&mut self, jobs: Vec<Job<E>>, settings: &Settings) -> Result<Vec<Rollout>, RolloutError>;
}

/// One thread per policy in this process. Jobs are handed out one by one, so that no thread idles while another has a queue.
pub struct InProcess<P> {
    workers: Vec<Worker<P>>,
}

impl<P: Policy> InProcess<P> {
    /// An engine over these policies.
    pub fn new(policies: Vec<P>) -> Self {
        Self {
            workers: policies.into_iter().map(Worker::new).collect(),
        }
    }

    /// The policies, for publishing new weights between rollouts.
    pub fn policies_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.workers.iter_mut().map(Worker::policy_mut)
    }
}

#[async_trait]
impl<P, E> RolloutEngine<E> for InProcess<P>
where
    P: Policy + Send + 'static,
    P::Error: Send + Sync + 'static,
    E: Environment + Send + 'static,
{
    async fn rollout(&mut self, jobs: Vec<Job<E>>, settings: &Settings) -> Result<Vec<Rollout>, RolloutError> {
        if self.workers.is_empty() {
            return Err(RolloutError::NoPolicy);
        }
        let queue = Arc::new(Mutex::new(jobs.into_iter().enumerate()));
        let tasks = std::mem::take(&mut self.workers).into_iter().map(|mut worker| {
            let (queue, settings) = (Arc::clone(&queue), settings.clone());
            tokio::task::spawn_blocking(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let rollouts = worker.rollout(next, &settings);
                if rollouts.is_err() {
                    // The others finish what they have under way and find nothing more.
                    queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .by_ref()
                        .for_each(drop);
                }
                (worker, rollouts)
            })
        });
        let mut all = Vec::new();
        let mut failure = None;
        for joined in join_all(tasks).await {
            match joined {
                Ok((worker, rollouts)) => {
                    self.workers.push(worker);
                    match rollouts {
                        Ok(rollouts) => all.extend(rollouts),
                        Err(error) => failure = Some(error),
                    }
                }
                Err(error) => failure = Some(RolloutError::Panicked(error.to_string())),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        all.sort_by_key(|rollout| rollout.job);
        Ok(all)
    }
}
