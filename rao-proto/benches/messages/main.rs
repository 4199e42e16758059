//! Bytes and time of a spawn and of an act: this crate's frames against JSON, MessagePack and protobuf on equal values.
//!
//! ```text
//! cargo bench -p rao-proto --bench messages                           # what any build has
//! cargo bench -p rao-proto --bench messages --features crc32fast      # what `rao` has
//! ```
//!
//! Every side writes into a buffer that is used again, and every reader looks at every field, each token and each log-probability: a view
//! that was not iterated would not have been decoded. What differs is what the sides do by design. This crate borrows text and numbers from
//! the frame, and in its time are the checksum and the checks of log-probabilities on both ways; the others make owned values and check
//! neither. Its frames can be told apart in a stream, the others' messages cannot: that takes 9 of the bytes.

mod rivals;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use rao_proto::{
    Budget, Depth, Event, Logprobs, NodeId, Record, Token, Tokens, WeightsVersion, decode, encode, encoded_len,
};
use std::hint::black_box;

/// 64 bytes.
const TASK: &str = "Craft 2x oak_fence from what the stock holds; answer when done.\n";

/// Tokens of the action.
const ACTION_LEN: usize = 256;

criterion_group!(benches, spawn, act);
criterion_main!(benches);

fn spawn(criterion: &mut Criterion) {
    assert_eq!(TASK.len(), 64);
    let make = || Record {
        at_us: 12_345_678,
        event: Event::Spawn {
            node: NodeId(17),
            parent: Some(NodeId(3)),
            depth: Depth(2),
            task: black_box(TASK),
            budget: Budget {
                depth: 4,
                nodes: 46,
                children: 8,
                steps: 300,
                tokens: 123_456,
                deadline_us: Some(60_000_000),
            },
        },
    };
    compare(criterion, "spawn", &make);
}

fn act(criterion: &mut Criterion) {
    let (tokens, logprobs) = sampled();
    let make = || Record {
        at_us: 12_345_678,
        event: Event::Act {
            node: NodeId(17),
            tokens: Tokens::new(black_box(&tokens)),
            logprobs: Logprobs::new(black_box(&logprobs)).expect("finite and at most 0"),
            weights: WeightsVersion(41),
        },
    };
    compare(criterion, "act", &make);
}

/// Ids spread evenly below 150,000, which nearly always take 3 bytes; log-probabilities of which half are above -0.3 and one in a hundred
/// below -13, with all the digits that a softmax leaves.
fn sampled() -> (Vec<Token>, Vec<f32>) {
    let mut state = 1_u64;
    // SplitMix64.
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((mixed ^ (mixed >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    (0..ACTION_LEN)
        .map(|_| {
            let token = Token((uniform() * 150_000.0) as u32);
            (token, (-0.62 * uniform().ln().powi(2)) as f32)
        })
        .unzip()
}

/// Times this crate and the others on the record that `make` gives, once each has proven that it reads what it wrote. Every side encodes
/// a value that is there; where this crate views memory that it has not seen, `make`, which checks log-probabilities, comes on top.
fn compare<'a>(criterion: &mut Criterion, name: &str, make: &dyn Fn() -> Record<'a>) {
    let record = make();
    let owned = rivals::Record::from(&record);
    let mut frame = vec![0; encoded_len(&record).expect("a frame")];
    let len = encode(&record, &mut frame).expect("room for it");
    assert_eq!(decode(&frame), Ok((record, len)));
    assert_eq!(sum(&record), owned.sum());

    let mut encoded = Vec::new();
    println!("{name}: bytes of rao-proto {len}");
    for format in &rivals::FORMATS {
        let mut bytes = Vec::new();
        (format.encode)(&owned, &mut bytes);
        assert_eq!((format.decode)(&bytes), owned, "{} reads what it wrote", format.name);
        let ratio = len as f64 / bytes.len() as f64;
        println!(
            "{name}: bytes of {} {} (rao-proto / this = {ratio:.2})",
            format.name,
            bytes.len()
        );
        encoded.push(bytes);
    }

    let mut group = criterion.benchmark_group(format!("{name}/encode"));
    group.bench_function("rao-proto", |bencher| {
        bencher.iter(|| encode(black_box(&record), black_box(&mut frame)).expect("room for it"));
    });
    group.bench_function("rao-proto, view made", |bencher| {
        bencher.iter(|| encode(&make(), black_box(&mut frame)).expect("room for it"));
    });
    for format in &rivals::FORMATS {
        let mut out = Vec::new();
        group.bench_function(format.name, |bencher| {
            bencher.iter(|| {
                (format.encode)(black_box(&owned), &mut out);
                black_box(&mut out).len()
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group(format!("{name}/decode"));
    read(&mut group, "rao-proto", &frame, |bytes| {
        sum(&decode(bytes).expect("a frame").0)
    });
    for (format, bytes) in rivals::FORMATS.iter().zip(&encoded) {
        read(&mut group, format.name, bytes, |bytes| (format.decode)(bytes).sum());
    }
    group.finish();
}

fn read(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, bytes: &[u8], decode: impl Fn(&[u8]) -> f64) {
    group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(bytes))));
}

/// Looks at every field.
fn sum(record: &Record<'_>) -> f64 {
    let rest = match record.event {
        Event::Spawn {
            node,
            parent,
            depth,
            task,
            budget,
        } => {
            let numbers = [
                node.0.into(),
                parent.map_or(0, |parent| parent.0).into(),
                depth.0.into(),
                task.len() as u64,
                budget.depth.into(),
                budget.nodes.into(),
                budget.children.into(),
                budget.steps.into(),
                budget.tokens,
                budget.deadline_us.unwrap_or(0),
            ];
            numbers.iter().sum::<u64>() as f64
        }
        Event::Act {
            node,
            tokens,
            logprobs,
            weights,
        } => {
            let tokens: u64 = tokens.iter().map(|token| u64::from(token.0)).sum();
            let logprobs: f32 = logprobs.iter().sum();
            (u64::from(node.0) + weights.0 + tokens) as f64 + f64::from(logprobs)
        }
        other => panic!("not measured: {other:?}"),
    };
    record.at_us as f64 + rest
}
