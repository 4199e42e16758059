//! [`Sizes`]: how much larger than a window tasks are.

use super::Difficulty;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// How many windows of an agent the input of a task fills, by difficulty from easy to extreme.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes(pub [f64; 4]);

/// Tasks of this size cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "`world.windows`: {windows} windows of {window} tokens are {units} {unit}, and tasks of {difficulty} difficulty have at most {most}; take fewer windows, or \
     a smaller `limits.context`"
)]
pub struct SizeError {
    /// Of which difficulty.
    pub difficulty: Difficulty,
    /// How many windows were asked for.
    pub windows: f64,
    /// Tokens of a window.
    pub window: u32,
    /// How many units of input that is.
    pub units: u32,
    /// What they are.
    pub unit: &'static str,
    /// The most that there may be.
    pub most: u32,
}

impl Sizes {
    /// The size of one difficulty.
    #[must_use]
    pub fn of(&self, difficulty: Difficulty) -> f64 {
        self.0[difficulty.index()]
    }

    /// How many units of input, of `tokens` tokens each, fill windows of `window` tokens: at least one, and more rather than less.
    ///
    /// # Errors
    /// [`SizeError`]: more than `most`.
    pub fn units(
        &self,
        difficulty: Difficulty,
        window: u32,
        (unit, tokens): (&'static str, u32),
        most: u32,
    ) -> Result<NonZeroU32, SizeError> {
        let windows = self.of(difficulty);
        // What is too large for an integer is the largest one, and what is no number is 0.
        let units = (windows * f64::from(window) / f64::from(tokens)).ceil() as u32;
        if units > most {
            return Err(SizeError {
                difficulty,
                windows,
                window,
                units,
                unit,
                most,
            });
        }
        Ok(NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fill_the_windows() {
        let sizes = Sizes([0.0, 0.5, 8.0, f64::INFINITY]);
        let units = |difficulty| sizes.units(difficulty, 63, ("records", 4), 200).map(NonZeroU32::get);
        assert_eq!(
            [Difficulty::Easy, Difficulty::Medium, Difficulty::Hard].map(units),
            [Ok(1), Ok(8), Ok(126)]
        );
        let error = units(Difficulty::Extreme).unwrap_err().to_string();
        assert_eq!(
            error,
            "`world.windows`: inf windows of 63 tokens are 4294967295 records, and tasks of extreme difficulty have at most 200; take fewer windows, or \
             a smaller `limits.context`"
        );
    }
}
