//! An event log as a tree that people can read.

use crate::environments::{EnvironmentName, Language};
use crate::live::{cut, one_line};
use crate::rollout::VecArena;
use rao_backends::bytes;
use rao_proto::{Event, FrameError, Frames, NodeId, Record, decode, encoded_len};
use rao_tree::{NodeStatus, Success, Token, Tree, TreeError};
use std::fmt::Write;

/// Longest event log that is read whole, in bytes.
pub const LOG_MAX: u64 = 1 << 30;

/// A stretch of a log that says nothing, or contradicts what came before it.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A frame is torn, corrupt or malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An event contradicts those before it.
    #[error("at byte {offset}: {kind}")]
    Tree {
        /// Where its frame begins.
        offset: usize,
        /// What is wrong with it.
        #[source]
        kind: TreeError,
    },
}

/// Every record of a log and where its frame begins. Damage is an error and not the end: reading goes on at the next sound frame.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    log: &'a [u8],
    /// Where `frames` began.
    base: usize,
    frames: Frames<'a>,
}

impl<'a> Records<'a> {
    /// Reads from the start of `log`.
    #[must_use]
    pub fn new(log: &'a [u8]) -> Self {
        Self {
            log,
            base: 0,
            frames: Frames::new(log),
        }
    }

    fn resume(&mut self, from: usize) {
        let sound = |at: &usize| match decode(&self.log[*at..]) {
            Ok(_) => true,
            Err(error) => error.frame_len().is_some(),
        };
        // Anything but a version byte is refused at once; a byte that looks like one costs the checksum of what it claims, at most 1 MiB.
        self.base = (from..self.log.len()).find(sound).unwrap_or(self.log.len());
        self.frames = Frames::new(&self.log[self.base..]);
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(usize, Record<'a>), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.frames.next()? {
            Ok(record) => {
                let end = self.base + self.frames.offset();
                // Encoding is canonical: the frame is as long as it would be written.
                let len = encoded_len(&record).unwrap_or(0);
                Some(Ok((end - len, record)))
            }
            Err(FrameError { offset, kind }) => {
                let offset = self.base + offset;
                if kind.frame_len().is_none() {
                    self.resume(offset + 1);
                }
                Some(Err(FrameError { offset, kind }))
            }
        }
    }
}

/// What a log tells: of one tree, or of several that were written one after the other.
#[derive(Default)]
pub struct Trace(Vec<Run>);

/// One tree.
#[derive(Default)]
struct Run {
    tree: Tree<VecArena>,
    lines: Vec<Line>,
    environment: EnvironmentName,
}

/// What is shown of a node besides what the tree knows.
#[derive(Default)]
struct Line {
    task: String,
    /// Its contexts, of which a restart begins another.
    contexts: Vec<Vec<Token>>,
    children: Vec<NodeId>,
    refused: usize,
}

impl Trace {
    /// Reads whatever a log has to say, and what it does not. What is damaged loses nothing else, but what follows may name nodes that
    /// were in it.
    #[must_use]
    pub fn read(log: &[u8]) -> (Self, Vec<TraceError>) {
        let mut trace = Self::default();
        let mut errors = Vec::new();
        for record in Records::new(log) {
            let taken = record.map_err(TraceError::from).and_then(|(offset, record)| {
                let taken = trace.take(&record.event);
                taken.map_err(|kind| TraceError::Tree { offset, kind })
            });
            errors.extend(taken.err());
        }
        (trace, errors)
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), TreeError> {
        if self.0.is_empty() || matches!(event, Event::RunOpened { .. }) {
            self.0.push(Run::default());
        }
        self.0.last_mut().map_or(Ok(()), |run| run.take(event))
    }

    /// Draws every tree, one line per node: what it was asked, how it ended, and all of its context. At most `nodes_max` nodes of each are
    /// drawn; what is left out is counted.
    #[must_use]
    pub fn draw(&self, nodes_max: usize) -> String {
        let drawn = self.0.iter().filter(|run| !run.lines.is_empty());
        let drawn: Vec<String> = drawn
            .map(|run| draw(&run.tree, &run.lines, nodes_max, run.environment.language()))
            .collect();
        if drawn.is_empty() {
            "(no node)\n".into()
        } else {
            drawn.join("\n")
        }
    }
}

