//! What lets plain loops run as wide as the machine allows: dispatch at run time, lane-wise sums, a polynomial exponential.

/// Lanes of the explicit accumulators: one AVX-512 register, two of AVX2, four of NEON.
pub(crate) const LANES: usize = 16;

/// Rounds up to a whole number of lanes.
pub(crate) const fn padded(count: usize) -> usize {
    count.next_multiple_of(LANES)
}

/// Defines a function whose body is compiled for every instruction set that `pulp` knows, and picks one at each call.
/// What the body calls must be `#[inline(always)]`, or it falls back to the baseline.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<'a>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<'a>($($arg: $type),*) {
            struct Kernel<'a> {
                $($arg: $type),*
            }
            impl<'a> pulp::WithSimd for Kernel<'a> {
                type Output = ();

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _simd: S) {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Kernel { $($arg),* });
        }
    };
}
pub(crate) use simd_fn;

/// e^x to about 2 units in the last place; 0 below -87, and e^88 above 88. NaN stays NaN.
///
/// Cephes' `expf`: x = n ln 2 + r with ln 2 in two parts, a polynomial of degree 6 in r, then n added to the exponent's bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 x 2^23 rounds to an integer, which then stands in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, clamped);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut y = 1.987_569_1e-4_f32;
    y = y.mul_add(r, 1.398_199_9e-3);
    y = y.mul_add(r, 8.333_452e-3);
    y = y.mul_add(r, 4.166_579_6e-2);
    y = y.mul_add(r, 1.666_666_5e-1);
    y = y.mul_add(r, 0.5);
    y = y.mul_add(r * r, r) + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < -87.0 { 0.0 } else { y * scale }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Sum of the lanes, in halves.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest of the lanes.
#[inline(always)]
pub(crate) fn max_lanes(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = if lanes[lane] > lanes[lane + width] {
                lanes[lane]
            } else {
                lanes[lane + width]
            };
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of products.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    let mut sum = sum_lanes(lanes);
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum = a.mul_add(*b, sum);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_a_few_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for step in 0..400_000 {
            let x = -86.9 + step as f32 * (174.0 / 400_000.0);
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - truth).abs() / truth);
        }
        assert!(worst < 3e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::INFINITY).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn dot_takes_every_element_once() {
        for length in [0, 1, 15, 16, 17, 50] {
            let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
            assert_eq!(dot(&a, &vec![1.0; length]), a.iter().sum::<f32>());
        }
    }
}
