//! Rollouts: many trees under way at once over one policy per worker.
//!
//! A [`Worker`] owns a policy and advances all live nodes of all its trees by one engine step at a time: a node that waits for children
//! holds no slot, and a tree that ends makes room for the next. What happens inside a tree depends on its seed alone, never on
//! which other trees share the batch: its clock is the engine step, in which every live node draws one token. Only the deadline is on the
//! wall clock: it is there so that nothing waits for ever, and what it ends counts as timed out, not as failed.

mod engine;
mod guarded;
mod log;
mod memory;
mod pulse;
mod replay;
mod transcript;
mod tree_run;
mod words;
mod worker;

pub use engine::{InProcess, RolloutEngine, STALL, Source};
pub use memory::live_node_bytes;
pub use pulse::Doing;
pub use replay::LogError;
#[cfg(all(feature = "nats", any(feature = "candle", feature = "llama-cpp")))]
pub(crate) use replay::Opening;
pub use transcript::{Span, Transcript};
pub use tree_run::VecArena;
pub use worker::Worker;

use crate::judge::Grader;
use rao_proto::{EventSink, FRAME_MAX};
use rao_tree::{Limits, Success, Tree, WeightsVersion};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest answer that a node may hand to its parent, in bytes: half of a frame of the event log. One that is longer costs its node.
pub const ANSWER_MAX: usize = FRAME_MAX / 2;

/// One tree to roll out.
pub struct Job<E> {
    /// The root's environment.
    pub root: E,
    /// The root task's identifier, for the event log.
    pub task: String,
    /// Source of all of the tree's randomness.
    pub seed: u64,
    /// Caps of the tree.
    pub limits: Limits,
}

impl<E> Job<E> {
    /// The same with another root.
    fn map<F>(self, with: impl FnOnce(E) -> F) -> Job<F> {
        let Self {
            root,
            task,
            seed,
            limits,
        } = self;
        Job {
            root: with(root),
            task,
            seed,
            limits,
        }
    }
}

/// What there is to do next.
pub enum Next<E> {
    /// A tree, under its number.
    Job(usize, Job<E>),
    /// Nothing now, perhaps something later.
    Later,
    /// Nothing any more.
    Never,
}

/// How to roll out.
#[derive(Clone)]
pub struct Settings {
    /// Softmax temperature; 0 is greedy.
    pub temperature: f32,
    /// Size of the vocabulary, for masks.
    pub vocab: usize,
    /// Keep what training needs: every node's tokens, log-probabilities and masks.
    pub keep_transcripts: bool,
    /// Keep the encoded event log. With transcripts it holds all of them too: [`Rollout::from_log`] makes the same rollout of it.
    pub keep_log: bool,
    /// Trees that one worker has under way at once: bounds memory, changes no result.
    pub trees_in_flight: usize,
    /// Says what answers are worth that environments [submit](rao_tree::Outcome::Submit).
    pub grader: Grader,
    /// Gets every event as it happens, of all trees mixed: for a single tree, its trace, which then survives the process.
    pub sink: Option<SharedSink>,
    /// Whether [`Progress::stop`] cancels the trees that are under way and begins no more. Otherwise they all come to their end, and who called decides
    /// what is next: a training step is either taken or not.
    pub cancel_on_stop: bool,
    /// Counts what has been done, for whoever watches; and asks the workers to stop.
    pub progress: Arc<Progress>,
}

impl Settings {
    /// Whether trees are to be cancelled now.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel_on_stop && self.progress.is_stopped()
    }
}

/// A sink that several workers write to.
pub type SharedSink = Arc<Mutex<dyn EventSink + Send>>;

/// Counters that workers add to while they work.
#[derive(Debug, Default)]
pub struct Progress {
    in_flight: AtomicU64,
    trees: AtomicU64,
    nodes: AtomicU64,
    tokens: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Trees that are under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Trees that have ended.
    pub fn trees(&self) -> u64 {
        self.trees.load(Ordering::Relaxed)
    }

    /// Nodes that have ended.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Tokens that agents have read and sampled.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// A tree has come from elsewhere.
    #[cfg(all(feature = "nats", feature = "candle"))]
    pub(crate) fn count(&self, rollout: &Rollout) {
        self.nodes
            .fetch_add(rollout.tree.nodes().len() as u64, Ordering::Relaxed);
        self.tokens.fetch_add(rollout.tokens(), Ordering::Relaxed);
    }

