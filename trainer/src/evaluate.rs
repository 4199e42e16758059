//! Evaluation on held-out items: greedy and sampled, by difficulty, for the recursive agent and its flat twin.

use crate::config::{Config, Eval};
use crate::display::Phase;
use crate::environments::{Difficulty, Domain, RootTask, Seating};
use crate::judge::Grader;
use crate::rollout::{Job, Progress, Rollout, RolloutEngine, RolloutError, Settings};
use rao_tree::{Environment, Limits};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// What one arm reaches on the tasks of one difficulty. Sizes and times are those of the greedy trees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Tasks.
    pub tasks: usize,
    /// Trees, of both kinds, whose root could not be judged: timed out, cancelled or invalid. They count as unsolved.
    pub unjudged: usize,
    /// Environments that broke, in trees of both kinds.
    pub faults: usize,
    /// Share of the tasks solved greedily: a success of 1, partial credit does not count.
    pub greedy: f64,
    /// Mean success of the greedy trees, partial credit included.
    #[serde(default)]
    pub credit: f64,
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
    /// How many windows of an agent the input of a task fills; `None` where that has no meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<f64>,
}

/// One score per difficulty; `None` for those that were not evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub easy: Option<Score>,
    /// As large as those that are trained on, unless `rao.difficulty` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Score>,
    /// Larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<Score>,
    /// Largest.
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

    /// The greedy success of what was evaluated, in a few words, for a progress bar.
    #[must_use]
    pub fn line(&self) -> String {
        let of = |difficulty: Difficulty| Some(format!("{difficulty} {:.2}", self.of(difficulty)?.greedy));
        Difficulty::ALL
            .into_iter()
            .filter_map(of)
            .collect::<Vec<_>>()
            .join(", ")
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

/// What one tree of an evaluation came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Played {
    /// Identifier of its task.
    pub task: String,
    /// Of the task.
    pub difficulty: Difficulty,
    /// It was sampled at; 0 is greedy.
    pub temperature: f32,
    /// The root succeeded wholly.
    pub solved: bool,
    /// The root's success in 0..=1.
    pub success: f32,
    /// Nodes.
    pub nodes: usize,
    /// Tokens, read and sampled.
    pub tokens: u64,
    /// Tokens that the policy drew.
    pub sampled: u64,
    /// Sampled tokens that had to be drawn one after the other.
    pub critical_path: u64,
    /// Wall clock from its first step to its last, beside up to `eval.trees` others.
    pub seconds: f64,
}

impl Played {
    fn of(rollout: &Rollout, task: &impl RootTask, temperature: f32) -> Self {
        Self {
            task: task.id().to_owned(),
            difficulty: task.difficulty(),
            temperature,
            solved: rollout.is_solved(),
            success: rollout.success(),
            nodes: rollout.tree.nodes().len(),
            tokens: rollout.tokens(),
            sampled: rollout.sampled(),
            critical_path: rollout.critical_path(),
            seconds: rollout.seconds,
        }
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

impl Arm {
    fn of(config: &Config, depth: u8, vocab: usize) -> Self {
        Self {
            depth,
            vocab,
            seed: crate::seed::derive(config.seed, &[crate::seed::EVALUATION]),
        }
    }
}

/// The tasks of one difficulty that an evaluation takes: all of them, or the first `limit`.
pub fn select<T: RootTask>(tasks: &[T], difficulty: Difficulty, limit: usize) -> impl Iterator<Item = &T> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    tasks
        .iter()
        .filter(move |task| task.difficulty() == difficulty)
        .take(limit)
}

/// How many trees [`evaluate`] rolls out.
#[must_use]
pub fn trees(tasks: &[impl RootTask], eval: &Eval) -> usize {
    let of = |difficulty| select(tasks, difficulty, limit(eval, difficulty)).count();
    2 * eval
        .difficulties
        .iter()
        .map(|&difficulty| of(difficulty))
        .sum::<usize>()
}

/// What is evaluated: tasks, and the root of a tree for each.
pub struct Suite<'a, T, R> {
    /// The tasks, of any difficulty.
    pub tasks: &'a [T],
    /// Makes the root of a tree of agents so seated; the number is the tree's seed.
    pub root: R,
    /// Tokens of the longest action.
    pub action_max: u32,
    /// How many windows the tasks of each difficulty fill, in the order of [`Difficulty::ALL`], where that is how they are measured.
    pub windows: [Option<f64>; 4],
}

impl<'a, T> Suite<'a, T, ()> {
    /// The held-out tasks of a domain.
    pub fn of<D: Domain<Task = T>>(domain: &'a D) -> Suite<'a, T, impl Fn(&T, Seating, u64) -> D::Agent + Sync> {
        Suite {
            tasks: domain.val(),
            root: |task: &T, seating, seed| domain.root(task, seating, seed),
            action_max: domain.action_max(),
            windows: Difficulty::ALL.map(|difficulty| domain.windows(difficulty)),
        }
    }
}

impl<T: RootTask, E, R: Fn(&T, Seating, u64) -> E> Suite<'_, T, R> {
    fn jobs(&self, tasks: &[&T], eval: &Eval, arm: Arm, mode: u64) -> Vec<Job<E>> {
        let seating = Seating {
            depth_max: arm.depth,
            shuffle: false,
        };
        let job = |(index, task): (usize, &&T)| {
            let seed = crate::seed::derive(arm.seed, &[mode, index as u64]);
            Job {
                root: (self.root)(task, seating, seed),
                task: task.id().to_owned(),
                seed,
                limits: limits(eval, task.difficulty(), arm.depth, self.action_max),
            }
        };
        tasks.iter().enumerate().map(job).collect()
    }
}

