//! A policy that takes all that it can get: every cap holds, and is met.

use crate::audit::{Totals, audit};
use crate::plan::mix;
use crate::settings;
use rao_backends::scripted::uniform;
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{InProcess, Job, Rollout, RolloutEngine, Settings};
use rao_tree::{
    Answer, Budget, Constraint, Environment, Limit, Limits, NodeStatus, Observation, Outcome, Policy, Request, Success,
    Token, WeightsVersion,
};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Delegates as often as it may to as many as it may, wishes them everything, and never ends of itself.
#[derive(Clone)]
struct Greedy {
    children: u8,
    /// Tokens that it reads with every answer.
    reads: u32,
    slow: bool,
    /// What it lets its children use.
    wish: Budget,
}

impl Greedy {
    const ALL: Self = Self {
        children: 255,
        reads: 0,
        slow: false,
        wish: Budget::UNLIMITED,
    };
}

impl Environment for Greedy {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        out.push(Token(0));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        None
    }

    fn step(&mut self, _: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        if self.slow {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(match self.children {
            0 => Outcome::Continue,
            children => Outcome::Delegate { children },
        })
    }

    fn child(&mut self, _: u8) -> Result<Self, Infallible> {
        Ok(self.clone())
    }

    fn budget(&self, _: u8) -> Budget {
        self.wish
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        for _ in 0..self.reads {
            out.push(Token(1));
        }
        // Who was refused everything would be asked about it once more, and so on: it acts first.
        let refused = answers.iter().all(|answer| matches!(answer, Answer::Refused(_)));
        Ok(if refused {
            Outcome::Continue
        } else {
            Outcome::Delegate { children: 255 }
        })
    }
}

/// How many requests of one tree it is asked for at once.
struct Watched<P>(P, Arc<AtomicUsize>);

impl<P: Policy> Policy for Watched<P> {
    type Error = P::Error;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, P::Error> {
        self.1.fetch_max(batch.len(), Ordering::Relaxed);
        self.0.sample(batch)
    }

    fn weights(&self) -> WeightsVersion {
        self.0.weights()
    }
}

/// One tree; at most as many nodes draw at once as may.
async fn roll(root: Greedy, limits: Limits) -> (Totals, Rollout) {
    let settings = Settings {
        keep_transcripts: false,
        ..settings(Grader::Nobody)
    };
    let most = Arc::default();
    let mut engine = InProcess::new(vec![Watched(uniform(2), Arc::clone(&most))]);
    let job = Job {
        root,
        task: "all of it".into(),
        seed: 1,
        limits,
    };
    let rollout = engine.rollout(vec![job], &settings).await.unwrap().remove(0);
    assert!(most.load(Ordering::Relaxed) <= limits.concurrent_max.max(1) as usize);
    (audit(&rollout, &limits), rollout)
}

/// Large enough to be met by nobody, but for what a test makes smaller.
const WIDE: Limits = Limits {
    depth_max: 4,
    nodes_max: 500,
    children_max: 300,
    steps_max: 10,
    tokens_max: 1 << 40,
    action_max: 4,
    context_max: 4_096,
    concurrent_max: 64,
    deadline_us: None,
};

#[tokio::test]
async fn every_cap_is_met_and_none_is_passed() {
    let ends = |rollout: &Rollout, by: Limit| {
        let mut nodes = rollout.tree.nodes().iter();
        nodes.any(|node| node.status == Some(NodeStatus::Truncated(by)))
    };
    let (totals, _) = roll(Greedy::ALL, WIDE).await;
    assert_eq!(totals.nodes, 500);

    let deep = Limits {
        depth_max: 255,
        children_max: 1,
        ..WIDE
    };
    let (totals, rollout) = roll(Greedy::ALL, deep).await;
    assert_eq!((totals.depth, totals.nodes, totals.children), (255, 256, 1));
    assert!(rollout.tree.refusals().by(Limit::Children) > 0 && rollout.tree.refusals().by(Limit::Depth) > 0);

    let few = Limits {
        children_max: 7,
        depth_max: 1,
        ..WIDE
    };
    let (totals, rollout) = roll(Greedy::ALL, few).await;
    assert_eq!((totals.children, totals.nodes, totals.steps), (7, 8, 10));
    assert!(ends(&rollout, Limit::Steps));

    let short = Limits {
        tokens_max: 1_001,
        ..WIDE
    };
    let (totals, rollout) = roll(Greedy::ALL, short).await;
    assert_eq!(totals.tokens, 1_001);
    assert!(ends(&rollout, Limit::Tokens));

    let narrow = Limits {
        context_max: 30,
        ..WIDE
    };
    let reads = Greedy {
        reads: 5,
        ..Greedy::ALL
    };
    let (totals, rollout) = roll(reads, narrow).await;
    assert_eq!(totals.context, 30);
    assert!(ends(&rollout, Limit::Context));

    let one_by_one = Limits {
        concurrent_max: 1,
        ..WIDE
    };
    assert_eq!(roll(Greedy::ALL, one_by_one).await.0.nodes, 500);
}

