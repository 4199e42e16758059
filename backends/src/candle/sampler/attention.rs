//! Attention of a flat step over the paged cache, in place.

use super::cache::{Cache, Layout};
use super::forward::Row;
use super::geometry::Geometry;
use super::simd::{regs, square_sum};
use super::weights::Layer;
use crate::candle::frequencies::Frequencies;
use crate::sampling::softmax::{LANES, exp, fold};
use pulp::{Simd, WithSimd};
use std::array::{from_mut, from_ref};
use std::hint::black_box;

/// Sines and cosines of every position of the window, `[position][head_dim / 2]`.
#[derive(Debug)]
pub(super) struct Rope {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    pub(super) fn new(g: &Geometry, window: usize) -> Self {
        let frequencies = Frequencies::new(g.head_dim, g.rope_theta, g.rope_scaling.as_ref());
        let (cos, sin) = (0..window).flat_map(|position| frequencies.at(position)).unzip();
        Self {
            half: g.head_dim / 2,
            cos,
            sin,
        }
    }

    /// Turns dimension pairs `(i, i + half)`, the NEOX layout.
    #[inline(always)]
    fn turn(&self, x: &mut [f32], position: usize) {
        let cos = &self.cos[position * self.half..][..self.half];
        let sin = &self.sin[position * self.half..][..self.half];
        let (low, high) = x.split_at_mut(self.half);
        let (low8, low_rest) = low.as_chunks_mut::<8>();
        let (high8, high_rest) = high[..self.half].as_chunks_mut::<8>();
        let (cos8, cos_rest) = cos.as_chunks::<8>();
        let (sin8, sin_rest) = sin.as_chunks::<8>();
        for (((low, high), cos), sin) in low8.iter_mut().zip(high8).zip(cos8).zip(sin8) {
            turn(low, high, cos, sin);
        }
        for (((low, high), cos), sin) in low_rest.iter_mut().zip(high_rest).zip(cos_rest).zip(sin_rest) {
            turn(from_mut(low), from_mut(high), from_ref(cos), from_ref(sin));
        }
    }
}

/// By value in between, so that the compiler sees that nothing overlaps and uses vectors.
#[inline(always)]
fn turn<const N: usize>(low: &mut [f32; N], high: &mut [f32; N], cos: &[f32; N], sin: &[f32; N]) {
    let (a, b) = (*low, *high);
    let (mut x, mut y) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        x[i] = a[i] * cos[i] - b[i] * sin[i];
        y[i] = b[i] * cos[i] + a[i] * sin[i];
    }
    (*low, *high) = (x, y);
}

/// What both passes need to know of the model.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) dim: usize,
    pub(super) stride: usize,
    pub(super) qkv_stride: usize,
    pub(super) eps: f32,
}

/// First pass: norms and turns queries (in place) and keys, and writes keys and values into the cache.
pub(super) struct Store<'a> {
    pub(super) qkv: &'a mut [f32],
    pub(super) rows: &'a [Row],
    pub(super) heads: Heads,
    pub(super) weights: &'a Layer,
    pub(super) layer: usize,
    pub(super) rope: &'a Rope,
    pub(super) cache: &'a mut Cache,
}

