//! Aligned buffers and the elementwise kernels. Each is a `WithSimd`, so that `pulp::Arch::dispatch` compiles it for every instruction set
//! and picks at run time; nothing here needs a target flag.

use crate::sampling::softmax::{LANES, exp, fold};
use pulp::{Simd, WithSimd};

/// Outputs per weight panel: two AVX-512 registers, four of AVX2, eight of NEON.
pub(super) const PANEL: usize = 32;

/// Floats that start on a cache line, so that no vector load straddles two.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(super) fn zeroed(len: usize) -> Self {
        let data = vec![0.0; len + 64 / size_of::<f32>()];
        let start = data.as_ptr().align_offset(64).min(64 / size_of::<f32>());
        Self { data, start, len }
    }

    /// Has the system hand over the memory now: until something is written there, it only promised it.
    pub(super) fn touch(&mut self) {
        const PAGE: usize = 4096 / size_of::<f32>();
        for first_of_page in self.data.iter_mut().step_by(PAGE) {
            // Opaque, or the compiler knows that it writes what is there already.
            *first_of_page = std::hint::black_box(*first_of_page);
        }
    }

    /// Room for at least `len` floats; contents are lost when it grows.
    pub(super) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeroed(len);
        }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// Machine registers per virtual vector of [`LANES`] floats.
#[inline(always)]
pub(super) const fn regs<S: Simd>() -> usize {
    LANES / S::F32_LANES
}

/// Sum of squares; the length is a multiple of [`LANES`].
#[inline(always)]
pub(super) fn square_sum<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = x.as_chunks::<LANES>().0;
    for part in 0..regs::<S>() {
        let mut acc = s.splat_f32s(0.0);
        for chunk in chunks {
            let x = S::as_simd_f32s(chunk).0[part];
            acc = s.mul_add_e_f32s(x, x, acc);
        }
        S::as_mut_simd_f32s(&mut lanes).0[part] = acc;
    }
    fold(s, &lanes)
}

/// RMSNorm of rows: `out = x / sqrt(mean(x^2) + eps) * weight`. Row strides are `weight.len()`; padding is zero.
pub(super) struct RmsNorm<'a> {
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) width: usize,
    pub(super) eps: f32,
    pub(super) out: &'a mut [f32],
}

impl WithSimd for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let stride = self.weight.len();
        let weight = S::as_simd_f32s(self.weight).0;
        for (x, out) in self.x.chunks_exact(stride).zip(self.out.chunks_exact_mut(stride)) {
            let scale = s.splat_f32s(1.0 / (square_sum(s, x) / self.width as f32 + self.eps).sqrt());
            let x = S::as_simd_f32s(x).0;
            for ((out, &x), &w) in S::as_mut_simd_f32s(out).0.iter_mut().zip(x).zip(weight) {
                *out = s.mul_f32s(s.mul_f32s(x, scale), w);
            }
        }
    }
}

/// `out = gate / (1 + e^-gate) * up` for rows that hold all gates, then all ups.
pub(super) struct SwiGlu<'a> {
    pub(super) gate_up: &'a [f32],
    pub(super) out: &'a mut [f32],
    pub(super) stride: usize,
}

impl WithSimd for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let one = s.splat_f32s(1.0);
        for (row, out) in self
            .gate_up
            .chunks_exact(2 * self.stride)
            .zip(self.out.chunks_exact_mut(self.stride))
        {
            let (gate, up) = row.split_at(self.stride);
            let (gate, up) = (S::as_simd_f32s(gate).0, S::as_simd_f32s(up).0);
            for ((out, &gate), &up) in S::as_mut_simd_f32s(out).0.iter_mut().zip(gate).zip(up) {
                let below = s.add_f32s(one, exp(s, s.neg_f32s(gate)));
                *out = s.mul_f32s(s.div_f32s(gate, below), up);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn instruction_sets_agree() {
        let x: Vec<f32> = (0..96).map(|i| (i as f32 * 0.37).sin()).collect();
        let weight = vec![1.5; 48];
        let norm = |out: &mut [f32], go: &dyn Fn(RmsNorm<'_>)| {
            go(RmsNorm {
                x: &x,
                weight: &weight,
                width: 45,
                eps: 1e-6,
                out,
            });
            go(RmsNorm {
                x: &x,
                weight: &weight,
                width: 48,
                eps: 1e-6,
                out: &mut out[48..],
            });
        };
        let (mut wide, mut narrow) = (vec![0.0; 144], vec![0.0; 144]);
        if let (Some(v3), Some(v4)) = (pulp::x86::V3::try_new(), pulp::x86::V4::try_new()) {
            norm(&mut wide, &|op| Simd::vectorize(v4, op));
            norm(&mut narrow, &|op| Simd::vectorize(v3, op));
            assert_eq!(wide, narrow);
        }
    }

    #[test]
    fn buffers_start_on_a_cache_line() {
        for len in [0, 1, 17, 4096] {
            let buffer = Aligned::zeroed(len);
            assert_eq!((buffer.as_ptr() as usize % 64, buffer.len()), (0, len));
        }
    }
}
