//! The output layer fused with temperature, mask, log-softmax and the choice of one token: log-probabilities of the tokens that were
//! chosen, and the gradient through them, holding no more than one tile of logits.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::Team;
use super::linear::{Mat, MatMut, Store, matmul};
use super::projection::Stored;
use super::simd::{LANES, exp, max_lanes, simd_fn, sum_lanes};

/// Rows of one tile of logits.
const TILE_ROWS: usize = 128;
/// Columns of one tile. A vocabulary up to this size is seen at once, and its logits are computed once instead of twice.
/// 128 x 4096 f32 are 2 MiB.
pub(crate) const TILE_VOCAB: usize = 4096;
/// Logit of a token that the mask forbids; e^this is 0, and it stays finite under any temperature.
const FORBIDDEN: f32 = -1e30;

/// Numbers of one tile of logits.
pub(crate) fn tile(vocab: usize) -> usize {
    TILE_ROWS * vocab.min(TILE_VOCAB)
}

/// What is asked: one chosen token per row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices<'a> {
    /// `[n]`: the token chosen at each row.
    pub targets: &'a [u32],
    /// `[n, words]`: bit `t % 64` of word `t / 64` allows token `t`. Empty when everything is allowed.
    pub masks: &'a [u64],
    /// Words per row; 0 when everything is allowed.
    pub words: usize,
    /// Divides the logits.
    pub temperature: f32,
}

/// What is answered, per row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// Log-probability of the chosen token.
    pub logprob: f32,
    /// Entropy of the whole distribution, in nats.
    pub entropy: f32,
}

/// Gradients of [`run`], both added to.
pub(crate) struct HeadGradient<'a> {
    /// `[n, h]`.
    pub hidden: &'a mut [f32],
    /// `[vocab, h]`, if the matrix learns.
    pub weight: Option<&'a mut [f32]>,
}

/// Log-probabilities of the choices. `hidden [n, h]`, `weight [vocab, h]`; `memory` is for logits and widened weights.
///
/// With `gradient`, `slope(row, choice)` says how the loss changes with that row's log-probability (it is asked once per row, in
/// order, as soon as the row's log-probability is known), and the gradients are added.
#[allow(clippy::too_many_arguments)]
pub(crate) fn run(
    team: Team,
    hidden: &[f32],
    weight: Stored<'_>,
    h: usize,
    choices: Choices<'_>,
    (scratch, panel): (&mut Vec<f32>, &mut Vec<f32>),
    slope: &mut dyn FnMut(usize, Choice) -> f32,
    mut gradient: Option<HeadGradient<'_>>,
) {
    let (n, vocab) = (choices.targets.len(), weight.len() / h);
    let width = vocab.min(TILE_VOCAB);
    let tiles: Vec<(usize, usize)> = (0..vocab)
        .step_by(width)
        .map(|from| (from, width.min(vocab - from)))
        .collect();
    scratch.resize(TILE_ROWS * width, 0.0);
    for first in (0..n).step_by(TILE_ROWS) {
        let rows = TILE_ROWS.min(n - first);
        let tile = Tile {
            choices,
            first,
            inverse_temperature: 1.0 / choices.temperature,
        };
        let x = Mat::new(&hidden[first * h..], rows, h, h);
        let mut states = [State::EMPTY; TILE_ROWS];
        for &(from, width) in &tiles {
            let logits = &mut scratch[..rows * width];
            let w = weight.widened(team, from * h, width * h, panel);
            let w = Mat::new(w, width, h, h);
            matmul(team, MatMut::new(logits, rows, width, width), Store::Set, x, w.t());
            rows_of(team, logits, width, &mut states[..rows], |at, logits, states| {
                absorb(tile, at, from, width, logits, states);
            });
        }
        let mut slopes = [0.0; TILE_ROWS];
        for (row, (state, to)) in states.iter().zip(&mut slopes).enumerate().take(rows) {
            *to = slope(first + row, state.choice());
        }
        let Some(gradient) = &mut gradient else { continue };
        for &(from, width) in &tiles {
            let logits = &mut scratch[..rows * width];
            let w = weight.widened(team, from * h, width * h, panel);
            let w = Mat::new(w, width, h, h);
            if tiles.len() > 1 {
                matmul(team, MatMut::new(logits, rows, width, width), Store::Set, x, w.t());
            }
            // With one tile the logits are still there, masked and scaled already; doing that again changes nothing that counts.
            let scaled = tiles.len() == 1;
            rows_of(team, logits, width, &mut states[..rows], |at, logits, states| {
                slope_rows(tile, at, from, width, scaled, logits, states, &slopes[at..]);
            });
            let dlogits = Mat::new(logits, rows, width, width);
            let dhidden = MatMut::new(&mut gradient.hidden[first * h..], rows, h, h);
            matmul(team, dhidden, Store::Add, dlogits, w);
            if let Some(dweight) = &mut gradient.weight {
                let dweight = MatMut::new(&mut dweight[from * h..], width, h, h);
                matmul(team, dweight, Store::Add, dlogits.t(), x);
            }
        }
    }
}

