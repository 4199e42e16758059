//! RMSNorm: `y = x / sqrt(mean(x^2) + eps) * w`, over rows.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::Team;
use super::simd::{dot, simd_fn};

/// `x [n, h]`, `w [h]` -> `y [n, h]`, and the reciprocal root of every row in `inv [n]` for the way back.
pub(crate) fn forward(team: Team, x: &[f32], w: &[f32], eps: f32, y: &mut [f32], inv: &mut [f32]) {
    if team.is_serial() {
        return forward_rows(x, w, eps, y, inv);
    }
    let chunk = Team::ROWS * w.len();
    y.par_chunks_mut(chunk)
        .zip(inv.par_chunks_mut(Team::ROWS))
        .zip(x.par_chunks(chunk))
        .for_each(|((y, inv), x)| forward_rows(x, w, eps, y, inv));
}

/// Adds the gradient of [`forward`] to `dx [n, h]` and `dw [h]`.
pub(crate) fn backward(team: Team, dy: &[f32], x: &[f32], inv: &[f32], w: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    if team.is_serial() {
        return backward_rows(dy, x, inv, w, dx, dw);
    }
    let chunk = Team::ROWS * w.len();
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(chunk)
        .zip(dy.par_chunks(chunk))
        .zip(x.par_chunks(chunk).zip(inv.par_chunks(Team::ROWS)))
        .map(|((dx, dy), (x, inv))| {
            let mut dw = vec![0.0; w.len()];
            backward_rows(dy, x, inv, w, dx, &mut dw);
            dw
        })
        .collect();
    for partial in partial {
        dw.iter_mut().zip(partial).for_each(|(sum, part)| *sum += part);
    }
}

/// The same from Candle's operations.
pub(crate) fn composite(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + eps)?.sqrt()?)?.broadcast_mul(w)
}

simd_fn! {
    fn forward_rows<'a>(x: &'a [f32], w: &'a [f32], eps: f32, y: &'a mut [f32], inv: &'a mut [f32]) {
        let h = w.len();
        for ((x, y), inv) in x.chunks_exact(h).zip(y.chunks_exact_mut(h)).zip(inv) {
            *inv = 1.0 / (dot(x, x) / h as f32 + eps).sqrt();
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * *inv * w;
            }
        }
    }
}

simd_fn! {
    fn backward_rows<'a>(
        dy: &'a [f32], x: &'a [f32], inv: &'a [f32], w: &'a [f32], dx: &'a mut [f32], dw: &'a mut [f32],
    ) {
        let h = w.len();
        let mut scaled = vec![0.0; h];
        for (((dy, x), inv), dx) in dy.chunks_exact(h).zip(x.chunks_exact(h)).zip(inv).zip(dx.chunks_exact_mut(h)) {
            for (((scaled, dy), w), (dw, x)) in scaled.iter_mut().zip(dy).zip(w).zip(dw.iter_mut().zip(x)) {
                *scaled = dy * w;
                *dw = (dy * inv).mul_add(*x, *dw);
            }
            let mean = dot(&scaled, x) * inv * inv / h as f32;
            for ((dx, scaled), x) in dx.iter_mut().zip(&scaled).zip(x) {
                *dx = inv.mul_add(x.mul_add(-mean, *scaled), *dx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{assert_close, assert_finite_difference, gradients, project, random, tensor};
    use super::*;

    const EPS: f32 = 1e-6;

    #[test]
    fn fused_equals_composite_and_finite_differences() {
        for (n, h, team) in [
            (5, 64, Team::SERIAL),
            (3, 19, Team::SERIAL),
            (200, 8, Team { threads: 2 }),
        ] {
            let (x, w, dy) = (random(1, n * h), random(2, h), random(3, n * h));
            let (mut y, mut inv) = (vec![0.0; n * h], vec![0.0; n]);
            forward(team, &x, &w, EPS, &mut y, &mut inv);
            let (mut dx, mut dw) = (vec![0.0; n * h], vec![0.0; h]);
            backward(team, &dy, &x, &inv, &w, &mut dx, &mut dw);
            let inputs = [tensor(&x, &[n, h]), tensor(&w, &[h])];
            let (value, grads) = gradients(&inputs, &dy, |t| composite(&t[0], &t[1], f64::from(EPS)));
            assert_close(&y, &value, 1e-5);
            assert_close(&dx, &grads[0], 1e-5);
            assert_close(&dw, &grads[1], 1e-5);
            let f = |x: &[f32], w: &[f32]| {
                let (mut y, mut inv) = (vec![0.0; n * h], vec![0.0; n]);
                forward(Team::SERIAL, x, w, EPS, &mut y, &mut inv);
                project(&y, &dy)
            };
            assert_finite_difference(&x, &dx, |x| f(x, &w), 2e-3);
            assert_finite_difference(&w, &dw, |w| f(&x, w), 2e-3);
        }
    }
}
