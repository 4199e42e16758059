//! Attention of a flat step over the paged cache, in place.

use super::cache::{Cache, Layout};
use super::forward::Row;
use super::simd::{LANES, Wide, exp, fold_sum, regs, rms_scale};
use super::weights::Layer;
use pulp::{Simd, WithSimd};

/// Sines and cosines of every position of the window, `[position][head_dim / 2]`.
#[derive(Debug)]
pub(super) struct Rope {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    pub(super) fn new(head_dim: usize, theta: f64, window: usize) -> Self {
        let half = head_dim / 2;
        let angles = (0..window).flat_map(|position| {
            (0..half).map(move |i| position as f64 * theta.powf(-((2 * i) as f64) / head_dim as f64))
        });
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { half, cos, sin }
    }

    /// Turns dimension pairs `(i, i + half)`, the NEOX layout.
    #[inline(always)]
    fn turn(&self, x: &mut [f32], position: usize) {
        let cos = &self.cos[position * self.half..][..self.half];
        let sin = &self.sin[position * self.half..][..self.half];
        let (low, high) = x.split_at_mut(self.half);
        let high = &mut high[..self.half];
        let (low8, low_rest) = low.as_chunks_mut::<8>();
        let (high8, high_rest) = high.as_chunks_mut::<8>();
        let (cos8, cos_rest) = cos.as_chunks::<8>();
        let (sin8, sin_rest) = sin.as_chunks::<8>();
        for (((low, high), cos), sin) in low8.iter_mut().zip(high8).zip(cos8).zip(sin8) {
            turn(low, high, cos, sin);
        }
        turn(low_rest, high_rest, cos_rest, sin_rest);
    }
}

#[inline(always)]
fn turn(low: &mut [f32], high: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (a, b) = (*low, *high);
        *low = a * cos - b * sin;
        *high = b * cos + a * sin;
    }
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
        for (row, qkv) in rows.iter().zip(qkv.chunks_exact_mut(h.qkv_stride)) {
            let position = row.position as usize;
            let (q, rest) = qkv.split_at_mut(h.heads * h.stride);
            let (k, v) = rest.split_at_mut(h.kv_heads * h.stride);
            for (x, norm) in q
                .chunks_exact_mut(h.stride)
                .map(|q| (q, &weights.q_norm))
                .chain(k.chunks_exact_mut(h.stride).map(|k| (k, &weights.k_norm)))
            {
                let scale = s.splat_f32s(rms_scale(s, x, h.dim, h.eps));
                for (x, &w) in S::as_mut_simd_f32s(x).0.iter_mut().zip(S::as_simd_f32s(norm).0) {
                    *x = s.mul_f32s(s.mul_f32s(*x, scale), w);
                }
                rope.turn(x, position);
            }
            let block = cache.blocks(row.slot)[position / LANES];
            let lane = position % LANES;
            let Layout { keys, .. } = cache.layout;
            for (head, (k, v)) in k.chunks_exact(h.stride).zip(v.chunks_exact(h.stride)).enumerate() {
                let at = cache.layout.key(block, layer, head);
                for (line, k) in cache.arena[at..][..keys].as_chunks_mut::<LANES>().0.iter_mut().zip(k) {
                    line[lane] = *k;
                }
                let at = cache.layout.value(block, layer, head) + lane * h.stride;
                cache.arena[at..][..h.stride].copy_from_slice(v);
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
    /// Room for the longest context, rounded up to [`LANES`].
    pub(super) scores: &'a mut [f32],
    pub(super) out: &'a mut [f32],
}

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
        let group = h.heads / h.kv_heads;
        let rows_out = out.chunks_exact_mut(h.heads * h.stride);
        for ((row, qkv), out) in rows.iter().zip(qkv.chunks_exact(h.qkv_stride)).zip(rows_out) {
            let len = row.position as usize + 1;
            let blocks = &cache.blocks(row.slot)[..len.div_ceil(LANES)];
            let heads = qkv
                .chunks_exact(h.stride)
                .zip(out.chunks_exact_mut(h.stride))
                .take(h.heads)
                .enumerate();
            for (head, (q, out)) in heads {
                let head = Head {
                    q: &q[..h.dim],
                    blocks,
                    len,
                    layer,
                    head: head / group,
                    cache,
                };
                let scores = &mut scores[..blocks.len() * LANES];
                let max = head.scores(s, scores);
                let sum = softmax(s, scores, max);
                head.values(s, scores, 1.0 / sum, out);
            }
        }
    }
}

