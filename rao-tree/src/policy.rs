//! What samples: [`Policy`], its [`Request`] and the [`Constraint`] that an environment puts on it.

use rao_proto::{Token, WeightsVersion};

/// Names a node's context across requests, so that a policy may keep what it computed for earlier turns.
/// Two live nodes never share one. The policy must not rely on it for correctness: the prompt is always whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// Samples actions for many nodes at once.
///
/// # For callers
/// [`sample`](Policy::sample) advances every unfinished request and returns when at least one has finished, or after a moment, so that the
/// caller can look at its clock; requests may be dropped and others added before the next call. This is continuous batching without a thread:
/// nobody waits for the longest.
///
/// # For implementers
/// - Append to [`Request::completion`]; never touch what is already there.
/// - What is drawn for a request depends on the weights, its prompt, completion so far, seed, temperature and constraint, never on the
///   rest of the batch: draw number `completion.len()` of a request takes its randomness from `(seed, completion.len())` alone.
/// - `logprobs[i]` is the log-probability of `tokens[i]` under the distribution it was sampled from: after temperature and mask.
///   For greedy requests (temperature 0) it is that of temperature 1, after the mask.
pub trait Policy {
    /// Why the whole batch could not be advanced. What concerns one request only is its [`Stop`].
    type Error: core::error::Error;

    /// Advances every request whose `stop` is `None` by one token or more, and returns how many of the batch are finished. A policy that waits
    /// for something remote may return before anything has moved, after a moment: the caller looks at its deadlines and calls again.
    /// An empty batch, or one with nothing unfinished, returns at once.
    ///
    /// # Errors
    /// The backend failed; no request was harmed beyond what its completion already shows.
    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Self::Error>;

    /// The version of the weights that the next token will be drawn with.
    fn weights(&self) -> WeightsVersion;

    /// The node has ended: nothing kept for its context will be asked for again. Does nothing by default.
    fn forget(&mut self, sequence: SequenceId) {
        let _ = sequence;
    }
}

impl<P: Policy + ?Sized> Policy for &mut P {
    type Error = P::Error;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, P::Error> {
        (**self).sample(batch)
    }

    fn weights(&self) -> WeightsVersion {
        (**self).weights()
    }

    fn forget(&mut self, sequence: SequenceId) {
        (**self).forget(sequence);
    }
}

/// One action wanted from the policy.
pub struct Request<'a> {
    /// Names the node's context, for prefix caches.
    pub sequence: SequenceId,
    /// The whole context, oldest first.
    pub prompt: &'a [Token],
    /// Source of this request's randomness.
    pub seed: u64,
    /// Softmax temperature; 0 takes the most likely token (lowest id on a tie).
    pub temperature: f32,
    /// What may come next; `None` allows the whole vocabulary until the completion is full.
    pub constraint: Option<&'a mut dyn Constraint>,
    /// Where the action grows.
    pub completion: Completion<'a>,
    /// Why it ended; `None` while it has not.
    pub stop: Option<Stop>,
}

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The constraint said the action is complete.
    Complete,
    /// The completion's room is used up.
    Length,
    /// Prompt and completion exceed the policy's own window.
    ContextOverflow,
    /// The constraint allowed no token at all.
    Stuck,
    /// The backend could not answer this request, though others go on: a server that kept failing, an answer that made no sense. Its node
    /// is [invalid](rao_proto::NodeStatus::Invalid), never a zero: it says nothing about the policy.
    Failed,
}

/// Tokens, log-probabilities and masks of an action, growing together in the caller's buffers.
pub struct Completion<'a> {
    tokens: &'a mut [Token],
    logprobs: &'a mut [f32],
    masks: &'a mut [u64],
    words: usize,
    len: usize,
}

/// Buffers of a [`Completion`] that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("completion buffers disagree: {tokens} tokens, {logprobs} logprobs, {masks} mask words of {words} per token")]
pub struct CompletionError {
    /// Room for tokens.
    pub tokens: usize,
    /// Room for log-probabilities.
    pub logprobs: usize,
    /// Room for mask words.
    pub masks: usize,
    /// Mask words per token.
    pub words: usize,
}

