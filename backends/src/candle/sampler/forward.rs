//! One chunk of rows through the decoder.

use super::attention::{Attend, Heads, Rope, Store, TOGETHER};
use super::cache::{Cache, Slot};
use super::geometry::Geometry;
use super::matmul::Matmul;
use super::simd::{Aligned, RmsNorm, SwiGlu};
use super::weights::SamplerWeights;
use crate::sampling::softmax::LANES;
use pulp::Arch;

/// One pending token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) token: u32,
    pub(super) position: u32,
    pub(super) slot: Slot,
    /// The request that draws from this row's logits, as an index of the engine's list.
    pub(super) draws: Option<u32>,
}

/// Buffers of a chunk, and how to run it.
#[derive(Debug)]
pub(super) struct Forward {
    arch: Arch,
    rope: Rope,
    x: Aligned,
    h: Aligned,
    qkv: Aligned,
    attended: Aligned,
    gate_up: Aligned,
    gated: Aligned,
    scores: Aligned,
    logits: Aligned,
}

/// Floats of logits held at once: 4 MiB, so that a large vocabulary does not outgrow the cache.
const LOGITS: usize = 1 << 20;

impl Forward {
    pub(super) fn new(g: &Geometry, window: usize, chunk_rows: usize) -> Self {
        let rows = |stride: usize| Aligned::zeroed(chunk_rows * stride);
        Self {
            arch: Arch::new(),
            rope: Rope::new(g, window),
            x: rows(g.hidden_stride()),
            h: rows(g.hidden_stride()),
            qkv: rows(g.qkv_stride()),
            attended: rows(g.heads_stride()),
            gate_up: rows(2 * g.ff_stride()),
            gated: rows(g.ff_stride()),
            scores: Aligned::zeroed(TOGETHER * window.next_multiple_of(LANES)),
            logits: Aligned::default(),
        }
    }

    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    #[cfg(test)]
    pub(super) fn force(&mut self, arch: Arch) {
        self.arch = arch;
    }

    /// Runs `rows` (at most the chunk size given at construction), leaving in `rows` those that draw, in order.
    /// Keys and values of all of them are in the cache afterwards.
    pub(super) fn run(&mut self, weights: &SamplerWeights, cache: &mut Cache, rows: &mut Vec<Row>) {
        let g = &weights.geometry;
        let arch = self.arch;
        let hidden = g.hidden_stride();
        for (row, x) in rows.iter().zip(self.x.chunks_exact_mut(hidden)) {
            x.copy_from_slice(&weights.embedding[row.token as usize * hidden..][..hidden]);
        }
        let eps = g.rms_eps as f32;
        let heads = Heads {
            heads: g.heads,
            kv_heads: g.kv_heads,
            dim: g.head_dim,
            stride: g.head_stride(),
            qkv_stride: g.qkv_stride(),
            eps,
        };
        for (layer, w) in weights.layers.iter().enumerate() {
            let norm = |x: &[f32], weight: &[f32], out: &mut [f32], n: usize| {
                let (x, out) = (&x[..n * hidden], &mut out[..n * hidden]);
                arch.dispatch(RmsNorm {
                    x,
                    weight,
                    width: g.hidden,
                    eps,
                    out,
                });
            };
            let n = rows.len();
            norm(&self.x, &w.input_norm, &mut self.h, n);
            arch.dispatch(Matmul {
                x: &self.h,
                stride_x: hidden,
                rows: n,
                w: &w.qkv,
                y: &mut self.qkv,
                add: false,
            });
            let qkv = &mut self.qkv[..n * g.qkv_stride()];
            arch.dispatch(Store {
                qkv,
                rows,
                heads,
                weights: w,
                layer,
                rope: &self.rope,
                cache,
            });
            if layer + 1 == g.layers {
                // Nothing attends to the last layer's outputs but the logits: the other rows have done their duty.
                self.keep_drawing(rows, hidden, g.qkv_stride());
            }
            let n = rows.len();
            if n == 0 {
                return;
            }
            let (qkv, scores) = (&self.qkv[..], &mut self.scores[..]);
            arch.dispatch(Attend {
                qkv,
                rows,
                heads,
                layer,
                cache,
                scores,
                out: &mut self.attended,
            });
            let (x, stride_x) = (&self.attended[..], g.heads_stride());
            arch.dispatch(Matmul {
                x,
                stride_x,
                rows: n,
                w: &w.o,
                y: &mut self.x,
                add: true,
            });
            norm(&self.x, &w.post_norm, &mut self.h, n);
            let y = &mut self.gate_up[..];
            arch.dispatch(Matmul {
                x: &self.h,
                stride_x: hidden,
                rows: n,
                w: &w.gate_up,
                y,
                add: false,
            });
            let (gate_up, stride) = (&self.gate_up[..n * 2 * g.ff_stride()], g.ff_stride());
            arch.dispatch(SwiGlu {
                gate_up,
                out: &mut self.gated,
                stride,
            });
            let (x, stride_x) = (&self.gated[..], g.ff_stride());
            arch.dispatch(Matmul {
                x,
                stride_x,
                rows: n,
                w: &w.down,
                y: &mut self.x,
                add: true,
            });
        }
        let (x, out) = (&self.x[..rows.len() * hidden], &mut self.h[..]);
        arch.dispatch(RmsNorm {
            x,
            weight: &weights.norm,
            width: g.hidden,
            eps,
            out,
        });
    }

    /// Logits of `rows` of the rows that [`run`](Self::run) left, from `first` on: row after row, and their stride.
    pub(super) fn logits(&mut self, weights: &SamplerWeights, first: usize, rows: usize) -> (&mut [f32], usize) {
        let stride = weights.head.stride();
        self.logits.reserve(rows * stride);
        let stride_x = weights.geometry.hidden_stride();
        let x = &self.h[first * stride_x..];
        self.arch.dispatch(Matmul {
            x,
            stride_x,
            rows,
            w: &weights.head,
            y: &mut self.logits,
            add: false,
        });
        (&mut self.logits[..rows * stride], stride)
    }

    /// Rows of logits to ask for at once.
    pub(super) fn logit_rows(weights: &SamplerWeights) -> usize {
        (LOGITS / weights.head.stride()).max(8)
    }

    fn keep_drawing(&mut self, rows: &mut Vec<Row>, hidden: usize, qkv: usize) {
        let mut kept = 0;
        for row in 0..rows.len() {
            if rows[row].draws.is_none() {
                continue;
            }
            if kept != row {
                self.x.copy_within(row * hidden..(row + 1) * hidden, kept * hidden);
                self.qkv.copy_within(row * qkv..(row + 1) * qkv, kept * qkv);
                rows[kept] = rows[row];
            }
            kept += 1;
        }
        rows.truncate(kept);
    }
}
