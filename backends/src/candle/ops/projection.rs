//! Projections: a matrix as it is stored (f32, or half precision while it is frozen) and what low-rank adaptation adds to it.
//!
//! LoRA (Hu et al., arXiv 2106.09685): `y = x W^T + scale (x A^T) B^T`, with `A [rank, in]` and `B [out, rank]` in f32. Half-precision
//! matrices are widened panel by panel: exact, and no copy of a whole matrix exists.

use half::{bf16, f16};
use rayon::prelude::*;

use super::Team;
use super::linear::{self, Store};

/// Numbers of one widened panel (1 MiB), so that it stays in the cache between widening and product.
pub(crate) const PANEL: usize = 1 << 18;

/// A tensor of weights as it lies in memory, row-major.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
}

impl<'a> Stored<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// The numbers of a norm, which are always f32.
    ///
    /// # Panics
    /// They are not.
    pub(crate) fn gains(self) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            Self::Bf16(_) | Self::F16(_) => panic!("norm gains are kept in f32"),
        }
    }

    /// `count` numbers from `start` on, widened into `panel` where they are stored in fewer bits.
    pub(crate) fn widened<'s>(self, team: Team, start: usize, count: usize, panel: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        match self {
            Self::F32(values) => &values[start..start + count],
            Self::Bf16(values) => widen(team, &values[start..start + count], panel, |x| {
                f32::from_bits(u32::from(x.to_bits()) << 16)
            }),
            Self::F16(values) => widen(team, &values[start..start + count], panel, f16::to_f32),
        }
    }

    /// Rows that are widened at once, of `width` numbers each.
    fn panel_rows(self, width: usize, rows: usize) -> usize {
        match self {
            Self::F32(_) => rows,
            Self::Bf16(_) | Self::F16(_) => (PANEL / width).clamp(1, rows),
        }
    }
}

fn widen<'s, T: Copy + Sync>(
    team: Team,
    from: &[T],
    panel: &'s mut Vec<f32>,
    convert: impl Fn(T) -> f32 + Sync,
) -> &'s [f32] {
    const BLOCK: usize = 1 << 14;
    panel.resize(from.len().max(panel.len()), 0.0);
    let to = &mut panel[..from.len()];
    let each = |to: &mut [f32], from: &[T]| to.iter_mut().zip(from).for_each(|(to, from)| *to = convert(*from));
    if team.is_serial() {
        each(to, from);
    } else {
        to.par_chunks_mut(BLOCK)
            .zip(from.par_chunks(BLOCK))
            .for_each(|(to, from)| each(to, from));
    }
    to
}

/// What LoRA adds to one matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowRank<'a> {
    /// `[rank, in]`.
    pub a: &'a [f32],
    /// `[out, rank]`.
    pub b: &'a [f32],
    pub rank: usize,
    /// alpha / rank.
    pub scale: f32,
}

/// One weight tensor: a matrix `[out, in]`, or the gains of a norm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight<'a> {
    pub stored: Stored<'a>,
    pub low_rank: Option<LowRank<'a>>,
}

/// Where the gradient of a [`Weight`] goes. Everything is added to what is there.
#[derive(Debug)]
pub(crate) enum Gradient<'a> {
    /// Nowhere: the weight does not learn.
    Frozen,
    /// `[out, in]`, or the gains.
    Full(&'a mut [f32]),
    /// Of the two factors.
    LowRank { a: &'a mut [f32], b: &'a mut [f32] },
}

impl Gradient<'_> {
    /// The whole tensor's gradient, or nothing.
    pub(crate) fn full(&mut self) -> Option<&mut [f32]> {
        match self {
            Self::Full(values) => Some(values),
            Self::Frozen | Self::LowRank { .. } => None,
        }
    }
}

/// Memory that projections reuse.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Widened weights.
    pub panel: Vec<f32>,
    /// `[n, rank]`.
    low: Vec<f32>,
}

/// Rows and widths of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Tokens.
    pub n: usize,
    pub inner: usize,
    pub outer: usize,
    /// A row of `y` begins every so many numbers.
    pub stride: usize,
}