impl Run {
    fn take(&mut self, event: &Event<'_>) -> Result<(), TreeError> {
        self.tree.apply(event)?;
        match *event {
            Event::RunOpened { task, .. } => self.environment = EnvironmentName::of_task(task),
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
                    if line.contexts.is_empty() {
                        line.contexts.push(Vec::new());
                    }
                    if let Some(context) = line.contexts.last_mut() {
                        context.extend(tokens.iter());
                    }
                }
            }
            Event::Restart { node } => {
                if let Some(line) = self.lines.get_mut(node.index()) {
                    line.contexts.push(Vec::new());
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
}

fn draw(tree: &Tree<VecArena>, lines: &[Line], nodes_max: usize, language: Language) -> String {
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
        let ended = match node.judged() {
            Some(NodeStatus::Finished) if node.success == Success::ONE => "✓".to_owned(),
            Some(NodeStatus::Finished) if node.success.value() > 0.0 => format!("≈ {:.2}", node.success.value()),
            Some(NodeStatus::Finished) => "✗ failed".to_owned(),
            Some(status) => format!("✗ {status}"),
            None => "… unfinished".to_owned(),
        };
        let refused = if line.refused > 0 {
            format!(" ({} refused)", line.refused)
        } else {
            String::new()
        };
        let contexts = line.contexts.iter();
        let contexts: Vec<String> = contexts
            .map(|context| match context.first() {
                Some(&bytes::SYSTEM) => turns(context),
                _ => language.render(context.iter().copied()),
            })
            .collect();
        let contexts = contexts.join(" ⟲ ");
        let task = one_line(&line.task);
        let _ = writeln!(out, "{indent}{branch}{task} {ended}{refused}   {contexts}");
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
    let tokens: u64 = tree
        .nodes()
        .iter()
        .map(|node| u64::from(node.earlier) + u64::from(node.context))
        .sum();
    let depth = tree.nodes().iter().map(|node| node.depth.0).max().unwrap_or(0);
    let _ = writeln!(
        out,
        "\n{} nodes, {depth} levels below the root, {tokens} tokens ({sampled} sampled, {} of them one after the other)",
        tree.nodes().len(),
        root.critical_path(),
    );
    out
}

/// What an agent that speaks in bytes said, turn by turn: what it read would fill pages.
fn turns(context: &[Token]) -> String {
    let turns = context.split(|&token| token == bytes::ASSISTANT).skip(1).map(|turn| {
        let said = turn.split(|&token| token == bytes::END).next().unwrap_or_default();
        let said: Vec<u8> = said.iter().filter_map(|token| u8::try_from(token.0).ok()).collect();
        cut(&one_line(&String::from_utf8_lossy(&said)), TURN)
    });
    let turns: Vec<String> = turns.filter(|turn| !turn.is_empty()).collect();
    turns.join(" | ")
}

/// Characters of a turn that are shown.
const TURN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use rao_proto::{Budget, DecodeError, Depth, encode};

    #[test]
    fn of_agents_that_speak_only_what_they_said_is_shown() {
        let say = |text: &str| text.bytes().map(|byte| Token(byte.into())).collect::<Vec<_>>();
        let context = [
            vec![bytes::SYSTEM],
            say("rules"),
            vec![bytes::END, bytes::ASSISTANT],
            say("one\n two"),
            vec![bytes::END, bytes::TOOL],
            say("reply"),
            vec![bytes::END, bytes::ASSISTANT],
            say(&"é".repeat(200)),
        ];
        let long = "é".repeat(TURN - 1);
        assert_eq!(turns(&context.concat()), format!("one two | {long}…"));
    }

    fn frame(event: Event<'_>) -> Vec<u8> {
        let record = Record { at_us: 0, event };
        let mut bytes = vec![0; encoded_len(&record).unwrap()];
        encode(&record, &mut bytes).unwrap();
        bytes
    }

    fn spawn(node: u32) -> Vec<u8> {
        let depth = u8::from(node > 0);
        frame(Event::Spawn {
            node: NodeId(node),
            parent: (node > 0).then_some(NodeId::ROOT),
            depth: Depth(depth),
            task: "a part",
            budget: Budget {
                depth: 9 - depth,
                ..Budget::UNLIMITED
            },
        })
    }

    fn finish(node: u32) -> Vec<u8> {
        frame(Event::Return {
            node: NodeId(node),
            status: NodeStatus::Finished,
            value: &[],
        })
    }

    #[test]
    fn a_context_that_began_anew_is_shown_as_another() {
        let node = NodeId::ROOT;
        let saw = |tokens: &[Token]| {
            frame(Event::Observe {
                node,
                tokens: rao_proto::Tokens::new(tokens),
            })
        };
        let word = |token| EnvironmentName::TextCraft.language().render([token]);
        let (first, second) = (Token(3), Token(4));
        let log = [
            spawn(0),
            saw(&[first]),
            frame(Event::Restart { node }),
            saw(&[second]),
            finish(0),
        ]
        .concat();
        let (trace, errors) = Trace::read(&log);
        assert!(errors.is_empty(), "{errors:?}");
        let drawn = trace.draw(9);
        assert!(
            drawn.contains(&format!("{} ⟲ {}", word(first), word(second))),
            "{drawn}"
        );
        assert!(drawn.contains(" 2 tokens"), "{drawn}");
    }

    #[test]
    fn damage_costs_itself_and_is_named() {
        let frames = [
            spawn(0),
            spawn(1),
            finish(1),
            finish(1),
            spawn(2),
            finish(2),
            finish(7),
            finish(0),
        ];
        let starts: Vec<usize> = (0..=frames.len()).map(|n| frames[..n].concat().len()).collect();
        let mut log = frames.concat();
        // A byte of the second child's spawn is wrong, and the last frame is cut off.
        log[starts[4] + 7] ^= 1;
        log.truncate(starts[8] - 2);
        let (trace, errors) = Trace::read(&log);
        let tree = |offset, kind| TraceError::Tree { offset, kind };
        let [twice, wrong, lost, unknown, torn] = &errors[..] else {
            panic!("{errors:?}")
        };
        assert_eq!(*twice, tree(starts[3], TreeError::AlreadyEnded(NodeId(1))));
        let checksum = |error: &TraceError| match error {
            TraceError::Frame(FrameError { offset, kind }) => (*offset, matches!(kind, DecodeError::Checksum { .. })),
            TraceError::Tree { .. } => (0, false),
        };
        assert_eq!(checksum(wrong), (starts[4], true));
        assert_eq!(*lost, tree(starts[5], TreeError::UnknownNode(NodeId(2))));
        assert_eq!(*unknown, tree(starts[6], TreeError::UnknownNode(NodeId(7))));
        assert!(
            torn.to_string()
                .starts_with(&format!("at byte {}: torn frame", starts[7])),
            "{torn}"
        );
        let nodes = trace.0[0].tree.nodes();
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].status, Some(NodeStatus::Finished));
        // Nobody scored it.
        assert!(
            trace.draw(10).contains("a part ✗ could not be judged"),
            "{}",
            trace.draw(10)
        );
    }

    #[test]
    fn several_trees_of_one_log_are_drawn_one_after_the_other() {
        let opened = || {
            frame(Event::RunOpened {
                task: "t",
                seed: 0,
                limits: rao_tree::Limits {
                    depth_max: 9,
                    nodes_max: u32::MAX,
                    children_max: u16::MAX,
                    steps_max: u16::MAX,
                    tokens_max: u64::MAX,
                    action_max: u32::MAX,
                    context_max: u32::MAX,
                    concurrent_max: u32::MAX,
                    deadline_us: None,
                },
                weights: rao_tree::WeightsVersion(0),
            })
        };
        let log = [opened(), spawn(0), finish(0), opened(), spawn(0), spawn(1)].concat();
        let (trace, errors) = Trace::read(&log);
        assert!(errors.is_empty(), "{errors:?}");
        let drawn = trace.draw(9);
        assert!(drawn.contains("1 nodes,") && drawn.contains("2 nodes,"), "{drawn}");
    }

    #[test]
    fn bytes_that_are_no_log_say_nothing() {
        let (trace, errors) = Trace::read(b"PK\x03\x04 something else altogether");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(trace.draw(10), "(no node)\n");
        assert!(Trace::read(&[]).1.is_empty());
    }
}
