//! Evaluation on held-out items: greedy and sampled, by difficulty, for the recursive agent and its flat twin.

use crate::config::{Config, Eval};
use crate::display::Phase;
use crate::environments::textcraft::agent::{Agent, AgentOptions};
use crate::environments::textcraft::{Benchmark, Difficulty, Task};
use crate::judge::Grader;
use crate::rollout::{Job, Progress, Rollout, RolloutEngine, RolloutError, Settings};
use rao_tree::Limits;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one arm reaches on the tasks of one difficulty. Sizes and times are those of the greedy trees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Tasks.
    pub tasks: usize,
    /// Trees, of both kinds, whose root could not be judged: timed out, cancelled or invalid. They count as unsolved.
    pub unjudged: usize,
    /// Environments that broke, in trees of both kinds.
    pub faults: usize,
    /// Share of the tasks solved greedily.
    pub greedy: f64,
    /// Share of the tasks solved at temperature 1, one tree each.
    pub t1: f64,
    /// Nodes per tree.
    pub nodes: f64,
    /// Nodes of the largest tree.
    pub nodes_max: usize,
    /// Tokens per tree, read and sampled.
    pub tokens: f64,
    /// Sampled tokens per tree that had to be drawn one after the other.
    pub critical_path: f64,
    /// Wall clock per tree: all trees of the difficulty, which run side by side, divided by their number.
    pub seconds: f64,
}

/// One score per difficulty; `None` for those that were not evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Tiers 2 and 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub easy: Option<Score>,
    /// Tiers 4 to 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Score>,
    /// Tiers 7 to 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<Score>,
    /// Tiers 10 to 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extreme: Option<Score>,
}

impl Scores {
    /// The score of one difficulty.
    #[must_use]
    pub fn of(&self, difficulty: Difficulty) -> Option<&Score> {
        match difficulty {
            Difficulty::Easy => self.easy.as_ref(),
            Difficulty::Medium => self.medium.as_ref(),
            Difficulty::Hard => self.hard.as_ref(),
            Difficulty::Extreme => self.extreme.as_ref(),
        }
    }

    fn set(&mut self, difficulty: Difficulty, score: Score) {
        let place = match difficulty {
            Difficulty::Easy => &mut self.easy,
            Difficulty::Medium => &mut self.medium,
            Difficulty::Hard => &mut self.hard,
            Difficulty::Extreme => &mut self.extreme,
        };
        *place = Some(score);
    }
}

/// What to evaluate, and under which name its seeds are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Arm {
    /// Deepest node; 0 is the flat agent.
    pub depth: u8,
    /// Seed of the evaluation.
    pub seed: u64,
    /// Tokens of the policy's vocabulary.
    pub vocab: usize,
}

/// The tasks of one difficulty that an evaluation takes: all of them, or the first `limit`.
pub fn select(tasks: &[Task], difficulty: Difficulty, limit: usize) -> impl Iterator<Item = &Task> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    tasks
        .iter()
        .filter(move |task| task.difficulty == difficulty)
        .take(limit)
}

/// How many trees [`evaluate`] rolls out.
#[must_use]
pub fn trees(benchmark: &Benchmark, eval: &Eval) -> usize {
    let of = |difficulty| select(&benchmark.val, difficulty, limit(eval, difficulty)).count();
    2 * eval
        .difficulties
        .iter()
        .map(|&difficulty| of(difficulty))
        .sum::<usize>()
}

