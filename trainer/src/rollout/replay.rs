//! A rollout out of its event log: what another process rolled out, as training needs it.

use super::{Rollout, Span, Transcript, VecArena};
use crate::trace::{Records, TraceError};
use rao_proto::Event;
use rao_tree::{Limits, Mask, NodeId, Token, Tree, WeightsVersion};

/// A log that is not that of one whole tree, or of a tree that this policy cannot have sampled.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A frame is damaged, or an event contradicts those before it.
    #[error(transparent)]
    Damaged(#[from] TraceError),
    /// It does not begin where a run is opened, or opens another.
    #[error("at byte {offset}: a run is opened once, and first")]
    Opened {
        /// Where the frame begins.
        offset: usize,
    },
    /// It ends before the run was closed, or goes on after it, or a node has not ended, or the totals at the end are not those of the tree.
    #[error("the run was not closed, or goes on after it was, or is not what its end says")]
    Open,
    /// An observation holds a token that the vocabulary does not.
    #[error("at byte {offset}: node {} read what is not in a vocabulary of {vocab} tokens", .node.0)]
    Read {
        /// Where the frame begins.
        offset: usize,
        /// Whose observation.
        node: NodeId,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
    /// An action holds a token that the vocabulary does not, that its mask forbids, or a mask of another size; or nothing was read before it.
    #[error("at byte {offset}: node {} drew what it cannot have drawn from a vocabulary of {vocab} tokens", .node.0)]
    Drawn {
        /// Where the frame begins.
        offset: usize,
        /// Whose action.
        node: NodeId,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
}

/// Which run a log is of: its first event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The root task.
    pub task: String,
    pub seed: u64,
    pub limits: Limits,
    pub weights: WeightsVersion,
}

impl Opening {
    fn of(event: &Event<'_>) -> Option<Self> {
        match *event {
            Event::RunOpened {
                task,
                seed,
                limits,
                weights,
            } => Some(Self {
                task: task.to_owned(),
                seed,
                limits,
                weights,
            }),
            _ => None,
        }
    }

    /// The event that says it.
    #[cfg(all(feature = "nats", any(feature = "candle", feature = "llama-cpp")))]
    pub fn event(&self) -> Event<'_> {
        Event::RunOpened {
            task: &self.task,
            seed: self.seed,
            limits: self.limits,
            weights: self.weights,
        }
    }

    /// Of a log, or of its first frame alone.
    pub fn read(log: &[u8]) -> Result<Self, LogError> {
        match Records::new(log).next() {
            Some(Ok((offset, record))) => Self::of(&record.event).ok_or(LogError::Opened { offset }),
            Some(Err(error)) => Err(TraceError::from(error).into()),
            None => Err(LogError::Open),
        }
    }
}

/// A tree under way.
struct Reader {
    vocab: usize,
    tree: Tree<VecArena>,
    transcripts: Vec<Transcript>,
    /// By node: what its next action was drawn from, so far.
    allowed: Vec<Vec<u8>>,
}

impl Rollout {
    /// The rollout that a worker elsewhere logged, with transcripts, of a policy of `vocab` tokens: the same as in the worker's own process, but
    /// for the faults, which a log does not tell, the seconds, which are the log's last clock, and the log itself.
    ///
    /// # Errors
    /// [`LogError`]: nothing is made of a log that is not whole.
    pub fn from_log(job: usize, log: &[u8], vocab: usize) -> Result<Self, LogError> {
        let opening = Opening::read(log)?;
        let mut reader = Reader {
            vocab,
            tree: Tree::new(VecArena::default()),
            transcripts: Vec::new(),
            allowed: Vec::new(),
        };
        let mut closed = None;
        let mut at_us = 0;
        for (number, record) in Records::new(log).enumerate() {
            let (offset, record) = record.map_err(TraceError::from)?;
            at_us = record.at_us.max(at_us);
            if closed.is_some() {
                return Err(LogError::Open);
            }
            match record.event {
                Event::RunOpened { .. } if number > 0 => return Err(LogError::Opened { offset }),
                Event::RunClosed { nodes, tokens } => closed = Some((nodes, tokens)),
                event => reader.take(&event, offset)?,
            }
        }
        let nodes = reader.tree.nodes();
        let sampled: u64 = nodes.iter().map(|node| u64::from(node.sampled)).sum();
        let whole = nodes.iter().all(|node| node.status.is_some()) && !nodes.is_empty();
        if closed != Some((nodes.len() as u32, sampled)) || !whole || nodes.len() > opening.limits.nodes_max as usize {
            return Err(LogError::Open);
        }
        Ok(Self {
            job,
            tree: reader.tree,
            transcripts: reader.transcripts,
            log: Vec::new(),
            faults: Vec::new(),
            weights: opening.weights,
            seconds: at_us as f64 / 1e6,
        })
    }
}

impl Reader {
    fn take(&mut self, event: &Event<'_>, offset: usize) -> Result<(), LogError> {
        self.tree
            .apply(event)
            .map_err(|kind| TraceError::Tree { offset, kind })?;
        match *event {
            Event::Spawn { .. } => {
                self.transcripts.push(Transcript::default());
                self.allowed.push(Vec::new());
            }
            Event::Observe { node, tokens } => {
                let vocab = self.vocab;
                if tokens.iter().any(|token| token.0 as usize >= vocab) {
                    return Err(LogError::Read { offset, node, vocab });
                }
                if let Some(transcript) = self.transcripts.get_mut(node.index()) {
                    transcript.tokens.extend(tokens.iter());
                }
            }
            Event::Restart { node } => {
                if let Some(transcript) = self.transcripts.get_mut(node.index()) {
                    transcript.starts.push(transcript.tokens.len() as u32);
                }
            }
            Event::Allow { node, masks } => {
                if let Some(allowed) = self.allowed.get_mut(node.index()) {
                    allowed.extend_from_slice(masks);
                }
            }
            Event::Act {
                node, tokens, logprobs, ..
            } => {
                let drawn: Vec<Token> = tokens.iter().collect();
                if !self.act(node, &drawn, logprobs.iter()) {
                    let vocab = self.vocab;
                    return Err(LogError::Drawn { offset, node, vocab });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the action can have been drawn.
    fn act(&mut self, node: NodeId, tokens: &[Token], logprobs: impl Iterator<Item = f32>) -> bool {
        let Some((transcript, allowed)) = self
            .transcripts
            .get_mut(node.index())
            .zip(self.allowed.get_mut(node.index()))
        else {
            return false;
        };
        // Nothing is drawn from nothing.
        if transcript.context().is_empty() {
            return false;
        }
        let allowed = std::mem::take(allowed);
        let words = Mask::words(self.vocab);
        let masked = !allowed.is_empty();
        if masked && allowed.len() != tokens.len() * words * 8 {
            return false;
        }
        let first = transcript.masks.len();
        let read = allowed
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes));
        transcript.masks.extend(read);
        let permits = |(position, token): (usize, &Token)| {
            let mask = &transcript.masks[first..];
            let word = mask.get(position * words + token.0 as usize / 64);
            (token.0 as usize) < self.vocab && (!masked || word.is_some_and(|word| word >> (token.0 % 64) & 1 == 1))
        };
        if !tokens.iter().enumerate().all(permits) {
            return false;
        }
        if !tokens.is_empty() {
            transcript.actions.push(Span {
                start: transcript.tokens.len() as u32,
                len: tokens.len() as u32,
                masked,
            });
        }
        transcript.tokens.extend_from_slice(tokens);
        transcript.logprobs.extend(logprobs);
        true
    }
}