/// `y = x w^T` (or `+=`): `x [n, inner]`, `y [n, outer]`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward(
    team: Team,
    x: &[f32],
    w: Weight<'_>,
    size: Size,
    y: &mut [f32],
    store: Store,
    scratch: &mut Scratch,
) {
    let Size {
        n,
        inner,
        outer,
        stride,
    } = size;
    let step = w.stored.panel_rows(inner, outer);
    for from in (0..outer).step_by(step) {
        let rows = step.min(outer - from);
        let panel = w.stored.widened(team, from * inner, rows * inner, &mut scratch.panel);
        linear::forward(team, x, panel, n, (inner, rows), &mut y[from..], stride, store);
    }
    if let Some(low) = w.low_rank {
        let down = down(team, x, low, n, inner, &mut scratch.low);
        linear::forward(team, down, low.b, n, (low.rank, outer), y, stride, Store::Add);
    }
}

/// The gradient of [`forward`] for its input: `dx = dy w` (or `+=`).
pub(crate) fn backward_input(
    team: Team,
    dy: &[f32],
    w: Weight<'_>,
    size: Size,
    dx: &mut [f32],
    store: Store,
    scratch: &mut Scratch,
) {
    let Size {
        n,
        inner,
        outer,
        stride,
    } = size;
    let step = w.stored.panel_rows(inner, outer);
    let mut store = store;
    for from in (0..outer).step_by(step) {
        let rows = step.min(outer - from);
        let panel = w.stored.widened(team, from * inner, rows * inner, &mut scratch.panel);
        linear::backward_input(team, &dy[from..], stride, panel, n, (inner, rows), dx, store);
        store = Store::Add;
    }
    if let Some(low) = w.low_rank {
        let up = up(team, dy, low, size, &mut scratch.low);
        linear::backward_input(team, up, low.rank, low.a, n, (inner, low.rank), dx, Store::Add);
    }
}

/// The gradient of [`forward`] for what learns of the weight.
pub(crate) fn backward_weight(
    team: Team,
    dy: &[f32],
    x: &[f32],
    w: Weight<'_>,
    size: Size,
    gradient: &mut Gradient<'_>,
    scratch: &mut Scratch,
) {
    let Size {
        n,
        inner,
        outer,
        stride,
    } = size;
    match (gradient, w.low_rank) {
        (Gradient::Full(dw), _) => linear::backward_weight(team, dy, stride, x, n, (inner, outer), dw),
        (Gradient::LowRank { a, b }, Some(low)) => {
            let down = down(team, x, low, n, inner, &mut scratch.low);
            linear::backward_weight(team, dy, stride, down, n, (low.rank, outer), b);
            let up = up(team, dy, low, size, &mut scratch.low);
            linear::backward_weight(team, up, low.rank, x, n, (inner, low.rank), a);
        }
        (Gradient::Frozen, _) | (Gradient::LowRank { .. }, None) => {}
    }
}

/// `scale x A^T`, `[n, rank]`.
fn down<'s>(team: Team, x: &[f32], low: LowRank<'_>, n: usize, inner: usize, to: &'s mut Vec<f32>) -> &'s [f32] {
    to.resize(n * low.rank, 0.0);
    linear::forward(team, x, low.a, n, (inner, low.rank), to, low.rank, Store::Set);
    to.iter_mut().for_each(|value| *value *= low.scale);
    to
}

/// `scale dy B`, `[n, rank]`.
fn up<'s>(team: Team, dy: &[f32], low: LowRank<'_>, size: Size, to: &'s mut Vec<f32>) -> &'s [f32] {
    let Size { n, outer, stride, .. } = size;
    to.resize(n * low.rank, 0.0);
    linear::backward_input(team, dy, stride, low.b, n, (low.rank, outer), to, Store::Set);
    to.iter_mut().for_each(|value| *value *= low.scale);
    to
}

