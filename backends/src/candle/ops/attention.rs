//! Causal grouped-query attention over packed sequences: no padding, no sequence sees another.
//!
//! Two fused forms. Sequences of up to [`SHORT`] tokens keep their probabilities and run on register tiles of four queries
//! ([`short`]), because a call of `gemm` costs more than their whole product. Longer ones keep one number per query (the logarithm of the
//! softmax's denominator), go through `gemm` in tiles of queries and compute the probabilities again on the way back ([`long`]).

mod long;
mod short;

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::Team;
use super::simd::padded;

/// Longest sequence for the register form. From measurements at head width 16: `gemm` wins from about 100 tokens on.
const SHORT: usize = 64;

/// Score of a key that must not be seen; e^this is 0, and it stays finite under any scaling.
const UNSEEN: f32 = -1e30;

/// Shapes of one call. Rows of `query_key` are `(query + key) dim` wide (queries, then keys, both turned already); rows of
/// `projections` are `(query + 2 key) dim` wide and end with the values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key: usize,
    /// Width of one head.
    pub dim: usize,
}

impl Shape {
    fn group(self) -> usize {
        self.query / self.key
    }

    fn query_width(self) -> usize {
        self.query * self.dim
    }

    fn query_key_width(self) -> usize {
        (self.query + self.key) * self.dim
    }

    fn stride(self) -> usize {
        (self.query + 2 * self.key) * self.dim
    }

    fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    /// Numbers kept for the way back, for one sequence.
    fn kept(self, length: usize) -> usize {
        self.query * length * if length <= SHORT { padded(length) } else { 1 }
    }
}

/// Numbers that [`forward`] keeps for [`backward`].
pub(crate) fn kept(shape: Shape, offsets: &[usize]) -> usize {
    lengths(offsets).map(|length| shape.kept(length)).sum()
}

/// The most numbers that [`kept`] says for `n` tokens in sequences of up to `longest`.
pub(crate) fn kept_most(shape: Shape, n: usize, longest: usize) -> usize {
    let short = longest.clamp(1, SHORT);
    n.div_ceil(short) * shape.kept(short)
}

/// `offsets [sequences + 1]` says where sequences begin; `y [n, query dim]`, `kept` as long as [`kept`] says.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward(
    team: Team,
    shape: Shape,
    offsets: &[usize],
    query_key: &[f32],
    projections: &[f32],
    y: &mut [f32],
    kept: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (mut qk, mut proj, mut y, mut kept) = (query_key, projections, y, kept);
    let tasks = lengths(offsets).map(|length| {
        let qk = take(&mut qk, length * shape.query_key_width());
        let proj = take(&mut proj, length * shape.stride());
        let y = take_mut(&mut y, length * shape.query_width());
        (length, qk, proj, y, take_mut(&mut kept, shape.kept(length)))
    });
    let run = |scratch: &mut Vec<f32>, (length, qk, proj, y, kept): (_, _, _, _, _)| {
        if length <= SHORT {
            short::forward(shape, length, qk, proj, y, kept, scratch);
        } else {
            long::forward(shape, length, qk, proj, y, kept, scratch);
        }
    };
    if team.is_serial() {
        // Zeros wherever padding is read before it is written: a NaN must not outlive the call it came from.
        scratch.clear();
        tasks.for_each(|task| run(scratch, task));
    } else {
        tasks.collect::<Vec<_>>().into_par_iter().for_each_init(Vec::new, run);
    }
}

/// Writes the gradients of queries, keys and values of [`forward`] into `grad [n, (query + 2 key) dim]`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    team: Team,
    shape: Shape,
    offsets: &[usize],
    query_key: &[f32],
    projections: &[f32],
    kept: &[f32],
    dy: &[f32],
    grad: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (mut qk, mut proj, mut dy, mut kept, mut grad) = (query_key, projections, dy, kept, grad);
    let tasks = lengths(offsets).map(|length| {
        let qk = take(&mut qk, length * shape.query_key_width());
        let proj = take(&mut proj, length * shape.stride());
        let kept = take(&mut kept, shape.kept(length));
        let dy = take(&mut dy, length * shape.query_width());
        (length, qk, proj, kept, dy, take_mut(&mut grad, length * shape.stride()))
    });
    let run = |scratch: &mut Vec<f32>, (length, qk, proj, kept, dy, grad): (_, _, _, _, _, _)| {
        if length <= SHORT {
            short::backward(shape, length, qk, proj, kept, dy, grad, scratch);
        } else {
            long::backward(shape, length, qk, proj, kept, dy, grad, scratch);
        }
    };
    if team.is_serial() {
        // Zeros wherever padding is read before it is written: a NaN must not outlive the call it came from.
        scratch.clear();
        tasks.for_each(|task| run(scratch, task));
    } else {
        tasks.collect::<Vec<_>>().into_par_iter().for_each_init(Vec::new, run);
    }
}

