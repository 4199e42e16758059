//! x

pub mod environments;