/// The same from Candle's operations: `logits [n, vocab]`, `targets [n]`, `bias [n, vocab]` (0, or a very negative number where the mask
/// forbids) -> log-probabilities `[n]`, and entropies `[n]` without a gradient.
pub(crate) fn composite(
    logits: &Tensor,
    targets: &Tensor,
    bias: Option<&Tensor>,
    temperature: f64,
) -> Result<(Tensor, Tensor)> {
    let logits = (logits / temperature)?;
    let logits = match bias {
        Some(bias) => (logits + bias)?,
        None => logits,
    };
    let logits = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let denominator = logits.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let logprobs = (logits.gather(&targets.unsqueeze(1)?, 1)? - &denominator)?.squeeze(1)?;
    let all = logits.detach().broadcast_sub(&denominator.detach())?;
    let entropy = (all.exp()? * all)?.sum(D::Minus1)?.neg()?;
    Ok((logprobs, entropy))
}

/// The bias that [`composite`] takes for packed masks.
pub(crate) fn bias(choices: Choices<'_>, vocab: usize, device: &candle_core::Device) -> Result<Option<Tensor>> {
    if choices.words == 0 {
        return Ok(None);
    }
    let allowed = |row: &[u64], token: usize| row[token / 64] >> (token % 64) & 1 == 1;
    let bias: Vec<f32> = choices
        .masks
        .chunks_exact(choices.words)
        .flat_map(|row| (0..vocab).map(move |token| if allowed(row, token) { 0.0 } else { FORBIDDEN }))
        .collect();
    Ok(Some(Tensor::from_vec(bias, (choices.targets.len(), vocab), device)?))
}

/// What the rows of one tile have in common.
#[derive(Clone, Copy)]
struct Tile<'a> {
    choices: Choices<'a>,
    /// Row of the first one.
    first: usize,
    inverse_temperature: f32,
}

/// The softmax of one row so far, over the part of the vocabulary that was seen.
#[derive(Clone, Copy)]
struct State {
    top: f32,
    /// Sum of e^(z - top).
    sum: f32,
    /// Sum of e^(z - top) z.
    weighted: f32,
    target: f32,
}

impl State {
    const EMPTY: Self = Self {
        top: FORBIDDEN,
        sum: 0.0,
        weighted: 0.0,
        target: FORBIDDEN,
    };

    #[inline(always)]
    fn denominator(&self) -> f32 {
        self.top + self.sum.ln()
    }

    fn choice(&self) -> Choice {
        let denominator = self.denominator();
        Choice {
            logprob: self.target - denominator,
            entropy: denominator - self.weighted / self.sum,
        }
    }
}

/// Hands rows to `each(index of the first, logits, states)`: all at once, or in blocks on several threads.
fn rows_of(
    team: Team,
    logits: &mut [f32],
    width: usize,
    states: &mut [State],
    each: impl Fn(usize, &mut [f32], &mut [State]) + Sync,
) {
    // Rows of a vocabulary are long: a few of them are worth a thread's while.
    const BLOCK: usize = 8;
    if team.is_serial() {
        return each(0, logits, states);
    }
    logits
        .par_chunks_mut(BLOCK * width)
        .zip(states.par_chunks_mut(BLOCK))
        .enumerate()
        .for_each(|(block, (logits, states))| each(block * BLOCK, logits, states));
}