/// Rolls the held-out tasks out, greedily and at temperature 1, and scores them.
///
/// # Errors
/// [`RolloutError`].
pub async fn evaluate(
    engine: &mut impl RolloutEngine<Agent>,
    benchmark: &Benchmark,
    eval: &Eval,
    slots: u32,
    arm: Arm,
    progress: &Arc<Progress>,
) -> Result<Scores, RolloutError> {
    let mut scores = Scores::default();
    for &difficulty in &eval.difficulties {
        let tasks: Vec<&Task> = select(&benchmark.val, difficulty, limit(eval, difficulty)).collect();
        if tasks.is_empty() {
            continue;
        }
        let mut score = Score {
            tasks: tasks.len(),
            ..Score::default()
        };
        for (mode, temperature) in [(0_u64, 0.0), (1, 1.0)] {
            let started = Instant::now();
            let settings = settings(temperature, arm.vocab, progress);
            let jobs = jobs(benchmark, &tasks, eval, slots, arm, mode);
            let rollouts = engine.rollout(jobs, &settings).await?;
            score.unjudged += rollouts.iter().filter(|rollout| !rollout.is_judged()).count();
            score.faults += rollouts.iter().map(|rollout| rollout.faults.len()).sum::<usize>();
            let solved = mean(&rollouts, |rollout| f64::from(rollout.success()));
            if temperature > 0.0 {
                score.t1 = solved;
                continue;
            }
            score.greedy = solved;
            score.nodes = mean(&rollouts, |rollout| rollout.tree.nodes().len() as f64);
            score.nodes_max = rollouts
                .iter()
                .map(|rollout| rollout.tree.nodes().len())
                .max()
                .unwrap_or(0);
            score.tokens = mean(&rollouts, |rollout| rollout.tokens() as f64);
            score.critical_path = mean(&rollouts, |rollout| rollout.critical_path() as f64);
            score.seconds = started.elapsed().as_secs_f64() / rollouts.len().max(1) as f64;
        }
        scores.set(difficulty, score);
    }
    Ok(scores)
}

/// Caps of a tree of this difficulty.
#[must_use]
pub fn limits(eval: &Eval, difficulty: Difficulty, depth: u8) -> Limits {
    let limits = eval.limits.at_depth(depth);
    let nodes = match difficulty {
        Difficulty::Easy => eval.nodes.easy,
        Difficulty::Medium => eval.nodes.medium,
        Difficulty::Hard => eval.nodes.hard,
        Difficulty::Extreme => eval.nodes.extreme,
    };
    Limits {
        nodes_max: limits.nodes_max.min(nodes.max(1)),
        ..limits
    }
}

/// How evaluation rolls out a policy of so many tokens.
#[must_use]
pub fn settings(temperature: f32, vocab: usize, progress: &Arc<Progress>) -> Settings {
    Settings {
        temperature,
        vocab,
        keep_transcripts: false,
        keep_log: false,
        trees_in_flight: 32,
        grader: Grader::Nobody,
        sink: None,
        progress: Arc::clone(progress),
    }
}

fn jobs(benchmark: &Benchmark, tasks: &[&Task], eval: &Eval, slots: u32, arm: Arm, mode: u64) -> Vec<Job<Agent>> {
    let options = AgentOptions {
        depth_max: arm.depth,
        slots,
        shuffle_slots: false,
    };
    let job = |(index, task): (usize, &&Task)| {
        let seed = crate::seed::derive(arm.seed, &[mode, index as u64]);
        Job {
            root: Agent::root(&benchmark.world, task, options, seed),
            task: task.id.clone(),
            seed,
            limits: limits(eval, task.difficulty, arm.depth),
        }
    };
    tasks.iter().enumerate().map(job).collect()
}

fn limit(eval: &Eval, difficulty: Difficulty) -> usize {
    match difficulty {
        Difficulty::Easy => eval.easy,
        Difficulty::Medium => eval.medium,
        Difficulty::Hard => eval.hard,
        Difficulty::Extreme => eval.extreme,
    }
}

fn mean(rollouts: &[Rollout], of: impl Fn(&Rollout) -> f64) -> f64 {
    if rollouts.is_empty() {
        0.0
    } else {
        rollouts.iter().map(of).sum::<f64>() / rollouts.len() as f64
    }
}

/// Evaluates one policy of `vocab` tokens, with a bar that counts trees.
///
/// # Errors
/// [`RolloutError`].
pub async fn judge(
    engine: &mut impl RolloutEngine<Agent>,
    benchmark: &Benchmark,
    config: &Config,
    (depth, vocab): (u8, usize),
    name: &'static str,
    progress: &Arc<Progress>,
) -> Result<Scores, RolloutError> {
    let phase = Phase::begin(name, trees(benchmark, &config.eval) as u64);
    let arm = Arm {
        depth,
        vocab,
        seed: crate::seed::derive(config.seed, &[3]),
    };
    let before = (progress.trees(), progress.nodes());
    let work = evaluate(engine, benchmark, &config.eval, config.agent.slots, arm, progress);
    tokio::pin!(work);
    let scores = loop {
        tokio::select! {
            scores = &mut work => break scores?,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let nodes = progress.nodes() - before.1;
                phase.set(progress.trees() - before.0, &format!("{nodes} nodes"));
            }
        }
    };
    phase.set(progress.trees() - before.0, "");
    phase.end(&format!("{} nodes", progress.nodes() - before.1));
    Ok(scores)
}
