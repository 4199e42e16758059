//! The largest trees of the benchmark: plain recursion as a policy, through the real engine, within the limits of evaluation.

use rao_backends::scripted::Scripted;
use rao_trainer::config::Config;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::environments::textcraft::vocabulary::{ACTION_MAX, Interface, SPAWN_MAX, VOCAB, Word};
use rao_trainer::environments::textcraft::{Benchmark, Difficulty, Task, official, plan};
use rao_trainer::evaluate::select;
use rao_trainer::judge::Grader;
use rao_trainer::report::{Caps, Report};
use rao_trainer::rollout::{InProcess, Job, Progress, Rollout, RolloutEngine, Settings};
use rao_tree::{Limits, Node, NodeStatus, Policy, Request, Success, Token};
use std::convert::Infallible;
use std::sync::Arc;

/// Plain recursion in the words of one node, with up to `children` children at a time.
fn perfect(children: usize) -> impl Policy<Error = Infallible> + Send + 'static {
    Scripted::new(VOCAB, move |request: &Request<'_>, _: &mut _| {
        let words: Vec<Word> = request.prompt.iter().filter_map(|&token| Word::parse(token)).collect();
        next(&words, children)
            .into_iter()
            .map(Word::token)
            .collect::<Vec<Token>>()
    })
}

/// The next action: what the latest look listed as missing is made by children, in that order, and then the goal is crafted. If
/// that fails, the node looks again.
fn next(context: &[Word], children: usize) -> Vec<Word> {
    let goal = context[1];
    let Some(look) = context.iter().rposition(|&word| word == Word::Info) else {
        return vec![Word::Info, goal];
    };
    let since = &context[look..];
    match since {
        [.., Word::Err] => return vec![Word::Info, goal],
        [.., Word::Craft, _, Word::Ok] => return vec![Word::Finish],
        _ => {}
    }
    let delegated = since.iter().position(|&word| word == Word::Spawn);
    let (shown, delegated) = since.split_at(delegated.unwrap_or(since.len()));
    let slots = |words: &[Word]| {
        words
            .iter()
            .copied()
            .filter(|word| matches!(word, Word::Slot(_)))
            .collect::<Vec<_>>()
    };
    let missing = slots(&shown[2..]);
    let open = &missing[slots(delegated).len()..];
    if open.is_empty() {
        return vec![Word::Craft, goal];
    }
    let open = &open[..open.len().min(children)];
    let mut action: Vec<Word> = open.iter().flat_map(|&item| [Word::And, item]).collect();
    action[0] = Word::Spawn;
    if open.len() < SPAWN_MAX {
        action.push(Word::Go);
    }
    action
}

/// The held-out task of this difficulty for which plain recursion takes most nodes, and how many those are.
fn largest(benchmark: &Benchmark, difficulty: Difficulty) -> (&Task, u32) {
    let nodes = |task| plan::oracle_nodes(&benchmark.world, task).unwrap();
    select(&benchmark.val, difficulty, 0)
        .map(|task| (task, nodes(task)))
        .max_by_key(|&(_, nodes)| nodes)
        .unwrap()
}

