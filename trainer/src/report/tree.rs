//! Event logs as trees that a page can draw: columns by node, when each was at work, and which of them the rest had to wait for.

use crate::environments::{EnvironmentName, Language};
use crate::live::cut;
use crate::rollout::VecArena;
use crate::trace::Records;
use rao_backends::bytes;
use rao_proto::{Event, NodeId, Record};
use rao_tree::{NodeStatus, Token, Tree};
use serde::Serialize;

/// One tree. Columns have an entry per node, in the order of the log: the root first, a parent before its children.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Drawing {
    /// What the root was asked to do, by the task's identifier.
    pub task: String,
    /// Sampled tokens that had to be drawn one after the other.
    pub critical_path: u64,
    /// From the first event to the last, in microseconds.
    pub wall_us: u64,
    /// Position of the parent; -1 for the root.
    pub parent: Vec<i64>,
    /// Distance from the root.
    pub depth: Vec<u8>,
    /// What the node was asked to do.
    pub task_of: Vec<String>,
    /// How it ended.
    pub status: Vec<String>,
    /// Its own success, 0 to 1.
    pub success: Vec<f32>,
    /// What training used; absent where the tree was not trained on.
    #[serde(flatten)]
    pub credit: Credits,
    /// Tokens that it drew.
    pub sampled: Vec<u32>,
    /// Tokens that it read.
    pub read: Vec<u32>,
    /// When it began, in microseconds since the tree did.
    pub begin_us: Vec<u64>,
    /// When it ended.
    pub end_us: Vec<u64>,
    /// Stretches in which it waited for children: begin, end, begin, end...
    pub waits: Vec<Vec<u64>>,
    /// Launches that a limit refused.
    pub refused: Vec<u32>,
    /// It is on the critical path: of every delegation, the child that the others were waited for no longer than.
    pub critical: Vec<bool>,
    /// What it saw and said, in turn: a kind (`saw`, `said`, `refused`, `restart`, `returned`) and a text.
    pub turns: Vec<Vec<(&'static str, String)>>,
}

/// Credit of a tree by node, as training used it: the file beside a recorded log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Credits {
    /// R(X), equation 1 of the paper.
    pub reward: Option<Vec<f32>>,
    /// A(X), equation 3.
    pub advantage: Option<Vec<f32>>,
    /// w_d A(X), equation 5.
    pub weighted: Option<Vec<f32>>,
}

/// What a log was found to hold besides trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Frames that are damaged, and events that contradict those before.
    pub damaged: usize,
    /// Trees with more nodes than are drawn.
    pub too_large: usize,
}

/// Reads all trees of a log, one after the other; those of more than `nodes_max` nodes are left out.
#[must_use]
pub fn read(log: &[u8], nodes_max: usize) -> (Vec<Drawing>, Losses) {
    let mut drawings = Vec::new();
    let mut losses = Losses::default();
    let mut under_way: Option<Builder> = None;
    for record in Records::new(log) {
        let Ok((_, record)) = record else {
            losses.damaged += 1;
            continue;
        };
        if matches!(record.event, Event::RunOpened { .. }) {
            drawings.extend(under_way.take().and_then(|builder| builder.end(&mut losses)));
        }
        let builder = under_way.get_or_insert_with(|| Builder::new(nodes_max));
        if !builder.take(&record) {
            losses.damaged += 1;
        }
    }
    drawings.extend(under_way.and_then(|builder| builder.end(&mut losses)));
    (drawings, losses)
}

/// Characters of a turn that are kept.
const TURN: usize = 4000;

/// A tree under way.
struct Builder {
    tree: Tree<VecArena>,
    out: Drawing,
    /// By node: its delegations, each with the children that were launched at once.
    delegations: Vec<Vec<Vec<NodeId>>>,
    /// By node: what it did last was to launch.
    delegating: Vec<bool>,
    language: Language,
    /// Its agents speak in bytes.
    speaks: bool,
    nodes_max: usize,
    too_large: bool,
}

impl Builder {
    fn new(nodes_max: usize) -> Self {
        Self {
            tree: Tree::new(VecArena::default()),
            out: Drawing::default(),
            delegations: Vec::new(),
            delegating: Vec::new(),
            language: EnvironmentName::default().language(),
            speaks: false,
            nodes_max,
            too_large: false,
        }
    }

    /// Takes an event in; `false` where it contradicts those before it.
    fn take(&mut self, record: &Record<'_>) -> bool {
        if self.too_large {
            return true;
        }
        if self.tree.apply(&record.event).is_err() {
            return false;
        }
        let at = record.at_us;
        self.out.wall_us = self.out.wall_us.max(at);
        match record.event {
            Event::RunOpened { task, .. } => {
                task.clone_into(&mut self.out.task);
                self.language = EnvironmentName::of_task(task).language();
            }
            Event::Spawn { node, parent, task, .. } => self.spawn(node, parent, task, at),
            Event::Refuse { parent, limit, .. } => {
                if let Some(refused) = self.out.refused.get_mut(parent.index()) {
                    *refused += 1;
                }
                self.turn(parent, "refused", &limit.to_string());
            }
            Event::Observe { node, tokens } => {
                self.resume(node, at);
                let text = self.words(tokens.iter());
                self.turn(node, "saw", &text);
            }
            Event::Act { node, tokens, .. } => {
                self.resume(node, at);
                let text = self.words(tokens.iter());
                self.turn(node, "said", &text);
            }
            Event::Restart { node } => self.turn(node, "restart", ""),
            Event::Return { node, value, .. } => {
                self.end_node(node, at);
                if !value.is_empty() {
                    self.turn(node, "returned", &String::from_utf8_lossy(value));
                }
            }
            Event::Cancel { node, .. } => self.end_node(node, at),
            _ => {}
        }
        true
    }

