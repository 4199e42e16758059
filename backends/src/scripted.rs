//! Policies without a model: a plan written by a function, and uniform choice where the plan is silent. For tests, teachers and baselines.

use rand::RngExt;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use rao_tree::{Mask, Next, Policy, Request, Stop, Token, WeightsVersion};
use std::convert::Infallible;

/// Says what `plan` makes of a request, token by token, as far as the request's constraint allows it; where the plan has no token, or one
/// that is not allowed, draws uniformly among those that are.
///
/// Log-probabilities are those of the uniform choice: a script has no others.
#[derive(Clone, Debug)]
pub struct Scripted<F> {
    vocab: usize,
    plan: F,
    words: Vec<u64>,
}

impl<F: FnMut(&Request<'_>, &mut SplitMix64) -> Vec<Token>> Scripted<F> {
    /// A policy over a vocabulary of `vocab` tokens. `plan` gets the request and its own source of randomness, seeded by the request.
    pub fn new(vocab: usize, plan: F) -> Self {
        Self {
            vocab,
            plan,
            words: vec![0; Mask::words(vocab)],
        }
    }

    fn act(&mut self, request: &mut Request<'_>) -> Stop {
        let mut rng = SplitMix64::seed_from_u64(request.seed);
        let plan = (self.plan)(request, &mut rng);
        loop {
            let mut mask = Mask::cleared(&mut self.words);
            match &mut request.constraint {
                Some(constraint) => {
                    if constraint.next(request.completion.tokens(), &mut mask) == Next::Complete {
                        return Stop::Complete;
                    }
                }
                None => (0..self.vocab as u32).for_each(|id| mask.allow(Token(id))),
            }
            let allowed = (0..self.vocab as u32).map(Token).filter(|&token| mask.allows(token));
            let count = allowed.clone().count();
            if count == 0 {
                return Stop::Stuck;
            }
            let meant = plan
                .get(request.completion.len())
                .copied()
                .filter(|&token| mask.allows(token));
            let token = match meant {
                Some(token) => token,
                None => allowed.clone().nth(rng.random_range(0..count)).unwrap_or_default(),
            };
            let logprob = -(count as f32).ln();
            if !request.completion.push(token, logprob, Some(&self.words)) {
                return Stop::Length;
            }
        }
    }
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
