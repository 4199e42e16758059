//! Per-head RMSNorm of queries and keys, then rotary position embedding (NEOX layout: element `i` turns with `i + d/2`).

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::simd::{dot, simd_fn};
use super::{Team, rms_norm};
use crate::candle::config::ModelConfig;
use crate::candle::frequencies::Frequencies;

/// What the rows of one fused call look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key heads, which follow the query heads in a row.
    pub key: usize,
    /// Width of one head.
    pub dim: usize,
    /// Distance of rows in the projections (queries, keys, values).
    pub stride: usize,
    pub eps: f32,
}

impl Heads {
    fn width(self) -> usize {
        (self.query + self.key) * self.dim
    }
}

/// Cosines and sines of the positions seen so far: one row of `dim` numbers each, cosines first.
#[derive(Debug, Default)]
pub(crate) struct Angles {
    rows: Vec<f32>,
}

impl Angles {
    /// Makes the table reach `positions`. The model is the same at every call.
    pub(crate) fn reach(&mut self, positions: usize, config: &ModelConfig) {
        let known = self.rows.len() / config.head_dim;
        if known >= positions {
            return;
        }
        let frequencies = Frequencies::of(config);
        for position in known..positions {
            let turned = frequencies.at(position);
            self.rows.extend(turned.clone().map(|(cos, _)| cos));
            self.rows.extend(turned.map(|(_, sin)| sin));
        }
    }

    /// One row of `dim` numbers per position.
    pub(crate) fn rows(&self) -> &[f32] {
        &self.rows
    }
}

/// `projections [n, stride]` holds queries, keys and values of every token, of which queries and keys are normalised (`wq`, `wk [dim]`)
/// and turned by `positions [n]` into `y [n, (query + key) dim]`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward(
    team: Team,
    heads: Heads,
    projections: &[f32],
    positions: &[u32],
    angles: &[f32],
    wq: &[f32],
    wk: &[f32],
    y: &mut [f32],
) {
    if team.is_serial() {
        return forward_rows(heads, projections, positions, angles, wq, wk, y);
    }
    y.par_chunks_mut(Team::ROWS * heads.width())
        .zip(projections.par_chunks(Team::ROWS * heads.stride))
        .zip(positions.par_chunks(Team::ROWS))
        .for_each(|((y, x), positions)| forward_rows(heads, x, positions, angles, wq, wk, y));
}

/// Replaces the gradients of [`forward`]'s result, which stand in the query and key columns of `grad [n, stride]`, by those of the
/// projections, and adds those of the gains to `dw [2, dim]` (queries, keys).
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    team: Team,
    heads: Heads,
    projections: &[f32],
    positions: &[u32],
    angles: &[f32],
    wq: &[f32],
    wk: &[f32],
    grad: &mut [f32],
    dw: [&mut [f32]; 2],
) {
    let [dwq, dwk] = dw;
    if team.is_serial() {
        return backward_rows(heads, projections, positions, angles, wq, wk, grad, dwq, dwk);
    }
    let partial: Vec<[Vec<f32>; 2]> = grad
        .par_chunks_mut(Team::ROWS * heads.stride)
        .zip(projections.par_chunks(Team::ROWS * heads.stride))
        .zip(positions.par_chunks(Team::ROWS))
        .map(|((grad, x), positions)| {
            let mut dw = [vec![0.0; heads.dim], vec![0.0; heads.dim]];
            let [dwq, dwk] = &mut dw;
            backward_rows(heads, x, positions, angles, wq, wk, grad, dwq, dwk);
            dw
        })
        .collect();
    for [q, k] in partial {
        dwq.iter_mut().zip(q).for_each(|(sum, part)| *sum += part);
        dwk.iter_mut().zip(k).for_each(|(sum, part)| *sum += part);
    }
}

/// The same from Candle's operations, for queries or keys: `x [n, heads, dim]`, `w [dim]`, `cos` and `sin [n, 1, dim / 2]`.
pub(crate) fn composite(x: &Tensor, w: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let x = rms_norm::composite(x, w, eps)?;
    let half = x.dim(D::Minus1)? / 2;
    let (left, right) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let first = (left.broadcast_mul(cos)? - right.broadcast_mul(sin)?)?;
    let second = (right.broadcast_mul(cos)? + left.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}

simd_fn! {
    fn forward_rows<'a>(
        heads: Heads, projections: &'a [f32], positions: &'a [u32], angles: &'a [f32],
        wq: &'a [f32], wk: &'a [f32], y: &'a mut [f32],
    ) {
        let (dim, half) = (heads.dim, heads.dim / 2);
        let rows = projections.chunks_exact(heads.stride).zip(y.chunks_exact_mut(heads.width()));
        for ((row, y), position) in rows.zip(positions) {
            let angle = &angles[*position as usize * dim..][..dim];
            for (head, (x, y)) in row.chunks_exact(dim).zip(y.chunks_exact_mut(dim)).enumerate() {
                let w = if head < heads.query { wq } else { wk };
                let inv = 1.0 / (dot(x, x) / dim as f32 + heads.eps).sqrt();
                // Plain loops: a closure might not be inlined, and then runs on the baseline's instructions.
                let whole = half / PAIRS * PAIRS;
                for at in (0..whole).step_by(PAIRS) {
                    forward_pairs::<PAIRS>(at, half, x, inv, w, angle, y);
                }
                for at in whole..half {
                    forward_pairs::<1>(at, half, x, inv, w, angle, y);
                }
            }
        }
    }
}

