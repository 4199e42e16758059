//! The objectives, as functions of one choice, and what is reported about them.

use super::model::TrainError;
use super::ops::head::Choice;

/// What is maximised. Every action contributes `coefficient * weight * logprob`, and the loss is minus their mean over ALL actions of
/// the batch; the coefficient is taken as a constant when the gradient is formed.
///
/// The coefficient corrects for a sampler that is not the policy: older weights, or weights of fewer bits. What a mask drops counts in
/// the mean: a batch with little to learn takes a small step.
///
/// Imitation (cross-entropy on a teacher's tokens) is [`Reinforce`](Self::Reinforce) with weights of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// CISPO: the coefficient is the ratio pi / pi_behaviour, clipped. Unlike PPO's clip it never silences a token.
    /// Source: MiniMax-M1, arXiv 2506.13585, eq. 4; bounds 0 and 5 as in the RAO authors' code.
    ///
    /// With `clip_low` 0 this is truncated importance sampling by token, min(ratio, cap): Yao et al. 2025, "Your efficient RL framework
    /// secretly brings you off-policy RL training".
    Cispo {
        /// Least coefficient: finite, at least 0.
        clip_low: f32,
        /// Greatest coefficient: at least `clip_low`; infinity clips nothing.
        clip_high: f32,
    },
    /// Masked importance sampling by token (IcePop: Ring-1T, arXiv 2510.18855): the coefficient is the ratio while it lies in
    /// `low..=high`, and 0 outside.
    TokenMask {
        /// Least ratio that trains: finite, at least 0.
        low: f32,
        /// Greatest ratio that trains: at least `low`.
        high: f32,
    },
    /// Truncated importance sampling by sequence: every action takes min(ratio of its sequence, cap).
    SequenceTis {
        /// What the ratio of a sequence is.
        ratio: SequenceRatio,
        /// Greatest coefficient: above 0.
        cap: f32,
    },
    /// Masked importance sampling by sequence: every action takes the ratio of its sequence while that lies in `low..=high`, and 0
    /// outside.
    SequenceMask {
        /// What the ratio of a sequence is.
        ratio: SequenceRatio,
        /// Least ratio that trains: finite, at least 0.
        low: f32,
        /// Greatest ratio that trains: at least `low`.
        high: f32,
    },
    /// REINFORCE: the coefficient is 1, so that behaviour log-probabilities only feed the metrics.
    Reinforce,
}

/// The ratio of one sequence of the batch, over all its actions: those of all turns of a node, because a node is what credit is
/// assigned to, and a later turn was drawn in a context that the earlier ones made. The ratio of a single turn would correct for half of
/// that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceRatio {
    /// The product of the ratios of its actions: unbiased before it is cut, and the wilder the longer the sequence.
    Product,
    /// Their geometric mean: comparable between lengths, and biased. Source: GSPO, arXiv 2507.18071, eq. 7.
    GeometricMean,
}

impl Default for Objective {
    fn default() -> Self {
        Self::Cispo {
            clip_low: 0.0,
            clip_high: 5.0,
        }
    }
}

/// Ratios beyond e^this are taken as this: one stray token must not turn a mean into infinity.
const LOG_RATIO_MAX: f32 = 20.0;

impl Objective {
    /// Checks the bounds of the coefficient.
    ///
    /// # Errors
    /// [`TrainError::Setting`] names the first that is outside its range.
    pub fn validate(self) -> Result<(), TrainError> {
        let least = |what, value: f32| {
            let holds = value.is_finite() && value >= 0.0;
            TrainError::check(holds, what, "finite and not below 0", value)
        };
        match self {
            Self::Cispo { clip_low, clip_high } => {
                least("clip_low", clip_low)?;
                TrainError::check(clip_high >= clip_low, "clip_high", "at least clip_low", clip_high)
            }
            Self::TokenMask { low, high } | Self::SequenceMask { low, high, .. } => {
                least("low", low)?;
                TrainError::check(high >= low, "high", "at least low", high)
            }
            Self::SequenceTis { cap, .. } => TrainError::check(cap > 0.0, "cap", "above 0", cap),
            Self::Reinforce => Ok(()),
        }
    }

    /// What the ratio of a sequence is, where the coefficient asks for it: then every log-probability of a sequence must be known before
    /// the first of its actions is recorded.
    pub(crate) fn sequence_ratio(self) -> Option<SequenceRatio> {
        match self {
            Self::SequenceTis { ratio, .. } | Self::SequenceMask { ratio, .. } => Some(ratio),
            Self::Cispo { .. } | Self::TokenMask { .. } | Self::Reinforce => None,
        }
    }

    /// The constant that multiplies `weight * logprob`, and whether a clip or a mask changed it.
    fn coefficient(self, ratio: f32) -> (f32, bool) {
        let clip = |low, high| {
            let clipped = ratio.clamp(low, high);
            (clipped, clipped != ratio)
        };
        match self {
            Self::Cispo { clip_low, clip_high } => clip(clip_low, clip_high),
            Self::SequenceTis { cap, .. } => clip(0.0, cap),
            Self::TokenMask { low, high } | Self::SequenceMask { low, high, .. } => {
                let kept = (low..=high).contains(&ratio);
                (if kept { ratio } else { 0.0 }, !kept)
            }
            Self::Reinforce => (1.0, false),
        }
    }
}

