//! What has to be right.
#![forbid(unsafe_code)]

use crate::task::{Arena, LIMITS, NODES, Script, Trace, run};
use core::fmt::Write;
use rao_proto::{Depth, Event, Frames, NodeId, NodeStatus, Success};
use rao_tree::credit::{Credit, CreditError, Estimator, Forest, Member};
use rao_tree::{Node, Tree};

type Wrong = &'static str;

pub fn all(out: &mut impl Write) -> Result<(), Wrong> {
    rollouts(out)?;
    golden(out)
}

fn ensure(right: bool, what: Wrong) -> Result<(), Wrong> {
    if right { Ok(()) } else { Err(what) }
}

fn close(found: f32, expected: f32) -> bool {
    let difference = found - expected;
    (-1e-6..=1e-6).contains(&difference)
}

/// Two rollouts of one task, the second with a mistake at one leaf: trace, fold, credit.
fn rollouts(out: &mut impl Write) -> Result<(), Wrong> {
    let mut trees: [heapless::Vec<Member, NODES>; 2] = Default::default();
    for (mistake, members) in [None, Some(5)].into_iter().zip(&mut trees) {
        let mut trace = Trace::<4096>::new();
        let driver = run(&mut Script { mistake }, &mut trace)?;
        ensure(driver.is_closed() && driver.live() == 0, "the run is not closed")?;
        let tree = driver.tree();
        let bytes = trace.bytes()?;
        let events = replay(bytes, tree)?;
        *members = tree.nodes().iter().map(Member::from).collect();
        let successes = members.iter().filter(|member| member.success() == 1.0).count();
        let path = tree.node(NodeId::ROOT).map_or(0, Node::critical_path);
        let _ = writeln!(
            out,
            "nodes {}, right {successes}, events {events}, bytes {}, tokens {}, critical path {path}",
            members.len(),
            bytes.len(),
            driver.tokens_spent(),
        );
        // 15 leaves and 14 splits. A wrong leaf makes its three ancestors and the root wrong.
        ensure(
            members.len() == 29 && driver.tokens_spent() == 43,
            "the tree has another shape",
        )?;
        ensure(path == 9, "two actions on each of four levels and one at the leaves")?;
        ensure(
            successes == if mistake.is_none() { 29 } else { 24 },
            "other nodes are right",
        )?;
    }
    let estimator = Estimator::default();
    let credits = credit::<{ 2 * NODES }>(&estimator, &[&trees[0], &trees[1]])?;
    let (right, wrong) = credits.split_at(trees[0].len());
    // Every node of the right tree is compared with a root of 0; of the wrong tree, five nodes of 0 with a root of 1.
    ensure(
        close(right[0].advantage, 1.0) && close(wrong[0].advantage, -1.0),
        "advantages of the roots",
    )?;
    // 29 nodes at depths 0 to 4, in each tree 1, 2, 4, 8, 14.
    ensure(
        close(right[0].weighted, 58.0 / (5.0 * 2.0)),
        "weighted advantage of the root",
    )?;
    ensure(
        right.iter().all(|credit| close(credit.advantage, 1.0)),
        "advantages of the right tree",
    )?;
    let lost = wrong.iter().filter(|credit| close(credit.advantage, -1.0)).count();
    ensure(lost == 5, "advantages of the wrong tree")
}

/// Decodes the trace, folds it, and compares the fold with the driver's own tree. Returns the number of events.
fn replay(bytes: &[u8], tree: &Tree<Arena>) -> Result<usize, Wrong> {
    let mut folded = Tree::new(Arena::new());
    let mut events = 0;
    let mut closed = None;
    for record in Frames::new(bytes) {
        let event = record.map_err(|_| "the trace does not decode")?.event;
        folded.apply(&event).map_err(|_| "the trace is no tree")?;
        events += 1;
        if let Event::RunOpened { limits, .. } = event {
            ensure(limits == LIMITS, "the limits are others")?;
        }
        if let Event::RunClosed { nodes, .. } = event {
            closed = Some(nodes as usize);
        }
    }
    ensure(
        closed == Some(tree.nodes().len()),
        "the trace does not end with the run",
    )?;
    let visible = |node: &Node| {
        (
            node.parent,
            node.depth,
            node.status,
            node.success,
            node.sampled,
            node.critical_path(),
        )
    };
    let same = folded.nodes().iter().map(visible).eq(tree.nodes().iter().map(visible));
    ensure(same, "the trace folds to another tree")?;
    Ok(events)
}

/// Credit of a group that is a batch of its own, tree after tree.
fn credit<const N: usize>(estimator: &Estimator, group: &[&[Member]]) -> Result<heapless::Vec<Credit, N>, Wrong> {
    let full = |_| "more nodes than there is room for";
    let mut nodes = heapless::Vec::<Member, N>::new();
    let mut tree_ends = heapless::Vec::<usize, N>::new();
    for tree in group {
        nodes
            .extend_from_slice(tree)
            .map_err(|_| "more nodes than there is room for")?;
        tree_ends.push(nodes.len()).map_err(full)?;
    }
    let refused = |_: CreditError| "credit cannot be computed";
    let group_ends = [tree_ends.len()];
    let forest = Forest::new(&nodes, &tree_ends, &group_ends).map_err(refused)?;
    let mut credits: heapless::Vec<Credit, N> = nodes.iter().map(|_| Credit::default()).collect();
    let teaching = estimator.assign(&forest, &mut credits).map_err(refused)?;
    ensure(teaching == 1, "the group does not teach")?;
    Ok(credits)
}

/// The first example of the paper's authors: lambda 0.4, three trees.
fn golden(out: &mut impl Write) -> Result<(), Wrong> {
    let member = |parent: Option<u32>, depth, success| Member {
        success,
        ..Member::new(parent.map(NodeId), Depth(depth), Some(NodeStatus::Finished))
    };
    let (one, zero) = (Success::ONE, Success::ZERO);
    let group: [&[Member]; 3] = [
        &[
            member(None, 0, one),
            member(Some(0), 1, one),
            member(Some(0), 1, zero),
            member(Some(1), 2, one),
        ],
        &[member(None, 0, zero), member(Some(0), 1, zero)],
        &[member(None, 0, one)],
    ];
    let expected = [0.544_444, 0.7, -0.388_889, 1.166_667, -0.855_556, -0.855_556, 0.311_111];
    let estimator = Estimator {
        lambda: 0.4,
        ..Estimator::default()
    };
    let credits = credit::<7>(&estimator, &group)?;
    for (credit, expected) in credits.iter().zip(expected) {
        ensure(close(credit.weighted, expected), "a golden number")?;
        let _ = write!(out, "{:.6} ", credit.weighted);
    }
    let _ = writeln!(out);
    Ok(())
}
