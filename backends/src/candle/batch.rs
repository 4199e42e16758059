//! What a training step reads: [`PackedBatch`], sequences end to end without padding, with the actions in them.

use super::config::ModelConfig;

/// Sequences laid end to end, and the tokens in them that the policy chose.
///
/// Everything not named as an action (prompts, observations, what children returned) is context: it is read, never trained.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedBatch {
    /// All tokens of all sequences.
    pub tokens: Vec<u32>,
    /// Where sequences begin, and the end of the last: `[sequences + 1]`, from 0 to `tokens.len()`, rising.
    pub cu_seqlens: Vec<usize>,
    /// `[actions]`, rising: index in `tokens` of every token that was chosen. Its log-probability comes from the token before it, so
    /// the first of a sequence cannot be one.
    pub actions: Vec<usize>,
    /// `[actions]`: log-probability of the choice when it was made, after temperature and mask.
    pub behaviour_logprobs: Vec<f32>,
    /// `[actions]`: what multiplies the choice's gradient: the advantage times the depth weight, or 1 to imitate.
    pub weights: Vec<f32>,
    /// Words per action in `masks`; 0 when everything was allowed everywhere.
    pub mask_words: usize,
    /// `[actions, mask_words]`: bit `t % 64` of word `t / 64` allowed token `t`.
    pub masks: Vec<u64>,
    /// Temperature the choices were made at.
    pub temperature: f32,
}

/// One chosen token of a sequence handed to [`PackedBatch::push`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Action<'a> {
    /// Which token of the sequence; at least 1.
    pub index: usize,
    /// Log-probability of the choice when it was made.
    pub behaviour_logprob: f32,
    /// What multiplies the choice's gradient.
    pub weight: f32,
    /// Tokens that were allowed; empty for all of them.
    pub mask: &'a [u64],
}

/// Why a batch cannot be trained on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// No action, so nothing to learn.
    #[error("the batch has no action")]
    Empty,
    /// Arrays that belong together differ in length.
    #[error("{what}: {found} entries, expected {expected}")]
    Length {
        /// The array.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What the others ask for.
        expected: usize,
    },
    /// Sequence offsets that do not rise from 0 to the number of tokens.
    #[error("cu_seqlens must rise from 0 to {tokens}; entry {entry} is {value}")]
    Offsets {
        /// How many tokens there are.
        tokens: usize,
        /// Which entry is wrong.
        entry: usize,
        /// What it is.
        value: usize,
    },
    /// A sequence beyond the model's positions.
    #[error("sequence {sequence} has {length} tokens, the model reaches {limit}")]
    TooLong {
        /// Which sequence.
        sequence: usize,
        /// Its tokens.
        length: usize,
        /// The model's positions.
        limit: usize,
    },
    /// A token outside the vocabulary.
    #[error("token {token} at {index} is outside the vocabulary of {vocab}")]
    Token {
        /// Where it stands.
        index: usize,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// An action that is no token, not after the one before it, or the first token of its sequence.
    #[error("action {action} at token {index}: must rise, lie inside the batch and not begin a sequence")]
    Position {
        /// Which action.
        action: usize,
        /// The index it names.
        index: usize,
    },
    /// A number of an action that is not finite, or a log-probability above 0.
    #[error("action {action}: {what} is {value}")]
    Number {
        /// Which action.
        action: usize,
        /// The array.
        what: &'static str,
        /// The number.
        value: f32,
    },
    /// The mask forbids what was chosen.
    #[error("action {action}: its mask forbids token {token}, which was chosen")]
    Forbidden {
        /// Which action.
        action: usize,
        /// The chosen token.
        token: u32,
    },
    /// A temperature that is not above 0.
    #[error("temperature must be finite and above 0, got {0}")]
    Temperature(f32),
}

impl PackedBatch {
    /// An empty batch whose masks take `mask_words` words per action (0: everything is always allowed).
    #[must_use]
    pub fn new(mask_words: usize) -> Self {
        Self {
            tokens: Vec::new(),
            cu_seqlens: vec![0],
            actions: Vec::new(),
            behaviour_logprobs: Vec::new(),
            weights: Vec::new(),
            mask_words,
            masks: Vec::new(),
            temperature: 1.0,
        }
    }

