//! A policy that samples a Qwen3 decoder in f32 on the CPU, many nodes at once.
//!
//! [`Sampler`] implements [`rao_tree::Policy`]. Every engine step feeds, for every unfinished request, all tokens of its
//! context that the key/value cache does not hold yet; each such token is a row of one flat, padding-free step.
//! [`SamplerWeights`] are packed once per published version and shared between samplers by [`std::sync::Arc`]: one sampler is
//! one thread, several samplers use several cores.
//!
//! # Promise: bits do not depend on company
//! A request's tokens and log-probabilities are the same bits whatever else is in the batch, however the rows are cut into
//! chunks, and whether keys and values were cached, recomputed or evicted in between. Therefore every number is computed by
//! an expression whose order depends on its own row alone: a projection adds over the inner dimension in order with one
//! accumulator per output, attention walks the positions in order, sums over lanes use sixteen virtual lanes
//! and one fixed tree. A general matrix library is not used here for that reason: it picks its blocking, and
//! with it the order of the sum, by the number of rows.
//! AVX2 and AVX-512 give the same bits; machines of another kind may differ in the last ones.
//!
//! # Layout
//! Weights lie in panels of 32 outputs, `[panel][depth][32]`, so that a step streams them once. Keys lie transposed in
//! blocks of 16 positions, so that one vector instruction serves 16 positions; values lie by position. Attention
//! reads the blocks where they are: nothing is gathered.

#![forbid(unsafe_code)]

mod attention;
mod cache;
mod engine;
mod forward;
mod geometry;
mod matmul;
mod simd;
mod weights;

pub use crate::sampling::SamplerError;
pub use engine::{Sampler, SamplerOptions};
pub use geometry::{Geometry, GeometryError};
pub use weights::{PackError, SamplerWeights};
