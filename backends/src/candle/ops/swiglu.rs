//! SwiGLU: `y = silu(gate) * up`, where gate and up lie side by side in one row.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::Team;
use super::simd::{LANES, sigmoid, simd_fn};

/// `gate_up [n, 2 f]` -> `y [n, f]`.
pub(crate) fn forward(team: Team, gate_up: &[f32], f: usize, y: &mut [f32]) {
    if team.is_serial() {
        return forward_rows(gate_up, f, y);
    }
    y.par_chunks_mut(Team::ROWS * f)
        .zip(gate_up.par_chunks(Team::ROWS * 2 * f))
        .for_each(|(y, gate_up)| forward_rows(gate_up, f, y));
}

/// Replaces `gate_up` by its gradient and `dy [n, f]` by the forward result, which the gradient of the next matrix needs: computing
/// it again here costs one product, keeping it would cost a third of the layer's memory.
pub(crate) fn backward(team: Team, gate_up: &mut [f32], f: usize, dy: &mut [f32]) {
    if team.is_serial() {
        return backward_rows(gate_up, f, dy);
    }
    dy.par_chunks_mut(Team::ROWS * f)
        .zip(gate_up.par_chunks_mut(Team::ROWS * 2 * f))
        .for_each(|(dy, gate_up)| backward_rows(gate_up, f, dy));
}

/// The same from Candle's operations.
pub(crate) fn composite(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

simd_fn! {
    fn forward_rows<'a>(gate_up: &'a [f32], f: usize, y: &'a mut [f32]) {
        for (row, y) in gate_up.chunks_exact(2 * f).zip(y.chunks_exact_mut(f)) {
            let (gate, up) = row.split_at(f);
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * sigmoid(*gate) * up;
            }
        }
    }
}

simd_fn! {
    fn backward_rows<'a>(gate_up: &'a mut [f32], f: usize, dy: &'a mut [f32]) {
        for (row, dy) in gate_up.chunks_exact_mut(2 * f).zip(dy.chunks_exact_mut(f)) {
            let (gate, up) = row.split_at_mut(f);
            let (gates, gate_rest) = gate.as_chunks_mut::<LANES>();
            let (ups, up_rest) = up.as_chunks_mut::<LANES>();
            let (dys, dy_rest) = dy.as_chunks_mut::<LANES>();
            for ((gate, up), dy) in gates.iter_mut().zip(ups).zip(dys) {
                (*gate, *up, *dy) = slopes(*gate, *up, *dy);
            }
            for ((gate, up), dy) in gate_rest.iter_mut().zip(up_rest).zip(dy_rest) {
                ([*gate], [*up], [*dy]) = slopes([*gate], [*up], [*dy]);
            }
        }
    }
}

/// Gradients of gate and up, and the forward result. Whole arrays in and out: the compiler cannot tell that three slices written to
/// lie apart, and would go one by one.
#[inline(always)]
fn slopes<const N: usize>(gate: [f32; N], up: [f32; N], dy: [f32; N]) -> ([f32; N], [f32; N], [f32; N]) {
    let (mut dgate, mut dup, mut y) = ([0.0; N], [0.0; N], [0.0; N]);
    for i in 0..N {
        let sigma = sigmoid(gate[i]);
        let silu = gate[i] * sigma;
        y[i] = silu * up[i];
        dup[i] = dy[i] * silu;
        dgate[i] = dy[i] * up[i] * sigma * (1.0 + gate[i] - silu);
    }
    (dgate, dup, y)
}

#[cfg(test)]
mod tests {
    use super::super::check::{assert_close, assert_finite_difference, gradients, project, random, tensor};
    use super::*;

    #[test]
    fn fused_equals_composite_and_finite_differences() {
        for (n, f, team) in [
            (5, 32, Team::SERIAL),
            (3, 7, Team::SERIAL),
            (150, 4, Team { threads: 2 }),
        ] {
            let gate_up: Vec<f32> = random(1, n * 2 * f).iter().map(|x| 4.0 * x).collect();
            let dy = random(2, n * f);
            let mut y = vec![0.0; n * f];
            forward(team, &gate_up, f, &mut y);
            let (mut grad, mut again) = (gate_up.clone(), dy.clone());
            backward(team, &mut grad, f, &mut again);
            let (value, grads) = gradients(&[tensor(&gate_up, &[n, 2 * f])], &dy, |t| {
                composite(&t[0].narrow(1, 0, f)?, &t[0].narrow(1, f, f)?)
            });
            assert_close(&y, &value, 1e-5);
            assert_close(&again, &value, 1e-5);
            assert_close(&grad, &grads[0], 1e-5);
            let project = |x: &[f32]| {
                let mut y = vec![0.0; n * f];
                forward(Team::SERIAL, x, f, &mut y);
                project(&y, &dy)
            };
            assert_finite_difference(&gate_up, &grad, project, 2e-3);
        }
    }
}
