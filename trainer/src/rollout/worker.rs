//! One policy and the trees that are under way on it.

use super::guarded::{Guarded, message};
use super::pulse::{Doing, Pulse};
use super::tree_run::TreeRun;
use super::{Job, Next, Rollout, RolloutError, STALL, Settings};
use crate::judge::Ruling;
use rao_tree::{Environment, Policy, Request, SequenceId, WeightsVersion};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long a worker that only waits for judges does so before it looks at deadlines again.
const JUDGES: Duration = Duration::from_millis(20);
/// How long a worker without trees waits before it asks for one again.
const PAUSE: Duration = Duration::from_millis(5);
/// How often a policy may fail one call after the other; what it has said by then is kept, and it is asked again.
const FAILURES_MAX: u32 = 3;
/// How many times as long as for one call a worker goes on that gets nowhere: its policy answers and draws nothing, or its judges are silent. What
/// is slow, such as a server, is told again and again to wait, and has its own deadlines.
const IDLE: u32 = 4;

/// Owns a policy and rolls trees out on it, on the thread that calls it.
pub struct Worker<P> {
    policy: P,
    /// Names of trees that were given so far: their contexts are named after them.
    named: u64,
    /// What it is doing, for whoever watches.
    pulse: Arc<Pulse>,
    /// How long one call may take.
    stall: Duration,
    /// What the policy said when it panicked: it is never called again.
    dead: Option<String>,
}

impl<P: Policy> Worker<P> {
    /// A worker around a policy.
    pub fn new(policy: P) -> Self {
        Self {
            policy,
            named: 0,
            pulse: Arc::default(),
            stall: STALL,
            dead: None,
        }
    }

    /// How long one call may take. It does not watch itself; but it gives up after four times as long without anything that gets it on.
    pub(super) fn set_stall(&mut self, stall: Duration) {
        self.stall = stall;
    }

    /// What it is doing.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Why its policy can be used no longer, if that is so.
    pub(super) fn dead(&self) -> Option<&str> {
        self.dead.as_deref()
    }

    /// The policy, for publishing new weights between rollouts.
    pub fn policy_mut(&mut self) -> &mut P {
        &mut self.policy
    }

    /// Rolls out the jobs that `next` hands over until it has none left. `next` is asked whenever there is room for another tree.
    ///
    /// An environment that panics costs its own node, as one does that fails. A policy that fails is asked again, up to three times in a row.
    ///
    /// # Errors
    /// [`RolloutError`]: the policy failed or panicked, or a defect of this crate. Trees under way are lost then.
    pub fn rollout<E: Environment>(
        &mut self,
        mut next: impl FnMut() -> Option<(usize, Job<E>)>,
        settings: &Settings,
    ) -> Result<Vec<Rollout>, RolloutError>
    where
        P::Error: Send + Sync + 'static,
    {
        let mut rollouts = Vec::new();
        let next = || next().map_or(Next::Never, |(index, job)| Next::Job(index, job));
        self.run(next, |rollout| rollouts.push(rollout), settings)?;
        match &self.dead {
            None => Ok(rollouts),
            Some(text) => Err(RolloutError::Panicked(text.clone())),
        }
    }

    /// The same for jobs that may come later, each rollout handed to `ended` once it has; where the policy panics, what was under way comes back
    /// cancelled, and jobs that were not begun stay where they are.
    pub(super) fn run<E: Environment>(
        &mut self,
        next: impl FnMut() -> Next<E>,
        ended: impl FnMut(Rollout),
        settings: &Settings,
    ) -> Result<(), RolloutError>
    where
        P::Error: Send + Sync + 'static,
    {
        if let Some(text) = &self.dead {
            return Err(RolloutError::Panicked(text.clone()));
        }
        let result = self.advance_all(next, ended, settings);
        self.pulse.is(Doing::Nothing);
        result
    }

