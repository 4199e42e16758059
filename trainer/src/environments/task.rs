//! What is asked of a root that speaks a language: [`TextTask`].

use super::RootTask;
use crate::language::TextEnvironment;

/// A task of some kind of work, given to agents of a language.
pub trait TextTask: RootTask {
    /// What its nodes act upon.
    type Root: TextEnvironment;

    /// A root that begins it, with a world of its own: what is done to one root does not show in another.
    fn root(&self) -> Self::Root;
}
