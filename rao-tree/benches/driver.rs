//! A whole run of the driver, per node: narrow and wide trees, with the events dropped and with the events encoded.

mod scripted;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rao_proto::{EventSink, Record, encode};
use rao_tree::{Arena, ArenaFull, Node};
use scripted::{Shape, run};
use std::time::Duration;

/// Room for a whole tree, made before the clock starts.
struct Grown(Vec<Node>);

impl AsRef<[Node]> for Grown {
    fn as_ref(&self) -> &[Node] {
        &self.0
    }
}

impl AsMut<[Node]> for Grown {
    fn as_mut(&mut self) -> &mut [Node] {
        &mut self.0
    }
}

impl Arena for Grown {
    fn push(&mut self, node: Node) -> Result<(), ArenaFull> {
        self.0.push(node);
        Ok(())
    }
}

/// Encodes every event into a buffer that is there.
struct Trace {
    bytes: Vec<u8>,
    len: usize,
}

impl EventSink for Trace {
    fn record(&mut self, record: &Record<'_>) {
        self.len += encode(record, &mut self.bytes[self.len..]).expect("the trace fits");
    }
}

fn runs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("driver");
    group.sample_size(20).measurement_time(Duration::from_secs(1));
    for (name, children, depth) in [("narrow", 2, 12), ("wide", 100, 2)] {
        let shape = Shape { children, depth };
        let arena = || Grown(Vec::with_capacity(shape.nodes()));
        group.throughput(Throughput::Elements(shape.nodes() as u64));
        group.bench_function(BenchmarkId::new("events dropped", name), |bencher| {
            bencher.iter_batched(arena, |arena| run(arena, shape, &mut ()), BatchSize::LargeInput);
        });
        let mut trace = Trace {
            bytes: vec![0; 400 * shape.nodes()],
            len: 0,
        };
        group.bench_function(BenchmarkId::new("events encoded", name), |bencher| {
            let encoded = |arena| {
                trace.len = 0;
                run(arena, shape, &mut trace)
            };
            bencher.iter_batched(arena, encoded, BatchSize::LargeInput);
        });
        println!("{name}: {} nodes, {} bytes of events", shape.nodes(), trace.len);
    }
    group.finish();
}

criterion_group!(benches, runs);
criterion_main!(benches);