    fn spawn(&mut self, node: NodeId, parent: Option<NodeId>, task: &str, at: u64) {
        if self.out.parent.len() >= self.nodes_max {
            self.too_large = true;
            return;
        }
        let out = &mut self.out;
        out.parent
            .push(parent.map_or(-1, |parent| i64::try_from(parent.index()).unwrap_or(-1)));
        out.task_of.push(cut(task, TURN));
        out.begin_us.push(at);
        out.end_us.push(at);
        out.waits.push(Vec::new());
        out.refused.push(0);
        out.turns.push(Vec::new());
        self.delegations.push(Vec::new());
        self.delegating.push(false);
        let Some(parent) = parent.map(NodeId::index) else {
            return;
        };
        if !self.delegating[parent] {
            self.delegating[parent] = true;
            self.delegations[parent].push(Vec::new());
            out.waits[parent].extend([at, at]);
        }
        if let Some(together) = self.delegations[parent].last_mut() {
            together.push(node);
        }
    }

    /// The node is at work again.
    fn resume(&mut self, node: NodeId, at: u64) {
        let node = node.index();
        if self.delegating.get(node) == Some(&true) {
            self.delegating[node] = false;
            if let Some(end) = self.out.waits[node].last_mut() {
                *end = at;
            }
        }
    }

    fn end_node(&mut self, node: NodeId, at: u64) {
        self.resume(node, at);
        if let Some(end) = self.out.end_us.get_mut(node.index()) {
            *end = at;
        }
    }

    fn words(&mut self, tokens: impl Iterator<Item = Token>) -> String {
        let tokens: Vec<Token> = tokens.collect();
        // A conversation of agents that speak begins with the mark of a message, which no compact language has.
        self.speaks |= tokens.first() == Some(&bytes::SYSTEM);
        if self.speaks {
            speech(&tokens)
        } else {
            self.language.render(tokens)
        }
    }

    fn turn(&mut self, node: NodeId, kind: &'static str, text: &str) {
        if let Some(turns) = self.out.turns.get_mut(node.index()) {
            turns.push((kind, cut(text, TURN)));
        }
    }

    fn end(mut self, losses: &mut Losses) -> Option<Drawing> {
        if self.too_large {
            losses.too_large += 1;
            return None;
        }
        let nodes = self.tree.nodes();
        let root = nodes.first()?;
        let out = &mut self.out;
        out.critical_path = root.critical_path();
        out.depth = nodes.iter().map(|node| node.depth.0).collect();
        out.success = nodes.iter().map(|node| node.success.value()).collect();
        out.sampled = nodes.iter().map(|node| node.sampled).collect();
        let read = |node: &rao_tree::Node| (node.earlier + node.context).saturating_sub(node.sampled);
        out.read = nodes.iter().map(read).collect();
        let status = |node: &rao_tree::Node| node.judged().map_or_else(|| "unfinished".to_owned(), name);
        out.status = nodes.iter().map(status).collect();
        for (node, end) in nodes.iter().zip(&mut out.end_us) {
            if node.status.is_none() {
                *end = out.wall_us;
            }
        }
        out.critical = vec![false; nodes.len()];
        let mut stack = vec![NodeId::ROOT];
        while let Some(node) = stack.pop() {
            out.critical[node.index()] = true;
            for together in &self.delegations[node.index()] {
                // Of several that took as long, the first.
                let path = |child: &&NodeId| nodes.get(child.index()).map_or(0, rao_tree::Node::critical_path);
                stack.extend(together.iter().rev().max_by_key(path));
            }
        }
        Some(self.out)
    }
}

/// How a node ended, in few words.
fn name(status: NodeStatus) -> String {
    match status {
        NodeStatus::Truncated(limit) => format!("truncated: {limit}"),
        NodeStatus::Invalid => "invalid".to_owned(),
        other => other.to_string(),
    }
}

/// A conversation in bytes, one paragraph a message.
fn speech(tokens: &[Token]) -> String {
    let mut out = Vec::new();
    for &token in tokens {
        match token {
            bytes::SYSTEM => out.extend_from_slice(b"[system] "),
            bytes::USER => out.extend_from_slice(b"[user] "),
            bytes::ASSISTANT => out.extend_from_slice(b"[agent] "),
            bytes::TOOL => out.extend_from_slice(b"[tool] "),
            bytes::END => out.push(b'\n'),
            Token(byte) => out.extend(u8::try_from(byte)),
        }
    }
    String::from_utf8_lossy(&out).trim_end().to_owned()
}
