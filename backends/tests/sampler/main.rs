//! The Candle backend's sampler: against a plain reference, and its promises about batches, caches and masks.
#![cfg(feature = "candle")]

mod behaviour;
mod determinism;
mod distribution;
mod reference;
mod support;
