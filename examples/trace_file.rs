//! A trace in a file: a run is recorded as it happens, then read back and printed as a tree.
//!
//! ```text
//! cargo run --example trace_file                    # both, in the directory for temporary files
//! cargo run --example trace_file -- record FILE
//! cargo run --example trace_file -- play FILE       # any trace, such as one of `rao rollout --trace FILE`
//! ```
//!
//! What it prints of a trace is what `tests/conformance/reader.py` prints of it, byte by byte; `rao-tree/tests/reader.rs` compares them.

use rao_proto::{DecodeError, Event, FRAME_MAX, PlayError, Player, Recorder, StreamErrorKind, encoded_len};
use rao_tree::{
    Action, Arena, ArenaFull, Budget, Driver, EventSink, Limits, Node, NodeId, NodeStatus, Observation, Outcome, Stop,
    Success, Token, Tree, Want, WeightsVersion,
};
use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["record", file] => record_file(file.as_ref()),
        ["play", file] => play_file(file.as_ref()),
        [] => {
            let file = std::env::temp_dir().join(format!("rao-{}.trace", std::process::id()));
            record_file(&file)?;
            let played = play_file(&file);
            std::fs::remove_file(&file)?;
            played
        }
        _ => Err("what to do? record FILE, play FILE, or nothing for both".into()),
    }
}

fn record_file(path: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let mut file = BufWriter::new(File::create_new(path)?);
    let bytes = record(|frame| file.write_all(frame))?;
    file.flush()?;
    println!("{}: {bytes} bytes", path.display());
    Ok(ExitCode::SUCCESS)
}

