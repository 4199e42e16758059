//! The loop of recursive agent optimization: roll out groups of trees, assign credit, update, publish.

use super::checkpoint::{Cursor, Session, Stage};
use super::credit::{TreeCredit, assign};
use super::failures;
use super::incident::{self, IncidentWatch};
use super::metrics::StepMetrics;
use super::mismatch::MismatchWatch;
use super::rollouts::Rollouts;
use super::schedule::learning_rate;
use super::{TrainError, tasks::TaskOrder};
use crate::backend::{Objective, Sequence, SequenceRatio, Trainee};
use crate::config::{Config, Correction, Rao};
use crate::display::Phase;
use crate::environments::{Domain, RootTask, Seating};
use crate::judge::Grader;
use crate::record::Recorder;
use crate::rollout::{Job, Progress, Rollout, Settings};
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use rao_tree::WeightsVersion;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// After `rao.steps` steps.
    Steps,
    /// Once this many environment tokens have been spent: read and sampled, in all trees.
    Tokens(u64),
}

/// One arm's training.
pub struct Arm<'a, T> {
    /// Which: its name in the metrics.
    pub stage: Stage,
    /// Deepest node; 0 is the flat twin.
    pub depth: u8,
    /// When to stop.
    pub budget: Budget,
    /// Root tasks to draw from.
    pub tasks: Vec<&'a T>,
    /// Source of the arm's randomness.
    pub seed: u64,
    /// Keeps some of its trees.
    pub recorder: &'a Recorder,
}

impl<T> Arm<'_, T> {
    /// Where it begins.
    #[must_use]
    pub fn begin(stage: Stage, seed: u64) -> Cursor {
        Cursor::new(stage, crate::seed::derive(seed, &[1]))
    }
}

/// What an arm's training came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Steps taken.
    pub steps: usize,
    /// Environment tokens: read and sampled, in all trees.
    pub tokens: u64,
    /// Wall clock.
    pub seconds: f64,
}

