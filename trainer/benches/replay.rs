//! Replays the 3,154 published solutions (202,814 crafts; 2.7 s in the reference, CPython), and plays plain recursion on extreme tasks.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rao_trainer::environments::textcraft::official::{self, GoldCraft};
use rao_trainer::environments::textcraft::{Book, Difficulty, Ledger, Task, Workshop, book::Offer, plan};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn replay(book: &Book, gold: &[(Task, Vec<GoldCraft>)]) -> usize {
    let mut solved = 0;
    let mut offers = Vec::new();
    for (task, steps) in gold {
        let mut ledger = Ledger::new(book.len(), &task.inventory);
        let root = ledger.actor(None, task.target, task.count);
        for step in steps {
            offers.clear();
            offers.extend(step.ingredients.iter().map(|&(item, count)| Offer {
                item: book.name(item),
                count: i64::from(count),
            }));
            let target = (book.name(step.item), i64::from(step.total));
            book.craft(&mut ledger, root, &offers, target)
                .expect("published solutions are valid");
        }
        solved += usize::from(ledger.verdict(root));
    }
    solved
}

fn official_directory() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/textcraft-synth");
    let directory = std::env::var_os("RAO_TEXTCRAFT_DIR").map_or_else(beside, PathBuf::from);
    directory.exists().then_some(directory)
}

fn gold_replay(criterion: &mut Criterion) {
    let Some(directory) = official_directory() else {
        println!("gold_replay: skipped, no official TextCraft-Synth directory; name one in RAO_TEXTCRAFT_DIR");
        return;
    };
    let world = official::embedded().expect("embedded data").world;
    let files = ["textcraft_synth_train.jsonl", "textcraft_synth_val.jsonl"];
    let gold: Vec<_> = files
        .iter()
        .flat_map(|file| official::load_gold(&directory.join(file), &world).expect("task file"))
        .collect();
    let crafts: usize = gold.iter().map(|(_, steps)| steps.len()).sum();
    let book = Book::from(&*world);
    assert_eq!((gold.len(), crafts, replay(&book, &gold)), (3154, 202_814, 3154));

    let mut group = criterion.benchmark_group("textcraft");
    group.throughput(Throughput::Elements(crafts as u64));
    group.bench_function("gold_replay", |bencher| {
        bencher.iter(|| replay(black_box(&book), black_box(&gold)))
    });
    group.finish();
}

fn plain_recursion(criterion: &mut Criterion) {
    let benchmark = official::embedded().expect("embedded data");
    let hardest = benchmark
        .val
        .iter()
        .filter(|task| task.difficulty == Difficulty::Extreme);
    let nodes = |task: &Task| plan::oracle_nodes(&benchmark.world, task).expect("plain recursion solves the benchmark");
    let hardest = hardest.max_by_key(|task| nodes(task)).expect("extreme tasks");

    let mut group = criterion.benchmark_group("textcraft");
    group.throughput(Throughput::Elements(u64::from(nodes(hardest))));
    group.bench_function("plain_recursion_largest_tree", |bencher| {
        let fresh = || Workshop::new(Arc::clone(&benchmark.world), hardest);
        let play = |mut workshop: Workshop| {
            let root = workshop.actor(None, hardest.target, hardest.count);
            plan::play(&mut workshop, root)
        };
        bencher.iter_batched(fresh, play, BatchSize::SmallInput);
    });
    group.finish();
}

fn embedded(criterion: &mut Criterion) {
    criterion.bench_function("textcraft/embedded", |bencher| bencher.iter(official::embedded));
}

criterion_group!(benches, gold_replay, plain_recursion, embedded);
criterion_main!(benches);
