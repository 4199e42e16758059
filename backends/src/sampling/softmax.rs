//! The softmax of a row of logits. It is a `WithSimd`, so that `pulp::Arch::dispatch` compiles it for every instruction set and picks at run
//! time; nothing here needs a target flag.

use pulp::{Simd, WithSimd};

/// Virtual lanes of every horizontal sum, whatever the machine's own width; also positions per block of the Candle sampler's cache.
pub(crate) const LANES: usize = 16;

/// Sum over the virtual lanes by halving: 8 and 8, 4 and 4, 2 and 2, 1 and 1. AVX2 and AVX-512 give the same bits.
#[inline(always)]
pub(crate) fn fold<S: Simd>(s: S, lanes: &[f32; LANES]) -> f32 {
    let x = S::as_simd_f32s(lanes).0;
    match S::F32_LANES {
        16 => s.reduce_sum_f32s(x[0]),
        8 => s.reduce_sum_f32s(s.add_f32s(x[0], x[1])),
        4 => s.reduce_sum_f32s(s.add_f32s(s.add_f32s(x[0], x[2]), s.add_f32s(x[1], x[3]))),
        _ => fold_scalar(*lanes),
    }
}

/// As [`fold`], lane by lane.
#[inline(always)]
pub(crate) fn fold_scalar(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// Where [`exp`] stops: just above the smallest normal number, e^-87.3.
const EXP_LOW: f32 = -87.0;

/// e^x within 2 ulp for -87 <= x <= 88, clamped beyond. NaN stays NaN, so that broken weights are noticed.
///
/// Range reduction to |r| <= ln 2 / 2 and the degree-5 polynomial of Cephes `expf` (S. Moshier), its second coefficient rounded to 1/2.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let (low, high) = (s.splat_f32s(EXP_LOW), s.splat_f32s(88.0));
    let x = s.select_f32s(s.less_than_f32s(x, low), low, x);
    let x = s.select_f32s(s.less_than_f32s(high, x), high, x);
    // Adding 1.5 * 2^23 rounds to an integer, which is then found in the low bits.
    let magic = s.splat_f32s(12_582_912.0);
    let shifted = s.mul_add_e_f32s(x, s.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = s.sub_f32s(shifted, magic);
    let r = s.mul_add_e_f32s(n, s.splat_f32s(-0.693_359_4), x);
    let r = s.mul_add_e_f32s(n, s.splat_f32s(2.121_944_4e-4), r);
    let mut p = s.splat_f32s(1.987_569_1e-4);
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.mul_add_e_f32s(p, r, s.splat_f32s(c));
    }
    let p = s.mul_add_e_f32s(p, s.mul_f32s(r, r), s.add_f32s(r, s.splat_f32s(1.0)));
    let exponent = s.add_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(127));
    let scale = s.transmute_f32s_u32s(s.wrapping_dyn_shl_u32s(exponent, s.splat_u32s(23)));
    s.mul_f32s(p, scale)
}

/// `x = e^((x - max) / temperature)` in place, exactly 0 below e^-87; the length is a multiple of [`LANES`]. Returns the sum.
pub(crate) struct Softmax<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) max: f32,
    pub(crate) temperature: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> f64 {
        let (max, temperature) = (s.splat_f32s(self.max), s.splat_f32s(self.temperature));
        let (low, zero) = (s.splat_f32s(EXP_LOW), s.splat_f32s(0.0));
        let mut sum = 0.0;
        for chunk in self.x.as_chunks_mut::<LANES>().0 {
            for x in S::as_mut_simd_f32s(chunk).0 {
                let z = s.div_f32s(s.sub_f32s(*x, max), temperature);
                *x = s.select_f32s(s.less_than_f32s(z, low), zero, exp(s, z));
            }
            sum += f64::from(fold(s, chunk));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        let mut x: Vec<f32> = (0..64_000).map(|i| -87.0 + i as f32 * (175.0 / 64_000.0)).collect();
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x).exp()).collect();
        pulp::Arch::new().dispatch(Softmax {
            x: &mut x,
            max: 0.0,
            temperature: 1.0,
        });
        for (got, want) in x.iter().zip(exact) {
            let error = (f64::from(*got) - want).abs() / want;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "{got} for {want}");
        }
    }

    #[test]
    fn exp_clamps_and_keeps_nan() {
        let mut x = [0.0; LANES];
        (x[0], x[1], x[2], x[3]) = (f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30);
        pulp::Arch::new().dispatch(Softmax {
            x: &mut x,
            max: 0.0,
            temperature: 1.0,
        });
        assert!(x[0] == 0.0 && x[1].is_finite() && x[2].is_nan() && x[3] == 0.0);
        assert_eq!(x[4], 1.0);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn instruction_sets_agree() {
        fn softmax(x: &mut [f32]) -> Softmax<'_> {
            Softmax {
                x,
                max: 1.5,
                temperature: 0.3,
            }
        }
        let x: Vec<f32> = (0..144).map(|i| (i as f32 * 0.37).sin()).collect();
        let (mut wide, mut narrow) = (x.clone(), x);
        if let (Some(v3), Some(v4)) = (pulp::x86::V3::try_new(), pulp::x86::V4::try_new()) {
            let sums = (
                Simd::vectorize(v4, softmax(&mut wide)),
                Simd::vectorize(v3, softmax(&mut narrow)),
            );
            assert_eq!(sums.0, sums.1);
            assert_eq!(wide, narrow);
        }
    }
}
