//! The rollout engine under environments that misbehave: what breaks costs its own node, nothing waits for ever.

use rao_backends::scripted::uniform;
use rao_trainer::rollout::{InProcess, Job, Progress, Rollout, RolloutEngine, Settings};
use rao_tree::{
    Answer, Constraint, Environment, Limit, Limits, Mask, Next, NodeStatus, Observation, Outcome, Success, Token,
};
use std::sync::Arc;
use std::time::Duration;

/// Delegates to three children for as long as it may, then finishes. Children named in `broken` fail to be made or to act.
struct Greedy {
    index: u8,
    breaks: bool,
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
        if self.breaks && self.index == 1 {
            Err(Broken)
        } else {
            Ok(Outcome::Delegate { children: 3 })
        }
    }

    fn child(&mut self, index: u8) -> Result<Self, Broken> {
        if self.breaks && index == 2 {
            Err(Broken)
        } else {
            Ok(Self {
                index,
                breaks: self.breaks,
            })
        }
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
    }
}

fn settings(deadline: Duration) -> Settings {
    Settings {
        temperature: 1.0,
        vocab: 2,
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: 2,
        deadline,
        progress: Arc::new(Progress::default()),
    }
}

async fn roll(breaks: bool, limits: Limits, settings: &Settings) -> Vec<Rollout> {
    let jobs = (0..6).map(|seed| Job {
        root: Greedy { index: 0, breaks },
        task: "t".into(),
        seed,
        limits,
    });
    let mut engine = InProcess::new(vec![uniform(2), uniform(2)]);
    engine.rollout(jobs.collect(), settings).await.unwrap()
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
    for rollout in roll(false, limits(), &settings(Duration::from_secs(60))).await {
        assert_eq!(rollout.tree.nodes().len(), 1093);
        assert_eq!(count(&rollout, |status| status == NodeStatus::Finished), 1093);
        assert_eq!(rollout.transcripts.len(), 1093);
    }
}

#[tokio::test]
async fn what_breaks_costs_its_own_node() {
    for rollout in roll(true, limits(), &settings(Duration::from_secs(60))).await {
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
    for rollout in roll(false, limits, &settings(Duration::from_secs(60))).await {
        assert_eq!(rollout.tree.nodes().len(), 100);
    }
    let limits = Limits {
        tokens_max: 50,
        ..limits
    };
    for rollout in roll(false, limits, &settings(Duration::from_secs(60))).await {
        assert!(rollout.sampled() <= 50);
        assert!(count(&rollout, |status| status == NodeStatus::Truncated(Limit::Tokens)) > 0);
    }
}

#[tokio::test]
async fn a_deadline_and_a_stop_end_every_node() {
    for rollout in roll(false, limits(), &settings(Duration::ZERO)).await {
        let ended = count(&rollout, |status| status == NodeStatus::TimedOut);
        assert!(ended == rollout.tree.nodes().len());
    }
    let settings = settings(Duration::from_secs(60));
    settings.progress.stop();
    assert!(
        roll(false, limits(), &settings).await.is_empty(),
        "nothing is begun after a stop"
    );
}
