//! Rollouts in which everything goes wrong that can: what breaks costs as little as it can, and the books are right all the same.

mod audit;
mod caps;
mod hangs;
mod plan;
mod saboteur;

use audit::audit;
use plan::{Fault, Plan, mix};
use rao_backends::scripted::uniform;
use rao_trainer::judge::{Bench, Grader};
use rao_trainer::rollout::{InProcess, Job, LogError, Progress, Rollout, RolloutEngine, Settings};
use rao_trainer::train::credit::assign;
use rao_tree::credit::{Estimator, Member};
use rao_tree::{Limits, Node, Policy};
use saboteur::{Forgotten, PURPOSE, Sabotaged, Sabotaging, Saboteur, VOCAB};
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::runtime::Handle;

/// Says nothing of panics that are meant.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload_as_str().is_some_and(|text| text.contains(PURPOSE)) {
                loud(panic);
            }
        }));
    });
}

const LIMITS: Limits = Limits {
    depth_max: 3,
    nodes_max: 24,
    children_max: 5,
    steps_max: 5,
    tokens_max: 200,
    action_max: 4,
    context_max: 40,
    concurrent_max: 6,
    deadline_us: Some(60_000_000),
};

/// What a tree may use: some have so little time that one slow call is too much.
fn limits(tree: u64, timed: bool) -> Limits {
    let short = timed && tree.is_multiple_of(16);
    Limits {
        deadline_us: Some(if short { 2_000 } else { 60_000_000 }),
        ..LIMITS
    }
}

fn jobs(plan: &Plan, trees: std::ops::Range<u64>, timed: bool) -> Vec<Job<Saboteur>> {
    let jobs = trees.map(|tree| Job {
        root: Saboteur::root(plan, mix(7, tree)),
        task: tree.to_string(),
        seed: tree,
        limits: limits(tree, timed),
    });
    jobs.collect()
}

fn settings(grader: Grader) -> Settings {
    Settings {
        temperature: 1.0,
        vocab: VOCAB,
        keep_transcripts: true,
        keep_log: true,
        trees_in_flight: 16,
        grader,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    }
}

/// Four policies; all but the first may die.
fn policies(
    plan: &Plan,
    round: u64,
    forgotten: &Forgotten,
) -> Vec<impl Policy<Error = saboteur::Broken> + Send + use<>> {
    let policies = (0..4).map(|name| Sabotaged {
        inner: uniform(VOCAB),
        plan: plan.clone(),
        name: mix(round, name),
        calls: 0,
        mortal: name > 0,
        forgotten: Arc::clone(forgotten),
    });
    policies.collect()
}

/// Waits for what must come true, for ten seconds.
async fn eventually(comes_true: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if comes_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true");
}

/// Ten thousand trees, in rollouts of 250 over four policies, three of which may die; and once more with another seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_trees_with_faults_everywhere_lose_nothing() {
    keep_quiet();
    for seed in [3, 4] {
        let plan = Plan::new(seed, 12, true);
        let at_rest = Handle::current().metrics().num_alive_tasks();
        let mut total = Round::default();
        for round in 0..TREES / ROUND {
            let Round { nodes, judged, dead } = roll(&plan, round).await;
            total.nodes += nodes;
            total.judged += judged;
            total.dead += dead;
        }
        // Cases that no tree waits for any more are heard, or run into their deadline.
        eventually(|| Handle::current().metrics().num_alive_tasks() == at_rest).await;
        let missing: Vec<_> = Fault::ALL.iter().filter(|&&fault| plan.count(fault) == 0).collect();
        assert!(missing.is_empty(), "{missing:?} never happened");
        let Round { nodes, judged, dead } = total;
        assert!(
            dead > 10 && judged > TREES as usize / 2 && nodes > 3 * TREES as usize,
            "{dead} dead, {judged} judged, {nodes} nodes"
        );
    }
}

const TREES: u64 = 10_000;
const ROUND: u64 = 250;

/// What came of a round: its nodes, trees that could be judged, and policies that died.
#[derive(Default)]
struct Round {
    nodes: usize,
    judged: usize,
    dead: usize,
}

async fn roll(plan: &Plan, round: u64) -> Round {
    let bench = Bench::new(Arc::new(Sabotaging(plan.clone())), 8, Duration::from_millis(8));
    let settings = settings(Grader::Judge(bench));
    let forgotten = Forgotten::default();
    let mut engine = InProcess::new(policies(plan, round, &forgotten));
    let first = round * ROUND;
    let jobs = jobs(plan, first..first + ROUND, true);
    let rollouts = engine.rollout(jobs, &settings).await.unwrap();
    let progress = &settings.progress;
    assert_eq!((progress.in_flight(), progress.trees()), (0, ROUND));
    assert!(rollouts.iter().map(|rollout| rollout.job as u64).eq(0..ROUND));
    let dead = 4 - engine.policies_mut().count();

    let (mut nodes, mut acted, mut logs) = (0, 0, 0);
    for rollout in &rollouts {
        let totals = audit(rollout, &limits(first + rollout.job as u64, true));
        assert_eq!(rollout.transcripts.len(), totals.nodes as usize);
        logs += usize::from(check_log(rollout));
        nodes += totals.nodes as usize;
        acted += rollout.tree.nodes().iter().filter(|node| node.steps > 0).count();
        rollout.faults.iter().for_each(|fault| assert_known(fault));
    }
    {
        let forgotten = forgotten.lock().unwrap();
        assert!(
            forgotten.values().all(|&times| times == 1),
            "a context is forgotten once"
        );
        // A policy that has died is told nothing more, and a node whose environment breaks at once has no context.
        assert!(dead > 0 || (acted..=nodes).contains(&forgotten.len()));
    }
    let judged = rollouts.iter().filter(|rollout| rollout.is_judged()).count();
    // Swapped completions are rare.
    assert!(logs > rollouts.len() * 3 / 4, "{logs} logs were read");
    check_credit(rollouts);
    Round { nodes, judged, dead }
}