/// The same from Candle's operations: `x [n, in]`, `w [out, in]`, factors as in [`LowRank`].
///
/// Where `w` is in half precision, an accelerator multiplies in that precision; the CPU widens the matrix first.
pub(crate) fn composite(x: &candle_core::Tensor, w: &TensorWeight) -> candle_core::Result<candle_core::Tensor> {
    let TensorWeight { base, low_rank } = w;
    let y = if base.dtype() == x.dtype() {
        x.matmul(&base.t()?)?
    } else if base.device().is_cpu() {
        x.matmul(&base.to_dtype(x.dtype())?.t()?)?
    } else {
        x.to_dtype(base.dtype())?.matmul(&base.t()?)?.to_dtype(x.dtype())?
    };
    match low_rank {
        Some((a, b, scale)) => y + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * *scale)?,
        None => Ok(y),
    }
}

/// A [`Weight`] as Candle's tensors.
#[derive(Clone, Debug)]
pub(crate) struct TensorWeight {
    pub base: candle_core::Tensor,
    /// The two factors, and alpha / rank.
    pub low_rank: Option<(candle_core::Tensor, candle_core::Tensor, f64)>,
}

#[cfg(test)]
mod tests {
    use super::super::check::{assert_close, gradients, random, tensor};
    use super::*;

    /// Forward and gradients of a weight, against Candle on the widened matrix.
    fn check(stored: Stored<'_>, widened: &[f32], n: usize, inner: usize, outer: usize, team: Team) {
        let rank = 3;
        let (x, dy) = (random(1, n * inner), random(3, n * outer));
        let (a, b) = (random(4, rank * inner), random(5, outer * rank));
        let low = LowRank {
            a: &a,
            b: &b,
            rank,
            scale: 0.75,
        };
        let w = Weight {
            stored,
            low_rank: Some(low),
        };
        let size = Size {
            n,
            inner,
            outer,
            stride: outer,
        };
        let scratch = &mut Scratch::default();
        let mut y = vec![0.0; n * outer];
        forward(team, &x, w, size, &mut y, Store::Set, scratch);
        let (mut dx, mut da, mut db) = (vec![9.0; n * inner], vec![0.0; rank * inner], vec![0.0; outer * rank]);
        backward_input(team, &dy, w, size, &mut dx, Store::Set, scratch);
        let mut gradient = Gradient::LowRank { a: &mut da, b: &mut db };
        backward_weight(team, &dy, &x, w, size, &mut gradient, scratch);
        let inputs = [
            tensor(&x, &[n, inner]),
            tensor(&a, &[rank, inner]),
            tensor(&b, &[outer, rank]),
        ];
        let base = tensor(widened, &[outer, inner]).detach();
        let (value, grads) = gradients(&inputs, &dy, |t| {
            let low_rank = Some((t[1].clone(), t[2].clone(), 0.75));
            let base = base.clone();
            composite(&t[0], &TensorWeight { base, low_rank })
        });
        assert_close(&y, &value, 1e-5);
        assert_close(&dx, &grads[0], 1e-5);
        assert_close(&da, &grads[1], 1e-5);
        assert_close(&db, &grads[2], 1e-5);
    }

    #[test]
    fn every_storage_equals_candle_on_the_widened_matrix() {
        // The last is wider than a panel.
        for (n, inner, outer, team) in [
            (7, 5, 9, Team::SERIAL),
            (70, 64, 48, Team { threads: 2 }),
            (3, 1 << 12, 150, Team { threads: 2 }),
        ] {
            let values = random(2, outer * inner);
            check(Stored::F32(&values), &values, n, inner, outer, team);
            let halves: Vec<bf16> = values.iter().map(|x| bf16::from_f32(*x)).collect();
            let widened: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
            check(Stored::Bf16(&halves), &widened, n, inner, outer, team);
            let halves: Vec<f16> = values.iter().map(|x| f16::from_f32(*x)).collect();
            let widened: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
            check(Stored::F16(&halves), &widened, n, inner, outer, team);
        }
    }

    #[test]
    fn widening_is_exact() {
        let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let mut panel = Vec::new();
        let widened = Stored::Bf16(&all).widened(Team::SERIAL, 0, all.len(), &mut panel);
        let same = |(wide, half): (&f32, &bf16)| wide.to_bits() == half.to_f32().to_bits() || half.is_nan();
        assert!(widened.iter().zip(&all).all(same));
    }
}
