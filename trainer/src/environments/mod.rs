//! The environments that ship with the trainer.

pub mod textcraft;