    /// Appends one sequence.
    ///
    /// # Errors
    /// A mask that is neither empty nor `mask_words` long; the batch is as before. Everything else is checked by
    /// [`validate`](Self::validate).
    pub fn push(&mut self, tokens: &[u32], actions: &[Action<'_>]) -> Result<(), BatchError> {
        for action in actions {
            if !action.mask.is_empty() && action.mask.len() != self.mask_words {
                return Err(BatchError::Length {
                    what: "mask",
                    found: action.mask.len(),
                    expected: self.mask_words,
                });
            }
        }
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.cu_seqlens.push(self.tokens.len());
        for action in actions {
            self.actions.push(start + action.index);
            self.behaviour_logprobs.push(action.behaviour_logprob);
            self.weights.push(action.weight);
            if action.mask.is_empty() {
                self.masks.resize(self.masks.len() + self.mask_words, u64::MAX);
            } else {
                self.masks.extend_from_slice(action.mask);
            }
        }
        Ok(())
    }

    /// How many sequences there are.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// Checks everything that a step relies on.
    ///
    /// # Errors
    /// [`BatchError`] says what is wrong first, and where.
    pub fn validate(&self, config: &ModelConfig) -> Result<(), BatchError> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(BatchError::Temperature(self.temperature));
        }
        self.validate_sequences(config)?;
        if self.actions.is_empty() {
            return Err(BatchError::Empty);
        }
        self.validate_actions(config)
    }

    /// The part of [`validate`](Self::validate) that is about tokens and sequences alone.
    ///
    /// # Errors
    /// [`BatchError`] says what is wrong first, and where.
    pub(crate) fn validate_sequences(&self, config: &ModelConfig) -> Result<(), BatchError> {
        let tokens = self.tokens.len();
        let offsets = |entry: usize, value: usize| Err(BatchError::Offsets { tokens, entry, value });
        match (self.cu_seqlens.first(), self.cu_seqlens.last()) {
            (None, _) | (_, None) => return offsets(0, 0),
            (Some(&first), _) if first != 0 => return offsets(0, first),
            (_, Some(&last)) if last != tokens => return offsets(self.cu_seqlens.len() - 1, last),
            _ => {}
        }
        let limit = config.max_position_embeddings;
        for (sequence, pair) in self.cu_seqlens.windows(2).enumerate() {
            if pair[1] <= pair[0] {
                return offsets(sequence + 1, pair[1]);
            }
            if pair[1] - pair[0] > limit {
                return Err(BatchError::TooLong {
                    sequence,
                    length: pair[1] - pair[0],
                    limit,
                });
            }
        }
        match self
            .tokens
            .iter()
            .position(|&token| token as usize >= config.vocab_size)
        {
            Some(index) => Err(BatchError::Token {
                index,
                token: self.tokens[index],
                vocab: config.vocab_size,
            }),
            None => Ok(()),
        }
    }

    fn validate_actions(&self, config: &ModelConfig) -> Result<(), BatchError> {
        let count = self.actions.len();
        for (what, found, expected) in [
            ("behaviour_logprobs", self.behaviour_logprobs.len(), count),
            ("weights", self.weights.len(), count),
            ("masks", self.masks.len(), count * self.mask_words),
        ] {
            if found != expected {
                return Err(BatchError::Length { what, found, expected });
            }
        }
        let words = config.vocab_size.div_ceil(64);
        if self.mask_words != 0 && self.mask_words != words {
            return Err(BatchError::Length {
                what: "mask_words",
                found: self.mask_words,
                expected: words,
            });
        }
        let mut starts = self.cu_seqlens.iter().copied().peekable();
        let mut least = 0;
        for (action, &index) in self.actions.iter().enumerate() {
            let mut begins = false;
            while let Some(&start) = starts.peek()
                && start <= index
            {
                begins = start == index;
                starts.next();
            }
            if index < least || index >= self.tokens.len() || begins {
                return Err(BatchError::Position { action, index });
            }
            least = index + 1;
            let token = self.tokens[index];
            let number = |what, value| Err(BatchError::Number { action, what, value });
            let (logprob, weight) = (self.behaviour_logprobs[action], self.weights[action]);
            if !logprob.is_finite() || logprob > 0.0 {
                return number("behaviour_logprobs", logprob);
            }
            if !weight.is_finite() {
                return number("weights", weight);
            }
            let mask = &self.masks[action * self.mask_words..][..self.mask_words];
            if !mask.is_empty() && mask[token as usize / 64] >> (token % 64) & 1 == 0 {
                return Err(BatchError::Forbidden { action, token });
            }
        }
        Ok(())
    }
}

/// A part of a batch that is computed at once: whole sequences, cut after the last token whose successor is an action.
#[derive(Debug, Default)]
pub(crate) struct Micro {
    pub tokens: Vec<u32>,
    /// Position of every token in its sequence.
    pub positions: Vec<u32>,
    /// `[sequences + 1]`.
    pub offsets: Vec<usize>,
    /// `[actions]`, rising: the token before each action.
    pub rows: Vec<usize>,
    /// Which actions of the batch these are.
    pub actions: std::ops::Range<usize>,
    /// `[actions]`: the chosen tokens.
    pub targets: Vec<u32>,
}

impl Micro {
    /// Which actions of the part belong to each of its sequences.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let ends = self.offsets.iter().skip(1);
        let mut first = 0;
        ends.map(move |end| {
            let last = self.rows.partition_point(|row| row < end);
            std::mem::replace(&mut first, last)..last
        })
    }
}

