//! The event log is the ground state: what is computed again from the bytes equals what the trainer used.

use rao_backends::scripted::uniform;
use rao_proto::{Event, Frames};
use rao_trainer::backend::Trainee;
use rao_trainer::config::Config;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::environments::textcraft::teacher::teacher;
use rao_trainer::environments::textcraft::vocabulary::{ACTION_MAX, Interface, VOCAB};
use rao_trainer::environments::textcraft::{Benchmark, Difficulty, official};
use rao_trainer::evaluate::select;
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{Job, Progress, Rollout, RolloutEngine, Settings, VecArena, Worker};
use rao_trainer::train::credit::assign;
use rao_tree::credit::{DepthMass, Estimator, Rule};
use rao_tree::{Policy, Tree};
use std::sync::Arc;

fn settings(trees_in_flight: usize) -> Settings {
    Settings {
        temperature: 1.0,
        vocab: VOCAB,
        keep_transcripts: true,
        keep_log: true,
        trees_in_flight,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    }
}

/// Four trees of each of twenty easy tasks.
fn jobs(benchmark: &Benchmark) -> impl Iterator<Item = Job<Agent>> {
    let config = Config::default();
    let options = AgentOptions {
        depth_max: 8,
        slots: config.agent.slots,
        shuffle_slots: true,
        interface: Interface::default(),
    };
    select(&benchmark.train, Difficulty::Easy, 20)
        .flat_map(|task| [task; 4])
        .enumerate()
        .map(move |(index, task)| {
            let seed = rao_trainer::seed::derive(1, &[index as u64]);
            let root = Agent::root(&benchmark.world, task, options, seed);
            Job {
                root,
                task: task.id.clone(),
                seed,
                limits: config.limits.at_depth(8, ACTION_MAX),
            }
        })
}

fn groups<P: Policy<Error: Send + Sync + 'static>>(
    benchmark: &Benchmark,
    policy: P,
    settings: &Settings,
) -> Vec<Vec<Rollout>> {
    let mut jobs = jobs(benchmark).enumerate();
    let mut rollouts = Worker::new(policy).rollout(|| jobs.next(), settings).unwrap();
    rollouts.sort_by_key(|rollout| rollout.job);
    let mut groups = Vec::new();
    while !rollouts.is_empty() {
        groups.push(rollouts.drain(..4).collect());
    }
    groups
}

/// The rollout as its log alone tells it.
fn reread(rollout: &Rollout) -> Rollout {
    let mut tree = Tree::new(VecArena::default());
    for record in Frames::new(&rollout.log) {
        tree.apply(&record.unwrap().event).unwrap();
    }
    Rollout {
        job: rollout.job,
        weights: rollout.weights,
        tree,
        transcripts: Vec::new(),
        log: Vec::new(),
        faults: Vec::new(),
        seconds: rollout.seconds,
    }
}

#[test]
fn credit_from_the_log_equals_the_trainers_bit_for_bit() {
    let benchmark = official::embedded().unwrap();
    let config = Config::default();
    let groups = groups(
        &benchmark,
        teacher(config.warmstart.teacher, Interface::default(), VOCAB),
        &settings(16),
    );
    let reread: Vec<Vec<Rollout>> = groups.iter().map(|group| group.iter().map(reread).collect()).collect();
    use Rule::{Pooled, Rao, RootBroadcast, Sparse, TreeGrpo, TreeRl};
    for (rule, lambda) in [
        (Rao, 0.0),
        (Rao, 0.4),
        (Sparse, 0.4),
        (RootBroadcast, 0.4),
        (Pooled, 0.4),
        (TreeRl, 0.0),
        (TreeGrpo, 0.4),
    ] {
        let estimator = Estimator {
            rule,
            lambda,
            depth_mass: DepthMass::ActionTokens,
            ..config.rao.estimator
        };
        let used = assign(&estimator, &groups).unwrap();
        assert_eq!(used, assign(&estimator, &reread).unwrap());
        let weights = used.iter().flatten().flat_map(|tree| &tree.nodes);
        let taught = weights.filter(|credit| credit.weighted != 0.0).count();
        // TreeRL pays only where the leaves below a node differ from those of its tree, and these trees are small.
        let least = if rule == TreeRl { 1 } else { 20 };
        assert!(taught > least, "{rule:?} teaches {taught} nodes");
    }
    for (tree, copy) in groups.iter().flatten().zip(reread.iter().flatten()) {
        assert_eq!(tree.critical_path(), copy.critical_path());
        assert_eq!(tree.tokens(), copy.tokens());
    }
}

#[test]
fn the_log_holds_every_token_and_one_terminal_event_per_node() {
    let benchmark = official::embedded().unwrap();
    for rollout in groups(&benchmark, uniform(VOCAB), &settings(16)).iter().flatten() {
        let nodes = rollout.tree.nodes().len();
        let (mut ended, mut contexts) = (vec![0; nodes], vec![Vec::new(); nodes]);
        for record in Frames::new(&rollout.log) {
            match record.unwrap().event {
                Event::Observe { node, tokens } | Event::Act { node, tokens, .. } => {
                    contexts[node.index()].extend(tokens.iter());
                }
                Event::Return { node, .. } | Event::Cancel { node, .. } => ended[node.index()] += 1,
                _ => {}
            }
        }
        assert!(ended.iter().all(|&count| count == 1));
        let transcripts = rollout.transcripts.iter().map(|transcript| &transcript.tokens);
        assert!(transcripts.eq(contexts.iter()));
    }
}

#[tokio::test]
async fn a_tree_is_the_same_whatever_shares_the_batch() {
    let benchmark = official::embedded().unwrap();
    let config = Config::default();
    let trainee = Trainee::new(&config).unwrap();
    let mut all = Vec::new();
    // One tree at a time on one thread, or many at once on two: the same tokens, the same log-probabilities, bit for bit.
    for (threads, trees_in_flight) in [(1, 1), (2, 64)] {
        let mut engine = trainee.exact_engine(&config.rollout, threads).unwrap();
        let rollouts = engine
            .rollout(jobs(&benchmark).collect(), &settings(trees_in_flight))
            .await
            .unwrap();
        assert!(
            rollouts.iter().any(|rollout| rollout.tree.nodes().len() > 1),
            "an untrained policy delegates at times"
        );
        all.push(rollouts);
    }
    for (alone, together) in all[0].iter().zip(&all[1]) {
        assert_eq!(alone.transcripts, together.transcripts);
    }
}
