//! What the parts promise together, measured against the official benchmark.

use super::book::Offer;
use super::generator::{self, Provision, Spec};
use super::plan::{self, Plan};
use super::{Benchmark, Book, Difficulty, Ledger, Task, Workshop, World, official, tables};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The official directory: what `RAO_TEXTCRAFT_DIR` names, else the copy beside the workspace, else a skip that says so.
fn official_directory() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("RAO_TEXTCRAFT_DIR") {
        return Some(named.into());
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/textcraft-synth");
    if !beside.exists() {
        println!("skipped: no official TextCraft-Synth directory; name one in RAO_TEXTCRAFT_DIR");
    }
    beside.exists().then_some(beside)
}

fn embedded() -> Benchmark {
    official::embedded().unwrap_or_else(|error| panic!("{error}"))
}

fn by_difficulty(tasks: &[Task]) -> [usize; 4] {
    Difficulty::ALL.map(|difficulty| tasks.iter().filter(|task| task.difficulty == difficulty).count())
}

#[test]
fn embedded_data_is_the_official_data() {
    let Some(directory) = official_directory() else { return };
    let official = official::load(&directory).unwrap_or_else(|error| panic!("{error}"));
    if std::env::var_os("RAO_UPDATE_DATA").is_some_and(|value| value == "1") {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/textcraft-synth");
        let Benchmark { world, train, val } = &official;
        // Not `fs::copy`, which would take over a read-only mode.
        std::fs::write(data.join("LICENSE"), std::fs::read(directory.join("LICENSE")).unwrap()).unwrap();
        std::fs::write(data.join("recipes.tsv"), tables::write::world(world)).unwrap();
        std::fs::write(data.join("train.tsv"), tables::write::tasks(world, train)).unwrap();
        std::fs::write(data.join("val.tsv"), tables::write::tasks(world, val)).unwrap();
        println!("rewrote {}; run again without RAO_UPDATE_DATA", data.display());
    } else {
        assert!(
            official == embedded(),
            "the embedded data is stale: run this test with RAO_UPDATE_DATA=1"
        );
    }
}

#[test]
fn the_embedded_benchmark_is_complete() {
    let start = Instant::now();
    let Benchmark { world, train, val } = embedded();
    println!("parsed in {:?}", start.elapsed());
    assert_eq!(world.len(), 1452);
    assert_eq!(world.items().filter(|&item| world.recipe(item).is_some()).count(), 1402);
    assert_eq!(
        world
            .items()
            .filter(|&item| world.depth(item) < world.tier(item))
            .count(),
        164
    );
    assert_eq!(by_difficulty(&train), [588, 852, 544, 538]);
    assert_eq!(by_difficulty(&val), [147, 213, 136, 136]);
    assert_eq!(
        train.iter().chain(&val).map(|task| task.inventory.len()).sum::<usize>(),
        27_080
    );
    for task in train.iter().chain(&val) {
        assert!(
            task.difficulty.tiers().contains(&world.tier(task.target)),
            "{}",
            task.id
        );
        assert!((1..=task.difficulty.count_max()).contains(&task.count), "{}", task.id);
    }
    assert!(
        val.iter()
            .all(|held_out| train.iter().all(|task| task.target != held_out.target))
    );
}

#[test]
fn every_gold_trajectory_replays_with_success() {
    let Some(directory) = official_directory() else { return };
    let world = embedded().world;
    let book = Book::from(&*world);
    let (mut tasks, mut crafts) = (0, 0);
    for file in ["textcraft_synth_train.jsonl", "textcraft_synth_val.jsonl"] {
        let gold = official::load_gold(&directory.join(file), &world).unwrap_or_else(|error| panic!("{error}"));
        for (task, steps) in &gold {
            let mut ledger = Ledger::new(world.len(), &task.inventory);
            let root = ledger.actor(None, task.target, task.count);
            for step in steps {
                let offers: Vec<Offer<'_>> = step
                    .ingredients
                    .iter()
                    .map(|&(item, count)| Offer {
                        item: world.name(item),
                        count: i64::from(count),
                    })
                    .collect();
                let target = (world.name(step.item), i64::from(step.total));
                let done = book.craft(&mut ledger, root, &offers, target);
                done.unwrap_or_else(|error| panic!("{}: {error}", task.id));
            }
            assert!(ledger.verdict(root), "{}", task.id);
            crafts += steps.len();
        }
        tasks += gold.len();
    }
    assert_eq!((tasks, crafts), (3154, 202_814));
}