/// Where each token of a packed batch stands in a padded one, as indices for Candle.
pub(crate) struct Padding {
    /// `[sequences * longest]`: packed index of every padded place (0 where there is none).
    pub gather: Tensor,
    /// `[n]`: padded place of every packed token.
    pub scatter: Tensor,
    /// `[longest, longest]`: 0 where a key may be seen, [`UNSEEN`] after the query. What pads stands after every real token, so that
    /// no real query sees it.
    pub causal: Tensor,
    sequences: usize,
    longest: usize,
}

impl Padding {
    pub(crate) fn new(offsets: &[usize], device: &candle_core::Device) -> Result<Self> {
        let sequences = offsets.len() - 1;
        let longest = lengths(offsets).max().unwrap_or(0);
        let mut gather = vec![0_u32; sequences * longest];
        let mut scatter = Vec::new();
        for (sequence, (&start, length)) in offsets.iter().zip(lengths(offsets)).enumerate() {
            for i in 0..length {
                gather[sequence * longest + i] = (start + i) as u32;
                scatter.push((sequence * longest + i) as u32);
            }
        }
        let causal: Vec<f32> = (0..longest * longest)
            .map(|i| if i % longest > i / longest { UNSEEN } else { 0.0 })
            .collect();
        Ok(Self {
            gather: Tensor::from_vec(gather, sequences * longest, device)?,
            scatter: Tensor::from_vec(scatter, offsets[sequences], device)?,
            causal: Tensor::from_vec(causal, (longest, longest), device)?,
            sequences,
            longest,
        })
    }
}

/// The same from Candle's operations: `q [n, query, dim]`, `k` and `v [n, key, dim]` -> `[n, query dim]`.
pub(crate) fn composite(q: &Tensor, k: &Tensor, v: &Tensor, padding: &Padding) -> Result<Tensor> {
    let (_, query, dim) = q.dims3()?;
    let key = k.dim(1)?;
    let (sequences, longest) = (padding.sequences, padding.longest);
    // [sequences, key, group x longest, dim]: the queries that share a key head are more rows of one product.
    let spread = |x: &Tensor| -> Result<Tensor> {
        let x = x.contiguous()?.index_select(&padding.gather, 0)?;
        let group = x.dim(1)? / key;
        let x = x
            .reshape((sequences, longest, key, group, dim))?
            .permute((0, 2, 3, 1, 4))?;
        x.contiguous()?.reshape((sequences, key, group * longest, dim))
    };
    let (q, k, v) = (spread(q)?, spread(k)?, spread(v)?);
    let scores = (q.matmul(&k.t()?.contiguous()?)? * (1.0 / (dim as f64).sqrt()))?;
    let scores = scores
        .reshape((sequences, query, longest, longest))?
        .broadcast_add(&padding.causal)?;
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let probabilities = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    let y = probabilities
        .reshape((sequences, key, query / key * longest, longest))?
        .matmul(&v)?;
    let y = y
        .reshape((sequences, query, longest, dim))?
        .transpose(1, 2)?
        .contiguous()?;
    y.reshape((sequences * longest, query * dim))?
        .index_select(&padding.scatter, 0)
}

fn lengths(offsets: &[usize]) -> impl Iterator<Item = usize> {
    offsets.windows(2).map(|pair| pair[1] - pair[0])
}

fn take<'a>(slice: &mut &'a [f32], count: usize) -> &'a [f32] {
    let (head, rest) = slice.split_at(count);
    *slice = rest;
    head
}

fn take_mut<'a>(slice: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    let (head, rest) = std::mem::take(slice).split_at_mut(count);
    *slice = rest;
    head
}

