//! Random batches with the credit of their nodes, one JSON object per line: what other implementations are compared with
//! (`tests/conformance/platoon.sh`), and a way to look at credit by hand.
//!
//! ```text
//! forests batches [COUNT]     batches of every shape and ending, each under estimator options of its own
//! forests speed               one batch of 1e4 nodes, and how long its credit took
//! ```
//!
//! A node is `[parent, depth, status, success, tokens, datums, reward, advantage, weighted]`; a group lists trees, a batch lists groups.

mod batch;

use batch::{Batch, Random, member};
use rao_tree::credit::{Baseline, Credit, DepthMass, DepthScope, DepthWeights, Estimator, Forest, Member, Rule};
use rao_tree::{Limit, NodeStatus, Success};
use serde_json::{Value, json};
use std::error::Error;
use std::hint::black_box;
use std::io::{Write, stdout};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut out = stdout().lock();
    match args.next().as_deref() {
        Some("batches") => {
            let count = args.next().map_or(Ok(1), |count| count.parse())?;
            for seed in 0..count {
                writeln!(out, "{}", small(seed)?)?;
            }
        }
        Some("speed") => writeln!(out, "{}", speed()?)?,
        _ => return Err("forests batches [COUNT] | forests speed".into()),
    }
    Ok(())
}

/// A small batch in which much goes wrong, under options that the authors' framework has too.
fn small(seed: u64) -> Result<Value, Box<dyn Error>> {
    let mut random = Random(seed);
    let estimator = Estimator {
        rule: random.one_of(&[Rule::Rao, Rule::Rao, Rule::Sparse]),
        lambda: random.one_of(&[0.0, 0.4]),
        baseline: random.one_of(&[Baseline::LeaveOneOut, Baseline::Mean]),
        depth_weights: random.one_of(&[DepthWeights::Inverse, DepthWeights::Discount, DepthWeights::Off]),
        depth_scope: random.one_of(&[DepthScope::Batch, DepthScope::Group]),
        depth_mass: random.one_of(&[DepthMass::Nodes, DepthMass::Datums, DepthMass::ActionTokens]),
        depth_gamma: random.one_of(&[0.5, 0.9, 1.0, 1.25]),
        ..Estimator::default()
    };
    let mut batch = Batch::default();
    for _ in 0..1 + random.below(3) {
        // Some groups in which everything is alike, and some in which few roots are left.
        let (uniform, lost) = (random.below(6) == 0, random.below(4) == 0);
        for _ in 0..2 + random.below(4) {
            let nodes = if uniform { 1 } else { 1 + random.below(16) };
            let idle = random.below(4) == 0;
            batch.tree(nodes, 6, |below| {
                let ends = if below.is_none() && lost { &LOST[..] } else { &ENDS[..] };
                let (node, parent) = member(&mut random, below, ends);
                (varied(node, &mut random, uniform, idle), parent)
            });
        }
        batch.group_ends.push(batch.tree_ends.len());
    }
    let mut credits = vec![Credit::default(); batch.nodes.len()];
    estimator.assign(&batch.forest(), &mut credits)?;
    Ok(json!({ "seed": seed, "estimator": estimator, "groups": rows(&batch, &credits) }))
}

/// How the nodes of a small batch end.
const ENDS: [NodeStatus; 12] = {
    let mut ends = [NodeStatus::Finished; 12];
    ends[0] = NodeStatus::Failed;
    ends[1] = NodeStatus::Truncated(Limit::Tokens);
    ends[2] = NodeStatus::TimedOut;
    ends[3] = NodeStatus::Cancelled;
    ends[4] = NodeStatus::Invalid;
    ends
};

/// And roots, where few are to be left.
const LOST: [NodeStatus; 4] = [
    NodeStatus::Finished,
    NodeStatus::TimedOut,
    NodeStatus::Cancelled,
    NodeStatus::Invalid,
];

fn varied(node: Member, random: &mut Random, uniform: bool, idle: bool) -> Member {
    let datums = 1 + random.below(3) as u16;
    let acted = !(idle && random.below(4) == 0);
    let node = Member {
        datums,
        // Each datum that is trained has a token.
        tokens: if acted { node.tokens + u32::from(datums) } else { 0 },
        ..node
    };
    if uniform {
        Member {
            status: Some(NodeStatus::Finished),
            success: Success::ONE,
            ..node
        }
    } else {
        node
    }
}

/// Credit of a batch of 1e4 nodes, timed.
fn speed() -> Result<Value, Box<dyn Error>> {
    let batch = Batch::large(1, 16, 8, 78);
    let mut credits = vec![Credit::default(); batch.nodes.len()];
    let estimator = Estimator {
        lambda: 0.4,
        depth_mass: DepthMass::ActionTokens,
        ..Estimator::default()
    };
    let mut times = Vec::new();
    for _ in 0..1_001 {
        let start = Instant::now();
        // As a trainer calls it: the shape is checked each time.
        let forest = Forest::new(black_box(&batch.nodes), &batch.tree_ends, &batch.group_ends)?;
        estimator.assign(&forest, black_box(&mut credits))?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median_ns = times[times.len() / 2].as_nanos() as u64;
    Ok(json!({ "median_ns": median_ns, "estimator": estimator, "groups": rows(&batch, &credits) }))
}

fn rows(batch: &Batch, credits: &[Credit]) -> Value {
    let mut nodes = batch.nodes.iter().zip(credits);
    let (mut from_tree, mut from_node) = (0, 0);
    let groups = batch.group_ends.iter().map(|&group_end| {
        let trees = &batch.tree_ends[from_tree..group_end];
        from_tree = group_end;
        let trees = trees.iter().map(|&tree_end| {
            let tree = nodes.by_ref().take(tree_end - from_node).map(row);
            from_node = tree_end;
            tree.collect::<Vec<Value>>()
        });
        trees.collect::<Vec<_>>()
    });
    json!(groups.collect::<Vec<_>>())
}

fn row((node, credit): (&Member, &Credit)) -> Value {
    json!([
        node.parent.map(|parent| parent.0),
        node.depth.0,
        node.status.map(status),
        node.success.value(),
        node.tokens,
        node.datums,
        credit.reward,
        credit.advantage,
        credit.weighted,
    ])
}

fn status(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Finished => "finished",
        NodeStatus::Failed => "failed",
        NodeStatus::Truncated(_) => "truncated",
        NodeStatus::TimedOut => "timed-out",
        NodeStatus::Cancelled => "cancelled",
        NodeStatus::Invalid => "invalid",
        _ => "unknown",
    }
}