fn play(world: &Arc<World>, task: &Task) -> Plan {
    let mut workshop = Workshop::new(Arc::clone(world), task);
    let root = workshop.actor(None, task.target, task.count);
    let plan = plan::play(&mut workshop, root).unwrap_or_else(|error| panic!("{}: {error}", task.id));
    assert!(plan.success && workshop.verdict(root), "{}", task.id);
    assert_eq!(
        workshop.net(root),
        i64::from(workshop.stock(task.target)),
        "nothing of the target was there before"
    );
    plan
}

/// Mean and greatest number of nodes, greatest depth, and greatest number asked of a child.
fn shape(world: &Arc<World>, tasks: &[Task], difficulty: Difficulty) -> (f64, u32, u32, u32) {
    let plans: Vec<Plan> = tasks
        .iter()
        .filter(|task| task.difficulty == difficulty)
        .map(|task| play(world, task))
        .collect();
    let greatest = |of: fn(&Plan) -> u32| plans.iter().map(of).max().unwrap_or(0);
    let mean = f64::from(plans.iter().map(|plan| plan.nodes).sum::<u32>()) / plans.len() as f64;
    (
        mean,
        greatest(|plan| plan.nodes),
        greatest(|plan| plan.depth),
        greatest(|plan| plan.count_max),
    )
}

#[test]
fn plain_recursion_solves_every_official_validation_task() {
    let Benchmark { world, val, .. } = embedded();
    let rows = Difficulty::ALL.map(|difficulty| {
        let (mean, nodes, depth, count) = shape(&world, &val, difficulty);
        format!("{difficulty}: {mean:.2} nodes, at most {nodes}; depth {depth}, count {count}")
    });
    let expected = [
        "easy: 3.76 nodes, at most 8; depth 2, count 6",
        "medium: 26.76 nodes, at most 101; depth 5, count 12",
        "hard: 302.91 nodes, at most 1359; depth 8, count 8",
        "extreme: 7331.85 nodes, at most 32763; depth 11, count 16",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn plain_recursion_solves_what_is_generated() {
    for provision in [Provision::Official, Provision::Scarce] {
        let Benchmark { world, val, .. } = generator::generate(&Spec {
            seed: 5,
            provision,
            train: Some([0; 4]),
            ..Spec::default()
        })
        .unwrap();
        for difficulty in Difficulty::ALL {
            println!("{provision:?} {difficulty}: {:?}", shape(&world, &val, difficulty));
        }
        assert_eq!(by_difficulty(&val), [147, 213, 136, 136]);
    }
}

/// For one tier: how often each yield, number of ingredients, count of an ingredient, and distance to an ingredient's tier occurs.
#[derive(Default)]
struct Statistics([BTreeMap<u32, f64>; 4]);

impl Statistics {
    /// Frequencies in a tier's recipes, cross-domain items aside (there are too few of them to compare).
    fn of(world: &World, tier: u8) -> Self {
        let mut counted = Self::default();
        let items = world
            .items()
            .filter(|&item| world.tier(item) == tier && !world.name(item).starts_with('x'));
        for recipe in items.filter_map(|item| world.recipe(item)) {
            counted.add(0, recipe.yields);
            counted.add(1, recipe.ingredients.len() as u32);
            for &(ingredient, count) in &recipe.ingredients {
                counted.add(2, count);
                counted.add(3, u32::from(tier - world.tier(ingredient)));
            }
        }
        for table in &mut counted.0 {
            let sum: f64 = table.values().sum();
            table.values_mut().for_each(|count| *count /= sum);
        }
        counted
    }

    fn add(&mut self, table: usize, value: u32) {
        *self.0[table].entry(value).or_default() += 1.0;
    }

    /// Total variation distance of each table: half the sum of the differences, 0 for equal and 1 for disjoint.
    fn distance(&self, other: &Self) -> [f64; 4] {
        std::array::from_fn(|table| {
            let (a, b) = (&self.0[table], &other.0[table]);
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(key)));
            keys.map(|key| (a.get(key).unwrap_or(&0.0) - b.get(key).unwrap_or(&0.0)).abs())
                .sum::<f64>()
                / 2.0
        })
    }
}

