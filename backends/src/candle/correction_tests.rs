//! Corrections for a sampler that is not the policy: against a second computation in f64, against REINFORCE, and at their edges.

use super::loss::Tally;
use super::model::Gradients;
use super::ops::check::{assert_finite_difference, random, values};
use super::tests::{batch, flat, model};
use super::*;

const LENGTHS: [usize; 6] = [5, 17, 40, 2, 90, 11];

fn objectives() -> Vec<Objective> {
    let (low, high) = (0.7, 1.4);
    let mut all = vec![
        Objective::Cispo {
            clip_low: 0.0,
            clip_high: 1.2,
        },
        Objective::TokenMask { low, high },
    ];
    for ratio in [SequenceRatio::Product, SequenceRatio::GeometricMean] {
        // Geometric means lie closer to 1.
        let (low, high, cap) = match ratio {
            SequenceRatio::Product => (low, high, 1.2),
            SequenceRatio::GeometricMean => (0.98, 1.01, 1.01),
        };
        all.push(Objective::SequenceTis { ratio, cap });
        all.push(Objective::SequenceMask { ratio, low, high });
    }
    all
}

/// A batch whose sampler is near the model: noise on every log-probability. One sequence and a few actions weigh nothing.
fn near(model: &Qwen3) -> PackedBatch {
    let mut batch = batch(113, &LENGTHS, true);
    let logprobs = model.logprobs(&batch).unwrap();
    let noise = random(77, logprobs.len());
    batch.behaviour_logprobs = logprobs
        .iter()
        .zip(noise)
        .map(|(l, n)| (l + 0.5 * n).min(0.0))
        .collect();
    for (action, index) in batch.actions.iter().enumerate() {
        if (5..22).contains(index) || action % 7 == 3 {
            batch.weights[action] = 0.0;
        }
    }
    batch
}

/// By action, the coefficient and whether it is other than the ratio, in f64 and in the words of the papers.
fn expected(objective: Objective, batch: &PackedBatch, logprobs: &[f32]) -> Vec<(f64, bool)> {
    let delta = |action: usize| f64::from(logprobs[action]) - f64::from(batch.behaviour_logprobs[action]);
    let of_sequence = |action: usize, ratio: SequenceRatio| {
        let here = |index: &usize| batch.cu_seqlens.iter().filter(|start| *start <= index).count();
        let mine = here(&batch.actions[action]);
        let members: Vec<usize> = (0..batch.actions.len())
            .filter(|other| here(&batch.actions[*other]) == mine)
            .collect();
        let product: f64 = members.iter().map(|action| delta(*action).exp()).product();
        match ratio {
            SequenceRatio::Product => product,
            SequenceRatio::GeometricMean => product.powf(1.0 / members.len() as f64),
        }
    };
    let mask = |ratio: f64, low: f32, high: f32| {
        let outside = ratio < f64::from(low) || ratio > f64::from(high);
        (if outside { 0.0 } else { ratio }, outside)
    };
    let truncate = |ratio: f64, cap: f32| (ratio.min(f64::from(cap)), ratio > f64::from(cap));
    (0..batch.actions.len())
        .map(|action| match objective {
            Objective::Cispo { clip_high, .. } => truncate(delta(action).exp(), clip_high),
            Objective::TokenMask { low, high } => mask(delta(action).exp(), low, high),
            Objective::SequenceTis { ratio, cap } => truncate(of_sequence(action, ratio), cap),
            Objective::SequenceMask { ratio, low, high } => mask(of_sequence(action, ratio), low, high),
            Objective::Reinforce => (1.0, false),
        })
        .collect()
}

/// The batch on which REINFORCE does what a correction by these coefficients must do.
fn weighted(batch: &PackedBatch, coefficients: &[(f64, bool)]) -> PackedBatch {
    let weights = batch.weights.iter().zip(coefficients);
    PackedBatch {
        weights: weights.map(|(w, (c, _))| (f64::from(*w) * c) as f32).collect(),
        ..batch.clone()
    }
}

fn run(model: &Qwen3, batch: &PackedBatch, objective: Objective) -> (StepReport, Vec<f32>) {
    let (tally, gradients): (Tally, Gradients) = model.gradients(batch, objective).unwrap();
    (tally.report(0.0, batch.actions.len()), flat(gradients))
}

