//! The driver: one call at a time, in a virtual world over a grid of limits, and under random callers.

mod budgets;
mod chaos;
mod fold;
mod grid;
mod limits;
#[path = "../common/random.rs"]
mod random;
mod support;
mod turns;
mod world;
