//! Attention of one long sequence: tiles of queries against all keys they see, through `gemm`.

use super::super::Team;
use super::super::linear::{Mat, MatMut, Store, matmul};
use super::super::simd::{LANES, dot, exp, max_lanes, simd_fn, sum_lanes};
use super::{Shape, UNSEEN, cut};

/// Queries of one tile: enough rows for `gemm`, and a tile of scores against 1,000 keys still fits the second-level cache.
const TILE: usize = 64;

/// `kept [query, length]` takes the logarithm of every softmax's denominator.
pub(super) fn forward(
    shape: Shape,
    length: usize,
    query_key: &[f32],
    projections: &[f32],
    y: &mut [f32],
    kept: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    scratch.resize(scratch.len().max(TILE * length), 0.0);
    let dim = shape.dim;
    for head in 0..shape.query {
        let (key_column, value_column) = columns(shape, head);
        for first in (0..length).step_by(TILE) {
            let rows = TILE.min(length - first);
            let seen = first + rows;
            let scores = &mut scratch[..rows * seen];
            score(shape, query_key, head, key_column, first, rows, scores);
            softmax(
                scores,
                first,
                seen,
                shape.scale(),
                &mut kept[head * length + first..][..rows],
            );
            matmul(
                Team::SERIAL,
                MatMut::new(
                    &mut y[first * shape.query_width() + head * dim..],
                    rows,
                    dim,
                    shape.query_width(),
                ),
                Store::Set,
                Mat::new(scores, rows, seen, seen),
                Mat::new(&projections[value_column..], seen, dim, shape.stride()),
            );
        }
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    shape: Shape,
    length: usize,
    query_key: &[f32],
    projections: &[f32],
    kept: &[f32],
    dy: &[f32],
    grad: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    scratch.resize(scratch.len().max(2 * TILE * length), 0.0);
    grad.fill(0.0);
    let (dim, width, stride) = (shape.dim, shape.query_key_width(), shape.stride());
    for head in 0..shape.query {
        let (key_column, value_column) = columns(shape, head);
        for first in (0..length).step_by(TILE) {
            let rows = TILE.min(length - first);
            let seen = first + rows;
            let mut rest = scratch.as_mut_slice();
            let scores = cut(&mut rest, rows * seen);
            let slopes = cut(&mut rest, rows * seen);
            score(shape, query_key, head, key_column, first, rows, scores);
            let dy = Mat::new(
                &dy[first * shape.query_width() + head * dim..],
                rows,
                dim,
                shape.query_width(),
            );
            let values = Mat::new(&projections[value_column..], seen, dim, stride);
            matmul(
                Team::SERIAL,
                MatMut::new(slopes, rows, seen, seen),
                Store::Set,
                dy,
                values.t(),
            );
            softmax_slope(
                scores,
                slopes,
                first,
                seen,
                shape.scale(),
                &kept[head * length + first..][..rows],
            );
            let (scores, slopes) = (Mat::new(scores, rows, seen, seen), Mat::new(slopes, rows, seen, seen));
            let keys = Mat::new(&query_key[key_column..], seen, dim, width);
            let queries = Mat::new(&query_key[first * width + head * dim..], rows, dim, width);
            let dquery = MatMut::new(&mut grad[first * stride + head * dim..], rows, dim, stride);
            matmul(Team::SERIAL, dquery, Store::Set, slopes, keys);
            let dkeys = MatMut::new(&mut grad[key_column..], seen, dim, stride);
            matmul(Team::SERIAL, dkeys, Store::Add, slopes.t(), queries);
            let dvalues = MatMut::new(&mut grad[value_column..], seen, dim, stride);
            matmul(Team::SERIAL, dvalues, Store::Add, scores.t(), dy);
        }
    }
}

/// Where the key and the value of a query head stand in a row.
fn columns(shape: Shape, head: usize) -> (usize, usize) {
    let key = (shape.query + head / shape.group()) * shape.dim;
    (key, key + shape.key * shape.dim)
}

/// Unscaled scores of `rows` queries from `first` on against all keys up to the last of them.
fn score(shape: Shape, query_key: &[f32], head: usize, key_column: usize, first: usize, rows: usize, to: &mut [f32]) {
    let (dim, width, seen) = (shape.dim, shape.query_key_width(), first + rows);
    let queries = Mat::new(&query_key[first * width + head * dim..], rows, dim, width);
    let keys = Mat::new(&query_key[key_column..], seen, dim, width);
    matmul(
        Team::SERIAL,
        MatMut::new(to, rows, seen, seen),
        Store::Set,
        queries,
        keys.t(),
    );
}

simd_fn! {
    /// Softmax of every row of a tile, in place; row `i` sees `first + i + 1` keys.
    fn softmax<'a>(scores: &'a mut [f32], first: usize, seen: usize, scale: f32, denominators: &'a mut [f32]) {
        for (row, (scores, denominator)) in scores.chunks_exact_mut(seen).zip(denominators).enumerate() {
            let (visible, hidden) = scores.split_at_mut(first + row + 1);
            hidden.fill(0.0);
            let top = {
                let (blocks, rest) = visible.as_chunks::<LANES>();
                let mut top = [UNSEEN; LANES];
                for block in blocks {
                    for lane in 0..LANES {
                        top[lane] = if block[lane] > top[lane] { block[lane] } else { top[lane] };
                    }
                }
                rest.iter().fold(max_lanes(top), |top, x| if *x > top { *x } else { top }) * scale
            };
            let (blocks, rest) = visible.as_chunks_mut::<LANES>();
            let mut sums = [0.0; LANES];
            for block in blocks {
                for lane in 0..LANES {
                    block[lane] = exp(block[lane].mul_add(scale, -top));
                    sums[lane] += block[lane];
                }
            }
            let mut sum = sum_lanes(sums);
            for x in rest {
                *x = exp(x.mul_add(scale, -top));
                sum += *x;
            }
            *denominator = top + sum.ln();
            let inverse = 1.0 / sum;
            for x in visible {
                *x *= inverse;
            }
        }
    }
}

simd_fn! {
    /// Turns scores into probabilities again, and the gradients of the probabilities (`slopes`) into those of the unscaled scores.
    fn softmax_slope<'a>(
        scores: &'a mut [f32], slopes: &'a mut [f32], first: usize, seen: usize, scale: f32, denominators: &'a [f32],
    ) {
        let rows = scores.chunks_exact_mut(seen).zip(slopes.chunks_exact_mut(seen)).zip(denominators);
        for (row, ((scores, slopes), denominator)) in rows.enumerate() {
            let (scores, hidden) = scores.split_at_mut(first + row + 1);
            hidden.fill(0.0);
            let (slopes, hidden) = slopes.split_at_mut(first + row + 1);
            hidden.fill(0.0);
            for x in scores.iter_mut() {
                *x = exp(x.mul_add(scale, -denominator));
            }
            let mean = dot(scores, slopes);
            for (slope, p) in slopes.iter_mut().zip(scores) {
                *slope = *p * (*slope - mean) * scale;
            }
        }
    }
}
