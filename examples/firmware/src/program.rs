//! The program: two rollouts of one task, one of a task that runs out of tokens, and credit. All of it is printed and checked, so that a
//! device and a host that print the same have computed the same.

use crate::agents::{Run, RunError, Seat};
use crate::task::{CONTEXT, LIMITS, NODES, Script, Sum};
use crate::trace::Trace;
use core::fmt::Write;
use heapless::Vec;
use rao_proto::{Depth, Event, Frames, Limit, Limits, NodeId, NodeStatus, Success};
use rao_tree::credit::{Credit, Estimator, Forest, Member};
use rao_tree::{Driver, Node, Tree};

/// Bytes of the longest trace.
const TRACE: usize = 4096;

/// Bytes on a line of the printed trace.
const LINE: usize = 32;

type Nodes = Vec<Node, NODES>;
type Seats = Vec<Seat<Sum, CONTEXT>, NODES>;

/// All the memory of the program, for a `static`: the linker knows its size, and only what is small is on the stack. It starts as zeros, so
/// that no copy of it lies in flash.
pub struct Memory {
    nodes: Nodes,
    seats: Seats,
    trace: [u8; TRACE],
    /// The tree once more, as the trace tells it.
    folded: Nodes,
    members: Vec<Member, { 2 * NODES }>,
    credits: [Credit; 2 * NODES],
}

