//! Matrix products over strided views of slices: the one place that hands raw pointers to `gemm`.

use super::Team;

/// Rows and columns inside a slice, each with a stride in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl Layout {
    /// Elements a slice must have for every index to fall inside.
    fn extent(self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        let last = (self.rows - 1)
            .checked_mul(self.row_stride)
            .zip((self.cols - 1).checked_mul(self.col_stride));
        last.and_then(|(row, col)| row.checked_add(col)?.checked_add(1))
            .expect("matrix extent overflows")
    }
}

/// A matrix to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    layout: Layout,
}

/// A matrix to write.
#[derive(Debug)]
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    layout: Layout,
}

impl<'a> Mat<'a> {
    /// `rows` x `cols`, one row every `stride` elements.
    ///
    /// # Panics
    /// `data` is too short.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        let layout = Layout {
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
        };
        assert!(
            layout.extent() <= data.len(),
            "matrix {rows} x {cols} outside {} elements",
            data.len()
        );
        Self { data, layout }
    }

    /// Rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        let Layout {
            rows,
            cols,
            row_stride,
            col_stride,
        } = self.layout;
        Self {
            data: self.data,
            layout: Layout {
                rows: cols,
                cols: rows,
                row_stride: col_stride,
                col_stride: row_stride,
            },
        }
    }
}

impl<'a> MatMut<'a> {
    /// `rows` x `cols`, one row every `stride` elements.
    ///
    /// # Panics
    /// `data` is too short, or rows overlap.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        let layout = Layout {
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
        };
        assert!(
            layout.extent() <= data.len(),
            "matrix {rows} x {cols} outside {} elements",
            data.len()
        );
        assert!(stride >= cols, "rows of a written matrix overlap");
        Self { data, layout }
    }
}

/// Whether a product replaces what was there or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Set,
    Add,
}

/// `dst = lhs rhs`, or `dst += lhs rhs`.
///
/// # Panics
/// Shapes disagree.
pub(crate) fn matmul(team: Team, dst: MatMut<'_>, store: Store, lhs: Mat<'_>, rhs: Mat<'_>) {
    let (d, l, r) = (dst.layout, lhs.layout, rhs.layout);
    assert!(
        l.cols == r.rows && d.rows == l.rows && d.cols == r.cols,
        "matmul of {l:?} and {r:?} into {d:?}"
    );
    if d.rows == 0 || d.cols == 0 {
        return;
    }
    let parallelism = if team.is_serial() {
        gemm::Parallelism::None
    } else {
        gemm::Parallelism::Rayon(team.threads)
    };
    // SAFETY: `Mat::new` and `MatMut::new` checked that (rows - 1) * row_stride + (cols - 1) * col_stride lies inside the
    // slice, and `t` only exchanges the two, so every element that gemm touches is inside a live slice; the shapes agree (asserted above).
    // `dst` is borrowed mutably, hence apart from `lhs` and `rhs`, and its rows do not overlap. Strides fit isize because a slice's
    // length does.
    unsafe {
        gemm::gemm(
            d.rows,
            d.cols,
            l.cols,
            dst.data.as_mut_ptr(),
            d.col_stride as isize,
            d.row_stride as isize,
            store == Store::Add,
            lhs.data.as_ptr(),
            l.col_stride as isize,
            l.row_stride as isize,
            rhs.data.as_ptr(),
            r.col_stride as isize,
            r.row_stride as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `y = x w^T` (or `+=`): `x [n, in]`, `w [out, in]`, `y [n, out]` with a row every `stride` elements.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward(
    team: Team,
    x: &[f32],
    w: &[f32],
    n: usize,
    (inner, outer): (usize, usize),
    y: &mut [f32],
    stride: usize,
    store: Store,
) {
    matmul(
        team,
        MatMut::new(y, n, outer, stride),
        store,
        Mat::new(x, n, inner, inner),
        Mat::new(w, outer, inner, inner).t(),
    );
}

/// The gradient of [`forward`] for its input: `dx = dy w` (or `+=`); `dy` has a row every `stride` elements.
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward_input(
    team: Team,
    dy: &[f32],
    stride: usize,
    w: &[f32],
    n: usize,
    (inner, outer): (usize, usize),
    dx: &mut [f32],
    store: Store,
) {
    let dy = Mat::new(dy, n, outer, stride);
    matmul(
        team,
        MatMut::new(dx, n, inner, inner),
        store,
        dy,
        Mat::new(w, outer, inner, inner),
    );
}

/// The gradient of [`forward`] for its matrix: `dw += dy^T x`.
pub(crate) fn backward_weight(
    team: Team,
    dy: &[f32],
    stride: usize,
    x: &[f32],
    n: usize,
    (inner, outer): (usize, usize),
    dw: &mut [f32],
) {
    let dy = Mat::new(dy, n, outer, stride).t();
    matmul(
        team,
        MatMut::new(dw, outer, inner, inner),
        Store::Add,
        dy,
        Mat::new(x, n, inner, inner),
    );
}

#[cfg(test)]
mod tests {
    use super::super::check::{assert_close, assert_finite_difference, gradients, project, random, tensor};
    use super::*;

    #[test]
    fn equals_candle_and_finite_differences() {
        for (n, inner, outer, team) in [
            (7, 5, 9, Team::SERIAL),
            (130, 64, 48, Team { threads: 2 }),
            (1, 1, 1, Team::SERIAL),
        ] {
            let (x, w, dy) = (random(1, n * inner), random(2, outer * inner), random(3, n * outer));
            let run = |x: &[f32], w: &[f32]| {
                let mut y = vec![0.0; n * outer];
                forward(team, x, w, n, (inner, outer), &mut y, outer, Store::Set);
                y
            };
            let y = run(&x, &w);
            let (mut dx, mut dw) = (vec![1.0; n * inner], vec![0.0; outer * inner]);
            backward_input(team, &dy, outer, &w, n, (inner, outer), &mut dx, Store::Set);
            backward_weight(team, &dy, outer, &x, n, (inner, outer), &mut dw);
            let inputs = [tensor(&x, &[n, inner]), tensor(&w, &[outer, inner])];
            let (value, grads) = gradients(&inputs, &dy, |t| t[0].matmul(&t[1].t()?));
            assert_close(&y, &value, 1e-5);
            assert_close(&dx, &grads[0], 1e-5);
            assert_close(&dw, &grads[1], 1e-5);
            assert_finite_difference(&x, &dx, |x| project(&run(x, &w), &dy), 2e-3);
            assert_finite_difference(&w, &dw, |w| project(&run(&x, w), &dy), 2e-3);
        }
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_short_slice_panics_instead_of_reading_past_it() {
        let _ = Mat::new(&[0.0; 5], 2, 3, 3);
    }
}
