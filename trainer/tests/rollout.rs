//! The rollout engine under environments that misbehave: what breaks costs its own node, nothing waits for ever.

use rao_backends::scripted::uniform;
use rao_proto::{EventSink, Record};
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{InProcess, Job, Progress, Rollout, RolloutEngine, RolloutError, Settings};
use rao_tree::{
    Answer, Constraint, Environment, Limit, Limits, Mask, Next, NodeStatus, Observation, Outcome, Success, Token,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Delegates to three children for as long as it may, then finishes. Children named in `broken` fail to be made or to act.
#[derive(Clone)]
struct Greedy {
    index: u8,
    depth: u8,
    breaks: bool,
    /// Somebody asks to stop when a node of this depth acts.
    stop_at: Option<(u8, Arc<Progress>)>,
    /// Nodes of this depth take 20 ms to act: the nine of depth 2 outlast the deadline of 100 ms on any machine, so nothing races.
    slow_at: Option<u8>,
    /// A delegation to nobody: what no environment may ask for.
    empty: bool,
}

impl Greedy {
    fn root() -> Self {
        Self {
            index: 0,
            depth: 0,
            breaks: false,
            stop_at: None,
            slow_at: None,
            empty: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("broken on purpose")]
struct Broken;

impl Environment for Greedy {
    type Error = Broken;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Broken> {
        out.push(Token(0));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, _: &[Token], out: &mut Observation<'_>) -> Result<Outcome, Broken> {
        out.push(Token(1));
        if let Some((_, progress)) = self.stop_at.as_ref().filter(|(depth, _)| *depth == self.depth) {
            progress.stop();
        }
        if self.slow_at == Some(self.depth) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.breaks && self.index == 1 {
            return Err(Broken);
        }
        let children = if self.empty && self.index == 1 { 0 } else { 3 };
        Ok(Outcome::Delegate { children })
    }

    fn child(&mut self, index: u8) -> Result<Self, Broken> {
        if self.breaks && index == 2 {
            return Err(Broken);
        }
        Ok(Self {
            index,
            depth: self.depth + 1,
            ..self.clone()
        })
    }

    fn resume(&mut self, answers: &[Answer<'_>], _: &mut Observation<'_>) -> Result<Outcome, Broken> {
        assert_eq!(answers.len(), 3);
        Ok(Outcome::Finish(Success::ONE))
    }
}

impl Constraint for Greedy {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        mask.allow(Token(1));
        if completion.is_empty() {
            Next::Draw
        } else {
            Next::Complete
        }
    }
}

fn limits() -> Limits {
    Limits {
        depth_max: 6,
        nodes_max: 5_000,
        children_max: 3,
        steps_max: 4,
        tokens_max: 100_000,
        action_max: 1,
        context_max: 8,
        concurrent_max: 1,
        deadline_us: Some(60_000_000),
    }
}

fn settings() -> Settings {
    Settings {
        temperature: 1.0,
        vocab: 2,
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: 2,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    }
}

async fn roll(root: Greedy, limits: Limits, settings: &Settings) -> Vec<Rollout> {
    try_to_roll(root, limits, settings).await.unwrap()
}

async fn try_to_roll(root: Greedy, limits: Limits, settings: &Settings) -> Result<Vec<Rollout>, RolloutError> {
    let jobs = (0..6).map(|seed| Job {
        root: root.clone(),
        task: "t".into(),
        seed,
        limits,
    });
    let mut engine = InProcess::new(vec![uniform(2), uniform(2)]);
    engine.rollout(jobs.collect(), settings).await
}

/// Does something at every event.
struct AtEvents<F>(F);

impl<F: FnMut()> EventSink for AtEvents<F> {
    fn record(&mut self, _: &Record<'_>) {
        (self.0)();
    }
}

fn count(rollout: &Rollout, of: impl Fn(NodeStatus) -> bool) -> usize {
    rollout
        .tree
        .nodes()
        .iter()
        .filter(|node| node.status.is_some_and(&of))
        .count()
}

/// 3^0 + ... + 3^6 nodes with one of them at work at a time: a waiting parent that held a slot would stop everything.
#[tokio::test]
async fn a_full_tree_runs_on_a_single_slot() {
    for rollout in roll(Greedy::root(), limits(), &settings()).await {
        assert_eq!(rollout.tree.nodes().len(), 1093);
        assert_eq!(count(&rollout, |status| status == NodeStatus::Finished), 1093);
        assert_eq!(rollout.transcripts.len(), 1093);
    }
}

#[tokio::test]
async fn what_breaks_costs_its_own_node() {
    for rollout in roll(
        Greedy {
            breaks: true,
            ..Greedy::root()
        },
        limits(),
        &settings(),
    )
    .await
    {
        let invalid = count(&rollout, |status| status == NodeStatus::Invalid);
        assert!(invalid > 2);
        assert_eq!(rollout.faults.len(), invalid);
        assert_eq!(
            count(&rollout, |status| status == NodeStatus::Finished) + invalid,
            rollout.tree.nodes().len()
        );
        assert_eq!(rollout.success(), 1.0, "the root does not depend on it");
    }
}

#[tokio::test]
async fn a_policy_that_spawns_all_it_can_meets_the_caps() {
    let limits = Limits {
        nodes_max: 100,
        concurrent_max: 16,
        ..limits()
    };
    for rollout in roll(Greedy::root(), limits, &settings()).await {
        assert_eq!(rollout.tree.nodes().len(), 100);
    }
    let limits = Limits {
        tokens_max: 50,
        ..limits
    };
    for rollout in roll(Greedy::root(), limits, &settings()).await {
        assert!(rollout.sampled() <= 50);
        assert!(count(&rollout, |status| status == NodeStatus::Truncated(Limit::Tokens)) > 0);
    }
}

#[tokio::test]
async fn an_environment_that_asks_for_the_impossible_costs_its_own_nodes() {
    let root = Greedy {
        empty: true,
        ..Greedy::root()
    };
    for rollout in roll(root, limits(), &settings()).await {
        let invalid = count(&rollout, |status| status == NodeStatus::Invalid);
        assert!(invalid > 0);
        assert_eq!(rollout.faults.len(), invalid);
        assert_eq!(rollout.success(), 1.0);
    }
}

/// The deadline falls while the tree is half grown: what had ended stays, everything else is timed out, and nobody judges the root.
#[tokio::test]
async fn a_deadline_ends_every_node() {
    let root = Greedy {
        slow_at: Some(2),
        ..Greedy::root()
    };
    let limits = Limits {
        deadline_us: Some(100_000),
        ..limits()
    };
    let rollouts = roll(root, limits, &settings()).await;
    assert_eq!(rollouts.len(), 6);
    for rollout in rollouts {
        let nodes = rollout.tree.nodes();
        assert!((1..1093).contains(&nodes.len()), "{}", nodes.len());
        assert!(nodes.iter().all(|node| node.status.is_some()));
        assert_eq!(nodes[0].status, Some(NodeStatus::TimedOut));
        assert!(!rollout.is_judged());
    }
}

#[tokio::test]
async fn a_stop_cancels_what_is_under_way_and_begins_nothing() {
    let settings = settings();
    let root = Greedy {
        stop_at: Some((3, Arc::clone(&settings.progress))),
        ..Greedy::root()
    };
    let rollouts = roll(root.clone(), limits(), &settings).await;
    assert!(
        !rollouts.is_empty() && rollouts.len() < 6,
        "two under way on each of two workers: {}",
        rollouts.len()
    );
    for rollout in rollouts {
        assert_eq!(rollout.tree.nodes()[0].status, Some(NodeStatus::Cancelled));
        assert!(rollout.tree.nodes().iter().all(|node| node.status.is_some()));
    }
    assert!(roll(root, limits(), &settings).await.is_empty());
}

#[tokio::test]
async fn what_is_counted_under_way_is_what_comes_out() {
    let (progress, most) = (Arc::new(Progress::default()), Arc::new(AtomicU64::new(0)));
    let at_events = {
        let (progress, most) = (Arc::clone(&progress), Arc::clone(&most));
        AtEvents(move || {
            most.fetch_max(progress.in_flight(), Ordering::Relaxed);
        })
    };
    let settings = Settings {
        sink: Some(Arc::new(Mutex::new(at_events))),
        cancel_on_stop: true,
        progress: Arc::clone(&progress),
        ..settings()
    };
    let rollouts = roll(Greedy::root(), limits(), &settings).await;
    let nodes: usize = rollouts.iter().map(|rollout| rollout.tree.nodes().len()).sum();
    let tokens: u64 = rollouts.iter().map(Rollout::tokens).sum();
    assert_eq!(
        (progress.trees(), progress.nodes(), progress.tokens()),
        (6, nodes as u64, tokens)
    );
    assert_eq!(progress.in_flight(), 0);
    let most = most.load(Ordering::Relaxed);
    assert!((2..=4).contains(&most), "two on each of two workers: {most}");
}

#[tokio::test]
async fn nothing_is_in_flight_after_a_panic() {
    let mut events = 0;
    let at_events = AtEvents(move || {
        events += 1;
        assert!(events < 100, "on purpose");
    });
    let settings = Settings {
        sink: Some(Arc::new(Mutex::new(at_events))),
        ..settings()
    };
    let failed = try_to_roll(Greedy::root(), limits(), &settings).await;
    assert!(matches!(failed, Err(RolloutError::Panicked(_))));
    assert_eq!((settings.progress.in_flight(), settings.progress.trees()), (0, 0));
}
