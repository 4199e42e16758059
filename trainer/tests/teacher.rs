//! The flawed teacher on the official benchmark, rolled out by the engine that also trains.

use rao_trainer::config::{Config, TreeLimits};
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::environments::textcraft::teacher::{Flaws, teacher};
use rao_trainer::environments::textcraft::vocabulary::{Interface, Spawning, VOCAB};
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
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    }
}

fn roll(
    benchmark: &Benchmark,
    difficulty: Difficulty,
    depth_max: u8,
    flaws: Flaws,
    interface: Interface,
    limits: TreeLimits,
) -> Vec<Rollout> {
    let config = Config::default();
    let options = AgentOptions {
        depth_max,
        slots: config.agent.slots,
        shuffle_slots: true,
        interface,
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
                limits: limits.at_depth(depth_max, interface.action_max()),
            },
        )
    });
    Worker::new(teacher(flaws, interface, VOCAB))
        .rollout(|| jobs.next(), &settings())
        .unwrap()
}

fn success(rollouts: &[Rollout]) -> f32 {
    rollouts.iter().map(Rollout::success).sum::<f32>() / rollouts.len() as f32
}

#[test]
fn the_teacher_knows_the_motif_and_little_else() {
    let benchmark = official::embedded().unwrap();
    let config = Config::default();
    let roll = |difficulty, depth_max| {
        let flaws = config.warmstart.teacher;
        roll(
            &benchmark,
            difficulty,
            depth_max,
            flaws,
            Interface::default(),
            config.limits,
        )
    };
    let easy = roll(Difficulty::Easy, 8);
    let medium = roll(Difficulty::Medium, 8);
    let flat = roll(Difficulty::Easy, 0);
    assert!((0.2..0.8).contains(&success(&easy)));
    assert!(success(&medium) < 0.1);
    assert!(flat.iter().all(|rollout| rollout.tree.nodes().len() == 1));
}

#[test]
fn without_flaws_it_speaks_every_interface() {
    let benchmark = official::embedded().unwrap();
    let flaws = Flaws {
        diligence: 1.0,
        delegation: 0.7,
        distraction: 0.0,
        surrender: 0.0,
    };
    // Room for spelled names, and for one child at a time.
    let limits = TreeLimits {
        context: 256,
        steps: 64,
        ..Config::default().eval.limits
    };
    let choices = [false, true];
    for (amounts, names) in choices
        .into_iter()
        .flat_map(|amounts| choices.map(|names| (amounts, names)))
    {
        for parallel in choices {
            for spawn in [Spawning::Missing, Spawning::Free] {
                let interface = Interface {
                    spawn,
                    parallel,
                    amounts,
                    names,
                };
                let share = success(&roll(&benchmark, Difficulty::Medium, 8, flaws, interface, limits));
                assert!(share > 0.95, "{interface:?}: {share}");
            }
        }
    }
}
