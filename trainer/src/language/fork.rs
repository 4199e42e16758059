//! What a child has of its parent's world: [`Fork`].

use serde::{Deserialize, Serialize};

/// What a child works on; which of these make sense is the environment's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fork {
    /// The very world of its parent: what the one does the other sees.
    #[default]
    Shared,
    /// The world as it is when the child begins. What the child does is lost with it; its answer is all that comes back.
    Copy,
    /// The world as it was when the root began.
    Fresh,
}
