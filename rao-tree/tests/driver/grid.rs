//! The virtual world over a seeded grid of limits, as tables that a person can judge.

use crate::support::{WIDE, assert_sound};
use crate::world::{Mode, World};
use rao_proto::Event;
use rao_tree::{Limit, Limits, NodeStatus};
use std::fmt::Write as _;

fn world(mode: Mode, seed: u64, width: u32, limits: Limits) -> World {
    let mut world = World::new(mode, seed, width, limits);
    world.run();
    assert_sound(&world.log, world.tree());
    world
}

/// One line per run: what was allowed, what came of it.
#[test]
fn runs() {
    let mut out = String::from(
        "mode        seed depth nodes conc | nodes deepest refused-by     cut seats live batch calls steps tokens path bytes root",
    );
    for mode in [Mode::Concurrent, Mode::Sequential] {
        for (depth_max, nodes_max) in [(0, 100), (2, 100), (2, 4), (6, 100), (6, 12)] {
            for concurrent_max in [1, 3, 100] {
                let limits = Limits {
                    depth_max,
                    nodes_max,
                    concurrent_max,
                    steps_max: 14,
                    ..WIDE
                };
                let seed = u64::from(depth_max) + u64::from(nodes_max);
                let world = world(mode, seed, 16, limits);
                let columns = [
                    format!("{mode:?}"),
                    seed.to_string(),
                    depth_max.to_string(),
                    nodes_max.to_string(),
                ];
                let [mode, seed, depth, nodes] = columns;
                let _ = write!(
                    out,
                    "\n{mode:<11} {seed:>4} {depth:>5} {nodes:>5} {concurrent_max:>4} | {}",
                    summary(&world)
                );
            }
        }
    }
    insta::assert_snapshot!(out);
}

fn summary(world: &World) -> String {
    let nodes = world.tree().nodes();
    let deepest = nodes.iter().map(|node| node.depth.0).max().unwrap();
    let cut = nodes
        .iter()
        .filter(|node| matches!(node.status, Some(NodeStatus::Truncated(_))))
        .count();
    let steps: u32 = nodes.iter().map(|node| u32::from(node.steps)).sum();
    let tokens: u32 = nodes.iter().map(|node| node.sampled).sum();
    let (calls, batch) = world.calls();
    let root = match (nodes[0].status, nodes[0].success.value()) {
        (Some(NodeStatus::Finished), success) => format!("finished {success}"),
        (Some(status), _) => format!("{status:?}"),
        (None, _) => "still running".into(),
    };
    format!(
        "{:>5} {deepest:>7} {:<14} {cut:>3} {:>5} {:>4} {batch:>5} {calls:>5} {steps:>5} {tokens:>6} {:>4} {:>5} {root}",
        nodes.len(),
        refusals(world),
        world.seats_peak,
        world.live_peak,
        nodes[0].critical_path(),
        world.log.0.len(),
    )
}

fn refusals(world: &World) -> String {
    let by = |wanted: Limit| {
        let refused = world
            .log
            .events()
            .filter(|event| matches!(event, Event::Refuse { limit, .. } if *limit == wanted));
        (refused.count(), format!("{wanted:?}"))
    };
    let counts = [by(Limit::Depth), by(Limit::Nodes), by(Limit::Children)];
    let named: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{name} {count}"))
        .collect();
    if named.is_empty() { "-".into() } else { named.join(", ") }
}

/// Every event of one small run per mode: a part that is refused, a range that is added up by hand, an answer that comes back.
#[test]
fn events() {
    let limits = Limits {
        nodes_max: 4,
        concurrent_max: 2,
        ..WIDE
    };
    let mut out = String::new();
    for mode in [Mode::Concurrent, Mode::Sequential] {
        let _ = writeln!(out, "{mode:?}");
        for record in world(mode, 1, 4, limits).log.records() {
            let _ = writeln!(out, "{:>4}  {}", record.at_us, line(&record.event));
        }
    }
    insta::assert_snapshot!(out);
}

fn line(event: &Event<'_>) -> String {
    match event {
        Event::RunOpened { task, .. } => format!("open    {task}"),
        Event::Spawn {
            node,
            parent,
            depth,
            task,
            budget,
        } => {
            let parent = parent.map_or("-".into(), |parent| parent.0.to_string());
            let given = format!(
                "{} levels, {} nodes, {} tokens",
                budget.depth, budget.nodes, budget.tokens
            );
            format!(
                "spawn   {} under {parent} at depth {}: {task} ({given})",
                node.0, depth.0
            )
        }
        Event::Refuse { parent, index, limit } => format!("refuse  {} launch {index}: {limit:?}", parent.0),
        Event::Observe { node, tokens } => format!("observe {} {tokens:?}", node.0),
        Event::Act { node, tokens, .. } => format!("act     {} {tokens:?}", node.0),
        Event::Return { node, status, value } => format!("return  {} {status:?} {value:?}", node.0),
        Event::Score { node, success } => format!("score   {} {}", node.0, success.value()),
        Event::RunClosed { nodes, tokens } => format!("close   {nodes} nodes, {tokens} tokens"),
        event => format!("{event:?}"),
    }
}

/// How many may work at once changes when things happen, not what happens. With a place for everyone, a policy that draws a token per call
/// is called as often as the critical path is long.
#[test]
fn concurrency_changes_the_order_and_nothing_else() {
    for mode in [Mode::Concurrent, Mode::Sequential] {
        for seed in 0..20 {
            let of = |concurrent_max| {
                let limits = Limits {
                    concurrent_max,
                    depth_max: 4,
                    ..WIDE
                };
                let world = world(mode, seed, 24, limits);
                let nodes = world.tree().nodes();
                let tokens: u32 = nodes.iter().map(|node| node.sampled).sum();
                let tree = (nodes.len(), tokens, nodes[0].critical_path(), nodes[0].success);
                (tree, world.calls().0)
            };
            let (tree, calls) = of(u32::MAX);
            assert_eq!(calls, tree.2);
            assert_eq!(of(3).0, tree);
            let (alone, calls) = of(1);
            assert_eq!(alone, tree);
            assert_eq!(calls, u64::from(tree.1));
        }
    }
}

/// Waiting parents aside, what exists at once is bounded by the cap: depth first, a tree of any width stays narrow.
#[test]
fn a_wide_tree_is_narrow_in_memory() {
    let limits = Limits {
        concurrent_max: 1,
        depth_max: 255,
        steps_max: 1000,
        ..WIDE
    };
    let world = world(Mode::Concurrent, 3, 400, limits);
    let deepest = world.tree().nodes().iter().map(|node| node.depth.0).max().unwrap();
    assert_eq!(world.tree().nodes().len(), 799);
    assert_eq!(world.live_peak, 1);
    // A path from the root, and on each level at most one sibling whose answer is not read yet.
    assert!(
        world.seats_peak <= 2 * usize::from(deepest) + 1,
        "{} at depth {deepest}",
        world.seats_peak
    );
}