/// Trains `trainee` on the arm's tasks, from where the arm stands until the budget is spent or somebody asks to stop: then the step under way is
/// finished, a checkpoint written, and `None` returned. The metrics of every step are written as it ends.
///
/// # Errors
/// [`TrainError`]: the policy or an update failed, or what belongs in the run directory could not be written. The trainee keeps its last good
/// weights.
pub async fn optimize<D: Domain>(
    trainee: &mut Trainee,
    domain: &D,
    arm: Arm<'_, D::Task>,
    mut cursor: Cursor,
    config: &Config,
    (session, phase): (&mut Session, &Phase),
    progress: &Arc<Progress>,
) -> Result<Option<Spent>, TrainError> {
    let started = Instant::now();
    let before = cursor.spent.seconds;
    let name = arm.stage.name();
    let rao = &config.rao;
    let seating = Seating {
        depth_max: arm.depth,
        shuffle: true,
    };
    let limits = config.limits.at_depth(arm.depth, domain.action_max());
    let mut settings = Settings {
        temperature: rao.temperature,
        vocab: trainee.vocab(),
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: rao.tasks * rao.trees,
        grader: Grader::Nobody,
        sink: None,
        // A step that was begun is finished: nothing of it is lost then.
        cancel_on_stop: false,
        progress: Arc::clone(progress),
    };
    let mut engine = Rollouts::open(trainee, config).await?;
    let mut order = TaskOrder::new(arm.tasks, crate::seed::derive(arm.seed, &[0]));
    for _ in 0..cursor.spent.steps * rao.tasks {
        order.next_task();
    }
    let mut watch = MismatchWatch::new(rao.mismatch_warn, cursor.warned);
    let mut incidents = IncidentWatch {
        told: cursor.told.clone(),
    };
    let mut stops = progress.is_stopped();
    loop {
        let spent = cursor.spent;
        let position = match arm.budget {
            Budget::Steps => spent.steps as f64,
            Budget::Tokens(tokens) => spent.tokens as f64 / tokens.max(1) as f64 * rao.steps as f64,
        };
        if position >= rao.steps as f64 {
            return Ok(Some(cursor.spent));
        }
        if stops {
            return Ok(None);
        }
        let clock = Instant::now();
        let mut jobs = Vec::with_capacity(rao.tasks * rao.trees);
        for _ in 0..rao.tasks {
            let task = order.next_task();
            for _ in 0..rao.trees {
                let seed = crate::seed::derive(arm.seed, &[2, spent.steps as u64, jobs.len() as u64]);
                jobs.push(Job {
                    root: domain.root(task, seating, seed),
                    task: task.id().to_owned(),
                    seed,
                    limits,
                });
            }
        }
        settings.keep_log = arm.recorder.is_due(cursor.recorded, position, rao.steps);
        let mut rollouts = engine.rollout(jobs, &settings).await?.into_iter();
        let mut groups: Vec<Vec<Rollout>> = Vec::with_capacity(rao.tasks);
        while !rollouts.as_slice().is_empty() {
            groups.push(rollouts.by_ref().take(rao.trees).collect());
        }
        failures::check(name, spent.steps, &groups, rao.failed_max)?;
        let rollout_seconds = clock.elapsed().as_secs_f64();

        let clock = Instant::now();
        let credits = assign(&rao.estimator, &groups)?;
        if settings.keep_log {
            // One that taught something says more than one in which all trees did alike.
            let taught = credits.iter().position(|group| group.iter().any(|tree| tree.teaches));
            let shown = taught.unwrap_or(0);
            arm.recorder.group(name, spent.steps, &groups[shown], &credits[shown])?;
            cursor.recorded += 1;
        }
        let lr = learning_rate(rao, position);
        let version = trainee.version();
        let reports = update(trainee, &groups, &credits, rao, lr, &mut cursor.random)?;
        engine.publish(trainee, config).await?;
        let train_seconds = clock.elapsed().as_secs_f64();

        let tokens: u64 = groups.iter().flatten().map(Rollout::tokens).sum();
        let step = StepMetrics {
            phase: name,
            step: spent.steps,
            tokens_total: spent.tokens + tokens,
            lr,
            rollout_seconds,
            train_seconds,
            incident: incidents.observe(engine.incidents().into_iter()),
            ..StepMetrics::of(&groups, &credits, &reports, version, rao.staleness_max)?
        };
        if let Some(warning) = step.mismatch.and_then(|mismatch| watch.observe(mismatch)) {
            phase.warn(&format!("{name}, step {}: {warning}", step.step));
        }
        for notice in engine.take_notices() {
            phase.warn(&format!("{name}, step {}: {notice}", step.step));
        }
        if let Some(incident) = &step.incident {
            let warning = incident::warning(incident);
            phase.warn(&format!("{name}, step {}: {warning}", step.step));
        }
        cursor = Cursor {
            spent: Spent {
                steps: spent.steps + 1,
                tokens: spent.tokens + tokens,
                seconds: before + started.elapsed().as_secs_f64(),
            },
            warned: watch.warned,
            told: incidents.told.clone(),
            ..cursor
        };
        phase.set(position as u64 + 1, &step.line());
        session.write(&step)?;
        session.score(step.root_success);
        // Asked once: what stops the loop is what was saved for.
        stops = progress.is_stopped();
        session.stepped(&cursor, trainee, stops)?;
    }
}

/// What an update maximises.
fn objective(rao: &Rao) -> Objective {
    let (low, high) = (rao.ratio_low, rao.ratio_clip);
    let tis = |ratio| Objective::SequenceTis { ratio, cap: high };
    let mask = |ratio| Objective::SequenceMask { ratio, low, high };
    match rao.correction {
        Correction::Cispo | Correction::TokenTis => Objective::Cispo {
            clip_low: 0.0,
            clip_high: high,
        },
        Correction::SequenceTis => tis(SequenceRatio::Product),
        Correction::GeometricTis => tis(SequenceRatio::GeometricMean),
        Correction::TokenMask => Objective::TokenMask { low, high },
        Correction::SequenceMask => mask(SequenceRatio::Product),
        Correction::GeometricMask => mask(SequenceRatio::GeometricMean),
        Correction::None => Objective::Reinforce,
    }
}

