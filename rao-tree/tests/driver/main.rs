//! The driver: one call at a time, in a virtual world over a grid of limits, and under random callers.

mod chaos;
mod fold;
mod grid;
mod limits;
mod support;
mod turns;
mod world;
