//! Attention of one short sequence: register tiles of four queries by sixteen keys or columns, everything padded to whole lanes
//! so that no loop has a rest.

use super::super::simd::{LANES, exp, max_lanes, padded, simd_fn, sum_lanes};
use super::{Shape, UNSEEN, cut};

/// Queries of one tile: enough independent sums to hide the latency of a fused multiply-add.
const TILE: usize = 4;

simd_fn! {
    /// `kept [query, length, padded(length)]` takes the probabilities, 0 where a key is not seen.
    pub(super) fn forward<'a>(
        shape: Shape, length: usize, query_key: &'a [f32], projections: &'a [f32], y: &'a mut [f32], kept: &'a mut [f32],
        scratch: &'a mut Vec<f32>,
    ) {
        match shape.dim {
            16 => forward_dim(16, shape, length, query_key, projections, y, kept, scratch),
            32 => forward_dim(32, shape, length, query_key, projections, y, kept, scratch),
            dim => forward_dim(dim, shape, length, query_key, projections, y, kept, scratch),
        }
    }
}

simd_fn! {
    pub(super) fn backward<'a>(
        shape: Shape, length: usize, query_key: &'a [f32], projections: &'a [f32], kept: &'a [f32], dy: &'a [f32],
        grad: &'a mut [f32], scratch: &'a mut Vec<f32>,
    ) {
        match shape.dim {
            16 => backward_dim(16, shape, length, query_key, projections, kept, dy, grad, scratch),
            32 => backward_dim(32, shape, length, query_key, projections, kept, dy, grad, scratch),
            dim => backward_dim(dim, shape, length, query_key, projections, kept, dy, grad, scratch),
        }
    }
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn forward_dim(
    dim: usize,
    shape: Shape,
    length: usize,
    query_key: &[f32],
    projections: &[f32],
    y: &mut [f32],
    kept: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (wide, long, rows) = (padded(dim), padded(length), length.next_multiple_of(TILE));
    let mut rest = room(scratch, 2 * long * wide + rows * wide + TILE * long);
    let keys_t = cut(&mut rest, wide * long);
    let values = cut(&mut rest, long * wide);
    let queries = cut(&mut rest, rows * wide);
    let scores = cut(&mut rest, TILE * long);
    let scale = shape.scale();
    for key_head in 0..shape.key {
        let key_column = (shape.query + key_head) * dim;
        pack_transposed(dim, query_key, shape.query_key_width(), key_column, long, keys_t);
        pack(
            dim,
            projections,
            shape.stride(),
            key_column + shape.key * dim,
            wide,
            values,
        );
        for head in key_head * shape.group()..(key_head + 1) * shape.group() {
            pack(dim, query_key, shape.query_key_width(), head * dim, wide, queries);
            let kept = &mut kept[head * length * long..][..length * long];
            for first in (0..length).step_by(TILE) {
                let seen = (first + TILE).min(length);
                multiply(
                    &queries[first * wide..],
                    wide,
                    dim,
                    keys_t,
                    long,
                    padded(seen),
                    scores,
                    long,
                );
                let tile_rows = TILE.min(length - first);
                for (row, scores) in scores.chunks_exact_mut(long).enumerate().take(tile_rows) {
                    softmax(scores, first + row + 1, padded(seen), scale);
                    kept[(first + row) * long..][..long].copy_from_slice(scores);
                }
                for column in (0..wide).step_by(LANES) {
                    let sums = combine(scores, long, seen, values, wide, column);
                    for (row, sums) in sums.iter().enumerate().take(tile_rows) {
                        let y = &mut y[(first + row) * shape.query_width() + head * dim..][..dim];
                        store(y, column, sums);
                    }
                }
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn backward_dim(
    dim: usize,
    shape: Shape,
    length: usize,
    query_key: &[f32],
    projections: &[f32],
    kept: &[f32],
    dy: &[f32],
    grad: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (wide, long, rows) = (padded(dim), padded(length), length.next_multiple_of(TILE));
    let mut rest = room(scratch, 4 * long * wide + 2 * rows * wide + 2 * TILE * long);
    let keys = cut(&mut rest, long * wide);
    let values_t = cut(&mut rest, wide * long);
    let dkeys = cut(&mut rest, long * wide);
    let dvalues = cut(&mut rest, long * wide);
    let queries = cut(&mut rest, rows * wide);
    let upstream = cut(&mut rest, rows * wide);
    let probabilities = cut(&mut rest, TILE * long);
    let slopes = cut(&mut rest, TILE * long);
    let scale = shape.scale();
    let stride = shape.stride();
    for key_head in 0..shape.key {
        let key_column = (shape.query + key_head) * dim;
        let value_column = key_column + shape.key * dim;
        pack(dim, query_key, shape.query_key_width(), key_column, wide, keys);
        pack_transposed(dim, projections, stride, value_column, long, values_t);
        dkeys.fill(0.0);
        dvalues.fill(0.0);
        for head in key_head * shape.group()..(key_head + 1) * shape.group() {
            pack(dim, query_key, shape.query_key_width(), head * dim, wide, queries);
            pack(dim, dy, shape.query_width(), head * dim, wide, upstream);
            let kept = &kept[head * length * long..][..length * long];
            for first in (0..length).step_by(TILE) {
                let seen = (first + TILE).min(length);
                let tile_rows = TILE.min(length - first);
                probabilities[..tile_rows * long].copy_from_slice(&kept[first * long..][..tile_rows * long]);
                probabilities[tile_rows * long..].fill(0.0);
                multiply(
                    &upstream[first * wide..],
                    wide,
                    dim,
                    values_t,
                    long,
                    padded(seen),
                    slopes,
                    long,
                );
                for (slopes, p) in slopes.chunks_exact_mut(long).zip(probabilities.chunks_exact(long)) {
                    softmax_slope(&mut slopes[..padded(seen)], &p[..padded(seen)], scale);
                }
                for column in (0..wide).step_by(LANES) {
                    let sums = combine(slopes, long, seen, keys, wide, column);
                    for (row, sums) in sums.iter().enumerate().take(tile_rows) {
                        store(&mut grad[(first + row) * stride + head * dim..][..dim], column, sums);
                    }
                    spread(slopes, long, seen, &queries[first * wide..], wide, column, dkeys);
                    spread(
                        probabilities,
                        long,
                        seen,
                        &upstream[first * wide..],
                        wide,
                        column,
                        dvalues,
                    );
                }
            }
        }
        for ((row, dkey), dvalue) in grad
            .chunks_exact_mut(stride)
            .zip(dkeys.chunks_exact(wide))
            .zip(dvalues.chunks_exact(wide))
        {
            row[key_column..][..dim].copy_from_slice(&dkey[..dim]);
            row[value_column..][..dim].copy_from_slice(&dvalue[..dim]);
        }
    }
}

/// `count` numbers of scratch. What stood there before may stay: padding meets nothing but probabilities of 0, or results that are
/// not stored, so that it must be finite and no more.
#[inline(always)]
fn room(scratch: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if scratch.len() < count {
        scratch.resize(count, 0.0);
    }
    &mut scratch[..count]
}

/// Copies one head's rows to rows of `wide`.
#[inline(always)]
fn pack(dim: usize, rows: &[f32], stride: usize, column: usize, wide: usize, to: &mut [f32]) {
    for (row, to) in rows.chunks_exact(stride).zip(to.chunks_exact_mut(wide)) {
        to[..dim].copy_from_slice(&row[column..][..dim]);
    }
}

/// Copies one head's rows to columns.
#[inline(always)]
fn pack_transposed(dim: usize, rows: &[f32], stride: usize, column: usize, long: usize, to: &mut [f32]) {
    for (j, row) in rows.chunks_exact(stride).enumerate() {
        for (i, x) in row[column..][..dim].iter().enumerate() {
            to[i * long + j] = *x;
        }
    }
}

/// `to [TILE, count] = a [TILE, dim] b [dim, count]`.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn multiply(
    a: &[f32],
    wide: usize,
    dim: usize,
    b: &[f32],
    long: usize,
    count: usize,
    to: &mut [f32],
    to_stride: usize,
) {
    for block in (0..count).step_by(LANES) {
        let mut sums = [[0.0_f32; LANES]; TILE];
        for i in 0..dim {
            let b = lanes(b, i * long + block);
            for (row, sums) in sums.iter_mut().enumerate() {
                let a = a[row * wide + i];
                for lane in 0..LANES {
                    sums[lane] = a.mul_add(b[lane], sums[lane]);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            to[row * to_stride + block..][..LANES].copy_from_slice(sums);
        }
    }
}

/// `a [TILE, seen] b [seen, LANES at column]`.
#[inline(always)]
fn combine(a: &[f32], long: usize, seen: usize, b: &[f32], wide: usize, column: usize) -> [[f32; LANES]; TILE] {
    let mut sums = [[0.0_f32; LANES]; TILE];
    for j in 0..seen {
        let b = lanes(b, j * wide + column);
        for (row, sums) in sums.iter_mut().enumerate() {
            let a = a[row * long + j];
            for lane in 0..LANES {
                sums[lane] = a.mul_add(b[lane], sums[lane]);
            }
        }
    }
    sums
}

/// `to [seen, LANES at column] += a^T [seen, TILE] b [TILE, LANES at column]`.
#[inline(always)]
fn spread(a: &[f32], long: usize, seen: usize, b: &[f32], wide: usize, column: usize, to: &mut [f32]) {
    let b: [[f32; LANES]; TILE] = std::array::from_fn(|row| *lanes(b, row * wide + column));
    for j in 0..seen {
        let to = &mut to[j * wide + column..][..LANES];
        let mut sums = [0.0; LANES];
        sums.copy_from_slice(to);
        for (row, b) in b.iter().enumerate() {
            let a = a[row * long + j];
            for lane in 0..LANES {
                sums[lane] = a.mul_add(b[lane], sums[lane]);
            }
        }
        to.copy_from_slice(&sums);
    }
}

/// Softmax over the first `seen` of `scores`, in place; 0 after them.
#[inline(always)]
fn softmax(scores: &mut [f32], seen: usize, count: usize, scale: f32) {
    scores[count..].fill(0.0);
    let (blocks, _) = scores[..count].as_chunks_mut::<LANES>();
    let mut top = [UNSEEN; LANES];
    for (index, block) in blocks.iter_mut().enumerate() {
        for lane in 0..LANES {
            let score = if index * LANES + lane < seen {
                block[lane] * scale
            } else {
                UNSEEN
            };
            block[lane] = score;
            top[lane] = if score > top[lane] { score } else { top[lane] };
        }
    }
    let top = max_lanes(top);
    let mut sum = [0.0; LANES];
    for block in blocks.iter_mut() {
        for lane in 0..LANES {
            block[lane] = exp(block[lane] - top);
            sum[lane] += block[lane];
        }
    }
    let inverse = 1.0 / sum_lanes(sum);
    for block in blocks.iter_mut() {
        for x in block.iter_mut() {
            *x *= inverse;
        }
    }
}

/// From the gradient of the probabilities to that of the unscaled scores, in place.
#[inline(always)]
fn softmax_slope(slopes: &mut [f32], probabilities: &[f32], scale: f32) {
    let (slopes, _) = slopes.as_chunks_mut::<LANES>();
    let (probabilities, _) = probabilities.as_chunks::<LANES>();
    let mut sum = [0.0; LANES];
    for (slope, p) in slopes.iter().zip(probabilities) {
        for lane in 0..LANES {
            sum[lane] = slope[lane].mul_add(p[lane], sum[lane]);
        }
    }
    let mean = sum_lanes(sum);
    for (slope, p) in slopes.iter_mut().zip(probabilities) {
        for lane in 0..LANES {
            slope[lane] = p[lane] * (slope[lane] - mean) * scale;
        }
    }
}

#[inline(always)]
fn lanes(values: &[f32], at: usize) -> &[f32; LANES] {
    values[at..].first_chunk().expect("padded to whole lanes")
}

/// Writes what of `sums` lies inside the head.
#[inline(always)]
fn store(row: &mut [f32], column: usize, sums: &[f32; LANES]) {
    let count = LANES.min(row.len() - column);
    row[column..][..count].copy_from_slice(&sums[..count]);
}
