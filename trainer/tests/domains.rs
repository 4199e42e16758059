//! Number search and aggregation in compact tokens: what their tasks ask for, what a teacher without flaws makes of them, and a run from end to end.
#![cfg(feature = "candle")]

mod common;

use common::{memory_is_as_predicted, rao, refused, stdout};
use rao_trainer::config::Config;
use rao_trainer::environments::aggregation::Aggregation;
use rao_trainer::environments::number_search::NumberSearch;
use rao_trainer::environments::{AnyDomain, Difficulty, Domain, EnvironmentName, Flaws, RootTask, Seating, domain};
use rao_trainer::evaluate::{limits, select};
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{Job, Progress, Rollout, Settings, Worker};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

const FLAWLESS: Flaws = Flaws {
    diligence: 1.0,
    delegation: 1.0,
    distraction: 0.0,
    surrender: 0.0,
};

fn number_search() -> (Config, NumberSearch) {
    let config = Config::of(EnvironmentName::NumberSearch);
    let AnyDomain::NumberSearch(domain) = domain(&config).unwrap() else {
        unreachable!()
    };
    (config, domain)
}

fn aggregation() -> (Config, Aggregation) {
    let config = Config::of(EnvironmentName::Aggregation);
    let AnyDomain::Aggregation(domain) = domain(&config).unwrap() else {
        unreachable!()
    };
    (config, domain)
}

