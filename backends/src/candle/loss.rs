//! The objectives, as functions of one choice, and what is reported about them.

use super::model::TrainError;
use super::ops::head::Choice;

/// What is maximised. Every action contributes `coefficient * weight * logprob`, and the loss is minus their mean over ALL actions of
/// the batch; the coefficient is taken as a constant when the gradient is formed.
///
/// Imitation (cross-entropy on a teacher's tokens) is [`Reinforce`](Self::Reinforce) with weights of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// CISPO: the coefficient is the ratio pi / pi_behaviour, clipped. Unlike PPO's clip it never silences a token.
    /// Source: MiniMax-M1, arXiv 2506.13585, eq. 4; bounds 0 and 5 as in the RAO authors' code.
    Cispo {
        /// Least coefficient: finite, at least 0.
        clip_low: f32,
        /// Greatest coefficient: at least `clip_low`; infinity clips nothing.
        clip_high: f32,
    },
    /// REINFORCE: the coefficient is 1, so that behaviour log-probabilities only feed the metrics.
    Reinforce,
}

impl Default for Objective {
    fn default() -> Self {
        Self::Cispo {
            clip_low: 0.0,
            clip_high: 5.0,
        }
    }
}

/// Ratios beyond e^this are reported as this: one stray token must not turn a mean into infinity.
const LOG_RATIO_MAX: f32 = 20.0;

impl Objective {
    /// Checks the clip's bounds.
    ///
    /// # Errors
    /// [`TrainError::Setting`] names the first that is outside its range.
    pub fn validate(self) -> Result<(), TrainError> {
        let Self::Cispo { clip_low, clip_high } = self else {
            return Ok(());
        };
        let holds = clip_low.is_finite() && clip_low >= 0.0;
        TrainError::check(holds, "clip_low", "finite and not below 0", clip_low)?;
        TrainError::check(clip_high >= clip_low, "clip_high", "at least clip_low", clip_high)
    }

    /// The constant that multiplies `weight * logprob`, and whether the clip changed it.
    fn coefficient(self, ratio: f32) -> (f32, bool) {
        match self {
            Self::Cispo { clip_low, clip_high } => {
                let clipped = ratio.clamp(clip_low, clip_high);
                (clipped, clipped != ratio)
            }
            Self::Reinforce => (1.0, false),
        }
    }
}

/// Sums over actions, from which [`StepReport`] takes means. f64, and added in the order of the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub loss: f64,
    ratio: f64,
    clipped: u64,
    delta: f64,
    kl: f64,
    entropy: f64,
    actions: u64,
    pub tokens: u64,
}

impl Tally {
    /// Takes one choice in, and returns how the loss changes with its log-probability.
    /// `normaliser` is the number of actions of the whole batch.
    pub(crate) fn record(
        &mut self,
        objective: Objective,
        choice: Choice,
        behaviour_logprob: f32,
        weight: f32,
        normaliser: f64,
    ) -> f32 {
        let delta = choice.logprob - behaviour_logprob;
        // NaN passes through both, and is caught in the loss.
        let ratio = if delta > LOG_RATIO_MAX {
            LOG_RATIO_MAX.exp()
        } else {
            delta.exp()
        };
        let (coefficient, clipped) = objective.coefficient(ratio);
        let slope = -f64::from(coefficient) * f64::from(weight) / normaliser;
        self.loss += slope * f64::from(choice.logprob);
        self.ratio += f64::from(ratio);
        self.clipped += u64::from(clipped);
        self.delta += f64::from(delta.abs());
        self.kl += f64::from(ratio) - 1.0 - f64::from(delta);
        self.entropy += f64::from(choice.entropy);
        self.actions += 1;
        slope as f32
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.ratio += other.ratio;
        self.clipped += other.clipped;
        self.delta += other.delta;
        self.kl += other.kl;
        self.entropy += other.entropy;
        self.actions += other.actions;
        self.tokens += other.tokens;
    }

    pub(crate) fn report(&self, grad_norm: f64, actions: usize) -> StepReport {
        let count = (self.actions as f64).max(1.0);
        StepReport {
            loss: self.loss,
            grad_norm,
            ratio: self.ratio / count,
            clipped: self.clipped as f64 / count,
            logprob_delta: self.delta / count,
            kl: self.kl / count,
            entropy: self.entropy / count,
            actions,
            actions_computed: self.actions as usize,
            tokens_computed: self.tokens as usize,
        }
    }
}

