//! One token from one row of logits.

use super::softmax::{LANES, Softmax, fold_scalar};
use pulp::Arch;
use rao_tree::Token;

/// Buffers of a draw.
#[derive(Debug, Default)]
pub(crate) struct Draw {
    tokens: Vec<u32>,
    logits: Vec<f32>,
    weights: Vec<f32>,
}

/// A logit that is not a number, or not finite.
#[derive(Debug)]
pub(crate) struct NonFinite;

impl Draw {
    /// Draws from the softmax of `logits / temperature` over the tokens that `mask` allows (at least one), by the inverse of the
    /// cumulative distribution at `uniform`; temperature 0 takes the largest logit, the lowest token on a tie.
    /// Returns the token and its log-probability, for temperature 0 that of temperature 1.
    pub(crate) fn draw(
        &mut self,
        arch: Arch,
        logits: &[f32],
        mask: Option<&[u64]>,
        temperature: f32,
        uniform: impl FnOnce() -> f64,
    ) -> Result<(Token, f32), NonFinite> {
        self.tokens.clear();
        self.logits.clear();
        match mask {
            Some(mask) => {
                for (word, mut bits) in mask.iter().copied().enumerate() {
                    while bits != 0 {
                        let token = word * 64 + bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        self.tokens.push(token as u32);
                        self.logits.push(logits[token]);
                    }
                }
            }
            None => self.logits.extend_from_slice(logits),
        }
        let mut best = 0;
        for (i, &logit) in self.logits.iter().enumerate() {
            if !logit.is_finite() {
                return Err(NonFinite);
            }
            if logit > self.logits[best] {
                best = i;
            }
        }
        let greedy = temperature == 0.0;
        let temperature = if greedy { 1.0 } else { temperature };
        let max = self.logits[best];
        self.weights.clear();
        self.weights.extend_from_slice(&self.logits);
        self.weights
            .resize(self.logits.len().next_multiple_of(LANES), f32::NEG_INFINITY);
        arch.dispatch(Softmax {
            x: &mut self.weights,
            max,
            temperature,
        });
        self.weights[self.logits.len()..].fill(0.0);
        let total: f64 = self
            .weights
            .as_chunks::<LANES>()
            .0
            .iter()
            .map(|lanes| f64::from(fold_scalar(*lanes)))
            .sum();
        let drawn = if greedy { best } else { self.find(uniform() * total) };
        let z = (self.logits[drawn] - max) / temperature;
        let token = if mask.is_some() {
            self.tokens[drawn]
        } else {
            drawn as u32
        };
        Ok((Token(token), (f64::from(z) - total.ln()) as f32))
    }

    /// The first index at which the running sum passes `target`.
    fn find(&self, target: f64) -> usize {
        let mut below = 0.0;
        let mut last = 0;
        for (chunk, lanes) in self.weights.as_chunks::<LANES>().0.iter().enumerate() {
            let sum = f64::from(fold_scalar(*lanes));
            if sum > 0.0 {
                last = chunk;
                if below + sum > target {
                    break;
                }
                below += sum;
            }
        }
        // The lanes' own sum rounds differently: should it end short of the target, the last weight takes the rest.
        let mut index = last * LANES;
        for (i, &weight) in self.weights[last * LANES..][..LANES].iter().enumerate() {
            if weight > 0.0 {
                index = last * LANES + i;
                below += f64::from(weight);
                if below > target {
                    break;
                }
            }
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(logits: &[f32], mask: Option<&[u64]>, temperature: f32, u: f64) -> (u32, f32) {
        let (token, logprob) = Draw::default()
            .draw(Arch::new(), logits, mask, temperature, || u)
            .expect("finite logits");
        (token.0, logprob)
    }

    #[test]
    fn inverse_of_the_cumulative_distribution() {
        let logits: Vec<f32> = (0..40).map(|i| ((i * 13 % 40) as f32) / 10.0).collect();
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        let mut below = 0.0;
        for (token, &logit) in logits.iter().enumerate() {
            let p = f64::from(logit).exp() / total;
            for inside in [below + 1e-6, below + p / 2.0, below + p - 1e-6] {
                let (drawn, logprob) = draw(&logits, None, 1.0, inside);
                assert_eq!(drawn as usize, token);
                assert!((f64::from(logprob) - p.ln()).abs() < 1e-6);
            }
            below += p;
        }
    }

    #[test]
    fn ends_of_the_unit_interval_stay_inside() {
        let logits = [-200.0, 0.0, 0.0, -300.0];
        assert_eq!(draw(&logits, None, 1.0, 0.0).0, 1, "a token of vanishing weight");
        assert_eq!(draw(&logits, None, 1.0, 1.0 - 1e-16).0, 2);
        assert_eq!(draw(&logits, Some(&[0b1000]), 1.0, 0.5), (3, 0.0));
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals_and_reports_temperature_one() {
        let logits = [1.0, 3.0, 3.0, 2.0];
        let exact = -(1.0f64 + 1.0 + (-1.0f64).exp() + (-2.0f64).exp()).ln();
        let (token, logprob) = draw(&logits, None, 0.0, 0.9);
        assert_eq!(token, 1);
        assert!((f64::from(logprob) - exact).abs() < 1e-6);
        assert_eq!(draw(&logits, Some(&[0b1101]), 0.0, 0.0).0, 2);
    }

    #[test]
    fn infinite_and_undefined_logits_are_refused_where_allowed() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let logits = [0.0, bad, 1.0];
            assert!(Draw::default().draw(Arch::new(), &logits, None, 1.0, || 0.5).is_err());
            assert_eq!(draw(&logits, Some(&[0b100]), 1.0, 0.5).0, 2);
        }
    }
}
