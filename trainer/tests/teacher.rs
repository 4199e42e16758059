//! The flawed teacher on the official benchmark, rolled out by the engine that also trains.

use rao_trainer::config::Config;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::environments::textcraft::teacher::teacher;
use rao_trainer::environments::textcraft::vocabulary::{ACTION_MAX, Interface, VOCAB};
use rao_trainer::environments::textcraft::{Benchmark, Difficulty, official};
use rao_trainer::evaluate::select;
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{Job, Progress, Rollout, Settings, Worker};
use std::sync::Arc;

fn settings() -> Settings {
    Settings {
        temperature: 1.0,
        vocab: VOCAB,
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: 16,
        grader: Grader::Nobody,
        sink: None,
        progress: Arc::new(Progress::default()),
    }
}

fn roll(benchmark: &Benchmark, difficulty: Difficulty, depth_max: u8) -> Vec<Rollout> {
    let config = Config::default();
    let options = AgentOptions {
        depth_max,
        slots: config.agent.slots,
        shuffle_slots: true,
        interface: Interface::default(),
    };
    let tasks = select(&benchmark.train, difficulty, 400);
    let mut jobs = tasks.enumerate().map(|(index, task)| {
        let seed = rao_trainer::seed::derive(7, &[index as u64]);
        let root = Agent::root(&benchmark.world, task, options, seed);
        (
            index,
            Job {
                root,
                task: task.id.clone(),
                seed,
                limits: config.limits.at_depth(depth_max, ACTION_MAX),
            },
        )
    });
    Worker::new(teacher(config.warmstart.teacher, Interface::default(), VOCAB))
        .rollout(|| jobs.next(), &settings())
        .unwrap()
}

fn success(rollouts: &[Rollout]) -> f32 {
    rollouts.iter().map(Rollout::success).sum::<f32>() / rollouts.len() as f32
}

#[test]
fn the_teacher_knows_the_motif_and_little_else() {
    let benchmark = official::embedded().unwrap();
    let easy = roll(&benchmark, Difficulty::Easy, 8);
    let medium = roll(&benchmark, Difficulty::Medium, 8);
    let flat = roll(&benchmark, Difficulty::Easy, 0);
    assert!((0.2..0.8).contains(&success(&easy)));
    assert!(success(&medium) < 0.1);
    assert!(flat.iter().all(|rollout| rollout.tree.nodes().len() == 1));
}
