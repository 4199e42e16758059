//! An event log as a tree that people can read.

use crate::environments::textcraft::vocabulary;
use crate::rollout::VecArena;
use rao_proto::{Event, FrameError, Frames, NodeId};
use rao_tree::{NodeStatus, Token, Tree, TreeError};
use std::fmt::Write;

/// Where a log stops making sense. Everything before it was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A frame is torn or corrupt.
    #[error("event log: {0}")]
    Frame(#[from] FrameError),
    /// An event contradicts those before it.
    #[error("event log: {0}")]
    Tree(#[from] TreeError),
}

/// What a log tells.
#[derive(Default)]
pub struct Trace {
    tree: Tree<VecArena>,
    lines: Vec<Line>,
}

/// What is shown of a node besides what the tree knows.
#[derive(Default)]
struct Line {
    task: String,
    context: Vec<Token>,
    children: Vec<NodeId>,
    refused: usize,
}

impl Trace {
    /// Reads a log as far as it makes sense, and says what stopped it.
    #[must_use]
    pub fn read(log: &[u8]) -> (Self, Option<TraceError>) {
        let mut trace = Self::default();
        for record in Frames::new(log) {
            let taken = record
                .map_err(TraceError::from)
                .and_then(|record| trace.take(&record.event));
            if let Err(error) = taken {
                return (trace, Some(error));
            }
        }
        (trace, None)
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), TraceError> {
        self.tree.apply(event)?;
        match *event {
            Event::Spawn { node, parent, task, .. } => {
                self.lines.push(Line {
                    task: task.to_owned(),
                    ..Line::default()
                });
                if let Some(parent) = parent.and_then(|parent| self.lines.get_mut(parent.index())) {
                    parent.children.push(node);
                }
            }
            Event::Observe { node, tokens } | Event::Act { node, tokens, .. } => {
                if let Some(line) = self.lines.get_mut(node.index()) {
                    line.context.extend(tokens.iter());
                }
            }
            Event::Refuse { parent, .. } => {
                if let Some(line) = self.lines.get_mut(parent.index()) {
                    line.refused += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Draws the tree, one line per node: what it was asked, how it ended, and all of its context. At most `nodes_max` nodes are drawn;
    /// what is left out is counted.
    #[must_use]
    pub fn draw(&self, nodes_max: usize) -> String {
        if self.lines.is_empty() {
            "(no node)\n".into()
        } else {
            draw(&self.tree, &self.lines, nodes_max)
        }
    }
}

fn draw(tree: &Tree<VecArena>, lines: &[Line], nodes_max: usize) -> String {
    let mut out = String::new();
    // (node, indentation of the node, whether it is its parent's last child); a stack of its own: trees are deeper than call stacks.
    let mut stack = vec![(NodeId::ROOT, String::new(), true)];
    let mut drawn = 0;
    while let Some((id, indent, last)) = stack.pop() {
        if drawn == nodes_max {
            let _ = writeln!(out, "... and {} nodes more (--nodes shows more)", lines.len() - drawn);
            break;
        }
        drawn += 1;
        let (Some(node), Some(line)) = (tree.node(id), lines.get(id.index())) else {
            continue;
        };
        let branch = match (id == NodeId::ROOT, last) {
            (true, _) => "",
            (false, true) => "└─ ",
            (false, false) => "├─ ",
        };
        let ended = match node.status {
            Some(NodeStatus::Finished) if node.success.value() > 0.0 => "✓".to_owned(),
            Some(NodeStatus::Finished) => "✗ failed".to_owned(),
            Some(status) => format!("✗ {status}"),
            None => "… unfinished".to_owned(),
        };
        let refused = if line.refused > 0 {
            format!(" ({} refused)", line.refused)
        } else {
            String::new()
        };
        let context = vocabulary::render(line.context.iter().copied());
        let _ = writeln!(out, "{indent}{branch}{} {ended}{refused}   {context}", line.task);
        let below = match (id == NodeId::ROOT, last) {
            (true, _) => String::new(),
            (false, true) => format!("{indent}   "),
            (false, false) => format!("{indent}│  "),
        };
        for (place, &child) in line.children.iter().enumerate().rev() {
            stack.push((child, below.clone(), place + 1 == line.children.len()));
        }
    }
    let root = &tree.nodes()[0];
    let sampled: u64 = tree.nodes().iter().map(|node| u64::from(node.sampled)).sum();
    let tokens: u64 = tree.nodes().iter().map(|node| u64::from(node.context)).sum();
    let depth = tree.nodes().iter().map(|node| node.depth.0).max().unwrap_or(0);
    let _ = writeln!(
        out,
        "\n{} nodes, {depth} levels below the root, {tokens} tokens ({sampled} sampled, {} of them one after the other)",
        tree.nodes().len(),
        root.critical_path(),
    );
    out
}