fn play_file(path: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let mut file = File::open(path)?;
    let (text, whole) = outline(|piece| file.read(piece))?;
    print!("{text}");
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a small tree that adds up a range by halves, and gives each event as a frame to `write`. Returns the length of the trace.
pub fn record(write: impl FnMut(&[u8]) -> io::Result<()>) -> Result<u64, Box<dyn Error>> {
    // The longest frame of this run is far below 1 KiB.
    let mut recorder = Recorder::<_, _, 1024>::new(write);
    let mut clock_us = 0;
    let mut driver = Driver::open(
        Nodes::default(),
        LIMITS,
        "sum 0..8",
        7,
        WeightsVersion(0),
        &mut recorder,
    );
    // What each node was handed.
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    while let Some(want) = driver.poll(clock_us, &mut recorder)? {
        clock_us += 250;
        match want {
            Want::Open { parent, index } => {
                let (low, high) = parent.map_or((0, 8), |parent| half(ranges[parent.index()], index));
                let task = format!("sum {low}..{high}");
                let node = driver.handle_spawn(parent, &task, Budget::UNLIMITED, clock_us, &mut recorder)?;
                ranges.push((low, high));
                see(&[low, high], |seen| {
                    driver.handle_prompt(node, seen, clock_us, &mut recorder)
                })?;
            }
            Want::Sample { node, .. } => {
                let (low, high) = ranges[node.index()];
                let action = Action {
                    tokens: &[Token(high - low)],
                    logprobs: &[-0.25],
                    weights: WeightsVersion(0),
                    stop: Stop::Complete,
                };
                if driver.handle_action(node, action, clock_us, &mut recorder)? {
                    let outcome = match high - low {
                        1 => Outcome::Finish(Success::ONE),
                        _ => Outcome::Delegate { children: 2 },
                    };
                    answer(&mut driver, node, (low, high), outcome, clock_us, &mut recorder)?;
                }
            }
            Want::Resume { node, .. } => {
                // Whose children were refused has to add up by itself, and is half right.
                let alone = driver.tree().node(node).is_some_and(|node| node.children == 0);
                let success = Success::new(if alone { 0.5 } else { 1.0 })?;
                answer(
                    &mut driver,
                    node,
                    ranges[node.index()],
                    Outcome::Finish(success),
                    clock_us,
                    &mut recorder,
                )?;
            }
            Want::Retire { .. } => {}
        }
    }
    Ok(recorder.finish()?)
}

/// Deep enough for ranges of two numbers, not for their halves.
const LIMITS: Limits = Limits {
    depth_max: 2,
    nodes_max: 64,
    children_max: 8,
    steps_max: 4,
    tokens_max: 1000,
    action_max: 8,
    context_max: 64,
    concurrent_max: 4,
    deadline_us: None,
};

fn half((low, high): (u32, u32), index: u8) -> (u32, u32) {
    let middle = low.midpoint(high);
    [(low, middle), (middle, high)][usize::from(index)]
}

fn see<T>(numbers: &[u32], handle: impl FnOnce(&Observation<'_>) -> T) -> T {
    let mut room = [Token(0); 4];
    let mut seen = Observation::new(&mut room);
    numbers.iter().for_each(|number| seen.push(Token(*number)));
    handle(&seen)
}

fn answer<S: EventSink>(
    driver: &mut Driver<Nodes>,
    node: NodeId,
    (low, high): (u32, u32),
    outcome: Outcome,
    at_us: u64,
    sink: &mut S,
) -> Result<(), Box<dyn Error>> {
    let sum = (low..high).sum::<u32>().to_string();
    see(&[], |seen| {
        driver.handle_outcome(node, outcome, seen, sum.as_bytes(), at_us, sink)
    })?;
    Ok(())
}

/// The tree that a trace describes, as text, and whether all of the trace was as it should be. Ends at the first frame that is not sound, as
/// the reader of a file does. Takes a good MiB of the stack: frames may be as long as the format allows.
pub fn outline(read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<(String, bool)> {
    let mut player = Player::<_, FRAME_MAX>::new(read);
    let (mut outline, mut errors, mut events) = (Outline::default(), String::new(), 0);
    while let Some(next) = player.next_record() {
        let misfit = match next {
            Ok(record) => {
                events += 1;
                let misfit = outline.apply(&record.event).err();
                misfit.map(|what| (encoded_len(&record).unwrap_or(0) as u64, what))
            }
            Err(PlayError::Read { source, .. }) => return Err(source),
            Err(PlayError::Stream(error)) => {
                let _ = writeln!(errors, "at byte {}: {}", error.offset, what(error.kind));
                if !matches!(error.kind, StreamErrorKind::Decode(DecodeError::Malformed { .. })) {
                    // A file is not trusted behind a frame that is not sound; a stream would be read on.
                    break;
                }
                None
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        if let Some((len, what)) = misfit {
            let offset = player.reassembler().offset() - len;
            let _ = writeln!(errors, "at byte {offset}: {what} does not fit the run");
        }
    }
    let skipped = player.reassembler().skipped();
    let text = outline.text() + &format!("{events} events, {skipped} skipped\n{errors}");
    Ok((text, errors.is_empty()))
}

fn what(kind: StreamErrorKind) -> String {
    match kind {
        StreamErrorKind::Decode(DecodeError::Torn { .. }) => "torn frame".into(),
        StreamErrorKind::Decode(DecodeError::Version { found }) => format!("version {found}"),
        StreamErrorKind::Decode(DecodeError::TooLong { payload_len }) => {
            format!("length {payload_len} is above the limit")
        }
        StreamErrorKind::Decode(DecodeError::Checksum { .. }) => "wrong checksum".into(),
        StreamErrorKind::Decode(DecodeError::Malformed { .. }) => "malformed payload".into(),
        other => other.to_string(),
    }
}

/// A tree, and what is shown of its nodes besides what the tree knows.
#[derive(Default)]
struct Outline {
    tree: Tree<Nodes>,
    lines: Vec<Line>,
}

#[derive(Default)]
struct Line {
    task: String,
    success: Option<Success>,
    children: Vec<NodeId>,
}

impl Outline {
    /// `Err` says which event does not fit those before it; then nothing has changed.
    fn apply(&mut self, event: &Event<'_>) -> Result<(), String> {
        self.tree.apply(event).map_err(|_| name(event))?;
        match *event {
            Event::Spawn { node, parent, task, .. } => {
                self.lines.push(Line {
                    task: task.to_owned(),
                    ..Line::default()
                });
                if let Some(above) = parent.and_then(|parent| self.lines.get_mut(parent.index())) {
                    above.children.push(node);
                }
            }
            Event::Score { node, success } => {
                if let Some(line) = self.lines.get_mut(node.index()) {
                    line.success = Some(success);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Every node below its parent, children in the order of their spawns, and the first half of the last line.
    fn text(&self) -> String {
        let mut out = String::new();
        // A stack of its own: trees are deeper than call stacks.
        let mut stack: Vec<_> = self.lines.first().map(|_| NodeId::ROOT).into_iter().collect();
        while let Some(id) = stack.pop() {
            let (node, line) = (&self.tree.nodes()[id.index()], &self.lines[id.index()]);
            let indent = 2 * usize::from(node.depth.0);
            let success = line
                .success
                .map_or(String::new(), |s| format!(", success {:.3}", s.value()));
            let (status, counts) = (
                status(node.status),
                format!("{} steps, {} tokens", node.steps, node.sampled),
            );
            let (id, task) = (id.0, quoted(&line.task));
            let _ = writeln!(out, "{:indent$}{id} {status}{success}, {counts}: {task}", "");
            stack.extend(line.children.iter().rev());
        }
        let nodes = self.tree.nodes();
        let deepest = nodes.iter().map(|node| node.depth.0).max().unwrap_or(0);
        let sampled: u64 = nodes.iter().map(|node| u64::from(node.sampled)).sum();
        let _ = write!(out, "{} nodes, deepest {deepest}, {sampled} tokens, ", nodes.len());
        out
    }
}

fn name(event: &Event<'_>) -> String {
    let (what, node) = match *event {
        Event::Spawn { node, .. } => ("spawn", node),
        Event::Refuse { parent, .. } => ("refuse", parent),
        Event::Observe { node, .. } => ("observe", node),
        Event::Act { node, .. } => ("act", node),
        Event::Return { node, .. } => ("return", node),
        Event::Cancel { node, .. } => ("cancel", node),
        Event::Score { node, .. } => ("score", node),
        Event::Restart { node } => ("restart", node),
        Event::Allow { node, .. } => ("allow", node),
        _ => return "an event".into(),
    };
    format!("{what} of node {}", node.0)
}

fn status(status: Option<NodeStatus>) -> String {
    match status {
        None => "unfinished".into(),
        Some(NodeStatus::Truncated(limit)) => format!("truncated ({limit})"),
        Some(NodeStatus::Invalid) => "invalid".into(),
        Some(other) => other.to_string(),
    }
}

/// On one line: quotes, backslashes and control characters by their numbers.
fn quoted(text: &str) -> String {
    let plain = text.chars().map(|c| match c {
        '"' | '\\' | '\0'..='\x1F' | '\x7F' => format!("\\u{{{:x}}}", u32::from(c)),
        c => c.into(),
    });
    format!("\"{}\"", plain.collect::<String>())
}

/// The nodes of a tree, on the heap.
#[derive(Default)]
struct Nodes(Vec<Node>);

impl AsRef<[Node]> for Nodes {
    fn as_ref(&self) -> &[Node] {
        &self.0
    }
}

impl AsMut<[Node]> for Nodes {
    fn as_mut(&mut self) -> &mut [Node] {
        &mut self.0
    }
}

impl Arena for Nodes {
    fn push(&mut self, node: Node) -> Result<(), ArenaFull> {
        self.0.push(node);
        Ok(())
    }
}