impl WithSimd for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self {
            qkv,
            rows,
            heads: h,
            weights,
            layer,
            rope,
            cache,
        } = self;
        let layout = cache.layout;
        for (row, qkv) in rows.iter().zip(qkv.chunks_exact_mut(h.qkv_stride)) {
            let position = row.position as usize;
            let (qk, v) = qkv.split_at_mut((h.heads + h.kv_heads) * h.stride);
            // Roots and quotients of up to 16 heads at once.
            for (first, heads) in (0..).step_by(LANES).zip(qk.chunks_mut(LANES * h.stride)) {
                let mut scales = [1.0; LANES];
                for (scale, x) in scales.iter_mut().zip(heads.chunks_exact(h.stride)) {
                    *scale = square_sum(s, x);
                }
                for scale in S::as_mut_simd_f32s(&mut scales).0 {
                    let mean = s.div_f32s(*scale, s.splat_f32s(h.dim as f32));
                    *scale = s.div_f32s(s.splat_f32s(1.0), s.sqrt_f32s(s.add_f32s(mean, s.splat_f32s(h.eps))));
                }
                for ((head, x), scale) in (first..).zip(heads.chunks_exact_mut(h.stride)).zip(scales) {
                    let norm = if head < h.heads {
                        &weights.q_norm
                    } else {
                        &weights.k_norm
                    };
                    let scale = s.splat_f32s(scale);
                    for (x, &w) in S::as_mut_simd_f32s(x).0.iter_mut().zip(S::as_simd_f32s(norm).0) {
                        *x = s.mul_f32s(s.mul_f32s(*x, scale), w);
                    }
                    rope.turn(x, position);
                }
            }
            let block = cache.blocks(row.slot)[position / LANES];
            let lane = position % LANES;
            let lines = cache.arena.as_chunks_mut::<LANES>().0;
            let k = qk[h.heads * h.stride..].chunks_exact(h.stride);
            for (head, (k, v)) in k.zip(v.chunks_exact(h.stride)).enumerate() {
                let keys = &mut lines[layout.key(block, layer, head)..][..layout.keys];
                // Left to itself the loop becomes scatter instructions, far slower than single stores: hide it from the vectoriser.
                let (keys, keys_rest) = keys.as_chunks_mut::<8>();
                let (k, k_rest) = k[..layout.keys].as_chunks::<8>();
                for (lines, k) in keys.iter_mut().zip(k) {
                    let lines = black_box(lines);
                    for i in 0..8 {
                        lines[i][lane] = k[i];
                    }
                }
                for (line, k) in keys_rest.iter_mut().zip(k_rest) {
                    line[lane] = *k;
                }
                let values = &mut lines[layout.value(block, layer, head)..][..layout.values];
                for (lines, v) in values
                    .as_chunks_mut::<LANES>()
                    .0
                    .iter_mut()
                    .zip(v.as_chunks::<LANES>().0)
                {
                    lines[lane] = *v;
                }
            }
        }
    }
}

/// Second pass: each row's queries over its own sequence up to its own position.
pub(super) struct Attend<'a> {
    pub(super) qkv: &'a [f32],
    pub(super) rows: &'a [Row],
    pub(super) heads: Heads,
    pub(super) layer: usize,
    pub(super) cache: &'a Cache,
    /// Room for [`TOGETHER`] times the longest context, rounded up to [`LANES`].
    pub(super) scores: &'a mut [f32],
    pub(super) out: &'a mut [f32],
}

/// Query heads computed side by side: one head's sums are a chain of dependent additions, several fill the pipeline.
pub(super) const TOGETHER: usize = 4;

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self {
            qkv,
            rows,
            heads: h,
            layer,
            cache,
            scores,
            out,
        } = self;
        let rows_out = out.chunks_exact_mut(h.heads * h.stride);
        for ((row, qkv), out) in rows.iter().zip(qkv.chunks_exact(h.qkv_stride)).zip(rows_out) {
            let len = row.position as usize + 1;
            let blocks = &cache.blocks(row.slot)[..len.div_ceil(LANES)];
            let lines = cache.arena.as_chunks::<LANES>().0;
            let context = Context {
                lines,
                layout: cache.layout,
                blocks,
                len,
                layer,
                heads: h,
            };
            let mut head = 0;
            while head + TOGETHER <= h.heads {
                context.attend::<S, TOGETHER>(s, head, qkv, scores, out);
                head += TOGETHER;
            }
            while head < h.heads {
                context.attend::<S, 1>(s, head, qkv, scores, out);
                head += 1;
            }
        }
    }
}

/// What one row attends to.
struct Context<'a> {
    lines: &'a [[f32; LANES]],
    layout: Layout,
    blocks: &'a [u32],
    len: usize,
    layer: usize,
    heads: Heads,
}

