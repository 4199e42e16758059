//! The warm start: cloning a flawed teacher, so that the policy speaks the interface and sometimes delegates before it is optimized.
//!
//! Without delegation in the prior, RAO removes what little there is: successes come from nodes that need no child.

use super::failures;
use super::optimize::Spent;
use super::tasks::TaskOrder;
use super::{
    TrainError,
    checkpoint::{Cursor, Session, Stage},
};
use crate::backend::{Objective, Sequence, Trainee};
use crate::config::Config;
use crate::display::Phase;
use crate::environments::{Difficulty, Domain, RootTask, Seating};
use crate::judge::Grader;
use crate::rollout::{Job, Progress, Settings, Transcript, Worker};
use rand::{RngExt, seq::IndexedRandom};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::sync::Arc;
use std::time::Instant;

/// Depth caps that the teacher is shown, so that the policy has seen DEEP at every level.
const DEPTHS: [u8; 4] = [1, 2, 3, 8];

/// Where the warm start begins.
#[must_use]
pub fn begin(config: &Config) -> Cursor {
    Cursor::new(Stage::Warmstart, crate::seed::derive(seed(config), &[1]))
}

fn seed(config: &Config) -> u64 {
    crate::seed::derive(config.seed, &[crate::seed::WARMSTART])
}

/// Trains `trainee` to imitate the teacher on EASY tasks, from where it stands; on a stop, the step under way is
/// finished, a checkpoint written, and `None` returned.
///
/// # Errors
/// [`TrainError`].
pub fn warm_start<D: Domain>(
    trainee: &mut Trainee,
    domain: &D,
    mut cursor: Cursor,
    config: &Config,
    (session, phase): (&mut Session, &Phase),
    progress: &Arc<Progress>,
) -> Result<Option<Spent>, TrainError> {
    let started = Instant::now();
    let before = cursor.spent.seconds;
    let warm = &config.warmstart;
    if cursor.spent.steps >= warm.steps {
        return Ok(Some(cursor.spent));
    }
    let lessons = lessons(domain, config, trainee.vocab(), seed(config), progress)?;
    // A stop leaves lessons out: then nothing is learned from the rest.
    let mut stops = progress.is_stopped();
    while cursor.spent.steps < warm.steps {
        if stops {
            return Ok(None);
        }
        let step = cursor.spent.steps;
        let batch: Vec<Sequence<'_>> = (0..warm.nodes)
            .filter_map(|_| lessons.choose(&mut cursor.random))
            .map(|transcript| Sequence {
                transcript,
                weights: vec![1.0; transcript.actions.len()],
            })
            .collect();
        let lr = if 5 * step < 3 * warm.steps {
            warm.lr
        } else {
            0.3 * warm.lr
        };
        let report = trainee.update(&batch, Objective::Reinforce, 1.0, lr)?;
        session.write(&serde_json::json!({ "phase": Stage::Warmstart.name(), "step": step, "lr": lr, "loss": report.loss, "grad_norm": report.grad_norm }))?;
        phase.set(step as u64 + 1, &format!("cross-entropy {:.3}", report.loss));
        cursor.spent = Spent {
            steps: step + 1,
            tokens: 0,
            seconds: before + started.elapsed().as_secs_f64(),
        };
        // Asked once: what stops the loop is what was saved for.
        stops = progress.is_stopped();
        session.stepped(&cursor, trainee, stops)?;
    }
    Ok(Some(cursor.spent))
}

/// The contexts of all nodes of the teacher's trees.
fn lessons<D: Domain>(
    domain: &D,
    config: &Config,
    vocab: usize,
    seed: u64,
    progress: &Arc<Progress>,
) -> Result<Vec<Transcript>, TrainError> {
    let warm = &config.warmstart;
    let easy = domain
        .train()
        .iter()
        .filter(|task| task.difficulty() == Difficulty::Easy);
    let easy: Vec<&D::Task> = easy.collect();
    if easy.is_empty() {
        return Err(TrainError::NoTasks {
            difficulty: Difficulty::Easy,
        });
    }
    let mut order = TaskOrder::new(easy, crate::seed::derive(seed, &[2]));
    let mut random = Xoshiro256PlusPlus::seed_from_u64(crate::seed::derive(seed, &[3]));
    let mut index = 0;
    let next = || {
        let due = index < warm.trees;
        due.then(|| {
            let depth = if random.random_bool(warm.flat_share) {
                0
            } else {
                DEPTHS[random.random_range(0..DEPTHS.len())]
            };
            let seating = Seating {
                depth_max: depth,
                shuffle: true,
            };
            let task = order.next_task();
            let seed = crate::seed::derive(seed, &[4, index as u64]);
            index += 1;
            (
                index - 1,
                Job {
                    root: domain.root(task, seating, seed),
                    task: task.id().to_owned(),
                    seed,
                    limits: config.limits.at_depth(depth, domain.action_max()),
                },
            )
        })
    };
    let settings = Settings {
        temperature: 1.0,
        vocab,
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: 64,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::clone(progress),
    };
    let rollouts = Worker::new(domain.teacher(warm.teacher, vocab)).rollout(next, &settings)?;
    let rollouts = [rollouts];
    // Cancelled trees are no failures.
    if !progress.is_stopped() {
        failures::check(Stage::Warmstart.name(), 0, &rollouts, config.rao.failed_max)?;
    }
    let transcripts = rollouts.into_iter().flatten().flat_map(|rollout| rollout.transcripts);
    Ok(transcripts
        .filter(|transcript| !transcript.actions.is_empty())
        .collect())
}