simd_fn! {
    fn backward_rows<'a>(
        heads: Heads, projections: &'a [f32], positions: &'a [u32], angles: &'a [f32],
        wq: &'a [f32], wk: &'a [f32], grad: &'a mut [f32], dwq: &'a mut [f32], dwk: &'a mut [f32],
    ) {
        let (dim, half, width) = (heads.dim, heads.dim / 2, heads.width());
        let rows = projections.chunks_exact(heads.stride).zip(grad.chunks_exact_mut(heads.stride));
        for ((row, grad), position) in rows.zip(positions) {
            let angle = &angles[*position as usize * dim..][..dim];
            let heads_of_row = row[..width].chunks_exact(dim).zip(grad[..width].chunks_exact_mut(dim));
            for (head, (x, grad)) in heads_of_row.enumerate() {
                let (w, dw) = if head < heads.query { (wq, &mut *dwq) } else { (wk, &mut *dwk) };
                let inv = 1.0 / (dot(x, x) / dim as f32 + heads.eps).sqrt();
                // Plain loops: a closure might not be inlined, and then runs on the baseline's instructions.
                let whole = half / PAIRS * PAIRS;
                for at in (0..whole).step_by(PAIRS) {
                    backward_pairs::<PAIRS>(at, half, x, inv, w, angle, grad, dw);
                }
                for at in whole..half {
                    backward_pairs::<1>(at, half, x, inv, w, angle, grad, dw);
                }
                let mean = dot(grad, x) * inv * inv / dim as f32;
                for (g, x) in grad.iter_mut().zip(x) {
                    *g = inv * x.mul_add(-mean, *g);
                }
            }
        }
    }
}

/// Pairs of elements turned at once: the half of the smallest usual head.
const PAIRS: usize = 8;

/// `N` elements from `at` on.
#[inline(always)]
fn load<const N: usize>(values: &[f32], at: usize) -> [f32; N] {
    *values[at..].first_chunk().expect("blocks stay inside a head")
}

#[inline(always)]
fn forward_pairs<const N: usize>(at: usize, half: usize, x: &[f32], inv: f32, w: &[f32], angle: &[f32], y: &mut [f32]) {
    let (x1, x2) = (load::<N>(x, at), load::<N>(x, half + at));
    let (w1, w2) = (load::<N>(w, at), load::<N>(w, half + at));
    let (cos, sin) = (load::<N>(angle, at), load::<N>(angle, half + at));
    let (mut y1, mut y2) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        let (a, b) = (x1[i] * inv * w1[i], x2[i] * inv * w2[i]);
        y1[i] = a.mul_add(cos[i], -(b * sin[i]));
        y2[i] = b.mul_add(cos[i], a * sin[i]);
    }
    y[at..at + N].copy_from_slice(&y1);
    y[half + at..half + at + N].copy_from_slice(&y2);
}

/// The rotation's transpose (its inverse, if it does not scale), then the gain; what is left is RMSNorm's own part.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn backward_pairs<const N: usize>(
    at: usize,
    half: usize,
    x: &[f32],
    inv: f32,
    w: &[f32],
    angle: &[f32],
    grad: &mut [f32],
    dw: &mut [f32],
) {
    let (x1, x2) = (load::<N>(x, at), load::<N>(x, half + at));
    let (w1, w2) = (load::<N>(w, at), load::<N>(w, half + at));
    let (cos, sin) = (load::<N>(angle, at), load::<N>(angle, half + at));
    let (mut g1, mut g2) = (load::<N>(grad, at), load::<N>(grad, half + at));
    let (mut dw1, mut dw2) = (load::<N>(dw, at), load::<N>(dw, half + at));
    for i in 0..N {
        let a = g1[i].mul_add(cos[i], g2[i] * sin[i]);
        let b = g2[i].mul_add(cos[i], -(g1[i] * sin[i]));
        dw1[i] = (a * inv).mul_add(x1[i], dw1[i]);
        dw2[i] = (b * inv).mul_add(x2[i], dw2[i]);
        g1[i] = a * w1[i];
        g2[i] = b * w2[i];
    }
    grad[at..at + N].copy_from_slice(&g1);
    grad[half + at..half + at + N].copy_from_slice(&g2);
    dw[at..at + N].copy_from_slice(&dw1);
    dw[half + at..half + at + N].copy_from_slice(&dw2);
}