/// What one training step did. Means run over the actions that were computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Minus the mean of `coefficient * weight * logprob` over all actions of the batch.
    pub loss: f64,
    /// Length of the whole gradient before clipping.
    pub grad_norm: f64,
    /// Mean of pi / pi_behaviour.
    pub ratio: f64,
    /// Share of actions whose ratio was clipped, 0..=1.
    pub clipped: f64,
    /// Mean of |logprob - behaviour logprob|, in nats.
    pub logprob_delta: f64,
    /// Estimate of KL(behaviour || policy) in nats: mean of ratio - 1 - ln ratio.
    pub kl: f64,
    /// Mean entropy of the distributions that the actions were drawn from, in nats, after mask and temperature.
    pub entropy: f64,
    /// Actions of the batch: what the loss is divided by.
    pub actions: usize,
    /// Actions that were computed. Sequences whose weights are all 0 are not: they have no gradient.
    pub actions_computed: usize,
    /// Tokens that went through the model: those before the last action of every computed sequence.
    pub tokens_computed: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(logprob: f32) -> Choice {
        Choice { logprob, entropy: 0.25 }
    }

    #[test]
    fn cispo_clips_the_ratio_and_keeps_the_slope() {
        let cispo = Objective::default();
        let mut tally = Tally::default();
        // Ratio 2, weight 3, four actions in the batch.
        let slope = tally.record(cispo, choice(0.5_f32.ln()), 0.25_f32.ln(), 3.0, 4.0);
        assert!((slope + 2.0 * 3.0 / 4.0).abs() < 1e-6);
        // Ratio e^3 is clipped to 5.
        let slope = tally.record(cispo, choice(-1.0), -4.0, 3.0, 4.0);
        assert!((slope + 5.0 * 3.0 / 4.0).abs() < 1e-6);
        let report = tally.report(1.0, 4);
        assert_eq!((report.clipped, report.actions, report.actions_computed), (0.5, 4, 2));
        assert!((report.loss - (1.5 * 2.0_f64.ln() + 3.75)).abs() < 1e-6);
        assert_eq!(report.entropy, 0.25);
    }

    #[test]
    fn bounds_of_the_clip_are_checked() {
        let validate = |clip_low, clip_high| {
            let checked = Objective::Cispo { clip_low, clip_high }.validate();
            checked.map_err(|error| error.to_string())
        };
        for (low, high) in [(0.0, 5.0), (0.0, 0.0), (0.8, f32::INFINITY)] {
            assert_eq!(validate(low, high), Ok(()));
        }
        for (low, high, what) in [
            (-0.1, 5.0, "clip_low must be finite and not below 0, got -0.1"),
            (f32::NAN, 5.0, "clip_low"),
            (f32::INFINITY, f32::INFINITY, "clip_low"),
            (1.0, 0.5, "clip_high must be at least clip_low, got 0.5"),
            (0.0, f32::NAN, "clip_high"),
        ] {
            let error = validate(low, high).unwrap_err();
            assert!(error.starts_with(what), "{error}");
        }
        assert!(Objective::Reinforce.validate().is_ok());
    }

    #[test]
    fn imitation_is_reinforce_with_weight_one() {
        let mut tally = Tally::default();
        assert_eq!(tally.record(Objective::Reinforce, choice(-2.0), -9.0, 1.0, 1.0), -1.0);
        assert_eq!(tally.loss, 2.0);
    }

    #[test]
    fn the_unmoved_policy_has_ratio_one_and_no_divergence() {
        let mut tally = Tally::default();
        tally.record(Objective::default(), choice(-1.5), -1.5, -2.0, 1.0);
        let report = tally.report(0.0, 1);
        assert_eq!(
            (report.ratio, report.kl, report.logprob_delta, report.clipped),
            (1.0, 0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn a_stray_token_stays_finite_and_nan_does_not_hide() {
        let mut tally = Tally::default();
        tally.record(Objective::default(), choice(0.0), -200.0, 1.0, 1.0);
        assert!(tally.report(0.0, 1).ratio.is_finite());
        tally.record(Objective::Reinforce, choice(f32::NAN), -1.0, 1.0, 1.0);
        assert!(tally.loss.is_nan());
    }
}