    /// Asks to stop: see [`Settings::cancel_on_stop`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A tree under way: counted as long as it lives, so that an error or a panic leaves nothing behind in the count.
pub(crate) struct InFlight(Arc<Progress>);

impl InFlight {
    pub(crate) fn begin(progress: &Arc<Progress>) -> Self {
        progress.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(progress))
    }

    /// The tree has ended as it should.
    pub(crate) fn end(self) {
        self.0.trees.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What came of one [`Job`].
pub struct Rollout {
    /// Position of its job.
    pub job: usize,
    /// The tree; every node has ended.
    pub tree: Tree<VecArena>,
    /// By node; empty unless [`Settings::keep_transcripts`].
    pub transcripts: Vec<Transcript>,
    /// The encoded events; empty unless [`Settings::keep_log`].
    pub log: Vec<u8>,
    /// Environments that broke and judges that could not judge, by their own words.
    pub faults: Vec<String>,
    /// Weights that the tree was opened under: the oldest that drew any of its actions.
    pub weights: WeightsVersion,
    /// Wall clock from its first step to its last, shared with whatever else the worker did meanwhile.
    pub seconds: f64,
}

impl Rollout {
    /// Updates between the weights that the tree was opened under and the weights `now`.
    #[must_use]
    pub fn staleness(&self, now: WeightsVersion) -> u64 {
        now.0.saturating_sub(self.weights.0)
    }

    /// Tokens of all contexts of the tree: read and sampled.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tree
            .nodes()
            .iter()
            .map(|node| u64::from(node.earlier) + u64::from(node.context))
            .sum()
    }

    /// Contexts of the tree that began anew, where a conversation could not go on from what was said.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.tree.nodes().iter().map(|node| u64::from(node.restarts)).sum()
    }

    /// Tokens that the policy drew.
    #[must_use]
    pub fn sampled(&self) -> u64 {
        self.tree.nodes().iter().map(|node| u64::from(node.sampled)).sum()
    }

    /// Sampled tokens that had to be drawn one after the other.
    #[must_use]
    pub fn critical_path(&self) -> u64 {
        self.tree.nodes().first().map_or(0, rao_tree::Node::critical_path)
    }

    /// Whether the root says anything about the policy: it was neither timed out, cancelled nor invalid.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.tree
            .nodes()
            .first()
            .is_some_and(|root| rao_tree::credit::Member::from(root).counts())
    }

    /// Whether the root succeeded wholly: partial credit does not count.
    #[must_use]
    pub fn is_solved(&self) -> bool {
        self.tree
            .nodes()
            .first()
            .is_some_and(|root| root.success == Success::ONE)
    }

    /// The root's success in 0..=1; 0 unless it finished.
    #[must_use]
    pub fn success(&self) -> f32 {
        self.tree.nodes().first().map_or(0.0, |root| root.success.value())
    }
}

/// A rollout could not be carried out. What one environment does wrong is not among these: it costs its own node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// The policy failed.
    #[error("the policy failed: {0}")]
    Policy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The buffers of an action do not fit together: a defect of this crate.
    #[error("action: {0}")]
    Completion(#[from] rao_tree::CompletionError),
    /// The driver was called out of turn: a defect of this crate.
    #[error("driver: {0}")]
    Driver(#[from] rao_tree::DriverError),
    /// An event could not be written to the log.
    #[error("event log: {0}")]
    Log(#[from] rao_proto::EncodeError),
    /// A policy panicked, and none is left to go on with.
    #[error("a rollout worker panicked: {0}")]
    Panicked(String),
    /// A call into a policy or an environment does not return, and its thread is left to itself, as nobody can end it, with its policy; or a worker
    /// was called back again and again and got nowhere.
    #[error(
        "a rollout worker has been in {} for {:.0} s without a step: it hangs, or rollout.stall, in seconds, is too short for it",
        match .doing { Doing::Sampling => "its policy", _ => "an environment or a judge" }, .since.as_secs_f64()
    )]
    Stalled {
        /// Where it is.
        doing: Doing,
        /// Since when.
        since: Duration,
    },
    /// An engine that carries trees elsewhere.
    #[error(transparent)]
    Elsewhere(Box<dyn std::error::Error + Send + Sync>),
    /// The policies were lost when an earlier rollout was abandoned half-way.
    #[error("no policy is left: an earlier rollout was abandoned")]
    NoPolicy,
}
