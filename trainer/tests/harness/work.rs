//! Every kind of work, from its first look to its last answer: played by a policy that says one program, whatever it is asked. Its sub-agents say
//! the same one.

use rao_backends::scripted::Scripted;
use rao_trainer::environments::textcraft::book::Book;
use rao_trainer::environments::textcraft::{official, text};
use rao_trainer::environments::{Difficulty, TextTask, aggregation, multi_hop, number_search};
use rao_trainer::judge::Grader;
use rao_trainer::language::speech::ByteSpeech;
use rao_trainer::language::{Caps, CodeCells, Sandbox, Setup, Tally};
use rao_trainer::rollout::{InProcess, Job, Progress, Rollout, RolloutEngine, Settings};
use rao_tree::{Limits, Request, Token};
use std::num::NonZeroU32;
use std::sync::Arc;

async fn play<T: TextTask>(tasks: &[T], program: &str) -> Vec<Rollout>
where
    T::Root: 'static,
{
    let tally = Arc::new(Tally::default());
    let setup = Arc::new(Setup {
        speech: Arc::new(ByteSpeech),
        caps: Caps::default(),
        depth_max: 6,
        tally: Arc::clone(&tally),
    });
    let limits = Limits {
        depth_max: 6,
        nodes_max: 500,
        children_max: 64,
        steps_max: 2,
        tokens_max: 10_000_000,
        action_max: 4_000,
        context_max: 40_000,
        concurrent_max: 64,
        deadline_us: None,
    };
    let job = |task: &T| Job {
        root: CodeCells::root(task.root(), Arc::clone(&setup), Sandbox::default()),
        task: task.id().to_owned(),
        seed: 0,
        limits,
    };
    let settings = Settings {
        temperature: 0.0,
        vocab: ByteSpeech::VOCAB,
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: 4,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let said = format!("```python\n{program}```");
    let said: Vec<Token> = said
        .bytes()
        .map(|byte| Token(byte.into()))
        .chain([ByteSpeech::END])
        .collect();
    let policy = Scripted::new(ByteSpeech::VOCAB, move |_: &Request<'_>, _: &mut _| said.clone());
    let mut engine = InProcess::new(vec![policy]);
    let rollouts = engine
        .rollout(tasks.iter().map(job).collect(), &settings)
        .await
        .unwrap();
    for (task, rollout) in tasks.iter().zip(&rollouts) {
        let id = task.id();
        let last = crate::desk::text(rollout.transcripts[0].context());
        let last = last.rsplit("```").next().unwrap_or_default();
        assert_eq!(rollout.success(), 1.0, "{id}: {tally}, {:?}: {last}", rollout.faults);
        let nodes = rollout.tree.nodes();
        assert!(
            nodes.iter().all(|node| node.success.value() == 1.0),
            "{id}: every sub-task is right"
        );
    }
    rollouts
}

fn nodes(rollouts: &[Rollout]) -> usize {
    rollouts.iter().map(|rollout| rollout.tree.nodes().len()).max().unwrap()
}

#[tokio::test]
async fn number_search() {
    for (difficulty, most) in [(Difficulty::Easy, 1), (Difficulty::Medium, 5), (Difficulty::Hard, 21)] {
        let width = NonZeroU32::new(16).unwrap();
        let tasks = number_search::world::generate(3, difficulty, width, 5);
        let rollouts = play(&tasks, include_str!("../programs/number_search.py")).await;
        assert_eq!(nodes(&rollouts), most, "{difficulty}");
    }
}

#[tokio::test]
async fn aggregation() {
    let spec = aggregation::world::Spec {
        window: NonZeroU32::new(8_000).unwrap(),
        times: NonZeroU32::new(4).unwrap(),
        read_max: NonZeroU32::new(100).unwrap(),
    };
    play(
        &aggregation::world::generate(3, &spec, 12),
        include_str!("../programs/aggregation.py"),
    )
    .await;
}

#[tokio::test]
async fn multi_hop() {
    let corpus = Arc::new(multi_hop::world::Corpus::generate(3, 200).unwrap());
    for (difficulty, most) in [(Difficulty::Easy, 1), (Difficulty::Extreme, 2)] {
        let tasks = multi_hop::world::generate(3, &corpus, difficulty, 5);
        let rollouts = play(&tasks, include_str!("../programs/multi_hop.py")).await;
        assert_eq!(nodes(&rollouts), most, "{difficulty}");
    }
}

/// Delegation shortens work that can be divided, and no chain: what is asked next depends on what came back.
#[tokio::test]
async fn a_chain_gains_nothing_from_delegation() {
    let length = |rollouts: &[Rollout], of: fn(&Rollout) -> u64| rollouts.iter().map(of).sum::<u64>();
    let corpus = Arc::new(multi_hop::world::Corpus::generate(3, 200).unwrap());
    let tasks = multi_hop::world::generate(3, &corpus, Difficulty::Extreme, 5);
    let program = include_str!("../programs/multi_hop.py");
    let chained = play(&tasks, program).await;
    let alone = play(&tasks, &program.replace("len(relations) > 3", "len(relations) > 99")).await;
    assert_eq!((nodes(&chained), nodes(&alone)), (2, 1));
    let waited_for = length(&chained, Rollout::critical_path);
    assert_eq!(waited_for, length(&chained, Rollout::sampled), "nothing ran at once");
    assert!(waited_for > length(&alone, Rollout::critical_path));

    let width = NonZeroU32::new(16).unwrap();
    let tasks = number_search::world::generate(3, Difficulty::Hard, width, 5);
    let divided = play(&tasks, include_str!("../programs/number_search.py")).await;
    let (path, sampled) = (
        length(&divided, Rollout::critical_path),
        length(&divided, Rollout::sampled),
    );
    assert!(5 * path < sampled, "{path} of {sampled}");
}

#[tokio::test]
async fn textcraft() {
    let benchmark = official::embedded().unwrap();
    let book = Arc::new(Book::from(&*benchmark.world));
    let options = text::Options {
        depth_max: Some(6),
        ..text::Options::default()
    };
    let of = |difficulty| {
        benchmark
            .val
            .iter()
            .filter(move |task| task.difficulty == difficulty)
            .take(8)
    };
    let tasks: Vec<text::Task> = of(Difficulty::Easy)
        .chain(of(Difficulty::Medium))
        .map(|task| text::Task::synth(&book, task, options))
        .collect();
    let rollouts = play(&tasks, include_str!("../programs/textcraft.py")).await;
    assert!(nodes(&rollouts) > 5);
}
