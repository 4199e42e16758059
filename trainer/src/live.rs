//! A tree while it grows, in a terminal: who works on what, who waits for whom, what has ended.

use crate::rollout::VecArena;
use rao_proto::{Event, EventSink, Record};
use rao_tree::{Node, NodeId, NodeStatus, Token, Tree};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Pictures that a terminal is shown per second, at most.
const RATE: u32 = 10;

/// Events as a picture: a line for every node that has not ended; subtrees that have ended are folded into one line.
pub struct Growth {
    tree: Tree<VecArena>,
    lines: Vec<Line>,
    words: Words,
}

/// What tokens say, in one line for people.
pub type Words = Box<dyn Fn(&[Token]) -> String + Send>;

#[derive(Default)]
struct Line {
    task: String,
    /// What the node said last.
    said: String,
    children: Vec<NodeId>,
    refused: usize,
}

impl Growth {
    /// Nothing yet. `words` says what tokens mean.
    #[must_use]
    pub fn new(words: Words) -> Self {
        Self {
            tree: Tree::new(VecArena::default()),
            lines: Vec::new(),
            words,
        }
    }

    /// The picture now, of at most so many lines and columns. What does not fit is counted in the last line.
    #[must_use]
    pub fn draw(&self, rows: usize, columns: usize) -> String {
        let mut out = String::new();
        // (node, indentation, whether it is its parent's last child); a stack of its own: trees are deeper than call stacks.
        let mut stack = vec![(NodeId::ROOT, String::new(), true)];
        let mut drawn = 0;
        while let Some((id, indent, last)) = stack.pop() {
            let (Some(node), Some(line)) = (self.tree.node(id), self.lines.get(id.index())) else {
                continue;
            };
            if drawn + 1 >= rows.max(2) && !stack.is_empty() {
                let _ = writeln!(out, "… and more: {} nodes in all", self.lines.len());
                break;
            }
            drawn += 1;
            let branch = match (id == NodeId::ROOT, last) {
                (true, _) => "",
                (false, true) => "└─ ",
                (false, false) => "├─ ",
            };
            let text = format!("{indent}{branch}{}", self.describe(id, node, line));
            let _ = writeln!(out, "{}", cut(&text, columns));
            if node.status.is_some() {
                continue;
            }
            let below = match (id == NodeId::ROOT, last) {
                (true, _) => String::new(),
                (false, true) => format!("{indent}   "),
                (false, false) => format!("{indent}│  "),
            };
            for (place, &child) in line.children.iter().enumerate().rev() {
                stack.push((child, below.clone(), place + 1 == line.children.len()));
            }
        }
        out
    }

    fn describe(&self, id: NodeId, node: &Node, line: &Line) -> String {
        let mut text = match node.judged() {
            None if self.waits(line) => "◌ ".to_owned(),
            None => "● ".to_owned(),
            Some(NodeStatus::Finished) if node.success.value() > 0.0 => "✓ ".to_owned(),
            Some(NodeStatus::Finished) => "✗ ".to_owned(),
            // Its score may still come.
            Some(NodeStatus::Invalid) if node.status == Some(NodeStatus::Finished) => "? ".to_owned(),
            Some(status) => format!("✗ {status}: "),
        };
        text += &one_line(&line.task);
        if line.refused > 0 {
            let _ = write!(text, " ({} refused)", line.refused);
        }
        match self.below(id) {
            0 => {}
            nodes if node.status.is_some() => {
                let _ = write!(text, " [{nodes} below]");
            }
            _ => {}
        }
        if node.status.is_none() && !line.said.is_empty() {
            let _ = write!(text, "  « {}", line.said);
        }
        text
    }

    /// Whether one of its children is at work.
    fn waits(&self, line: &Line) -> bool {
        let mut children = line.children.iter().rev();
        children.any(|&child| self.tree.node(child).is_some_and(|child| child.status.is_none()))
    }

    /// Nodes below a node.
    fn below(&self, id: NodeId) -> usize {
        let mut stack = vec![id];
        let mut count = 0;
        while let Some(children) = stack.pop().and_then(|id| self.lines.get(id.index())) {
            count += children.children.len();
            stack.extend(&children.children);
        }
        count
    }
}

impl EventSink for Growth {
    fn record(&mut self, record: &Record<'_>) {
        // A driver's events fit; those of a damaged log are passed over, as the picture is none of what happened.
        if self.tree.apply(&record.event).is_err() {
            return;
        }
        match record.event {
            Event::Spawn { node, parent, task, .. } => {
                self.lines.push(Line {
                    task: task.to_owned(),
                    ..Line::default()
                });
                if let Some(parent) = parent.and_then(|parent| self.lines.get_mut(parent.index())) {
                    parent.children.push(node);
                }
            }
            Event::Act { node, tokens, .. } => {
                let tokens: Vec<Token> = tokens.iter().collect();
                let said = one_line(&(self.words)(&tokens));
                if let Some(line) = self.lines.get_mut(node.index()) {
                    line.said = said;
                }
            }
            Event::Refuse { parent, .. } => {
                if let Some(line) = self.lines.get_mut(parent.index()) {
                    line.refused += 1;
                }
            }
            _ => {}
        }
    }
}

/// Shows a [`Growth`] on a terminal, each picture in the place of the one before; the last one stays.
pub struct Screen<W> {
    growth: Growth,
    out: W,
    size: (usize, usize),
    /// Lines of the picture that stands there.
    shown: usize,
    next: Instant,
    error: Option<io::Error>,
}