simd_fn! {
    /// Scales and masks logits of the tokens from `from` on, in place, and takes them into the states.
    fn absorb<'a>(tile: Tile<'a>, at: usize, from: usize, width: usize, logits: &'a mut [f32], states: &'a mut [State]) {
        for (row, (logits, state)) in logits.chunks_exact_mut(width).zip(states).enumerate() {
            let row = tile.first + at + row;
            scale_and_mask(tile, row, from, logits);
            let (blocks, rest) = logits.as_chunks::<LANES>();
            let mut top = [FORBIDDEN; LANES];
            for block in blocks {
                for lane in 0..LANES {
                    top[lane] = if block[lane] > top[lane] { block[lane] } else { top[lane] };
                }
            }
            let top = rest.iter().fold(max_lanes(top), |top, z| if *z > top { *z } else { top });
            let top = if top > state.top { top } else { state.top };
            let (mut sum, mut weighted) = ([0.0; LANES], [0.0; LANES]);
            for block in blocks {
                for lane in 0..LANES {
                    let e = exp(block[lane] - top);
                    sum[lane] += e;
                    weighted[lane] = e.mul_add(block[lane], weighted[lane]);
                }
            }
            let (mut sum, mut weighted) = (sum_lanes(sum), sum_lanes(weighted));
            for z in rest {
                let e = exp(z - top);
                sum += e;
                weighted = e.mul_add(*z, weighted);
            }
            let before = exp(state.top - top);
            state.sum = state.sum.mul_add(before, sum);
            state.weighted = state.weighted.mul_add(before, weighted);
            state.top = top;
            let target = tile.choices.targets[row] as usize;
            if (from..from + width).contains(&target) {
                state.target = logits[target - from];
            }
        }
    }
}

simd_fn! {
    /// Replaces logits by the gradient of `slope * logprob`: `slope (1[token chosen] - p) / temperature`.
    fn slope_rows<'a>(
        tile: Tile<'a>, at: usize, from: usize, width: usize, scaled: bool, logits: &'a mut [f32], states: &'a mut [State],
        slopes: &'a [f32],
    ) {
        for (row, ((logits, state), slope)) in logits.chunks_exact_mut(width).zip(states).zip(slopes).enumerate() {
            let row = tile.first + at + row;
            if !scaled {
                scale_and_mask(tile, row, from, logits);
            }
            let denominator = state.denominator();
            let slope = slope * tile.inverse_temperature;
            let (blocks, rest) = logits.as_chunks_mut::<LANES>();
            for block in blocks {
                for z in block {
                    *z = -slope * exp(*z - denominator);
                }
            }
            for z in rest {
                *z = -slope * exp(*z - denominator);
            }
            let target = tile.choices.targets[row] as usize;
            if (from..from + width).contains(&target) {
                logits[target - from] += slope;
            }
        }
    }
}

