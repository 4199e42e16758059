//! [`Difficulty`]: the size classes that tasks of every domain are reported under.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How large a task is. What a class means is its domain's to say: in TextCraft the tier of the target, elsewhere how many windows the input fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difficulty {
    /// The warm start is on these.
    Easy,
    /// The only one that the paper trains on.
    Medium,
    /// Larger than what is trained on.
    Hard,
    /// Far larger.
    Extreme,
}

impl Difficulty {
    /// From easy to extreme.
    pub const ALL: [Self; 4] = [Self::Easy, Self::Medium, Self::Hard, Self::Extreme];

    /// Position in [`ALL`](Self::ALL), for tables by difficulty.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in task files, configuration and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Hard => "hard",
            Self::Extreme => "extreme",
        }
    }
}

impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no difficulty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no difficulty is called {0:?}: easy, medium, hard or extreme")]
pub struct DifficultyError(pub String);

impl FromStr for Difficulty {
    type Err = DifficultyError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| DifficultyError(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difficulties_have_names() {
        for difficulty in Difficulty::ALL {
            assert_eq!(difficulty.to_string().parse(), Ok(difficulty));
        }
        assert_eq!(format!("{:>8}", Difficulty::Easy), "    easy");
        assert!("impossible".parse::<Difficulty>().is_err());
    }
}