/// What a parent lets its children use holds for everything below them.
#[tokio::test]
async fn no_descendant_gets_more_than_it_was_given() {
    let wish = Budget {
        depth: 1,
        nodes: 3,
        tokens: 40,
        steps: 3,
        children: 2,
        deadline_us: None,
    };
    let root = Greedy { wish, ..Greedy::ALL };
    let (totals, rollout) = roll(root, WIDE).await;
    // The root's children delegate, theirs may not.
    assert_eq!(totals.depth, 2);
    assert!(rollout.tree.nodes()[1..].iter().all(|node| node.budget.within(wish)));
}

#[tokio::test]
async fn time_is_a_cap_too() {
    let limits = Limits {
        nodes_max: 1 << 30,
        steps_max: u16::MAX,
        children_max: u16::MAX,
        context_max: 1 << 20,
        deadline_us: Some(60_000),
        ..WIDE
    };
    let root = Greedy {
        slow: true,
        ..Greedy::ALL
    };
    let (totals, rollout) = roll(root, limits).await;
    assert_eq!(rollout.tree.nodes()[0].status, Some(NodeStatus::TimedOut));
    assert!(totals.at_us >= 60_000);
}

/// A bomb of forks, of which a tree admits what it may, and then ends.
#[tokio::test]
async fn a_bomb_of_forks_ends() {
    let limits = Limits {
        depth_max: 255,
        nodes_max: 20_000,
        children_max: u16::MAX,
        steps_max: 2,
        concurrent_max: 256,
        ..WIDE
    };
    let (totals, _) = roll(Greedy::ALL, limits).await;
    assert_eq!(totals.nodes, 20_000);
}

/// Any limits: the log of a greedy tree passes none of them.
#[tokio::test]
async fn no_limits_are_passed_by_anybody() {
    for case in 0..300 {
        let below = |name: u64, most: u64| mix(case, name) % most;
        let limits = Limits {
            depth_max: below(0, 6) as u8,
            nodes_max: below(1, 200) as u32,
            children_max: below(2, 12) as u16,
            steps_max: below(3, 6) as u16,
            tokens_max: below(4, 2_000),
            action_max: below(5, 6) as u32,
            context_max: below(6, 40) as u32,
            concurrent_max: below(7, 10) as u32,
            deadline_us: None,
        };
        let root = Greedy {
            children: below(8, 20) as u8,
            reads: below(9, 8) as u32,
            slow: false,
            wish: Budget {
                nodes: below(10, 100) as u32,
                tokens: below(11, 1_000),
                ..Budget::UNLIMITED
            },
        };
        roll(root, limits).await;
    }
}

/// Not asked for, and refused where nothing else stands against it: a child that could do nothing.
#[tokio::test]
async fn a_child_without_a_budget_does_nothing() {
    let wish = Budget {
        depth: 0,
        nodes: 0,
        children: 0,
        steps: 0,
        tokens: 0,
        deadline_us: None,
    };
    let root = Greedy { wish, ..Greedy::ALL };
    let (totals, rollout) = roll(root, WIDE).await;
    assert_eq!(totals.depth, 1);
    for child in &rollout.tree.nodes()[1..] {
        assert_eq!((child.sampled, child.success), (0, Success::ZERO));
    }
}