impl<'a> Completion<'a> {
    /// An empty completion over the caller's buffers. `words` mask words are kept per token (0: masks are not kept).
    ///
    /// # Errors
    /// [`CompletionError`] unless `logprobs` is as long as `tokens` and `masks` is `words` times that.
    pub fn new(
        tokens: &'a mut [Token],
        logprobs: &'a mut [f32],
        masks: &'a mut [u64],
        words: usize,
    ) -> Result<Self, CompletionError> {
        if tokens.len() != logprobs.len() || Some(masks.len()) != tokens.len().checked_mul(words) {
            return Err(CompletionError {
                tokens: tokens.len(),
                logprobs: logprobs.len(),
                masks: masks.len(),
                words,
            });
        }
        Ok(Self {
            tokens,
            logprobs,
            masks,
            words,
            len: 0,
        })
    }

    /// Resumes a completion of which the first `len` tokens were drawn by an earlier call (`len` is clamped to the room).
    #[must_use]
    pub fn resumed(mut self, len: usize) -> Self {
        self.len = len.min(self.tokens.len());
        self
    }

    /// Tokens drawn so far.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens[..self.len]
    }

    /// Their log-probabilities.
    #[must_use]
    pub fn logprobs(&self) -> &[f32] {
        &self.logprobs[..self.len]
    }

    /// How many tokens were drawn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing drawn yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more tokens fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.tokens.len() - self.len
    }

    /// No room for another token.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len == self.tokens.len()
    }

    /// Appends one token. `mask` holds the bits that were allowed when it was drawn; all ones where `None`. Returns false when full.
    pub fn push(&mut self, token: Token, logprob: f32, mask: Option<&[u64]>) -> bool {
        if self.is_full() {
            return false;
        }
        self.tokens[self.len] = token;
        self.logprobs[self.len] = logprob;
        let kept = &mut self.masks[self.len * self.words..(self.len + 1) * self.words];
        kept.fill(u64::MAX);
        if let Some(mask) = mask {
            let shared = kept.len().min(mask.len());
            kept[..shared].copy_from_slice(&mask[..shared]);
            kept[shared..].fill(0);
        }
        self.len += 1;
        true
    }
}

/// What an environment allows the policy to say next: a grammar, walked token by token.
pub trait Constraint {
    /// Given the completion so far, either marks what may follow in `mask` (cleared by the caller) or says that the action is complete.
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next;

    /// Where nothing is constrained but that the action is complete with its first token among these: those tokens. `None`, the default,
    /// where there is more to it. Policies that cannot mask, such as servers, can still carry out a request that says so.
    fn ends(&self) -> Option<&[Token]> {
        None
    }
}

/// A constraint's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Draw one of the marked tokens.
    Draw,
    /// The action is complete.
    Complete,
}

/// A set of tokens over the caller's words: bit `t % 64` of word `t / 64` allows token `t`.
pub struct Mask<'a>(&'a mut [u64]);

impl<'a> Mask<'a> {
    /// How many words a vocabulary needs.
    #[must_use]
    pub const fn words(vocab: usize) -> usize {
        vocab.div_ceil(64)
    }

    /// An empty set over `words`, which are cleared.
    pub fn cleared(words: &'a mut [u64]) -> Self {
        words.fill(0);
        Self(words)
    }

    /// Allows a token; one outside the vocabulary is ignored.
    pub fn allow(&mut self, token: Token) {
        if let Some(word) = self.0.get_mut(token.0 as usize / 64) {
            *word |= 1 << (token.0 % 64);
        }
    }

    /// Allows every token; bits beyond the vocabulary name none.
    pub fn allow_all(&mut self) {
        self.0.fill(u64::MAX);
    }

    /// Whether a token is allowed.
    #[must_use]
    pub fn allows(&self, token: Token) -> bool {
        self.0
            .get(token.0 as usize / 64)
            .is_some_and(|word| word >> (token.0 % 64) & 1 == 1)
    }

    /// The words.
    #[must_use]
    pub fn as_words(&self) -> &[u64] {
        self.0
    }
}

/// Conveniences over any [`Policy`].
pub trait PolicyExt: Policy {
    /// Calls [`Policy::sample`] until every request of the batch is finished.
    ///
    /// # Errors
    /// The policy's own.
    fn sample_all(&mut self, batch: &mut [Request<'_>]) -> Result<(), Self::Error> {
        while self.sample(batch)? < batch.len() {}
        Ok(())
    }
}

impl<P: Policy + ?Sized> PolicyExt for P {}