/// One query head of one row.
struct Head<'a> {
    q: &'a [f32],
    blocks: &'a [u32],
    len: usize,
    layer: usize,
    head: usize,
    cache: &'a Cache,
}

impl Head<'_> {
    /// Products with every key, minus infinity beyond the end; the largest.
    #[inline(always)]
    fn scores<S: Simd>(&self, s: S, scores: &mut [f32]) -> f32 {
        let Layout { keys, .. } = self.cache.layout;
        for (scores, &block) in scores.as_chunks_mut::<LANES>().0.iter_mut().zip(self.blocks) {
            let keys = &self.cache.arena[self.cache.layout.key(block, self.layer, self.head)..][..keys];
            let mut acc: Wide<S> = [s.splat_f32s(0.0); LANES];
            for (&q, line) in self.q.iter().zip(keys.as_chunks::<LANES>().0) {
                let (q, line) = (s.splat_f32s(q), S::as_simd_f32s(line).0);
                for i in 0..regs::<S>() {
                    acc[i] = s.mul_add_e_f32s(q, line[i], acc[i]);
                }
            }
            S::as_mut_simd_f32s(scores).0.copy_from_slice(&acc[..regs::<S>()]);
        }
        scores[self.len..].fill(f32::NEG_INFINITY);
        let mut max: Wide<S> = [s.splat_f32s(f32::NEG_INFINITY); LANES];
        for scores in scores.as_chunks::<LANES>().0 {
            for i in 0..regs::<S>() {
                max[i] = s.max_f32s(max[i], S::as_simd_f32s(scores).0[i]);
            }
        }
        max[..regs::<S>()]
            .iter()
            .fold(f32::NEG_INFINITY, |max, lanes| max.max(s.reduce_max_f32s(*lanes)))
    }

    /// The weighted sum of the values, position by position.
    #[inline(always)]
    fn values<S: Simd>(&self, s: S, weights: &[f32], scale: f32, out: &mut [f32]) {
        let Layout { values, .. } = self.cache.layout;
        let stride = out.len();
        for (d, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut acc: Wide<S> = [s.splat_f32s(0.0); LANES];
            for (weights, &block) in weights[..self.len].chunks(LANES).zip(self.blocks) {
                let values = &self.cache.arena[self.cache.layout.value(block, self.layer, self.head)..][..values];
                for (&weight, value) in weights.iter().zip(values.chunks_exact(stride)) {
                    let weight = s.splat_f32s(weight);
                    let value = S::as_simd_f32s(&value[d * LANES..][..LANES]).0;
                    for i in 0..regs::<S>() {
                        acc[i] = s.mul_add_e_f32s(weight, value[i], acc[i]);
                    }
                }
            }
            let scale = s.splat_f32s(scale);
            for (out, acc) in S::as_mut_simd_f32s(out).0.iter_mut().zip(acc) {
                *out = s.mul_f32s(acc, scale);
            }
        }
    }
}

/// `e^(x - max)` in place; the sum.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32], max: f32) -> f32 {
    let max = s.splat_f32s(max);
    let mut sum: Wide<S> = [s.splat_f32s(0.0); LANES];
    for scores in scores.as_chunks_mut::<LANES>().0 {
        let scores = S::as_mut_simd_f32s(scores).0;
        for i in 0..regs::<S>() {
            scores[i] = exp(s, s.sub_f32s(scores[i], max));
            sum[i] = s.add_f32s(sum[i], scores[i]);
        }
    }
    fold_sum::<S>(&sum)
}
