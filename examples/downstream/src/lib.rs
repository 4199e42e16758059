//! Counts what each node of a recorded run read and sampled: what a bill, a dashboard or a quota is made of.
//!
//! ```
//! use rao_proto::{Event, EventSink, NodeId, Record, Recorder, Token, Tokens};
//!
//! let mut trace = Vec::new();
//! let mut recorder = Recorder::<_, std::io::Error, 256>::new(|frame: &[u8]| {
//!     trace.extend_from_slice(frame);
//!     Ok(())
//! });
//! let event = Event::Observe { node: NodeId::ROOT, tokens: Tokens::new(&[Token(5), Token(9)]) };
//! recorder.record(&Record { at_us: 0, event });
//! recorder.finish()?;
//!
//! let meter = token_meter::read(&trace[..])?;
//! assert_eq!(meter.nodes[&NodeId::ROOT].read, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use rao_proto::{Event, NodeId, PlayError, Player};

/// Tokens of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that it was given.
    pub read: u64,
    /// Tokens that it chose.
    pub sampled: u64,
}

/// Tokens of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Every node that read or sampled something.
    pub nodes: BTreeMap<NodeId, Usage>,
    /// Events of a newer protocol, not understood: with any, the counts may be too low.
    pub unknown: u64,
}

/// Reads a whole trace.
///
/// # Errors
/// The first place where the trace makes no sense, or the reader's own error: a bill over half a trace is worse than none.
pub fn read(mut trace: impl Read) -> Result<Meter, PlayError<io::Error>> {
    let mut player = Player::<_, FRAME_MAX>::new(|piece: &mut [u8]| trace.read(piece));
    let mut meter = Meter::default();
    while let Some(record) = player.next_record() {
        match record?.event {
            Event::Observe { node, tokens } => meter.usage(node).read += tokens.len() as u64,
            Event::Act { node, tokens, .. } => meter.usage(node).sampled += tokens.len() as u64,
            // Nothing else holds tokens, and what a later version adds is for a later version of this crate.
            _ => {}
        }
    }
    meter.unknown = player.reassembler().skipped();
    Ok(meter)
}

impl Meter {
    fn usage(&mut self, node: NodeId) -> &mut Usage {
        self.nodes.entry(node).or_default()
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "node      read   sampled")?;
        for (node, usage) in &self.nodes {
            writeln!(f, "{:>4} {:>9} {:>9}", node.0, usage.read, usage.sampled)?;
        }
        Ok(())
    }
}

/// Actions of 10,000 tokens and prompts of 20,000 fit. It lies on the stack.
const FRAME_MAX: usize = 1 << 16;
