//! Credit of a batch: time per node by size, and by rule.
//!
//! Everything from the check of the shape to weighted advantages, into a buffer that is there. Batches grow by more tasks, or, `huge`, by larger
//! trees: 128 of 78,125 nodes each.

#[path = "../examples/forests/batch.rs"]
mod batch;

use batch::Batch;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use rao_tree::credit::{Credit, Estimator, Rule};
use std::hint::black_box;
use std::time::Duration;

const TREES: usize = 8;

fn paper() -> Estimator {
    Estimator {
        lambda: 0.4,
        ..Estimator::default()
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, batch: &Batch, estimator: Estimator) {
    let mut credits = vec![Credit::default(); batch.nodes.len()];
    group.throughput(Throughput::Elements(batch.nodes.len() as u64));
    group.bench_function(id, |bencher| {
        bencher.iter(|| estimator.assign(&black_box(batch).forest(), black_box(&mut credits)));
    });
}

fn sizes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("credit");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (name, groups, nodes) in [
        ("1e4", 16, 78),
        ("1e5", 160, 78),
        ("1e6", 1_600, 78),
        ("1e7", 16_000, 78),
        ("huge", 16, 78_125),
    ] {
        let batch = Batch::large(1, groups, TREES, nodes);
        measure(&mut group, BenchmarkId::new("nodes", name), &batch, paper());
    }
    group.finish();
}

fn rules(criterion: &mut Criterion) {
    use Rule::{Pooled, Rao, RootBroadcast, Sparse, TreeGrpo, TreeRl};
    let batch = Batch::large(1, 16, TREES, 78);
    let mut group = criterion.benchmark_group("credit");
    group.sample_size(20).measurement_time(Duration::from_secs(1));
    for rule in [Rao, Sparse, RootBroadcast, Pooled, TreeGrpo, TreeRl] {
        let estimator = Estimator { rule, ..paper() };
        measure(
            &mut group,
            BenchmarkId::new("rule", format!("{rule:?}")),
            &batch,
            estimator,
        );
    }
    group.bench_function("check of the shape", |bencher| {
        bencher.iter(|| black_box(&batch).forest())
    });
    group.finish();
}

criterion_group!(benches, rules, sizes);
criterion_main!(benches);