/// Rolls the tasks out, greedily and at temperature 1, and scores them.
///
/// # Errors
/// [`RolloutError`].
pub async fn evaluate<T: RootTask, E: Environment>(
    engine: &mut impl RolloutEngine<E>,
    suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E>,
    eval: &Eval,
    arm: Arm,
    progress: &Arc<Progress>,
) -> Result<Scores, RolloutError> {
    evaluate_and_say(engine, suite, eval, arm, progress, |_| (), |_| ()).await
}

/// [`evaluate`], which says what it has found as each difficulty ends, and `each` tree that it has played.
async fn evaluate_and_say<T: RootTask, E: Environment>(
    engine: &mut impl RolloutEngine<E>,
    suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E>,
    eval: &Eval,
    arm: Arm,
    progress: &Arc<Progress>,
    say: impl Fn(&Scores),
    mut each: impl FnMut(&Played),
) -> Result<Scores, RolloutError> {
    let mut scores = Scores::default();
    for &difficulty in &eval.difficulties {
        let tasks: Vec<&T> = select(suite.tasks, difficulty, limit(eval, difficulty)).collect();
        if tasks.is_empty() {
            continue;
        }
        let mut score = Score {
            tasks: tasks.len(),
            windows: suite.windows[difficulty as usize],
            ..Score::default()
        };
        for (mode, temperature) in [(0_u64, 0.0), (1, 1.0)] {
            let started = Instant::now();
            let settings = Settings {
                trees_in_flight: eval.trees,
                ..settings(temperature, arm.vocab, progress)
            };
            let jobs = suite.jobs(&tasks, eval, arm, mode);
            let rollouts = engine.rollout(jobs, &settings).await?;
            for (rollout, &task) in rollouts.iter().zip(&tasks) {
                each(&Played::of(rollout, task, temperature));
            }
            score.unjudged += rollouts.iter().filter(|rollout| !rollout.is_judged()).count();
            score.faults += rollouts.iter().map(|rollout| rollout.faults.len()).sum::<usize>();
            let solved = mean(&rollouts, |rollout| f64::from(u8::from(rollout.is_solved())));
            if temperature > 0.0 {
                score.t1 = solved;
                continue;
            }
            score.greedy = solved;
            score.credit = mean(&rollouts, |rollout| f64::from(rollout.success()));
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
        say(&scores);
    }
    Ok(scores)
}

/// The first greedy tree of every difficulty that [`evaluate`] takes, once more, with its log.
///
/// # Errors
/// [`RolloutError`].
pub async fn first_trees<T: RootTask, E: Environment>(
    engine: &mut impl RolloutEngine<E>,
    suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E>,
    config: &Config,
    (depth, vocab): (u8, usize),
    progress: &Arc<Progress>,
) -> Result<Vec<(Difficulty, Rollout)>, RolloutError> {
    let arm = Arm::of(config, depth, vocab);
    let mut trees = Vec::new();
    for &difficulty in &config.eval.difficulties {
        let tasks: Vec<&T> = select(suite.tasks, difficulty, 1).collect();
        let settings = Settings {
            keep_log: true,
            ..settings(0.0, vocab, progress)
        };
        let jobs = suite.jobs(&tasks, &config.eval, arm, 0);
        let rollouts = engine.rollout(jobs, &settings).await?;
        trees.extend(rollouts.into_iter().map(|tree| (difficulty, tree)));
    }
    Ok(trees)
}

/// Caps of a tree of this difficulty, in an environment whose longest action has so many tokens.
#[must_use]
pub fn limits(eval: &Eval, difficulty: Difficulty, depth: u8, action_max: u32) -> Limits {
    let limits = eval.limits.at_depth(depth, action_max);
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
        cancel_on_stop: true,
        progress: Arc::clone(progress),
    }
}

/// Tasks of this difficulty that are taken; 0 takes all.
#[must_use]
pub fn limit(eval: &Eval, difficulty: Difficulty) -> usize {
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

/// Evaluates one policy of `vocab` tokens, with a bar that counts trees; `each` hears of every tree, greedy ones of a difficulty first.
///
/// # Errors
/// [`RolloutError`].
pub async fn judge<T: RootTask, E: Environment>(
    engine: &mut impl RolloutEngine<E>,
    suite: &Suite<'_, T, impl Fn(&T, Seating, u64) -> E>,
    config: &Config,
    (depth, vocab): (u8, usize),
    name: &'static str,
    progress: &Arc<Progress>,
    each: impl FnMut(&Played),
) -> Result<Scores, RolloutError> {
    let phase = Phase::of_trees(name, trees(suite.tasks, &config.eval) as u64, progress);
    let arm = Arm::of(config, depth, vocab);
    let before = progress.nodes();
    let say = |scores: &Scores| phase.say(&scores.line());
    let scores = evaluate_and_say(engine, suite, &config.eval, arm, progress, say, each).await?;
    phase.end(&format!("{}, {} nodes", scores.line(), progress.nodes() - before));
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_was_evaluated() {
        let mut scores = Scores::default();
        assert_eq!(scores.line(), "");
        for (difficulty, greedy) in [(Difficulty::Hard, 0.5), (Difficulty::Easy, 1.0)] {
            let score = Score {
                greedy,
                ..Score::default()
            };
            scores.set(difficulty, score);
        }
        assert_eq!(scores.line(), "easy 1.00, hard 0.50");
    }
}