    fn advance_all<E: Environment>(
        &mut self,
        mut next: impl FnMut() -> Next<E>,
        mut ended: impl FnMut(Rollout),
        settings: &Settings,
    ) -> Result<(), RolloutError>
    where
        P::Error: Send + Sync + 'static,
    {
        let mut next = || match next() {
            Next::Job(index, job) => Next::Job(index, job.map(Guarded::new)),
            Next::Later => Next::Later,
            Next::Never => Next::Never,
        };
        let mut trees: Vec<TreeRun<Guarded<E>>> = Vec::new();
        let mut failures = 0;
        // After its job, so that a policy which looks at the names, as scripted ones may, does the same on any worker.
        let names = self.named;
        let mut name = |index: usize| {
            let name = names + index as u64;
            self.named = self.named.max(name + 1);
            name
        };
        let mut policy = Careful::new(&mut self.policy);
        let mut results = Vec::new();
        let (rulings, heard) = mpsc::channel::<Ruling>();
        let mut moved = Instant::now();
        let idle = self.stall.saturating_mul(IDLE);
        let stalled = |doing, moved: Instant| match moved.elapsed() {
            since if since >= idle => Err(RolloutError::Stalled { doing, since }),
            _ => Ok(()),
        };
        loop {
            while trees.len() < settings.trees_in_flight.max(1)
                && !settings.is_cancelled()
                && policy.died.is_none()
                && let Next::Job(index, job) = next()
            {
                trees.push(TreeRun::open(index, job, name(index), policy.weights(), settings));
            }
            for Ruling { tree, node, verdict } in heard.try_iter() {
                moved = Instant::now();
                if let Some(tree) = trees.iter_mut().find(|other| other.tag() == tree) {
                    tree.rule(node, verdict)?;
                }
            }
            for tree in &mut trees {
                self.pulse.is(Doing::Environments);
                tree.advance(settings)?;
                tree.submit(&settings.grader, &rulings)?;
                self.pulse.is(Doing::Sampling);
                for sequence in tree.drain_forgotten() {
                    policy.forget(sequence);
                }
            }
            self.pulse.is(Doing::Environments);
            for tree in trees.extract_if(.., |tree| tree.is_closed()) {
                ended(tree.finish()?);
            }
            let weights = policy.weights();
            if let Some(text) = policy.died {
                for tree in &mut trees {
                    tree.cancel(format!("the policy panicked: {text}"), settings)?;
                }
                for tree in trees {
                    ended(tree.finish()?);
                }
                self.dead = Some(text);
                return Ok(());
            }
            if trees.is_empty() {
                if settings.is_cancelled() {
                    return Ok(());
                }
                match next() {
                    Next::Never => return Ok(()),
                    Next::Job(index, job) => trees.push(TreeRun::open(index, job, name(index), weights, settings)),
                    Next::Later => {
                        self.pulse.is(Doing::Nothing);
                        std::thread::sleep(PAUSE);
                        moved = Instant::now();
                    }
                }
                continue;
            }

            let mut batch: Vec<Request<'_>> = Vec::new();
            let mut shares = Vec::with_capacity(trees.len());
            for tree in &mut trees {
                shares.push(tree.drawing());
                tree.requests(settings.temperature, &mut batch)?;
            }
            if batch.is_empty() {
                // Nothing is left to do but to hear the judges, and to look at the clock now and then.
                drop(batch);
                match heard.recv_timeout(JUDGES) {
                    Ok(Ruling { tree, node, verdict }) => {
                        moved = Instant::now();
                        if let Some(tree) = trees.iter_mut().find(|other| other.tag() == tree) {
                            tree.rule(node, verdict)?;
                        }
                    }
                    Err(_) => stalled(Doing::Environments, moved)?,
                }
                continue;
            }
            let drawn =
                |batch: &[Request<'_>]| batch.iter().map(|request| request.completion.len() as u64).sum::<u64>();
            let before = drawn(&batch);
            self.pulse.is(Doing::Sampling);
            match policy.sample(&mut batch) {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES_MAX {
                        return Err(RolloutError::Policy(Box::new(error)));
                    }
                }
            }
            if policy.died.is_some() {
                // What it was in the middle of is not taken.
                continue;
            }
            let sampled = drawn(&batch).saturating_sub(before);
            settings.progress.tokens.fetch_add(sampled, Ordering::Relaxed);
            results.clear();
            results.extend(batch.iter().map(|request| (request.completion.len(), request.stop)));
            drop(batch);
            if sampled > 0 || results.iter().any(|(_, stop)| stop.is_some()) {
                moved = Instant::now();
            } else {
                stalled(Doing::Sampling, moved)?;
            }
            let mut results = results.iter().copied();
            for (tree, share) in trees.iter_mut().zip(shares) {
                self.pulse.is(Doing::Environments);
                tree.collect(results.by_ref().take(share), weights, settings)?;
            }
        }
    }
}

/// A policy that is called no more once it has panicked: what it was in the middle of is not known.
struct Careful<'p, P> {
    policy: &'p mut P,
    /// What it said last of its weights.
    weights: WeightsVersion,
    /// What it said when it panicked.
    died: Option<String>,
}

impl<'p, P: Policy> Careful<'p, P> {
    fn new(policy: &'p mut P) -> Self {
        Self {
            policy,
            weights: WeightsVersion(0),
            died: None,
        }
    }

    fn call<T>(&mut self, otherwise: T, call: impl FnOnce(&mut P) -> T) -> T {
        if self.died.is_some() {
            return otherwise;
        }
        catch_unwind(AssertUnwindSafe(|| call(self.policy))).unwrap_or_else(|panic| {
            self.died = Some(message(&*panic));
            otherwise
        })
    }

    fn weights(&mut self) -> WeightsVersion {
        self.weights = self.call(self.weights, |policy| policy.weights());
        self.weights
    }

    fn forget(&mut self, sequence: SequenceId) {
        self.call((), |policy| policy.forget(sequence));
    }

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<(), P::Error> {
        self.call(Ok(()), |policy| policy.sample(batch).map(drop))
    }
}