impl<W: Write> Screen<W> {
    /// A screen of so many rows and columns, which understands ANSI's control sequences.
    pub fn new(growth: Growth, out: W, size: (usize, usize)) -> Self {
        Self {
            growth,
            out,
            size,
            shown: 0,
            next: Instant::now(),
            error: None,
        }
    }

    /// Leaves the cursor below the last picture.
    ///
    /// # Errors
    /// The first thing that went wrong on writing; nothing was shown since.
    pub fn finish(&mut self) -> io::Result<()> {
        self.show();
        self.error.take().map_or(Ok(()), Err)
    }

    fn show(&mut self) {
        let (rows, columns) = self.size;
        // One row is the cursor's.
        let picture = self.growth.draw(rows.saturating_sub(1), columns);
        let mut text = String::new();
        if self.shown > 0 {
            // To where the last picture began, and wipe it out.
            let _ = write!(text, "\x1b[{}A\x1b[J", self.shown);
        }
        text += &picture;
        self.shown = picture.lines().count();
        if self.error.is_none() {
            let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
            self.error = written.err();
        }
    }
}

impl<W: Write> EventSink for Screen<W> {
    fn record(&mut self, record: &Record<'_>) {
        self.growth.record(record);
        let now = Instant::now();
        if now >= self.next {
            self.next = now + Duration::from_secs(1) / RATE;
            self.show();
        }
    }
}

/// Without line breaks and control characters, which would break the picture or the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(gives_orders, "")
}

/// The text without what a terminal would take for orders: whoever wrote it may be a stranger. Ends of lines stay.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.replace(|c| c != '\n' && gives_orders(c), "")
}

/// Control characters, and those that turn the direction of the text around them.
fn gives_orders(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most so many characters, the last of which says that there were more.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use rao_proto::{Budget, Depth, Logprobs, Success, Tokens, WeightsVersion};

    fn growth(events: &[Event<'_>]) -> Growth {
        let mut growth = Growth::new(Box::new(|tokens| format!("says {}\n\u{1b}[31m", tokens[0].0)));
        for &event in events {
            growth.record(&Record { at_us: 0, event });
        }
        growth
    }

    fn spawn(node: u32, parent: Option<u32>, depth: u8, task: &str) -> Event<'_> {
        Event::Spawn {
            node: NodeId(node),
            parent: parent.map(NodeId),
            depth: Depth(depth),
            task,
            budget: Budget {
                depth: 9 - depth,
                ..Budget::UNLIMITED
            },
        }
    }

    fn act(node: u32) -> Event<'static> {
        Event::Act {
            node: NodeId(node),
            tokens: Tokens::new(&[Token(7)]),
            logprobs: Logprobs::new(&[-0.5]).unwrap(),
            weights: WeightsVersion(0),
        }
    }

    fn ended(node: u32, status: NodeStatus) -> Event<'static> {
        Event::Return {
            node: NodeId(node),
            status,
            value: b"",
        }
    }

    fn score(node: u32) -> Event<'static> {
        Event::Score {
            node: NodeId(node),
            success: Success::ONE,
        }
    }

    /// A root with a child that waits, one that has ended with one below it, one that failed, and one at work.
    fn grown() -> Growth {
        let finished = NodeStatus::Finished;
        growth(&[
            spawn(0, None, 0, "the whole"),
            act(0),
            spawn(1, Some(0), 1, "first"),
            spawn(2, Some(0), 1, "second"),
            spawn(3, Some(0), 1, "third\nin two lines"),
            spawn(4, Some(0), 1, "fourth"),
            spawn(5, Some(2), 2, "half"),
            act(1),
            spawn(6, Some(1), 2, "quarter"),
            ended(5, finished),
            score(5),
            ended(2, finished),
            score(2),
            ended(3, NodeStatus::TimedOut),
            ended(4, finished),
            Event::Refuse {
                parent: NodeId(1),
                index: 1,
                limit: rao_tree::Limit::Nodes,
            },
        ])
    }

    #[test]
    fn who_works_waits_and_has_ended() {
        insta::assert_snapshot!(grown().draw(40, 60), @r"
        ◌ the whole  « says 7 [31m
        ├─ ◌ first (1 refused)  « says 7 [31m
        │  └─ ● quarter
        ├─ ✓ second [1 below]
        ├─ ✗ timed out: third in two lines
        └─ ? fourth
        ");
    }

    #[test]
    fn a_small_screen_says_that_there_is_more() {
        let picture = grown().draw(3, 12);
        insta::assert_snapshot!(picture, @r"
        ◌ the whole…
        ├─ ◌ first …
        … and more: 7 nodes in all
        ");
    }

    #[test]
    fn a_picture_takes_the_place_of_the_one_before() {
        let mut out = Vec::new();
        let mut screen = Screen::new(grown(), &mut out, (10, 40));
        screen.record(&Record {
            at_us: 0,
            event: ended(6, NodeStatus::Failed),
        });
        screen.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let (first, second) = text.split_once("\x1b[6A\x1b[J").unwrap();
        assert_eq!(first, second, "nothing happened in between");
        assert!(
            first.starts_with("● the whole") || first.starts_with("◌ the whole"),
            "{first}"
        );
    }

    #[test]
    fn a_log_that_contradicts_itself_is_passed_over() {
        let growth = growth(&[spawn(3, None, 0, "no root"), act(8), ended(0, NodeStatus::Failed)]);
        assert_eq!(growth.draw(10, 10), "");
    }
}