/// `count` numbers at the front of the scratch, cut off `rest`.
fn cut<'a>(rest: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    take_mut(rest, count)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::check::{assert_close, assert_finite_difference, gradients, project, random, tensor};
    use super::*;

    struct Case {
        shape: Shape,
        offsets: Vec<usize>,
        team: Team,
        projections: Vec<f32>,
        dy: Vec<f32>,
    }

    impl Case {
        fn new((query, key, dim): (usize, usize, usize), lengths: &[usize], threads: usize) -> Self {
            let shape = Shape { query, key, dim };
            let mut offsets = vec![0];
            lengths
                .iter()
                .for_each(|length| offsets.push(offsets[offsets.len() - 1] + length));
            let n = offsets[lengths.len()];
            let projections = random(1, n * shape.stride()).iter().map(|x| 2.0 * x).collect();
            let dy = random(2, n * shape.query_width());
            Self {
                shape,
                offsets,
                team: Team { threads },
                projections,
                dy,
            }
        }

        fn tokens(&self) -> usize {
            self.offsets[self.offsets.len() - 1]
        }

        /// Queries and keys without their values, as the rotation would leave them.
        fn query_key(&self, projections: &[f32]) -> Vec<f32> {
            let width = self.shape.query_key_width();
            projections
                .chunks_exact(self.shape.stride())
                .flat_map(|row| row[..width].to_vec())
                .collect()
        }

        fn forward(&self, projections: &[f32]) -> (Vec<f32>, Vec<f32>) {
            let mut y = vec![f32::NAN; self.tokens() * self.shape.query_width()];
            let mut saved = vec![f32::NAN; kept(self.shape, &self.offsets)];
            let qk = self.query_key(projections);
            forward(
                self.team,
                self.shape,
                &self.offsets,
                &qk,
                projections,
                &mut y,
                &mut saved,
                &mut Vec::new(),
            );
            (y, saved)
        }

        fn backward(&self, saved: &[f32]) -> Vec<f32> {
            let mut grad = vec![f32::NAN; self.projections.len()];
            let qk = self.query_key(&self.projections);
            backward(
                self.team,
                self.shape,
                &self.offsets,
                &qk,
                &self.projections,
                saved,
                &self.dy,
                &mut grad,
                &mut Vec::new(),
            );
            grad
        }
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new((4, 2, 16), &[5, 1, 17, 64], 1),
            Case::new((3, 1, 6), &[2, 16, 33], 1),
            Case::new((2, 2, 32), &[40, 65, 3, 130], 1),
            Case::new((4, 1, 8), &[70, 9, 129, 20], 2),
        ]
    }

    #[test]
    fn fused_equals_composite_in_value_and_gradient() {
        for case in cases() {
            let Shape { query, key, dim } = case.shape;
            let (y, saved) = case.forward(&case.projections);
            let grad = case.backward(&saved);
            let inputs = [tensor(&case.projections, &[case.tokens(), query + 2 * key, dim])];
            let padding = Padding::new(&case.offsets, &Device::Cpu).unwrap();
            let (value, grads) = gradients(&inputs, &case.dy, |t| {
                let (q, k) = (t[0].narrow(1, 0, query)?, t[0].narrow(1, query, key)?);
                composite(&q, &k, &t[0].narrow(1, query + key, key)?, &padding)
            });
            assert_close(&y, &value, 1e-5);
            assert_close(&grad, &grads[0], 2e-5);
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for case in cases() {
            let (_, saved) = case.forward(&case.projections);
            let grad = case.backward(&saved);
            assert_finite_difference(
                &case.projections,
                &grad,
                |x| project(&case.forward(x).0, &case.dy),
                1e-2,
            );
        }
    }

    #[test]
    fn neither_the_future_nor_another_sequence_is_seen() {
        for lengths in [[20, 30], [20, 90]] {
            let case = Case::new((2, 1, 16), &lengths, 1);
            let (before, _) = case.forward(&case.projections);
            let mut changed = case.projections.clone();
            // Token 25: the sixth of the second sequence.
            let (from, stride) = (25, case.shape.stride());
            changed[from * stride..(from + 1) * stride]
                .iter_mut()
                .for_each(|x| *x += 1.0);
            let (after, _) = case.forward(&changed);
            let width = case.shape.query_width();
            assert_eq!(before[..from * width], after[..from * width]);
            assert!(
                before[from * width..]
                    .iter()
                    .zip(&after[from * width..])
                    .any(|(a, b)| a != b)
            );
        }
    }
}