#[test]
fn losses_shares_and_gradients_are_those_of_a_second_computation() {
    let config = ModelConfig::tiny(113);
    let (fused, composite) = (model(&config, Kernels::Fused), model(&config, Kernels::Composite));
    let fused = fused.with_micro_tokens(50);
    let batch = near(&fused);
    let logprobs = fused.logprobs(&batch).unwrap();
    for objective in objectives() {
        let coefficients = expected(objective, &batch, &logprobs);
        let trained = |action: &usize| !(5..22).contains(&batch.actions[*action]);
        let computed: Vec<usize> = (0..batch.actions.len()).filter(trained).collect();
        let share = computed.iter().filter(|action| coefficients[**action].1).count() as f64 / computed.len() as f64;
        assert!((0.05..0.95).contains(&share), "{objective:?} tells too little: {share}");
        let terms = (0..batch.actions.len())
            .map(|action| coefficients[action].0 * f64::from(batch.weights[action]) * f64::from(logprobs[action]));
        let loss = -terms.sum::<f64>() / batch.actions.len() as f64;
        let reference = run(&composite, &weighted(&batch, &coefficients), Objective::Reinforce).1;
        let scale = reference.iter().fold(0.0_f32, |scale, g| scale.max(g.abs()));
        for model in [&fused, &composite] {
            let (report, gradients) = run(model, &batch, objective);
            assert!(
                (report.clipped - share).abs() < 1e-12,
                "{objective:?}: {} and {share}",
                report.clipped
            );
            assert!(
                (report.loss - loss).abs() < 1e-5,
                "{objective:?}: {} and {loss}",
                report.loss
            );
            let worst = gradients
                .iter()
                .zip(&reference)
                .map(|(g, r)| (g - r).abs())
                .fold(0.0, f32::max);
            assert!(worst < 3e-5 * scale, "{objective:?}: off by {worst}, largest {scale}");
        }
    }
}

#[test]
fn gradients_are_finite_differences_with_the_coefficient_held_still() {
    let config = ModelConfig {
        hidden_size: 24,
        intermediate_size: 20,
        ..ModelConfig::tiny(113)
    };
    let model = model(&config, Kernels::Fused);
    let batch = near(&model);
    let logprobs = model.logprobs(&batch).unwrap();
    for objective in objectives() {
        let held = weighted(&batch, &expected(objective, &batch, &logprobs)).weights;
        let gradients = run(&model, &batch, objective).1;
        let mut at = 0;
        for var in model.weights().vars() {
            let (start, shape) = (values(var), var.dims().to_vec());
            let set = |values: &[f32]| {
                let tensor = candle_core::Tensor::from_slice(values, shape.as_slice(), &Device::Cpu);
                var.set(&tensor.unwrap()).unwrap();
            };
            let loss = |moved: &[f32]| {
                set(moved);
                let logprobs = model.logprobs(&batch).unwrap();
                let terms = logprobs.iter().zip(&held).map(|(l, w)| f64::from(*l) * f64::from(*w));
                -terms.sum::<f64>() / batch.actions.len() as f64
            };
            assert_finite_difference(&start, &gradients[at..at + start.len()], loss, 2e-2);
            set(&start);
            at += start.len();
        }
    }
}

#[test]
fn a_sampler_that_is_the_policy_makes_every_correction_reinforce() {
    let model = model(&ModelConfig::tiny(113), Kernels::Fused);
    let mut batch = batch(113, &LENGTHS, true);
    batch.behaviour_logprobs = model.logprobs(&batch).unwrap();
    let (reinforce, reference) = run(&model, &batch, Objective::Reinforce);
    for objective in objectives() {
        let (report, gradients) = run(&model, &batch, objective);
        assert_eq!(report, reinforce, "{objective:?}");
        assert_eq!(gradients, reference, "{objective:?}");
    }
}

#[test]
fn a_batch_that_is_masked_altogether_has_no_gradient_and_says_so() {
    let mut learner = Learner::new(model(&ModelConfig::tiny(113), Kernels::Fused), AdamWConfig::default()).unwrap();
    let mut batch = batch(113, &LENGTHS, true);
    let logprobs = learner.logprobs(&batch).unwrap();
    batch.behaviour_logprobs = logprobs.iter().map(|l| l - 1.0).collect();
    for objective in objectives() {
        let masks = matches!(objective, Objective::TokenMask { .. } | Objective::SequenceMask { .. });
        let (report, gradients) = run(&learner.model, &batch, objective);
        assert_eq!(report.clipped, 1.0, "{objective:?}");
        assert_eq!(gradients.iter().all(|g| *g == 0.0), masks, "{objective:?}");
    }
    let (low, high) = (0.5, 2.0);
    let report = learner
        .update(&batch, Objective::TokenMask { low, high }, 1e-3)
        .unwrap();
    assert_eq!((report.clipped, report.grad_norm, report.loss), (1.0, 0.0, 0.0));
}

#[test]
fn a_sampler_that_said_no_number_is_refused() {
    let mut learner = Learner::new(model(&ModelConfig::tiny(113), Kernels::Fused), AdamWConfig::default()).unwrap();
    let before = learner.model.weights().to_vec().unwrap();
    for objective in objectives() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut batch = batch(113, &LENGTHS, true);
            batch.behaviour_logprobs[4] = value;
            let error = learner.update(&batch, objective, 1e-3).unwrap_err().to_string();
            assert!(error.starts_with("action 4: behaviour_logprobs is "), "{error}");
        }
    }
    assert_eq!(learner.model.weights().to_vec().unwrap(), before);
}