#[cfg(test)]
mod tests {
    use super::super::check::{assert_close, assert_finite_difference, gradients, project, random, tensor};
    use super::*;
    use crate::candle::config::{RopeScaling, Yarn};

    #[test]
    fn fused_equals_composite_and_finite_differences() {
        for (n, query, key, dim, team) in [
            (9, 4, 2, 16, Team::SERIAL),
            (5, 3, 1, 6, Team::SERIAL),
            (130, 2, 2, 32, Team { threads: 2 }),
        ] {
            let heads = Heads {
                query,
                key,
                dim,
                stride: (query + 2 * key) * dim,
                eps: 1e-6,
            };
            let x = random(1, n * heads.stride);
            let (wq, wk) = (random(2, dim), random(3, dim));
            let dy = random(4, n * heads.width());
            let positions: Vec<u32> = (0..n as u32).map(|i| i * 7 % 40).collect();
            let mut angles = Angles::default();
            // With YaRN, so that what is turned is scaled too.
            let config = ModelConfig {
                head_dim: dim,
                rope_scaling: Some(RopeScaling::Yarn(Yarn::new(4.0, 16))),
                ..ModelConfig::tiny(9)
            };
            angles.reach(40, &config);
            let run = |x: &[f32], wq: &[f32], wk: &[f32]| {
                let mut y = vec![0.0; n * heads.width()];
                forward(team, heads, x, &positions, angles.rows(), wq, wk, &mut y);
                y
            };
            let y = run(&x, &wq, &wk);
            // The backward pass works in place, with rows as far apart as the projections'.
            let mut grad = vec![0.0; n * heads.stride];
            for (row, dy) in grad.chunks_exact_mut(heads.stride).zip(dy.chunks_exact(heads.width())) {
                row[..dy.len()].copy_from_slice(dy);
            }
            let (mut dwq, mut dwk) = (vec![0.0; dim], vec![0.0; dim]);
            backward(
                team,
                heads,
                &x,
                &positions,
                angles.rows(),
                &wq,
                &wk,
                &mut grad,
                [&mut dwq, &mut dwk],
            );

            let table: Vec<f32> = positions
                .iter()
                .flat_map(|&p| angles.rows()[p as usize * dim..][..dim].to_vec())
                .collect();
            let table = tensor(&table, &[n, 1, dim]);
            let (cos, sin) = (
                table.narrow(2, 0, dim / 2).unwrap(),
                table.narrow(2, dim / 2, dim / 2).unwrap(),
            );
            let inputs = [
                tensor(&x, &[n, heads.stride / dim, dim]),
                tensor(&wq, &[dim]),
                tensor(&wk, &[dim]),
            ];
            let (value, grads) = gradients(&inputs, &dy, |t| {
                let q = composite(&t[0].narrow(1, 0, query)?, &t[1], 1e-6, &cos, &sin)?;
                let k = composite(&t[0].narrow(1, query, key)?, &t[2], 1e-6, &cos, &sin)?;
                Tensor::cat(&[q, k], 1)
            });
            assert_close(&y, &value, 1e-5);
            assert_close(&grad, &grads[0], 2e-5);
            assert_close(&dwq, &grads[1], 1e-5);
            assert_close(&dwk, &grads[2], 1e-5);
            assert_finite_difference(&x, &grad, |x| project(&run(x, &wq, &wk), &dy), 1e-2);
            assert_finite_difference(&wq, &dwq, |wq| project(&run(&x, wq, &wk), &dy), 2e-3);
            assert_finite_difference(&wk, &dwk, |wk| project(&run(&x, &wq, wk), &dy), 2e-3);
        }
    }

    #[test]
    fn angles_grow_without_changing() {
        let mut angles = Angles::default();
        let config = ModelConfig {
            head_dim: 4,
            ..ModelConfig::tiny(9)
        };
        angles.reach(3, &config);
        let first = angles.rows().to_vec();
        angles.reach(10, &config);
        assert_eq!(angles.rows().len(), 40);
        assert_eq!(&angles.rows()[..12], first);
        assert_eq!(&first[..4], [1.0, 1.0, 0.0, 0.0]);
    }
}