impl Context<'_> {
    /// Query heads `first` to `first + H`.
    #[inline(always)]
    fn attend<S: Simd, const H: usize>(&self, s: S, first: usize, qkv: &[f32], scores: &mut [f32], out: &mut [f32]) {
        let stride = self.heads.stride;
        let span = self.blocks.len();
        let mut kv = [0; H];
        let mut q: [&[f32]; H] = [&[]; H];
        // The heads' rows, one after the other.
        let scores = &mut scores.as_chunks_mut::<LANES>().0[..H * span];
        for h in 0..H {
            kv[h] = (first + h) / (self.heads.heads / self.heads.kv_heads);
            q[h] = &qkv[(first + h) * stride..][..self.layout.keys];
        }
        self.scores(s, &kv, &q, scores);
        let scales = softmax::<S, H>(s, scores);
        self.values(s, &kv, scores, &scales, &mut out[first * stride..][..H * stride]);
    }

    /// Products with every key, minus infinity beyond the end.
    #[inline(always)]
    fn scores<S: Simd, const H: usize>(&self, s: S, kv: &[usize; H], q: &[&[f32]; H], scores: &mut [[f32; LANES]]) {
        let (dim, span) = (self.layout.keys, self.blocks.len());
        for (b, &block) in self.blocks.iter().enumerate() {
            let mut keys: [&[[f32; LANES]]; H] = [&[]; H];
            for h in 0..H {
                keys[h] = &self.lines[self.layout.key(block, self.layer, kv[h])..][..dim];
            }
            for part in 0..regs::<S>() {
                let mut acc = [s.splat_f32s(0.0); H];
                for d in 0..dim {
                    for h in 0..H {
                        let line = S::as_simd_f32s(&keys[h][d]).0[part];
                        acc[h] = s.mul_add_e_f32s(s.splat_f32s(q[h][d]), line, acc[h]);
                    }
                }
                for h in 0..H {
                    S::as_mut_simd_f32s(&mut scores[h * span + b]).0[part] = acc[h];
                }
            }
        }
        let used = (self.len - 1) % LANES + 1;
        for last in scores.iter_mut().skip(span - 1).step_by(span) {
            last[used..].fill(f32::NEG_INFINITY);
        }
    }

    /// The weighted sums of the values, position by position.
    #[inline(always)]
    fn values<S: Simd, const H: usize>(
        &self,
        s: S,
        kv: &[usize; H],
        weights: &[[f32; LANES]],
        scales: &[f32; H],
        out: &mut [f32],
    ) {
        let (stride, span) = (self.heads.stride, self.blocks.len());
        for chunk in 0..stride / LANES {
            for part in 0..regs::<S>() {
                let mut acc = [s.splat_f32s(0.0); H];
                for (b, &block) in self.blocks.iter().enumerate() {
                    let mut values: [&[[f32; LANES]]; H] = [&[]; H];
                    let mut weight: [&[f32]; H] = [&[]; H];
                    for h in 0..H {
                        let at = self.layout.value(block, self.layer, kv[h]) + chunk * LANES;
                        values[h] = &self.lines[at..][..LANES];
                        weight[h] = &weights[h * span + b];
                    }
                    for t in 0..LANES.min(self.len - b * LANES) {
                        for h in 0..H {
                            let line = S::as_simd_f32s(&values[h][t]).0[part];
                            acc[h] = s.mul_add_e_f32s(s.splat_f32s(weight[h][t]), line, acc[h]);
                        }
                    }
                }
                for h in 0..H {
                    let out = S::as_mut_simd_f32s(&mut out[h * stride + chunk * LANES..][..LANES]).0;
                    out[part] = s.mul_f32s(acc[h], s.splat_f32s(scales[h]));
                }
            }
        }
    }
}

/// `e^(x - max)` in place, row by row; one over the sums.
#[inline(always)]
fn softmax<S: Simd, const H: usize>(s: S, rows: &mut [[f32; LANES]]) -> [f32; H] {
    let span = rows.len() / H;
    let mut max = [s.splat_f32s(0.0); H];
    for (max, row) in max.iter_mut().zip(rows.chunks_exact(span)) {
        let mut lanes = s.splat_f32s(f32::NEG_INFINITY);
        for &x in S::as_simd_f32s(row.as_flattened()).0 {
            lanes = s.max_f32s(lanes, x);
        }
        *max = s.splat_f32s(s.reduce_max_f32s(lanes));
    }
    let mut scales = [0.0; H];
    for ((scale, row), max) in scales.iter_mut().zip(rows.chunks_exact_mut(span)).zip(max) {
        let mut sums = [0.0; LANES];
        for part in 0..regs::<S>() {
            let mut sum = s.splat_f32s(0.0);
            for x in row.iter_mut() {
                let x = &mut S::as_mut_simd_f32s(x).0[part];
                *x = exp(s, s.sub_f32s(*x, max));
                sum = s.add_f32s(sum, *x);
            }
            S::as_mut_simd_f32s(&mut sums).0[part] = sum;
        }
        *scale = 1.0 / fold(s, &sums);
    }
    scales
}