/// Splits the sequences that have anything to compute into parts of about `micro_tokens` tokens (at least one sequence each).
/// Sequences without an action are left out, and with `trained` also those whose weights are all 0: their gradient is.
pub(crate) fn split(batch: &PackedBatch, micro_tokens: usize, trained: bool) -> Vec<Micro> {
    let mut parts: Vec<Micro> = Vec::new();
    let mut action = 0;
    for pair in batch.cu_seqlens.windows(2) {
        let first = action;
        while batch.actions.get(action).is_some_and(|&index| index < pair[1]) {
            action += 1;
        }
        if first == action || trained && batch.weights[first..action].iter().all(|weight| *weight == 0.0) {
            continue;
        }
        let tokens = &batch.tokens[pair[0]..batch.actions[action - 1]];
        // Actions of one part must follow one another, so what was left out begins a new part.
        let fits = |part: &Micro| part.actions.end == first && part.tokens.len() + tokens.len() <= micro_tokens;
        if !parts.last().is_some_and(fits) {
            parts.push(Micro {
                offsets: vec![0],
                actions: first..first,
                ..Micro::default()
            });
        }
        let Some(part) = parts.last_mut() else {
            unreachable!("one was just pushed")
        };
        let start = part.tokens.len();
        part.tokens.extend_from_slice(tokens);
        part.positions.extend(0..tokens.len() as u32);
        part.offsets.push(part.tokens.len());
        part.rows.extend(
            batch.actions[first..action]
                .iter()
                .map(|index| start + index - 1 - pair[0]),
        );
        part.targets
            .extend(batch.actions[first..action].iter().map(|&index| batch.tokens[index]));
        part.actions.end = action;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(index: usize, weight: f32) -> Action<'static> {
        Action {
            index,
            behaviour_logprob: -0.5,
            weight,
            mask: &[],
        }
    }

    fn batch() -> PackedBatch {
        let mut batch = PackedBatch::new(1);
        batch.push(&[1, 2, 3, 4], &[action(1, 1.0), action(2, -1.0)]).unwrap();
        batch.push(&[5, 6], &[]).unwrap();
        batch
            .push(
                &[7, 8, 9],
                &[Action {
                    mask: &[1 << 9],
                    ..action(2, 0.0)
                }],
            )
            .unwrap();
        batch.push(&[1, 2], &[action(1, 0.5)]).unwrap();
        batch
    }

    #[test]
    fn a_pushed_batch_is_valid() {
        assert_eq!(batch().validate(&ModelConfig::tiny(10)), Ok(()));
        assert_eq!(batch().actions, [1, 2, 8, 10]);
        assert_eq!(batch().masks, [u64::MAX, u64::MAX, 1 << 9, u64::MAX]);
    }

    #[test]
    fn every_flaw_is_named() {
        let check = |change: fn(&mut PackedBatch), part: &str| {
            let mut batch = batch();
            change(&mut batch);
            let message = batch.validate(&ModelConfig::tiny(10)).unwrap_err().to_string();
            assert!(message.contains(part), "{message} lacks {part}");
        };
        check(|b| *b = PackedBatch::new(0), "no action");
        check(|b| b.temperature = 0.0, "temperature");
        check(|b| b.cu_seqlens[0] = 1, "entry 0");
        check(|b| b.cu_seqlens[2] = 4, "entry 2");
        check(|b| b.tokens.push(1), "entry 4");
        check(|b| b.tokens[3] = 10, "token 10 at 3");
        check(|b| b.actions[1] = 4, "action 1 at token 4");
        check(|b| b.actions[1] = 1, "action 1 at token 1");
        check(|b| b.actions[3] = 11, "action 3 at token 11");
        check(|b| b.weights[2] = f32::NAN, "action 2: weights");
        check(|b| b.behaviour_logprobs[1] = 0.0001, "behaviour_logprobs is 0.0001");
        check(|b| b.weights.truncate(1), "weights: 1 entries");
        check(|b| b.masks[2] = 1, "forbids token 9");
        let long = ModelConfig {
            max_position_embeddings: 3,
            ..ModelConfig::tiny(10)
        };
        assert_eq!(
            batch().validate(&long),
            Err(BatchError::TooLong {
                sequence: 0,
                length: 4,
                limit: 3
            })
        );
        assert!(
            PackedBatch::new(2)
                .push(
                    &[1, 2],
                    &[Action {
                        mask: &[1],
                        ..action(1, 1.0)
                    }]
                )
                .is_err()
        );
    }

    #[test]
    fn parts_hold_what_must_be_computed_and_no_more() {
        let parts = split(&batch(), 100, true);
        // The untrained sequences in the middle are gone, so the actions of the last begin a new part.
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].tokens, [1, 2]);
        assert_eq!((&parts[0].rows[..], &parts[0].targets[..]), (&[0, 1][..], &[2, 3][..]));
        assert_eq!((&parts[1].tokens[..], parts[1].actions.clone()), (&[1][..], 3..4));
        let all = split(&batch(), 100, false);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].offsets, [0, 2, 4, 5]);
        assert_eq!(all[0].rows, [0, 1, 3, 4]);
        assert_eq!(all[0].sequences().collect::<Vec<_>>(), [0..2, 2..3, 3..4]);
        assert_eq!(all[0].positions, [0, 1, 0, 1, 0]);
        assert_eq!(split(&batch(), 1, false).len(), 3);
    }
}