/// Updates on all nodes that teach, in `minibatches` disjoint random parts. Each part is divided by its share of ALL action tokens of the
/// groups that teach, those of nodes without advantage included: a batch with little to learn takes a small step.
fn update(
    trainee: &mut Trainee,
    groups: &[Vec<Rollout>],
    credits: &[Vec<TreeCredit>],
    rao: &Rao,
    lr: f64,
    shuffle: &mut Xoshiro256PlusPlus,
) -> Result<Vec<crate::backend::StepReport>, TrainError> {
    let mut sequences = sequences(groups, credits, rao, trainee.version());
    sequences.shuffle(shuffle);
    let mut reports = Vec::new();
    for part in sequences.chunks(sequences.len().div_ceil(rao.minibatches).max(1)) {
        let mut weights = part.iter().flat_map(|sequence| &sequence.weights);
        if weights.any(|&weight| weight != 0.0) {
            reports.push(trainee.update(part, objective(rao), rao.temperature, lr)?);
        }
    }
    Ok(reports)
}

/// The nodes that are trained on: those that acted, of groups that teach, in trees that are not too old for the weights `now`.
fn sequences<'a>(
    groups: &'a [Vec<Rollout>],
    credits: &[Vec<TreeCredit>],
    rao: &Rao,
    now: WeightsVersion,
) -> Vec<Sequence<'a>> {
    let mut sequences = Vec::new();
    for (rollout, credit) in groups.iter().flatten().zip(credits.iter().flatten()) {
        if !credit.teaches || rollout.staleness(now) > rao.staleness_max {
            continue;
        }
        for (transcript, credit) in rollout.transcripts.iter().zip(&credit.nodes) {
            if !transcript.actions.is_empty() {
                let turns = transcript.actions.len() as u32;
                let weight = |turn| credit.weighted * rao.estimator.turn_weight(turn, turns);
                sequences.push(Sequence {
                    transcript,
                    weights: (0..turns).map(weight).collect(),
                });
            }
        }
    }
    sequences
}

#[cfg(test)]
mod tests {
    use super::super::credit::tests::{group, root};
    use super::*;
    use crate::rollout::{Span, Transcript};
    use rao_tree::NodeStatus::Finished;
    use rao_tree::Token;

    #[test]
    fn cispo_is_what_it_was_and_goes_by_two_names() {
        let objective = |correction| {
            objective(&Rao {
                correction,
                ..Config::default().rao
            })
        };
        assert_eq!(super::objective(&Config::default().rao), Objective::default());
        assert_eq!(objective(Correction::TokenTis), objective(Correction::Cispo));
        assert_eq!(objective(Correction::None), Objective::Reinforce);
        let bounds = Rao {
            correction: Correction::GeometricMask,
            ratio_low: 0.5,
            ratio_clip: 2.0,
            ..Config::default().rao
        };
        let (ratio, low, high) = (SequenceRatio::GeometricMean, 0.5, 2.0);
        assert_eq!(super::objective(&bounds), Objective::SequenceMask { ratio, low, high });
    }

    #[test]
    fn trees_that_are_too_old_are_not_trained_on() {
        let mut trees = group(&[&[root(Finished, 0.0)], &[root(Finished, 1.0)]]);
        for (tree, version) in trees.iter_mut().zip([2, 5]) {
            tree.weights = WeightsVersion(version);
            tree.transcripts.push(Transcript {
                tokens: vec![Token(1), Token(version as u32)],
                actions: vec![Span {
                    start: 1,
                    len: 1,
                    masked: true,
                }],
                ..Transcript::default()
            });
        }
        let groups = [trees];
        let mut rao = Config::default().rao;
        let credits = assign(&rao.estimator, &groups).unwrap();
        for (staleness_max, kept) in [(3, vec![2, 5]), (2, vec![5]), (0, vec![5])] {
            rao.staleness_max = staleness_max;
            let trained = sequences(&groups, &credits, &rao, WeightsVersion(5));
            let versions: Vec<u32> = trained.iter().map(|sequence| sequence.transcript.tokens[1].0).collect();
            assert_eq!(versions, kept, "at most {staleness_max}");
            // What is dropped still stands in the baseline of its peers.
            assert_eq!(trained.last().unwrap().weights, [1.0]);
        }
    }
}