impl Memory {
    /// Everything empty.
    #[must_use]
    pub const fn new() -> Self {
        const NOTHING: Credit = Credit {
            reward: 0.0,
            advantage: 0.0,
            weighted: 0.0,
        };
        Self {
            nodes: Vec::new(),
            seats: Vec::new(),
            trace: [0; TRACE],
            folded: Vec::new(),
            members: Vec::new(),
            credits: [NOTHING; 2 * NODES],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// A result that is not what it has to be.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// Which.
    #[error("{0}")]
    Result(&'static str),
    /// There is none.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs everything and prints what came of it.
///
/// # Errors
/// The first result that is wrong.
pub fn run(memory: &mut Memory, out: &mut impl Write) -> Result<(), Wrong> {
    group(memory, out)?;
    short_of_tokens(memory, out)?;
    golden(out)
}

/// One rollout: the driver with the tree, and the trace.
fn rollout<'m>(
    limits: Limits,
    mut policy: Script,
    nodes: &'m mut Nodes,
    seats: &mut Seats,
    trace: &'m mut [u8],
) -> Result<(Driver<&'m mut Nodes>, &'m [u8]), Wrong> {
    nodes.clear();
    seats.clear();
    let mut trace = Trace::new(trace);
    let mut run = Run::open(Sum::new(0, 15), limits, nodes, seats, &mut policy, &mut trace);
    // A device reads a timer. A count is the same on every machine.
    let mut now_us = 0;
    while run.step(now_us)? {
        now_us += 1;
    }
    let driver = run.into_driver();
    let bytes = trace.into_bytes();
    Ok((
        driver,
        bytes.map_err(|_| Wrong::Result("the trace does not fit its buffer"))?,
    ))
}

/// Two rollouts of one task, the second with a mistake at one leaf: trace, fold, credit.
fn group(memory: &mut Memory, out: &mut impl Write) -> Result<(), Wrong> {
    let members = &mut memory.members;
    members.clear();
    let mut tree_ends = [0; 2];
    for (mistake, tree_end) in [None, Some(5)].into_iter().zip(&mut tree_ends) {
        let (nodes, seats, trace) = (&mut memory.nodes, &mut memory.seats, &mut memory.trace);
        let (driver, bytes) = rollout(LIMITS, Script { mistake }, nodes, seats, trace)?;
        report(&driver, bytes, &mut memory.folded, out)?;
        ensure(driver.is_closed() && driver.live() == 0, "the run is not closed")?;
        ensure(driver.tokens_spent() == 43, "the task takes 43 tokens")?;
        let left = driver.left(NodeId::ROOT).map(|left| (left.nodes, left.tokens));
        ensure(left == Some((2, 57)), "the root has the rest of both pots left")?;
        let mut below = (1..29).map(|node| driver.left(NodeId(node)));
        ensure(
            below.all(|left| left.is_some_and(|left| (left.nodes, left.tokens) == (0, 0))),
            "every child was given what its part takes, and has used it up",
        )?;
        let nodes = driver.tree().nodes();
        let path = nodes.first().map_or(0, Node::critical_path);
        ensure(path == 9, "two actions on each of four levels and one at the leaves")?;
        // 15 leaves and 14 splits. A wrong leaf makes its three ancestors and the root wrong.
        ensure(nodes.len() == 29, "the tree has another shape")?;
        let right = if mistake.is_none() { 29 } else { 24 };
        ensure(successes(nodes) == right, "other nodes are right")?;
        members.extend(nodes.iter().map(Member::from));
        *tree_end = members.len();
    }
    let credits = &mut memory.credits[..tree_ends[1]];
    credit(&Estimator::default(), members, &tree_ends, credits)?;
    let (right, wrong) = credits.split_at(tree_ends[0]);
    let _ = writeln!(
        out,
        "root right: {:.6} {:.6}, root wrong: {:.6} {:.6}",
        right[0].advantage, right[0].weighted, wrong[0].advantage, wrong[0].weighted
    );
    bits(credits, out);
    // Every node of the right tree is compared with a root of 0; of the wrong tree, five nodes of 0 with a root of 1.
    ensure(
        right.iter().all(|credit| close(credit.advantage, 1.0)),
        "advantages of the right tree",
    )?;
    let lost = wrong.iter().filter(|credit| close(credit.advantage, -1.0)).count();
    ensure(
        close(wrong[0].advantage, -1.0) && lost == 5,
        "advantages of the wrong tree",
    )?;
    // 29 nodes at depths 0 to 4, in each tree 1, 2, 4, 8, 14.
    ensure(
        close(right[0].weighted, 58.0 / (5.0 * 2.0)),
        "weighted advantage of the root",
    )
}

/// One token less than the task takes: the root cannot add up what its children found.
fn short_of_tokens(memory: &mut Memory, out: &mut impl Write) -> Result<(), Wrong> {
    let limits = Limits {
        tokens_max: 42,
        ..LIMITS
    };
    let (nodes, seats, trace) = (&mut memory.nodes, &mut memory.seats, &mut memory.trace);
    let (driver, bytes) = rollout(limits, Script { mistake: None }, nodes, seats, trace)?;
    report(&driver, bytes, &mut memory.folded, out)?;
    let left = driver.left(NodeId::ROOT).map(|left| left.tokens);
    ensure(left == Some(0), "the root has tokens left")?;
    let nodes = driver.tree().nodes();
    let root = nodes.first().and_then(|root| root.status);
    ensure(
        root == Some(NodeStatus::Truncated(Limit::Tokens)),
        "the root is not truncated for tokens",
    )?;
    ensure(successes(nodes) == 28, "not all children are right")
}

/// Decodes the trace, folds it, compares the fold with the driver's own tree, and prints both.
fn report(driver: &Driver<&mut Nodes>, bytes: &[u8], folded: &mut Nodes, out: &mut impl Write) -> Result<(), Wrong> {
    folded.clear();
    let mut tree = Tree::new(folded);
    let (mut events, mut closed) = (0, None);
    for record in Frames::new(bytes) {
        let event = record.map_err(|_| Wrong::Result("the trace does not decode"))?.event;
        tree.apply(&event).map_err(|_| Wrong::Result("the trace is no tree"))?;
        events += 1;
        if let Event::RunClosed { nodes, tokens } = event {
            closed = Some((nodes as usize, tokens));
        }
    }
    let (nodes, tokens) = (driver.tree().nodes(), driver.tokens_spent());
    ensure(
        closed == Some((nodes.len(), tokens)),
        "the trace does not end with the run",
    )?;
    ensure(
        tree.nodes().iter().map(visible).eq(nodes.iter().map(visible)),
        "the trace folds to another tree",
    )?;
    let path = nodes.first().map_or(0, Node::critical_path);
    let _ = writeln!(
        out,
        "nodes {}, right {}, events {events}, bytes {}, tokens {tokens}, critical path {path}",
        nodes.len(),
        successes(nodes),
        bytes.len(),
    );
    for line in bytes.chunks(LINE) {
        let _ = write!(out, "| ");
        for byte in line {
            let _ = write!(out, "{byte:02x}");
        }
        let _ = writeln!(out);
    }
    Ok(())
}

/// The first example of the paper's authors: lambda 0.4, three trees.
fn golden(out: &mut impl Write) -> Result<(), Wrong> {
    let member = |parent: Option<u32>, depth, success| Member {
        success,
        ..Member::new(parent.map(NodeId), Depth(depth), Some(NodeStatus::Finished))
    };
    let (one, zero) = (Success::ONE, Success::ZERO);
    let nodes = [
        member(None, 0, one),
        member(Some(0), 1, one),
        member(Some(0), 1, zero),
        member(Some(1), 2, one),
        member(None, 0, zero),
        member(Some(0), 1, zero),
        member(None, 0, one),
    ];
    let expected = [0.544_444, 0.7, -0.388_889, 1.166_667, -0.855_556, -0.855_556, 0.311_111];
    let estimator = Estimator {
        lambda: 0.4,
        ..Estimator::default()
    };
    let mut credits = [Credit::default(); 7];
    credit(&estimator, &nodes, &[4, 6, 7], &mut credits)?;
    let _ = write!(out, "golden:");
    for credit in &credits {
        let _ = write!(out, " {:.6}", credit.weighted);
    }
    let _ = writeln!(out);
    bits(&credits, out);
    let right = |(credit, expected): (&Credit, f32)| close(credit.weighted, expected);
    ensure(credits.iter().zip(expected).all(right), "a golden number")
}

/// Credit of one group of trees.
fn credit(estimator: &Estimator, nodes: &[Member], tree_ends: &[usize], credits: &mut [Credit]) -> Result<(), Wrong> {
    let group_ends = [tree_ends.len()];
    let teaching = Forest::new(nodes, tree_ends, &group_ends).and_then(|forest| estimator.assign(&forest, credits));
    ensure(teaching == Ok(1), "the group does not teach")
}

/// Every number of the credit, so that not even the last bit may differ between machines.
fn bits(credits: &[Credit], out: &mut impl Write) {
    for credit in credits {
        let bits = [credit.reward, credit.advantage, credit.weighted].map(f32::to_bits);
        let _ = writeln!(out, "| {:08x} {:08x} {:08x}", bits[0], bits[1], bits[2]);
    }
}

/// What a reader of the trace knows of a node.
fn visible(node: &Node) -> impl PartialEq {
    (
        (node.parent, node.depth, node.budget, node.status, node.success),
        (
            node.steps,
            node.children,
            node.sampled,
            node.context,
            node.critical_path(),
        ),
    )
}

fn successes(nodes: &[Node]) -> usize {
    nodes.iter().filter(|node| node.success == Success::ONE).count()
}

fn ensure(right: bool, what: &'static str) -> Result<(), Wrong> {
    if right { Ok(()) } else { Err(Wrong::Result(what)) }
}

fn close(found: f32, expected: f32) -> bool {
    let difference = found - expected;
    (-1e-6..=1e-6).contains(&difference)
}