/// What another process makes of the log is the same; nothing, where the policy said what could not be said. Returns whether it was something.
fn check_log(rollout: &Rollout) -> bool {
    let read = match Rollout::from_log(rollout.job, &rollout.log, VOCAB) {
        Ok(read) => read,
        Err(error) => {
            assert!(matches!(error, LogError::Drawn { .. }), "{error}");
            return false;
        }
    };
    assert!(
        read.tree
            .nodes()
            .iter()
            .map(told)
            .eq(rollout.tree.nodes().iter().map(told))
    );
    assert_eq!(read.tree.refusals(), rollout.tree.refusals());
    assert_eq!(read.transcripts, rollout.transcripts);
    assert_eq!((read.job, read.weights), (rollout.job, rollout.weights));
    true
}

/// What is told of a node: all but its driver's own notes.
fn told(node: &Node) -> impl PartialEq + use<> {
    let ended = (node.parent, node.depth, node.budget, node.judged(), node.success);
    let counts = (node.steps, node.children, node.parallel, node.restarts, node.sampled);
    (ended, counts, node.context, node.earlier, node.critical_path())
}

/// What stands among the faults of a rollout is said by one of those that can be at fault.
#[track_caller]
fn assert_known(fault: &str) {
    let known = [
        "broken on purpose",
        "the environment panicked: on purpose",
        "the policy panicked: on purpose",
        "the judge ",
        "its answer takes ",
        "delegates to no child at all",
        "log-probability",
        "acted with ",
    ];
    assert!(known.iter().any(|known| fault.contains(known)), "{fault}");
}

/// Groups of five: the roots that failed are in nobody's baseline, and nobody is trained who does not count.
fn check_credit(rollouts: Vec<Rollout>) {
    let mut groups: Vec<Vec<Rollout>> = Vec::new();
    for rollout in rollouts {
        match groups.last_mut().filter(|group| group.len() < 5) {
            Some(group) => group.push(rollout),
            None => groups.push(vec![rollout]),
        }
    }
    let credits = assign(&Estimator::default(), &groups).unwrap();
    for (group, credits) in groups.iter().zip(&credits) {
        let roots = group.iter().map(|tree| tree.is_judged().then(|| tree.success()));
        let roots: Vec<Option<f32>> = roots.collect();
        for (tree, (rollout, credit)) in group.iter().zip(credits).enumerate() {
            let others = roots.iter().enumerate().filter(|(other, _)| *other != tree);
            let others: Vec<f32> = others.filter_map(|(_, root)| *root).collect();
            // Where one root counts, it is compared with itself.
            let baseline = match (others.len(), roots[tree]) {
                (0, own) => own.unwrap_or(0.0),
                (count, _) => others.iter().sum::<f32>() / count as f32,
            };
            for (node, credit) in rollout.tree.nodes().iter().zip(&credit.nodes) {
                let member = Member::from(node);
                let advantage = if member.counts() {
                    member.success() - baseline
                } else {
                    0.0
                };
                assert!(
                    (credit.advantage - advantage).abs() < 1e-6 || !credits[tree].teaches,
                    "{} instead of {advantage}",
                    credit.advantage
                );
            }
        }
    }
}

/// Without clocks and deaths, the same goes wrong in the same places on any number of workers, and the same comes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_is_the_same_on_any_number_of_workers() {
    keep_quiet();
    let mut outcomes = Vec::new();
    for (workers, trees_in_flight) in [(1, 3), (4, 16)] {
        let plan = Plan::new(2, 30, false);
        let bench = Bench::new(Arc::new(Sabotaging(plan.clone())), 8, Duration::from_secs(60));
        let settings = Settings {
            trees_in_flight,
            ..settings(Grader::Judge(bench))
        };
        let mut policies = policies(&plan, 0, &Forgotten::default());
        policies.truncate(workers);
        let mut engine = InProcess::new(policies);
        let rollouts = engine.rollout(jobs(&plan, 0..500, false), &settings).await.unwrap();
        let outcome = rollouts.into_iter().map(|rollout| {
            let nodes = rollout.tree.nodes().iter();
            let nodes: Vec<_> = nodes
                .map(|node| (node.judged(), node.success, node.steps, node.children))
                .collect();
            let mut faults = rollout.faults;
            // Verdicts come when they come.
            faults.sort();
            (nodes, rollout.transcripts, faults)
        });
        outcomes.push(outcome.collect::<Vec<_>>());
    }
    assert!(outcomes[0].iter().map(|(_, _, faults)| faults.len()).sum::<usize>() > 100);
    for (tree, (one, other)) in outcomes[0].iter().zip(&outcomes[1]).enumerate() {
        assert_eq!(one, other, "tree {tree}");
    }
}
