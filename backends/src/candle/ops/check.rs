//! Yardsticks of the op tests: Candle's own gradients of a composite, and central differences.

use candle_core::{Device, Result, Tensor, Var};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Uniform numbers in -1..1.
pub(crate) fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..count)
        .map(|_| (rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        .collect()
}

pub(crate) fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Value of `f(inputs)` and the gradient of `sum(f * upstream)` with respect to every input, by Candle.
pub(crate) fn gradients(
    inputs: &[Tensor],
    upstream: &[f32],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let leaves: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let output = f(&leaves).unwrap();
    let upstream = tensor(upstream, output.dims());
    let grads = (&output * upstream).unwrap().sum_all().unwrap().backward().unwrap();
    let grads = vars
        .iter()
        .map(|var| values(grads.get(var).expect("every input has a gradient")))
        .collect();
    (values(&output), grads)
}

/// Largest difference is below `tolerance` relative to the largest expected magnitude (at least 1).
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0_f32, |scale, x| scale.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs() / scale;
        assert!(
            difference <= tolerance,
            "element {index}: {found} and {expected}, relative {difference:e}"
        );
    }
}

/// Compares `gradient` of the scalar `f` at `x` with central differences at a few coordinates spread over `x`.
#[track_caller]
pub(crate) fn assert_finite_difference(x: &[f32], gradient: &[f32], mut f: impl FnMut(&[f32]) -> f64, tolerance: f64) {
    assert_eq!(x.len(), gradient.len());
    let step = (x.len() / 12).max(1);
    let scale = gradient.iter().fold(1e-3_f64, |scale, g| scale.max(f64::from(g.abs())));
    for index in (0..x.len()).step_by(step) {
        let mut moved = x.to_vec();
        let h = 5e-3_f32;
        moved[index] = x[index] + h;
        let up = f(&moved);
        let width = f64::from(moved[index]);
        moved[index] = x[index] - h;
        let slope = (up - f(&moved)) / (width - f64::from(moved[index]));
        let difference = (slope - f64::from(gradient[index])).abs() / scale;
        assert!(
            difference < tolerance,
            "element {index}: slope {slope}, gradient {}",
            gradient[index]
        );
    }
}

/// Sum of products in double precision: the scalar that finite differences look at.
pub(crate) fn project(values: &[f32], upstream: &[f32]) -> f64 {
    values
        .iter()
        .zip(upstream)
        .map(|(value, up)| f64::from(*value) * f64::from(*up))
        .sum()
}
