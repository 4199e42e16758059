//! The projection kernel: rows times packed weights, each output summed in one fixed order.

use super::simd::{Aligned, PANEL};
use pulp::{Simd, WithSimd};

/// A weight matrix as panels: `[panel][depth][32]`, outputs beyond the last padded with zeros.
#[derive(Debug)]
pub(super) struct Panels {
    pub(super) depth: usize,
    pub(super) panels: usize,
    data: Aligned,
}

impl Panels {
    /// Packs `columns` outputs; `row(column)` is the weight row of one output, `depth` long, or nothing for padding.
    pub(super) fn pack<'a>(depth: usize, columns: usize, row: impl Fn(usize) -> Option<&'a [f32]>) -> Self {
        let panels = columns.div_ceil(PANEL);
        let mut data = Aligned::zeroed(panels * depth * PANEL);
        for (p, panel) in data.chunks_exact_mut((depth * PANEL).max(1)).enumerate() {
            for c in 0..PANEL.min(columns - p * PANEL) {
                let Some(weights) = row(p * PANEL + c) else { continue };
                for (k, weight) in weights.iter().enumerate() {
                    panel[k * PANEL + c] = *weight;
                }
            }
        }
        Self { depth, panels, data }
    }

    /// Outputs, padding included: the row stride of what [`Matmul`] writes.
    pub(super) fn stride(&self) -> usize {
        self.panels * PANEL
    }

    #[inline(always)]
    fn panel(&self, index: usize) -> &[[f32; PANEL]] {
        &self.data.as_chunks::<PANEL>().0[index * self.depth..][..self.depth]
    }
}

/// `y = x w` or, with `add`, `y += x w`. Rows of `x` lie `stride_x` apart, those of `y` [`Panels::stride`].
///
/// Output `(row, column)` is `fma(x[k], w[k], sum)` for `k` from 0 up, whatever the number of rows and wherever the row stands.
pub(super) struct Matmul<'a> {
    pub(super) x: &'a [f32],
    pub(super) stride_x: usize,
    pub(super) rows: usize,
    pub(super) w: &'a Panels,
    pub(super) y: &'a mut [f32],
    pub(super) add: bool,
}

impl WithSimd for Matmul<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        if self.w.depth == 0 {
            return;
        }
        // Rows per block: as many as accumulators fit beside the weights and the broadcast.
        if S::REGISTER_COUNT >= 32 {
            let whole = self.rows - self.rows % 8;
            self.blocks::<S, 8, 1>(s, 0, whole);
            match self.rows % 8 {
                1 => self.blocks::<S, 1, 4>(s, whole, 1),
                2 => self.blocks::<S, 2, 4>(s, whole, 2),
                3 => self.blocks::<S, 3, 2>(s, whole, 3),
                4 => self.blocks::<S, 4, 2>(s, whole, 4),
                5 => self.blocks::<S, 5, 2>(s, whole, 5),
                6 => self.blocks::<S, 6, 2>(s, whole, 6),
                7 => self.blocks::<S, 7, 1>(s, whole, 7),
                _ => {}
            }
        } else {
            let whole = self.rows - self.rows % 4;
            self.blocks::<S, 4, 1>(s, 0, whole);
            match self.rows % 4 {
                1 => self.blocks::<S, 1, 4>(s, whole, 1),
                2 => self.blocks::<S, 2, 2>(s, whole, 2),
                3 => self.blocks::<S, 3, 1>(s, whole, 3),
                _ => {}
            }
        }
    }
}

impl Matmul<'_> {
    /// `rows` rows from `first` in blocks of `R`, `P` panels at a time (more chains in flight when rows are few).
    #[inline(always)]
    fn blocks<S: Simd, const R: usize, const P: usize>(&mut self, s: S, first: usize, rows: usize) {
        if rows == 0 {
            return;
        }
        let mut panel = 0;
        while panel + P <= self.w.panels {
            for row in (first..first + rows).step_by(R) {
                self.tile::<S, R, P>(s, row, panel);
            }
            panel += P;
        }
        while panel < self.w.panels {
            for row in (first..first + rows).step_by(R) {
                self.tile::<S, R, 1>(s, row, panel);
            }
            panel += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(&mut self, s: S, row: usize, panel: usize) {
        let depth = self.w.depth;
        // Loops, not `array::from_fn`: what is not inlined loses the instruction set.
        let mut x: [&[f32]; R] = [&[]; R];
        for (r, x) in x.iter_mut().enumerate() {
            *x = &self.x[(row + r) * self.stride_x..][..depth];
        }
        let mut w: [&[[f32; PANEL]]; P] = [&[]; P];
        for (p, w) in w.iter_mut().enumerate() {
            *w = &self.w.panel(panel + p)[..depth];
        }
        let stride_y = self.w.stride();
        for pair in 0..PANEL / (2 * S::F32_LANES) {
            let mut acc = [[[s.splat_f32s(0.0); 2]; P]; R];
            for k in 0..depth {
                let mut weights = [[s.splat_f32s(0.0); 2]; P];
                for p in 0..P {
                    let lanes = S::as_simd_f32s(&w[p][k]).0;
                    weights[p] = [lanes[2 * pair], lanes[2 * pair + 1]];
                }
                for r in 0..R {
                    let x = s.splat_f32s(x[r][k]);
                    for p in 0..P {
                        for c in 0..2 {
                            acc[r][p][c] = s.mul_add_e_f32s(x, weights[p][c], acc[r][p][c]);
                        }
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                for (p, acc) in acc.iter().enumerate() {
                    let y = &mut self.y[(row + r) * stride_y + (panel + p) * PANEL..][..PANEL];
                    let y = S::as_mut_simd_f32s(y).0;
                    for (y, &sum) in y[2 * pair..].iter_mut().zip(acc) {
                        *y = if self.add { s.add_f32s(*y, sum) } else { sum };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, salt: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0)
            .collect()
    }

    #[test]
    fn every_row_count_gives_the_same_bits() {
        for (depth, columns) in [(1, 1), (7, 33), (64, 113), (20, 256)] {
            let weights = noise(depth * columns, 1);
            let w = Panels::pack(depth, columns, |c| Some(&weights[c * depth..][..depth]));
            let stride_x = depth + 3;
            let x = noise(stride_x * 37, 2);
            let run = |rows: std::ops::Range<usize>| {
                let mut y = vec![0.5; rows.len() * w.stride()];
                let x = &x[rows.start * stride_x..];
                pulp::Arch::new().dispatch(Matmul {
                    x,
                    stride_x,
                    rows: rows.len(),
                    w: &w,
                    y: &mut y,
                    add: true,
                });
                y
            };
            let all = run(0..37);
            for rows in 1..20 {
                let start = 37 - rows;
                assert_eq!(run(start..37), &all[start * w.stride()..], "{rows} rows, depth {depth}");
            }
            for (row, y) in all.chunks_exact(w.stride()).enumerate() {
                for (c, &y) in y.iter().take(columns).enumerate() {
                    let exact: f64 = (0..depth)
                        .map(|k| f64::from(x[row * stride_x + k]) * f64::from(weights[c * depth + k]))
                        .sum();
                    assert!((f64::from(y) - 0.5 - exact).abs() < 1e-5);
                }
            }
        }
    }
}
