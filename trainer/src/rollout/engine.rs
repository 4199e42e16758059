//! Where rollouts run. In this process on one thread per policy; other engines carry the same jobs elsewhere.

use super::worker::Worker;
use super::{Job, Next, Rollout, RolloutError, Settings};
use async_trait::async_trait;
use futures::future::join_all;
use rao_tree::{Environment, Policy};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Carries out rollouts.
#[async_trait]
pub trait RolloutEngine<E>: Send {
    /// Rolls out every job and returns the rollouts in the order of the jobs. Fewer come back only after
    /// [`super::Progress::stop`], under [`Settings::cancel_on_stop`].
    async fn rollout(&mut self, jobs: Vec<Job<E>>, settings: &Settings) -> Result<Vec<Rollout>, RolloutError>;
}

/// Where [`InProcess::serve`] gets trees from, and where it leaves them. Both are called by all of its threads, and must not block.
pub trait Source<E>: Send + Sync {
    /// The next tree; asked whenever there is room for one.
    fn next(&self) -> Next<E>;

    /// A tree has ended.
    fn ended(&self, rollout: Rollout);

    /// Something broke: what is under way comes to its end, and there is no next.
    fn close(&self);
}

/// All jobs from the beginning on.
struct Queue<E> {
    jobs: Mutex<std::iter::Enumerate<std::vec::IntoIter<Job<E>>>>,
    ended: Mutex<Vec<Rollout>>,
}

impl<E: Send> Source<E> for Queue<E> {
    fn next(&self) -> Next<E> {
        let next = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
        next.map_or(Next::Never, |(index, job)| Next::Job(index, job))
    }

    fn ended(&self, rollout: Rollout) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(rollout);
    }

    fn close(&self) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.by_ref().for_each(drop);
    }
}

/// One thread per policy in this process. Jobs are handed out one by one, so that no thread idles while another has a queue.
///
/// A policy that panics is not used again: what it had under way comes back cancelled, with its words among the faults, and the other
/// workers go on. It must be called on a tokio runtime that keeps time.
pub struct InProcess<P> {
    workers: Vec<Worker<P>>,
    stall: Duration,
}

/// How long a worker may be in one call, unless [`InProcess::with_stall`] says otherwise: longer than anything that works.
pub const STALL: Duration = Duration::from_secs(600);

impl<P: Policy> InProcess<P> {
    /// An engine over these policies.
    pub fn new(policies: Vec<P>) -> Self {
        Self {
            workers: policies.into_iter().map(Worker::new).collect(),
            stall: STALL,
        }
    }

    /// A worker that has been in one call into its policy or an environment for so long ends the rollout with [`RolloutError::Stalled`]; so does one
    /// that has got nowhere for four times as long, because its policy draws nothing or its judges say nothing. At least a millisecond.
    #[must_use]
    pub fn with_stall(mut self, stall: Duration) -> Self {
        self.stall = stall.max(Duration::from_millis(1));
        for worker in &mut self.workers {
            worker.set_stall(self.stall);
        }
        self
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
        let queue = Arc::new(Queue {
            jobs: Mutex::new(jobs.into_iter().enumerate()),
            ended: Mutex::default(),
        });
        self.serve(Arc::clone(&queue), settings).await?;
        let mut all = std::mem::take(&mut *queue.ended.lock().unwrap_or_else(PoisonError::into_inner));
        all.sort_by_key(|rollout| rollout.job);
        Ok(all)
    }
}

impl<P> InProcess<P>
where
    P: Policy + Send + 'static,
    P::Error: Send + Sync + 'static,
{
    /// Rolls out what the source hands over, until it says that there is no more and what is under way has ended.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn serve<E>(
        &mut self,
        source: Arc<impl Source<E> + 'static>,
        settings: &Settings,
    ) -> Result<(), RolloutError>
    where
        E: Environment + Send + 'static,
    {
        if self.workers.is_empty() {
            return Err(RolloutError::NoPolicy);
        }
        let pulses: Vec<_> = self.workers.iter().map(Worker::pulse).collect();
        let tasks = std::mem::take(&mut self.workers).into_iter().map(|mut worker| {
            let (source, settings) = (Arc::clone(&source), settings.clone());
            tokio::task::spawn_blocking(move || {
                let result = worker.run(|| source.next(), |rollout| source.ended(rollout), &settings);
                if result.is_err() {
                    // The others finish what they have under way and find nothing more.
                    source.close();
                }
                (worker, result)
            })
        });
        let mut failure = None;
        let mut joined = join_all(tasks);
        let joined = loop {
            match tokio::time::timeout(self.stall / 4, &mut joined).await {
                Ok(joined) => break joined,
                Err(_) => {
                    if let Some((doing, since)) = pulses.iter().find_map(|pulse| pulse.stalled(self.stall)) {
                        return Err(RolloutError::Stalled { doing, since });
                    }
                }
            }
        };
        let mut death = None;
        for joined in joined {
            match joined {
                Ok((worker, result)) => {
                    match worker.dead() {
                        None => self.workers.push(worker),
                        Some(text) => death = Some(text.to_owned()),
                    }
                    if let Err(error) = result {
                        failure = Some(error);
                    }
                }
                Err(error) => failure = Some(RolloutError::Panicked(error.to_string())),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(text) = death
            && self.workers.is_empty()
        {
            return Err(RolloutError::Panicked(text));
        }
        Ok(())
    }
}
