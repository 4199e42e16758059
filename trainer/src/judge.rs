//! Judges: who says what an answer is worth where the environment cannot say it at once.
//!
//! An environment that can check an answer exactly ends its node with [`Outcome::Finish`](rao_tree::Outcome::Finish). Where it cannot, it ends it
//! with [`Outcome::Submit`](rao_tree::Outcome::Submit), and a [`Grader`] says the rest while the tree grows on: the root's success in the place of the
//! node's own, or a [`Judge`], which may be slow, remote, and wrong. One that fails, is late or panics leaves the node invalid,
//! never a zero: what it would have said is not known.

use async_trait::async_trait;
use futures::FutureExt;
use rao_tree::{Depth, NodeId, Success};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Says how well a node did what it was asked.
#[async_trait]
pub trait Judge: Send + Sync {
    /// How well, from 0 to 1.
    ///
    /// # Errors
    /// [`JudgeError`]: it cannot say.
    async fn judge(&self, case: &Case) -> Result<Success, JudgeError>;
}

/// What is to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The node.
    pub node: NodeId,
    /// Its distance from the root.
    pub depth: Depth,
    /// What it was asked, as its environment describes it.
    pub task: String,
    /// Its answer, as its parent gets it.
    pub answer: Vec<u8>,
}

/// A judge could not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// It failed, by its own words.
    #[error("the judge failed: {0}")]
    Failed(String),
    /// It took longer than it may.
    #[error("the judge said nothing within {0:?}")]
    Late(Duration),
    /// It panicked.
    #[error("the judge panicked")]
    Panicked,
    /// Nobody was there to ask.
    #[error("an answer was submitted, and nobody is there to judge it: Settings::grader")]
    Nobody,
}

/// Who says what submitted answers are worth.
#[derive(Clone, Default)]
pub enum Grader {
    /// Nobody: they stay unjudged.
    #[default]
    Nobody,
    /// The root's success stands for every node's, for want of better: what the paper calls a proxy. A root that itself
    /// submits stays unjudged, and so does its tree.
    Root,
    /// A judge.
    Judge(Bench),
}

/// A judge, how many cases it hears at the same time, and how long it may take for one.
#[derive(Clone)]
pub struct Bench {
    judge: Arc<dyn Judge>,
    permits: Arc<Semaphore>,
    deadline: Duration,
    runtime: Handle,
}

/// What came of a case: the tree and node that it was about, and what they are worth.
pub(crate) struct Ruling {
    pub(crate) tree: u64,
    pub(crate) node: NodeId,
    pub(crate) verdict: Result<Success, JudgeError>,
}

impl Bench {
    /// A judge that hears at most so many cases at the same time (at least one). `deadline` is for one case, from when it is heard.
    ///
    /// # Panics
    /// Outside of a tokio runtime, on which the judge will run.
    #[must_use]
    pub fn new(judge: Arc<dyn Judge>, concurrent: usize, deadline: Duration) -> Self {
        Self {
            judge,
            permits: Arc::new(Semaphore::new(concurrent.clamp(1, Semaphore::MAX_PERMITS))),
            deadline,
            runtime: Handle::current(),
        }
    }

    /// Has a case judged; the ruling arrives at `rulings`, if anybody still listens there.
    pub(crate) fn submit(&self, tree: u64, case: Case, rulings: mpsc::Sender<Ruling>) {
        let Self {
            judge,
            permits,
            deadline,
            ..
        } = self.clone();
        self.runtime.spawn(async move {
            let node = case.node;
            // The semaphore is never closed; without a permit, the case is heard all the same.
            let _permit = permits.acquire_owned().await;
            // Within the future, as an implementation by hand may panic before it has made one.
            let heard = AssertUnwindSafe(async { judge.judge(&case).await }).catch_unwind();
            let verdict = match tokio::time::timeout(deadline, heard).await {
                Ok(Ok(verdict)) => verdict,
                Ok(Err(_)) => Err(JudgeError::Panicked),
                Err(_) => Err(JudgeError::Late(deadline)),
            };
            // The tree may have been cancelled, and its worker be gone.
            let _ = rulings.send(Ruling { tree, node, verdict });
        });
    }
}

impl fmt::Debug for Grader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Root => "Root",
            Self::Judge(_) => "Judge",
        })
    }
}
