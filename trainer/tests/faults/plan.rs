//! What goes wrong, and where: a schedule that a seed fixes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One way to go wrong, at one call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $name),* }

        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

faults! {
    ObserveError, ObservePanic, ObserveTooMuch, ObserveNothing, ObserveSlow,
    ConstraintPanic, ConstraintAbsent,
    NextPanic, NextNothingAllowed, NextEndless,
    EndsPanic,
    StepError, StepPanic, StepTooMuch, StepRestartTooMuch, StepEmptyDelegation, StepWideDelegation, StepFail, StepSlow,
    ChildError, ChildPanic,
    BudgetPanic, BudgetNothing,
    ResumeError, ResumePanic, ResumeTooMuch, ResumeAgain, ResumeEmptyDelegation, ResumeSlow,
    DescribeError, DescribePanic, DescribeTooMuch,
    AnswerPanic, AnswerTooMuch,
    DropPanic,
    LogprobNan, LogprobInfinite, LogprobNegativeInfinite, LogprobPositive,
    /// The action of another request is put in the place of this one's.
    Swapped,
    /// The action is in buffers of the policy's own, and longer than it may be.
    Foreign,
    StopFailed, StopStuck, StopOverflow, StopAtOnce, StopShort,
    /// The policy reports an error, before it has drawn anything, and when it has drawn everything.
    SampleError, SampleErrorAfter,
    SampleNothing, SampleSlow,
    SampleDeath, ForgetDeath, WeightsDeath,
    JudgeFails, JudgePanic, JudgeLate, JudgeNever,
    /// Before it has made a future.
    JudgePanicAtOnce,
}

use Fault::*;

impl Fault {
    /// Whether what comes of it depends on the clock, or on which worker is struck.
    fn is_timed(self) -> bool {
        matches!(
            self,
            ObserveSlow
                | StepSlow
                | ResumeSlow
                | SampleSlow
                | SampleDeath
                | ForgetDeath
                | WeightsDeath
                | JudgeLate
                | JudgeNever
                | Swapped
        )
    }
}

/// Says where something goes wrong, and counts it.
#[derive(Clone)]
pub struct Plan {
    seed: u64,
    /// How often, of a thousand calls.
    per_mille: u64,
    /// Whether what depends on the clock may happen.
    timed: bool,
    counts: Arc<Vec<AtomicU64>>,
}

impl Plan {
    pub fn new(seed: u64, per_mille: u64, timed: bool) -> Self {
        let counts = Fault::ALL.iter().map(|_| AtomicU64::new(0));
        Self {
            seed,
            per_mille,
            timed,
            counts: Arc::new(counts.collect()),
        }
    }

    /// What goes wrong at the call of this name, if anything does.
    pub fn strikes(&self, call: u64, among: &[Fault]) -> Option<Fault> {
        let drawn = mix(self.seed, mix(call, among[0] as u64));
        if drawn % 1000 >= self.per_mille {
            return None;
        }
        let fault = among[(drawn / 1000) as usize % among.len()];
        if fault.is_timed() && !self.timed {
            return None;
        }
        self.counts[fault as usize].fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize].load(Ordering::Relaxed)
    }
}

/// One number out of two, by the finaliser of splitmix64.
pub fn mix(one: u64, other: u64) -> u64 {
    let mut z = one.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(other);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
