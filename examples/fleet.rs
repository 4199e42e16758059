//! Where the next bottleneck is when a training has 1 to 10,000 workers: a simulation with recorded latencies.
//!
//!     cargo run --release --example fleet                    # docs/experiments/fleet.json, as recorded by the bench `workers`
//!     cargo run --release --example fleet -- FILE MBIT       # another record, another network in megabits per second
//!
//! # Assumptions
//! - A worker is one thread like that of the record. Trees take what recorded trees took, drawn at random, scaled so that a worker which always has
//!   work makes as many a second as the recorded one did. It holds 16 trees and works them off one after the other, which says the same
//!   of its throughput, and less than the truth of when the first of them ends.
//! - There is one server with one network link of so many megabits per second in each direction, and it stores 15,000 messages a second (measured
//!   with messages of 1 KiB, on a machine of two cores: 19,000). A tree is two stored messages: its task and its log.
//! - Every worker that is given a tree reads the weights from that server before, one after the other, as fast as the link goes.
//! - The trainer reads logs one after the other (the recorded time), and learns for as long as recorded for a step of 64 trees, times the
//!   trees of the step: one machine, as recorded.
//! - A message takes half a millisecond from one machine to another. Nobody dies; the machines are alike. Steps follow one another:
//!   nothing is rolled out while the trainer learns.

#[path = "../tests/support/recorded.rs"]
mod recorded;

use recorded::Recorded;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::error::Error;

/// Seconds that a message is on its way.
const HOP: f64 = 0.0005;
/// Messages that the server stores in a second.
const STORED: f64 = 15_000.0;
/// Trees that a worker holds.
const HELD: usize = 16;
/// Trees of the recorded step.
const STEP: usize = 64;
/// Bytes of a task, with headers.
const TASK: f64 = 300.0;

/// Something that does one thing after the other.
#[derive(Default)]
struct Queue {
    free: f64,
    busy: f64,
}

impl Queue {
    /// When something ends that comes then and takes so long.
    fn serve(&mut self, comes: f64, takes: f64) -> f64 {
        self.free = self.free.max(comes) + takes;
        self.busy += takes;
        self.free
    }
}

/// A step, by what was busy for how much of it.
struct Step {
    seconds: f64,
    trees: usize,
    workers: f64,
    store: f64,
    link_in: f64,
    link_out: f64,
    trainer: f64,
}

impl Step {
    /// What was busy the most, and for how much of the time.
    fn bottleneck(&self) -> (&'static str, f64) {
        let shares = [
            ("workers", self.workers),
            ("server, storing", self.store),
            ("network to the server", self.link_in),
            ("network from the server", self.link_out),
            ("trainer", self.trainer),
        ];
        shares
            .into_iter()
            .max_by(|one, other| one.1.total_cmp(&other.1))
            .unwrap_or(shares[0])
    }
}

/// Numbers that look random: splitmix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

fn simulate(recorded: &Recorded, workers: usize, trees: usize, bytes_per_second: f64, draws: &mut Draws) -> Step {
    let mean = recorded.tree_seconds.iter().sum::<f64>() / recorded.tree_seconds.len() as f64;
    let scale = 1.0 / (recorded.worker_trees_per_second * mean);
    let (mut store, mut link_in, mut link_out) = (Queue::default(), Queue::default(), Queue::default());
    let mut trainer = Queue::default();

    // The trainer sends the weights once, and every worker reads them.
    let weights = recorded.weights_bytes as f64;
    let published = link_in.serve(0.0, weights / bytes_per_second) + HOP;
    // When each worker is free next; who is free first comes first.
    let key = |seconds: f64| (seconds * 1e9) as u64;
    let mut free = BinaryHeap::new();
    for worker in 0..workers.min(trees) {
        let has_weights = link_out.serve(published, weights / bytes_per_second) + HOP;
        free.push(Reverse((key(has_weights), worker)));
    }
    let mut busy = 0.0;
    let mut logs = Vec::with_capacity(trees);
    for _ in 0..trees {
        let stored = store.serve(published, 1.0 / STORED);
        let sent = link_out.serve(stored, TASK / bytes_per_second) + HOP;
        let Some(Reverse((at, worker))) = free.pop() else { break };
        let drawn = draws.below(recorded.tree_seconds.len());
        let takes = recorded.tree_seconds[drawn] * scale;
        let ended = (at as f64 / 1e9).max(sent) + takes;
        busy += takes;
        free.push(Reverse((key(ended), worker)));
        logs.push((ended, recorded.tree_bytes[drawn] as f64));
    }
    logs.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut read = published;
    for (ended, bytes) in logs {
        let got = link_in.serve(ended + HOP, bytes / bytes_per_second);
        let stored = store.serve(got, 1.0 / STORED);
        let sent = link_out.serve(stored, bytes / bytes_per_second) + HOP;
        read = trainer.serve(sent, recorded.read_seconds);
    }
    let seconds = trainer.serve(read, recorded.train_seconds * trees as f64 / STEP as f64);
    Step {
        seconds,
        trees,
        workers: busy / (seconds * workers as f64),
        store: store.busy / seconds,
        link_in: link_in.busy / seconds,
        link_out: link_out.busy / seconds,
        trainer: trainer.busy / seconds,
    }
}

fn table(recorded: &Recorded, bytes_per_second: f64, trees_of: impl Fn(usize) -> usize) {
    println!("| workers | trees a step | seconds a step | trees per second | each worker at work | busiest | for |");
    println!("|---|---|---|---|---|---|---|");
    for workers in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 5000, 10_000] {
        let step = simulate(
            recorded,
            workers,
            trees_of(workers),
            bytes_per_second,
            &mut Draws(workers as u64),
        );
        let (what, share) = step.bottleneck();
        println!(
            "| {workers} | {} | {:.2} | {:.0} | {:.0} % | {what} | {:.0} % |",
            step.trees,
            step.seconds,
            step.trees as f64 / step.seconds,
            100.0 * step.workers,
            100.0 * share,
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "docs/experiments/fleet.json".into());
    let megabits: f64 = arguments.next().map_or(Ok(1000.0), |text| text.parse())?;
    let recorded: Recorded = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let bytes_per_second = megabits * 1e6 / 8.0;
    println!("{path}, a network of {megabits} Mbit/s\n\nA step of {STEP} trees, however many workers there are:\n");
    table(&recorded, bytes_per_second, |_| STEP);
    println!("\nA step of {HELD} trees for each worker:\n");
    table(&recorded, bytes_per_second, |workers| HELD * workers);
    let slow = Recorded {
        tree_seconds: recorded.tree_seconds.iter().map(|seconds| seconds * 1000.0).collect(),
        tree_bytes: recorded.tree_bytes.clone(),
        worker_trees_per_second: recorded.worker_trees_per_second / 1000.0,
        ..recorded
    };
    println!(
        "\nThe same, with workers that are a thousand times slower, as those of a large model are, and the same trainer and weights:\n"
    );
    table(&slow, bytes_per_second, |workers| HELD * workers);
    Ok(())
}
