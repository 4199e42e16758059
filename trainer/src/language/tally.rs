//! What went wrong in the words of the policy, counted: [`Slip`], [`Tally`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that a harness answered with a hint instead of carrying it out. None of these ends a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Slip {
    /// A turn without any call.
    NoCall,
    /// A turn that ended at its limit of tokens, in the middle of something.
    CutOff,
    /// A call that is no JSON, or not the JSON of a call.
    BadCall,
    /// A call of something that there is not.
    UnknownTool,
    /// Arguments that are missing, too many, or of another kind.
    BadArguments,
    /// A call that the environment would not carry out.
    Refused,
    /// A goal or an answer beyond its cap.
    TooLong,
    /// More calls or launches in a turn than are carried out.
    TooMany,
    /// `finish` beside launches that had not been answered.
    EarlyFinish,
    /// A call after `finish`.
    AfterFinish,
    /// A launch that was refused by a limit.
    LaunchRefused,
    /// A sub-agent that ended without an answer.
    NoAnswer,
    /// A launch that was never awaited.
    NeverAwaited,
    /// A cell that is not Python.
    Syntax,
    /// A cell that raised.
    Exception,
    /// A cell that ran for too long.
    Time,
    /// A cell that took too much memory.
    Memory,
    /// A cell that recursed too deep.
    Recursion,
    /// A cell that asked too often.
    Suspensions,
    /// Variables of a session that take too much room.
    State,
    /// A cell that asked for a file, the environment or the clock.
    Forbidden,
    /// An observation that was cut.
    LongOutput,
}

impl Slip {
    /// Every slip, in the order of [`Tally`].
    pub const ALL: [Self; 22] = [
        Self::NoCall,
        Self::CutOff,
        Self::BadCall,
        Self::UnknownTool,
        Self::BadArguments,
        Self::Refused,
        Self::TooLong,
        Self::TooMany,
        Self::EarlyFinish,
        Self::AfterFinish,
        Self::LaunchRefused,
        Self::NoAnswer,
        Self::NeverAwaited,
        Self::Syntax,
        Self::Exception,
        Self::Time,
        Self::Memory,
        Self::Recursion,
        Self::Suspensions,
        Self::State,
        Self::Forbidden,
        Self::LongOutput,
    ];
}

/// Counts of a run, of all nodes that share it.
#[derive(Debug, Default)]
pub struct Tally {
    slips: [AtomicU64; Slip::ALL.len()],
    turns: AtomicU64,
}

impl Tally {
    /// How often it happened.
    pub fn count(&self, slip: Slip) -> u64 {
        self.slips[slip as usize].load(Ordering::Relaxed)
    }

    /// Turns that were replied to.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Every slip that happened, with its count.
    pub fn slips(&self) -> impl Iterator<Item = (Slip, u64)> + '_ {
        let counts = Slip::ALL.into_iter().map(|slip| (slip, self.count(slip)));
        counts.filter(|&(_, count)| count > 0)
    }

    pub(super) fn add(&self, slip: Slip) {
        self.slips[slip as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} turns", self.turns())?;
        self.slips()
            .try_for_each(|(slip, count)| write!(f, ", {slip:?} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slip_has_a_place_of_its_own() {
        for (place, slip) in Slip::ALL.into_iter().enumerate() {
            assert_eq!(slip as usize, place);
        }
        let tally = Tally::default();
        tally.add(Slip::LongOutput);
        tally.add(Slip::NoCall);
        tally.add(Slip::NoCall);
        tally.add_turn();
        tally.add_turn();
        assert_eq!(tally.to_string(), "2 turns, NoCall 2, LongOutput 1");
    }
}