impl SequenceRatio {
    /// The ratio of a sequence, from its actions' log-probabilities under the policy and under the sampler.
    pub(crate) fn of(self, logprobs: &[f32], behaviour_logprobs: &[f32]) -> f32 {
        let deltas = logprobs
            .iter()
            .zip(behaviour_logprobs)
            .map(|(l, b)| f64::from(*l) - f64::from(*b));
        let sum: f64 = deltas.sum();
        let log = match self {
            Self::Product => sum,
            Self::GeometricMean => sum / logprobs.len().max(1) as f64,
        };
        bounded_exp(log as f32)
    }
}

/// The ratio of a difference of log-probabilities. NaN passes through, and is caught in the loss.
fn bounded_exp(delta: f32) -> f32 {
    if delta > LOG_RATIO_MAX {
        LOG_RATIO_MAX.exp()
    } else {
        delta.exp()
    }
}

/// What is known of an action besides the choice that the policy makes now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub behaviour_logprob: f32,
    pub weight: f32,
    /// Ratio of its sequence, where [`Objective::sequence_ratio`] asks for it.
    pub sequence_ratio: Option<f32>,
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
    pub(crate) fn record(&mut self, objective: Objective, choice: Choice, drawn: Drawn, normaliser: f64) -> f32 {
        let delta = choice.logprob - drawn.behaviour_logprob;
        let ratio = bounded_exp(delta);
        let (coefficient, clipped) = objective.coefficient(drawn.sequence_ratio.unwrap_or(ratio));
        let slope = -f64::from(coefficient) * f64::from(drawn.weight) / normaliser;
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
    /// Mean of pi / pi_behaviour over actions, whatever the objective corrects by.
    pub ratio: f64,
    /// Share of actions whose ratio, or whose sequence's, was clipped or masked, 0..=1.
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

    fn drawn(behaviour_logprob: f32, weight: f32) -> Drawn {
        Drawn {
            behaviour_logprob,
            weight,
            sequence_ratio: None,
        }
    }

    #[test]
    fn cispo_clips_the_ratio_and_keeps_the_slope() {
        let cispo = Objective::default();
        let mut tally = Tally::default();
        // Ratio 2, weight 3, four actions in the batch.
        let slope = tally.record(cispo, choice(0.5_f32.ln()), drawn(0.25_f32.ln(), 3.0), 4.0);
        assert!((slope + 2.0 * 3.0 / 4.0).abs() < 1e-6);
        // Ratio e^3 is clipped to 5.
        let slope = tally.record(cispo, choice(-1.0), drawn(-4.0, 3.0), 4.0);
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
        let ratio = SequenceRatio::Product;
        for (objective, what) in [
            (Objective::TokenMask { low: -1.0, high: 2.0 }, "low must be finite"),
            (
                Objective::TokenMask { low: 3.0, high: 2.0 },
                "high must be at least low, got 2",
            ),
            (
                Objective::SequenceMask {
                    ratio,
                    low: 0.5,
                    high: f32::NAN,
                },
                "high",
            ),
            (Objective::SequenceTis { ratio, cap: 0.0 }, "cap must be above 0, got 0"),
        ] {
            let error = objective.validate().unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
    }

    #[test]
    fn a_mask_drops_what_lies_outside_and_keeps_the_ratio_inside() {
        let mask = Objective::TokenMask { low: 0.5, high: 2.0 };
        for (ratio, coefficient) in [(0.49, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 2.0), (2.01, 0.0)] {
            assert_eq!(mask.coefficient(ratio), (coefficient, coefficient == 0.0));
        }
        // What is no number is not dropped in silence.
        let mut tally = Tally::default();
        tally.record(mask, choice(f32::NAN), drawn(-1.0, 1.0), 1.0);
        assert!(tally.loss.is_nan());
    }

    #[test]
    fn the_ratio_of_a_sequence_is_a_product_or_its_root() {
        let (logprobs, behaviour) = ([-1.0, -2.0, -0.5], [-1.5, -1.0, -1.5]);
        assert!((SequenceRatio::Product.of(&logprobs, &behaviour) - 0.5_f32.exp()).abs() < 1e-6);
        let mean = SequenceRatio::GeometricMean.of(&logprobs, &behaviour);
        assert!((mean - (0.5_f32 / 3.0).exp()).abs() < 1e-6);
        // A long run of improbable tokens stays a number.
        assert!(SequenceRatio::Product.of(&[-0.1; 50], &[-90.0; 50]).is_finite());
        assert_eq!(SequenceRatio::Product.of(&[-90.0; 50], &[-0.1; 50]), 0.0);
    }

    #[test]
    fn imitation_is_reinforce_with_weight_one() {
        let mut tally = Tally::default();
        let slope = tally.record(Objective::Reinforce, choice(-2.0), drawn(-9.0, 1.0), 1.0);
        assert_eq!(slope, -1.0);
        assert_eq!(tally.loss, 2.0);
    }

    #[test]
    fn the_unmoved_policy_has_ratio_one_and_no_divergence() {
        let mut tally = Tally::default();
        tally.record(Objective::default(), choice(-1.5), drawn(-1.5, -2.0), 1.0);
        let report = tally.report(0.0, 1);
        assert_eq!(
            (report.ratio, report.kl, report.logprob_delta, report.clipped),
            (1.0, 0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn a_stray_token_stays_finite_and_nan_does_not_hide() {
        let mut tally = Tally::default();
        tally.record(Objective::default(), choice(0.0), drawn(-200.0, 1.0), 1.0);
        assert!(tally.report(0.0, 1).ratio.is_finite());
        tally.record(Objective::Reinforce, choice(f32::NAN), drawn(-1.0, 1.0), 1.0);
        assert!(tally.loss.is_nan());
    }
}