/// What a teacher makes of held-out tasks, within the limits of an evaluation.
fn roll<D: Domain>(config: &Config, domain: &D, difficulty: Difficulty, depth_max: u8, flaws: Flaws) -> Vec<Rollout> {
    let seating = Seating {
        depth_max,
        shuffle: false,
    };
    let mut jobs = select(domain.val(), difficulty, 0).enumerate().map(|(index, task)| {
        let job = Job {
            root: domain.root(task, seating, 0),
            task: task.id().to_owned(),
            seed: index as u64,
            limits: limits(&config.eval, difficulty, depth_max, D::LANGUAGE.action_max),
        };
        (index, job)
    });
    let settings = Settings {
        temperature: 1.0,
        vocab: D::LANGUAGE.vocab,
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: 16,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    Worker::new(domain.teacher(flaws, D::LANGUAGE.vocab))
        .rollout(|| jobs.next(), &settings)
        .unwrap()
}

fn solved(rollouts: &[Rollout]) -> f64 {
    rollouts.iter().filter(|rollout| rollout.is_solved()).count() as f64 / rollouts.len() as f64
}

fn is_solvable_by_recursion_alone<D: Domain>(config: &Config, domain: &D, flat_by_chance: f64) {
    for difficulty in Difficulty::ALL {
        let trees = roll(config, domain, difficulty, config.eval.limits.depth, FLAWLESS);
        assert_eq!((trees.len(), solved(&trees)), (100, 1.0), "{difficulty}");
        let nodes = trees.iter().flat_map(|tree| tree.tree.nodes());
        assert!(nodes.clone().all(|node| node.success.value() == 1.0), "{difficulty}");
        // Nothing is cut off: every context fits its window.
        let context = config.eval.limits.context as usize;
        let transcripts = trees.iter().flat_map(|tree| &tree.transcripts);
        assert!(
            transcripts.clone().all(|transcript| transcript.tokens.len() <= context),
            "{difficulty}"
        );
    }
    // The same teacher alone, which reads until its window ends, or stops early and makes do.
    let hasty = Flaws {
        diligence: 0.9,
        ..FLAWLESS
    };
    for flaws in [FLAWLESS, hasty] {
        let flat = solved(&roll(config, domain, Difficulty::Hard, 0, flaws));
        assert!(flat <= flat_by_chance, "{flat}");
    }
}

#[test]
fn number_search_is_solvable_by_recursion_alone() {
    let (config, domain) = number_search();
    is_solvable_by_recursion_alone(&config, &domain, 0.15);
}

#[test]
fn aggregation_is_solvable_by_recursion_alone() {
    let (config, domain) = aggregation();
    is_solvable_by_recursion_alone(&config, &domain, 0.3);
}

/// The input of tasks fills the windows that it is said to fill, in tokens, and no task is trained on that others are judged by.
#[test]
fn tasks_are_as_large_as_they_are_said_to_be() {
    let (config, search) = number_search();
    let context = f64::from(config.limits.context);
    for task in search.val().iter().chain(search.train()) {
        // `PROBE MISS`.
        let tokens = 2 * (task.range.end() - task.range.start() + 1);
        assert_eq!(tokens as f64, context * search.windows(task.difficulty).unwrap());
    }
    let held_out: HashSet<_> = search
        .val()
        .iter()
        .map(|task| (task.range.clone(), task.hidden))
        .collect();
    assert!(
        search
            .train()
            .iter()
            .all(|task| !held_out.contains(&(task.range.clone(), task.hidden)))
    );

    let (config, logs) = aggregation();
    let context = f64::from(config.limits.context);
    for task in logs.val().iter().chain(logs.train()) {
        assert_eq!(
            4.0 * task.log.len() as f64,
            context * logs.windows(task.difficulty).unwrap()
        );
    }
    let held_out: HashSet<_> = logs.val().iter().map(|task| format!("{:?}", task.log)).collect();
    assert!(
        logs.train()
            .iter()
            .all(|task| !held_out.contains(&format!("{:?}", task.log)))
    );
    let names: HashSet<&str> = logs.val().iter().chain(logs.train()).map(RootTask::id).collect();
    assert_eq!(names.len(), logs.val().len() + logs.train().len());
    assert!(
        names
            .iter()
            .all(|id| EnvironmentName::of_task(id) == EnvironmentName::Aggregation)
    );
}

#[test]
fn a_run_learns_to_search_and_everything_it_leaves_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let settings = [
        "environment=number-search",
        "warmstart.trees=2000",
        "rao.steps=15",
        "rao.lr_decay_from=10",
    ];
    let arguments: Vec<&str> = ["train", "--run", "run"]
        .into_iter()
        .chain(settings.into_iter().flat_map(|setting| ["--set", setting]))
        .collect();
    let printed = stdout(&rao(here, &arguments));
    assert!(
        printed.contains("recursive  hard 8x") && printed.contains("credit"),
        "{printed}"
    );

    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(here.join("run/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["environment"], "number-search");
    memory_is_as_predicted(&summary);
    // A quarter of the recipe: far above the flat twin, and above what was cloned.
    let t1 = |scores: &Value| scores["hard"]["t1"].as_f64().unwrap();
    let base = ["eval", "--policy", "run", "--arm", "base", "--tasks", "hard", "--json"];
    let base: Value = serde_json::from_str(&stdout(&rao(here, &base))).unwrap();
    assert!(t1(&summary["recursive"]) > 0.5, "{summary}");
    assert!(t1(&summary["flat"]) < 0.2 && t1(&base) < 0.2, "{summary} {base}");
    let metrics = std::fs::read_to_string(here.join("run/metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|step| step["phase"] == "warmstart")
        .map(|step| step["loss"].as_f64().unwrap())
        .collect();
    assert!(losses.last().unwrap() < &(0.6 * losses[0]), "{losses:?}");

    let log = here.join("log.rao");
    let log = log.to_str().unwrap();
    let tree = stdout(&rao(
        here,
        &[
            "rollout",
            "--policy",
            "run",
            "--task",
            "number-search.medium.0.val",
            "--trace",
            log,
        ],
    ));
    assert!(tree.contains("FIND LONG SPAWN"), "{tree}");
    assert!(
        stdout(&rao(here, &["trace", log])).contains("FIND LONG SPAWN"),
        "a trace names the words of its environment"
    );
    stdout(&rao(here, &["export", "run", "-o", "policy.gguf"]));
    assert!(here.join("policy.gguf").is_file());
    let error = refused(here, &["eval", "--policy", "run", "--set", "environment=textcraft"]);
    assert!(
        error.contains("speak the language of number-search, and not that of textcraft"),
        "{error}"
    );
    // A checkpoint of a few tokens cannot be taught the language of more.
    let error = refused(
        here,
        &[
            "train",
            "--run",
            "other",
            "--set",
            "environment=aggregation",
            "--set",
            "model.path=run/base",
        ],
    );
    assert!(
        error.contains("the compact token language of aggregation takes 131"),
        "{error}"
    );
    assert!(!here.join("other").exists());
}

#[test]
fn what_makes_no_tasks_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for (settings, said) in [
        (
            &["environment=chess"][..],
            "takes textcraft, number-search, aggregation",
        ),
        (
            &["environment=aggregation", "world.source=official"],
            "only TextCraft has tasks in files",
        ),
        (&["environment=aggregation", "world.windows=[1,2,3]"], "world.windows"),
        (
            &["environment=aggregation", "world.windows=[1,2,3,-1]"],
            "four finite numbers above 0",
        ),
        (
            &["environment=aggregation", "world.windows=[1,2,3,17]"],
            "are 272 records, and tasks of extreme difficulty have at most 256",
        ),
        (
            &["environment=number-search", "limits.context=4096"],
            "looks, and tasks of easy difficulty have at most 1000",
        ),
        (&["environment=number-search", "limits.context=8"], "limits.context"),
    ] {
        let arguments: Vec<&str> = ["train"]
            .into_iter()
            .chain(settings.iter().flat_map(|setting| ["--set", *setting]))
            .collect();
        let error = refused(here, &arguments);
        assert!(error.contains(said), "{settings:?}: {error}");
    }
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 0);
}
