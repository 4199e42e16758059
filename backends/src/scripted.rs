//! Policies without a model: a plan written by a function, and uniform choice where the plan is silent. For tests, teachers and baselines.

use crate::random;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use rao_tree::{Mask, Next, Policy, Request, Stop, Token, WeightsVersion};
use std::convert::Infallible;

/// Says what `plan` makes of a request, token by token, as far as the request's constraint allows it; where the plan has no token, or one
/// that is not allowed, draws uniformly among those that are.
///
/// A token of the plan is certain: its log-probability is 0. One of `n` drawn uniformly has `-ln(n)`; temperature changes nothing
/// about equals, except that at 0 the lowest token is taken.
#[derive(Clone, Debug)]
pub struct Scripted<F> {
    vocab: usize,
    plan: F,
    words: Vec<u64>,
}

impl<F: FnMut(&Request<'_>, &mut SplitMix64) -> Vec<Token>> Scripted<F> {
    /// A policy over a vocabulary of `vocab` tokens. `plan` gives the whole action: entry `n` is what token `n` should be.
    ///
    /// It is called once per request and call of [`sample`](Policy::sample), with a generator that is seeded from the request's seed alone
    /// and starts afresh every time. A plan that reads no more than the prompt, the seed and this generator therefore says the same when
    /// a request is resumed; one that reads the completion so far, or remembers other requests, does not.
    pub fn new(vocab: usize, plan: F) -> Self {
        Self {
            vocab,
            plan,
            words: vec![0; Mask::words(vocab)],
        }
    }

    fn act(&mut self, request: &mut Request<'_>) -> Stop {
        let plan = (self.plan)(request, &mut SplitMix64::seed_from_u64(request.seed));
        loop {
            let mut mask = Mask::cleared(&mut self.words);
            match &mut request.constraint {
                Some(constraint) => {
                    if constraint.next(request.completion.tokens(), &mut mask) == Next::Complete {
                        return Stop::Complete;
                    }
                }
                None => self.words.fill(u64::MAX),
            }
            // Bits beyond the vocabulary name no token.
            if let (Some(last), tail @ 1..) = (self.words.last_mut(), self.vocab % 64) {
                *last &= (1 << tail) - 1;
            }
            if request.completion.is_full() {
                return Stop::Length;
            }
            let count: usize = self.words.iter().map(|word| word.count_ones() as usize).sum();
            if count == 0 {
                return Stop::Stuck;
            }
            let n = request.completion.len();
            let meant = plan.get(n).copied().filter(|&token| allows(&self.words, token));
            let (token, logprob) = match meant {
                Some(token) => (token, 0.0),
                None if request.temperature == 0.0 => (nth(&self.words, 0), uniform_logprob(count)),
                None => {
                    let drawn = (random::uniform(request.seed, n) * count as f64) as usize;
                    (nth(&self.words, drawn.min(count - 1)), uniform_logprob(count))
                }
            };
            let mask = request.constraint.is_some().then_some(&self.words[..]);
            request.completion.push(token, logprob, mask);
        }
    }
}

/// Log-probability of one of `count` equals.
fn uniform_logprob(count: usize) -> f32 {
    0.0 - (count as f32).ln()
}

fn allows(words: &[u64], token: Token) -> bool {
    let word = words.get(token.0 as usize / 64);
    word.is_some_and(|word| word >> (token.0 % 64) & 1 == 1)
}

/// The allowed token that `n` others precede; there are more than `n`.
fn nth(words: &[u64], mut n: usize) -> Token {
    for (index, &word) in (0_u32..).zip(words) {
        let here = word.count_ones() as usize;
        if n < here {
            let rest = (0..n).fold(word, |word, _| word & (word - 1));
            return Token(index * 64 + rest.trailing_zeros());
        }
        n -= here;
    }
    unreachable!("fewer tokens are allowed than were counted")
}

impl<F: FnMut(&Request<'_>, &mut SplitMix64) -> Vec<Token>> Policy for Scripted<F> {
    type Error = Infallible;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Infallible> {
        for request in batch.iter_mut().filter(|request| request.stop.is_none()) {
            request.stop = Some(self.act(request));
        }
        Ok(batch.len())
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(0)
    }
}

/// Draws every token uniformly among those allowed.
#[must_use]
pub fn uniform(vocab: usize) -> Scripted<impl FnMut(&Request<'_>, &mut SplitMix64) -> Vec<Token> + Send> {
    Scripted::new(vocab, |_: &Request<'_>, _: &mut SplitMix64| Vec::new())
}