/// Bounds on the total variation distance between the official world and a generated one, which two worlds of one generator stay within
/// too: about 115 recipes a tier and up to three values give 0.06 on average.
const DISTANCE_MAX: f64 = 0.25;
const DISTANCE_MEAN_MAX: f64 = 0.08;

#[test]
fn generated_worlds_have_the_official_distribution() {
    let official = embedded().world;
    for seed in 0..8 {
        let generated = generator::generate_world(seed, 25).unwrap();
        let mut mean = [0.0; 4];
        for tier in 0..=12 {
            let number = |world: &World| world.items().filter(|&item| world.tier(item) == tier).count();
            assert_eq!(number(&official), number(&generated), "tier {tier}");
            let distance = Statistics::of(&official, tier).distance(&Statistics::of(&generated, tier));
            assert!(
                distance.into_iter().all(|distance| distance < DISTANCE_MAX),
                "tier {tier}: {distance:.3?}"
            );
            mean.iter_mut()
                .zip(distance)
                .for_each(|(mean, distance)| *mean += distance / 12.0);
        }
        println!("seed {seed}: yields, ingredients, counts, distances: {mean:.3?}");
        assert!(mean.into_iter().all(|mean| mean < DISTANCE_MEAN_MAX), "{mean:.3?}");
    }
}

/// Materials at the start, of those plain recursion uses up: how many times what it uses. Mean, and mean number of distractors.
fn provision(world: &Arc<World>, tasks: &[Task], difficulty: Difficulty) -> (f64, f64) {
    let (mut number, mut times, mut idle) = (0.0, 0.0, 0.0);
    for task in tasks.iter().filter(|task| task.difficulty == difficulty) {
        let needs = plan::base_needs(world, task.target, task.count).unwrap();
        let has = |item| {
            task.inventory
                .iter()
                .find(|&&(known, _)| known == item)
                .map_or(0, |&(_, count)| count)
        };
        let sum = |of: fn(u32, u32) -> u32| needs.iter().map(|&(item, need)| of(has(item), need)).sum::<u32>();
        times += f64::from(sum(|has, _| has)) / f64::from(sum(|_, need| need));
        idle += (task.inventory.len() - needs.len()) as f64;
        number += 1.0;
    }
    (times / number, idle / number)
}

#[test]
fn generated_tasks_begin_with_what_official_ones_do() {
    let official = embedded();
    let spec = |provision| Spec {
        seed: 5,
        provision,
        train: Some([0; 4]),
        ..Spec::default()
    };
    let generated = generator::generate(&spec(Provision::Official)).unwrap();
    let scarce = generator::generate(&spec(Provision::Scarce)).unwrap();
    for difficulty in Difficulty::ALL {
        let of = |Benchmark { world, val, .. }: &Benchmark| provision(world, val, difficulty);
        let rows @ [official, generated, scarce] = [&official, &generated, &scarce].map(of);
        println!("{difficulty}: {rows:.2?}");
        assert!((official.0 / generated.0 - 1.0).abs() < 0.25, "{rows:.2?}");
        assert!((1.0..2.0).contains(&scarce.0), "{rows:.2?}");
        assert!((1.0..=3.0).contains(&generated.1), "{rows:.2?}");
    }
}