/// Divides one row by the temperature and buries what the mask forbids. `from` is a multiple of 64.
#[inline(always)]
fn scale_and_mask(tile: Tile<'_>, row: usize, from: usize, logits: &mut [f32]) {
    let factor = tile.inverse_temperature;
    if tile.choices.words == 0 {
        if factor != 1.0 {
            logits.iter_mut().for_each(|z| *z *= factor);
        }
        return;
    }
    let words = &tile.choices.masks[row * tile.choices.words..][..tile.choices.words];
    for (word, logits) in words[from / 64..].iter().zip(logits.chunks_mut(64)) {
        let (blocks, rest) = logits.as_chunks_mut::<LANES>();
        let whole = blocks.len() * LANES;
        for (block, logits) in blocks.iter_mut().enumerate() {
            let bits = (word >> (block * LANES)) as u32;
            for (lane, z) in logits.iter_mut().enumerate() {
                *z = if bits >> lane & 1 == 1 { *z * factor } else { FORBIDDEN };
            }
        }
        for (index, z) in rest.iter_mut().enumerate() {
            *z = if word >> (whole + index) & 1 == 1 {
                *z * factor
            } else {
                FORBIDDEN
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{assert_close, assert_finite_difference, gradients, random, tensor};
    use super::*;

    struct Case {
        n: usize,
        h: usize,
        vocab: usize,
        words: usize,
        temperature: f32,
        team: Team,
    }

    #[test]
    fn fused_equals_composite_and_finite_differences() {
        let serial = Team::SERIAL;
        for Case {
            n,
            h,
            vocab,
            words,
            temperature,
            team,
        } in [
            Case {
                n: 7,
                h: 16,
                vocab: 113,
                words: 2,
                temperature: 1.0,
                team: serial,
            },
            Case {
                n: 200,
                h: 8,
                vocab: 40,
                words: 0,
                temperature: 0.7,
                team: serial,
            },
            Case {
                n: 5,
                h: 4,
                vocab: 9001,
                words: 141,
                temperature: 1.3,
                team: serial,
            },
            Case {
                n: 130,
                h: 8,
                vocab: 4200,
                words: 0,
                temperature: 1.0,
                team: Team { threads: 2 },
            },
        ] {
            let (x, w, slopes) = (random(1, n * h), random(2, vocab * h), random(3, n));
            let targets: Vec<u32> = (0..n).map(|i| (i * 7919 % vocab) as u32).collect();
            // About half of the tokens, and always the one that was chosen.
            let mut masks: Vec<u64> = random(4, n * words)
                .iter()
                .map(|x| u64::from(x.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .collect();
            if words > 0 {
                for (row, target) in targets.iter().enumerate() {
                    masks[row * words + *target as usize / 64] |= 1 << (target % 64);
                }
            }
            let choices = Choices {
                targets: &targets,
                masks: &masks,
                words,
                temperature,
            };
            let evaluate = |x: &[f32], w: &[f32], gradient: Option<HeadGradient<'_>>| {
                let mut answers = Vec::new();
                let mut slope = |row: usize, choice: Choice| {
                    answers.push(choice);
                    slopes[row]
                };
                let memory = (&mut Vec::new(), &mut Vec::new());
                run(team, x, Stored::F32(w), h, choices, memory, &mut slope, gradient);
                answers
            };
            let (mut dx, mut dw) = (vec![0.0; n * h], vec![0.0; vocab * h]);
            let answers = evaluate(
                &x,
                &w,
                Some(HeadGradient {
                    hidden: &mut dx,
                    weight: Some(&mut dw),
                }),
            );
            let logprobs: Vec<f32> = answers.iter().map(|answer| answer.logprob).collect();
            let device = candle_core::Device::Cpu;
            let bias = bias(choices, vocab, &device).unwrap();
            let chosen = Tensor::from_slice(&targets, n, &device).unwrap();
            let (value, grads) = gradients(&[tensor(&x, &[n, h]), tensor(&w, &[vocab, h])], &slopes, |t| {
                let logits = t[0].matmul(&t[1].t()?)?;
                Ok(composite(&logits, &chosen, bias.as_ref(), f64::from(temperature))?.0)
            });
            assert_close(&logprobs, &value, 1e-5);
            assert_close(&dx, &grads[0], 1e-5);
            assert_close(&dw, &grads[1], 1e-5);
            let scalar = |x: &[f32], w: &[f32]| -> f64 {
                let answers = evaluate(x, w, None);
                answers
                    .iter()
                    .zip(&slopes)
                    .map(|(a, slope)| f64::from(a.logprob) * f64::from(*slope))
                    .sum()
            };
            assert_finite_difference(&x, &dx, |x| scalar(x, &w), 1e-2);
            assert_finite_difference(&w, &dw, |w| scalar(&x, w), 1e-2);
            // Entropy, straight from its definition.
            let row = 3;
            let allowed = |t: usize| words == 0 || masks[row * words + t / 64] >> (t % 64) & 1 == 1;
            let z = |t: usize| -> f64 {
                let dot: f32 = (0..h).map(|i| x[row * h + i] * w[t * h + i]).sum();
                f64::from(dot / temperature)
            };
            let sum: f64 = (0..vocab).filter(|&t| allowed(t)).map(|t| z(t).exp()).sum();
            let entropy: f64 = (0..vocab)
                .filter(|&t| allowed(t))
                .map(|t| z(t).exp() / sum * (sum.ln() - z(t)))
                .sum();
            assert!(
                (f64::from(answers[row].entropy) - entropy).abs() < 1e-4,
                "{} {entropy}",
                answers[row].entropy
            );
        }
    }
}