/// Carries the task out under the limits of evaluation, with up to `children` children of a node at a time and up to `concurrent` nodes of
/// the tree at work at once.
async fn roll(benchmark: &Benchmark, task: &Task, children: usize, concurrent: u32) -> Rollout {
    let Config { agent, eval, .. } = Config::default();
    let options = AgentOptions {
        depth_max: eval.limits.depth,
        slots: agent.slots,
        shuffle_slots: false,
        interface: Interface::default(),
    };
    let job = Job {
        root: Agent::root(&benchmark.world, task, options, 1),
        task: task.id.clone(),
        seed: 1,
        limits: Limits {
            concurrent_max: concurrent,
            ..eval.limits.at_depth(eval.limits.depth, ACTION_MAX)
        },
    };
    let settings = Settings {
        temperature: 0.0,
        vocab: VOCAB,
        keep_transcripts: false,
        keep_log: true,
        trees_in_flight: 1,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let mut engine = InProcess::new(vec![perfect(children)]);
    let mut rollouts = engine.rollout(vec![job], &settings).await.unwrap();
    let rollout = rollouts.pop().unwrap();
    println!(
        "{}, {children} children, {concurrent} at once: {} nodes ({} finished), {} tokens sampled, {:.2} s, peak memory {}",
        task.id,
        nodes(&rollout),
        finished(&rollout),
        rollout.sampled(),
        rollout.seconds,
        peak()
    );
    assert_eq!(rollout.success(), 1.0);
    assert!(rollout.faults.is_empty());
    assert!(nodes(&rollout) <= eval.limits.nodes as usize);
    rollout
}

/// The page of a tree of ten thousand nodes holds all of them. `RAO_REPORT_PAGES` names a directory where it is left for a browser.
#[tokio::test]
async fn ten_thousand_nodes_become_a_page() {
    let benchmark = official::embedded().unwrap();
    let fits = |task: &&Task| (10_000..14_000).contains(&plan::oracle_nodes(&benchmark.world, task).unwrap());
    let task = select(&benchmark.val, Difficulty::Extreme, 0).find(fits).unwrap();
    let rollout = roll(&benchmark, task, SPAWN_MAX, concurrent()).await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("big.rao");
    std::fs::write(&log, &rollout.log).unwrap();
    let report = Report::gather(&[log], "a large tree", Caps::default()).unwrap();
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let tree = &report.groups[0].trees[0];
    assert_eq!(tree.parent.len(), nodes(&rollout));
    assert_eq!(tree.critical_path, rollout.critical_path());
    let page = report.render().unwrap();
    if let Some(pages) = std::env::var_os("RAO_REPORT_PAGES") {
        std::fs::write(std::path::Path::new(&pages).join("big.html"), page).unwrap();
    }
}

fn nodes(rollout: &Rollout) -> usize {
    rollout.tree.nodes().len()
}

/// How many nodes finished with success.
fn finished(rollout: &Rollout) -> usize {
    let succeeded = |node: &&Node| node.status == Some(NodeStatus::Finished) && node.success == Success::ONE;
    rollout.tree.nodes().iter().filter(succeeded).count()
}

/// Peak resident memory of this process, where the system tells.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(|| "unknown".into(), |peak| peak.trim().to_owned())
}

fn concurrent() -> u32 {
    Config::default().eval.limits.concurrent
}

#[tokio::test]
async fn the_largest_tree_of_the_benchmark_fits_the_limits_of_evaluation() {
    let benchmark = official::embedded().unwrap();
    let (task, oracle) = largest(&benchmark, Difficulty::Extreme);
    assert_eq!(oracle, 32_763);
    // One after the other, because a node asks for one child at a time or because one node is at work at a time: nobody takes what
    // another is about to use, and every node succeeds.
    for (children, concurrent) in [(1, concurrent()), (SPAWN_MAX, 1)] {
        let rollout = roll(&benchmark, task, children, concurrent).await;
        assert_eq!(finished(&rollout), nodes(&rollout));
    }
    // All at once, siblings take leftovers from under each other: some have to look again until their window is full, and their parents
    // ask once more.
    let rollout = roll(&benchmark, task, SPAWN_MAX, concurrent()).await;
    let lost = nodes(&rollout) - finished(&rollout);
    assert!(lost * 20 < nodes(&rollout), "{lost} nodes did not get through");
}

#[tokio::test]
async fn one_node_at_a_time_gets_as_far() {
    let benchmark = official::embedded().unwrap();
    let (task, oracle) = largest(&benchmark, Difficulty::Hard);
    assert_eq!(oracle, 1359);
    // Both reach the goal, which `roll` asserts, and no node fails on the way.
    for concurrent in [1, concurrent()] {
        let rollout = roll(&benchmark, task, SPAWN_MAX, concurrent).await;
        assert_eq!(finished(&rollout), nodes(&rollout));
    }
}
