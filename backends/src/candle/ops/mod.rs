//! The operations of the decoder, each twice: a fused kernel over plain slices with its backward pass written by hand (CPU), and the
//! same thing as a chain of Candle operations that Candle differentiates itself (any device, and the yardstick in tests).
//!
//! Fused kernels are compiled once per instruction set and chosen when the program runs ([`simd`]); their sums run in an order that does
//! not depend on the instruction set's width nor on how many threads take part. Matrix products are `gemm`'s ([`linear`]), which
//! promises neither: a product that a [`Team`] of several threads shares may differ in its last bits from one thread's.

pub(crate) mod attention;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod projection;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod simd;
pub(crate) mod swiglu;

#[cfg(test)]
pub(crate) mod check;

/// How many threads one operation may use. Models of less than 2^21 parameters run whole parts of the batch side by side instead, with a
/// team of one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    pub threads: usize,
}

impl Team {
    /// Everything on the calling thread.
    pub(crate) const SERIAL: Self = Self { threads: 1 };

    /// Rows of one work item when `rows` are shared out. Fixed, so that partial sums do not depend on their number.
    pub(crate) const ROWS: usize = 64;

    pub(crate) fn is_serial(self) -> bool {
        self.threads <= 1
    }
}
