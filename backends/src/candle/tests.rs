//! The whole decoder: fused against Candle's differentiation, against finite differences, and learning.

use candle_core::Device;

use super::model::Gradients;
use super::ops::check::{assert_close, assert_finite_difference, random, values};
use super::*;

/// Sequences of mixed lengths with masks; every second token is an action.
pub(super) fn batch(vocab: u32, lengths: &[usize], masked: bool) -> PackedBatch {
    let words = if masked { vocab.div_ceil(64) as usize } else { 0 };
    let mut batch = PackedBatch::new(words);
    for (sequence, &length) in lengths.iter().enumerate() {
        let numbers = random(sequence as u64 + 1, 3 * length + length * words);
        let (numbers, bits) = numbers.split_at(3 * length);
        let tokens: Vec<u32> = numbers[..length]
            .iter()
            .map(|x| ((x + 1.0) * 0.5 * vocab as f32) as u32 % vocab)
            .collect();
        let mut masks: Vec<u64> = bits
            .iter()
            .map(|x| u64::from(x.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        let actions: Vec<usize> = (1..length).step_by(2).collect();
        for &index in &actions {
            if masked {
                masks[index * words + tokens[index] as usize / 64] |= 1 << (tokens[index] % 64);
            }
        }
        let actions: Vec<Action<'_>> = actions
            .into_iter()
            .map(|index| Action {
                index,
                behaviour_logprob: -3.0 + numbers[length + index],
                weight: numbers[2 * length + index],
                mask: &masks[index * words..(index + 1) * words],
            })
            .collect();
        batch.push(&tokens, &actions).unwrap();
    }
    batch
}

pub(super) fn model(config: &ModelConfig, kernels: Kernels) -> Qwen3 {
    Qwen3::new(Weights::new(config, 5, &Device::Cpu).unwrap())
        .with_kernels(kernels)
        .unwrap()
}

fn configs() -> Vec<ModelConfig> {
    let tiny = ModelConfig::tiny(113);
    vec![
        tiny.clone(),
        ModelConfig {
            num_key_value_heads: 2,
            tie_word_embeddings: true,
            ..tiny.clone()
        },
        ModelConfig {
            num_hidden_layers: 3,
            head_dim: 10,
            num_attention_heads: 3,
            num_key_value_heads: 1,
            ..tiny.clone()
        },
        ModelConfig {
            num_hidden_layers: 1,
            head_dim: 32,
            intermediate_size: 50,
            vocab_size: 200,
            ..tiny
        },
    ]
}

pub(super) fn flat(gradients: Gradients) -> Vec<f32> {
    match gradients {
        Gradients::Flat(values) => values,
        Gradients::Tensors(tensors) => tensors.iter().flat_map(values).collect(),
    }
}

#[test]
fn fused_equals_composite_in_logprobs_loss_and_every_gradient() {
    for (index, config) in configs().iter().enumerate() {
        let batch = batch(config.vocab_size as u32, &[5, 17, 40, 2, 90, 11], index % 2 == 0);
        let (fused, composite) = (model(config, Kernels::Fused), model(config, Kernels::Composite));
        let fused = fused.with_micro_tokens(50);
        assert_close(
            &fused.logprobs(&batch).unwrap(),
            &composite.logprobs(&batch).unwrap(),
            1e-5,
        );
        let (left, grads) = fused.gradients(&batch, Objective::default()).unwrap();
        let (right, expected) = composite.gradients(&batch, Objective::default()).unwrap();
        let (left, right) = (left.report(0.0, 1), right.report(0.0, 1));
        assert!((left.loss - right.loss).abs() < 1e-5 && (left.entropy - right.entropy).abs() < 1e-5);
        let (grads, expected) = (flat(grads), flat(expected));
        let scale = expected.iter().fold(0.0_f32, |scale, g| scale.max(g.abs()));
        let mut at = 0;
        for (name, shape) in config.tensors() {
            let count: usize = shape.iter().product();
            for (found, expected) in grads[at..at + count].iter().zip(&expected[at..at + count]) {
                assert!(
                    (found - expected).abs() < 3e-5 * scale,
                    "{name}: {found} and {expected}"
                );
            }
            assert!(
                grads[at..at + count].iter().any(|g| *g != 0.0),
                "no gradient reached {name}"
            );
            at += count;
        }
    }
}

#[test]
fn every_gradient_equals_finite_differences() {
    let config = ModelConfig {
        hidden_size: 24,
        intermediate_size: 20,
        ..ModelConfig::tiny(30)
    };
    let batch = batch(30, &[6, 70, 9], true);
    let model = model(&config, Kernels::Fused);
    // Without the ratio: finite differences would see it move, and the objective holds it still.
    let (_, gradients) = model.gradients(&batch, Objective::Reinforce).unwrap();
    let gradients = flat(gradients);
    let mut at = 0;
    for var in model.weights().vars() {
        let (start, shape) = (values(var), var.dims().to_vec());
        let loss = |moved: &[f32]| {
            var.set(&candle_core::Tensor::from_slice(moved, shape.as_slice(), &Device::Cpu).unwrap())
                .unwrap();
            let logprobs = model.logprobs(&batch).unwrap();
            let sum: f64 = logprobs
                .iter()
                .zip(&batch.weights)
                .map(|(l, w)| f64::from(*l) * f64::from(*w))
                .sum();
            -sum / batch.actions.len() as f64
        };
        assert_finite_difference(&start, &gradients[at..at + start.len()], loss, 2e-2);
        var.set(&candle_core::Tensor::from_slice(&start, shape.as_slice(), &Device::Cpu).unwrap())
            .unwrap();
        at += start.len();
    }
}

#[test]
fn an_update_is_the_same_for_every_way_to_cut_and_share_the_batch() {
    let config = ModelConfig::tiny(113);
    let lengths: Vec<usize> = (0..60).map(|i| 5 + i * 7 % 30).collect();
    let batch = batch(113, &lengths, true);
    let gradients = |micro: usize, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let model = model(&config, Kernels::Fused).with_micro_tokens(micro);
        pool.install(|| flat(model.gradients(&batch, Objective::default()).unwrap().1))
    };
    let expected = gradients(64, 1);
    // Threads change nothing at all; the cut changes the order of sums.
    assert_eq!(gradients(64, 2), expected);
    assert_eq!(gradients(64, 3), expected);
    assert_close(&gradients(10_000, 2), &expected, 1e-5);
}

#[test]
fn threads_inside_the_operations_of_a_large_model_change_nothing_that_counts() {
    // A vocabulary of several tiles makes it large; one part leaves the threads nothing else to share.
    let config = ModelConfig {
        max_position_embeddings: 300,
        ..ModelConfig::tiny(20_000)
    };
    assert!(config.parameters() > 1 << 21);
    let batch = batch(20_000, &[200, 31, 90], true);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let model = model(&config, Kernels::Fused).with_micro_tokens(10_000);
        pool.install(|| {
            let gradients = flat(model.gradients(&batch, Objective::default()).unwrap().1);
            (model.logprobs(&batch).unwrap(), gradients)
        })
    };
    let ((logprobs, gradients), (expected_logprobs, expected)) = (run(2), run(1));
    assert_close(&logprobs, &expected_logprobs, 1e-5);
    assert_close(&gradients, &expected, 1e-5);
    assert_eq!(run(2).1, gradients);
}

#[test]
fn one_step_is_that_of_the_textbook() {
    let config = ModelConfig::tiny(40);
    let batch = batch(40, &[9, 30], false);
    let constants = AdamWConfig {
        clip_norm: 0.01,
        ..AdamWConfig::default()
    };
    let run = |kernels| {
        let mut learner = Learner::new(model(&config, kernels), constants).unwrap();
        let reports: Vec<_> = (0..3)
            .map(|_| learner.update(&batch, Objective::default(), 1e-2).unwrap())
            .collect();
        (reports, learner.model.weights().to_vec().unwrap())
    };
    let (reports, fused) = run(Kernels::Fused);
    let (_, composite) = run(Kernels::Composite);
    assert_close(&fused, &composite, 2e-3);
    assert!(
        reports.iter().all(|report| report.grad_norm > 0.01),
        "the clip has something to do"
    );

    // The first step, written out in f64.
    let before = model(&config, Kernels::Fused);
    let gradient = flat(before.gradients(&batch, Objective::default()).unwrap().1);
    let mut expected = before.weights().to_vec().unwrap();
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let mut matrix = Vec::new();
    config
        .tensors()
        .iter()
        .for_each(|(_, shape)| matrix.extend(vec![shape.len() > 1; shape.iter().product()]));
    for ((w, g), matrix) in expected.iter_mut().zip(&gradient).zip(matrix) {
        let g = f64::from(*g) * 0.01 / norm;
        let keep = if matrix { 1.0 - 1e-2 * 0.017 } else { 1.0 };
        *w = (f64::from(*w) * keep - 1e-2 * g / (g.abs() + 1e-8)) as f32;
    }
    let mut learner = Learner::new(before, constants).unwrap();
    learner.update(&batch, Objective::default(), 1e-2).unwrap();
    assert_close(&learner.model.weights().to_vec().unwrap(), &expected, 2e-5);
}

#[test]
fn an_optimiser_goes_on_where_it_stopped() {
    let config = ModelConfig::tiny(40);
    let batch = batch(40, &[9, 30], false);
    let mut learner = Learner::new(model(&config, Kernels::Fused), AdamWConfig::default()).unwrap();
    learner.update(&batch, Objective::Reinforce, 1e-2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    learner.optim.save(&path).unwrap();
    let copy = Qwen3::new(learner.model.weights().copy().unwrap());
    let mut other = Learner::new(copy, AdamWConfig::default()).unwrap();
    other.optim.load(&path).unwrap();
    assert_eq!(other.optim.steps(), 1);
    learner.update(&batch, Objective::Reinforce, 1e-2).unwrap();
    other.update(&batch, Objective::Reinforce, 1e-2).unwrap();
    assert_eq!(
        learner.model.weights().to_vec().unwrap(),
        other.model.weights().to_vec().unwrap()
    );
    let stranger = Weights::new(&ModelConfig::tiny(41), 1, &Device::Cpu).unwrap();
    let error = AdamW::new((stranger.names(), stranger.vars()), AdamWConfig::default())
        .unwrap()
        .load(&path)
        .unwrap_err();
    assert!(
        error.to_string().contains("exp_avg.model.embed_tokens.weight"),
        "{error}"
    );
    // A file cut short anywhere is refused and changes nothing.
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = other.optim.load(&path).unwrap_err().to_string();
        assert!(error.contains("optimizer.safetensors"), "{length}: {error}");
        assert_eq!(other.optim.steps(), 2);
    }
    // So is the file of something else.
    learner.model.weights().save(dir.path()).unwrap();
    let error = other.optim.load(&dir.path().join("model.safetensors")).unwrap_err();
    assert!(error.to_string().contains("is not part of this model"), "{error}");
}

#[test]
fn what_is_not_finite_is_refused_and_changes_nothing() {
    let config = ModelConfig::tiny(40);
    let good = batch(40, &[9, 30], false);
    let mut learner = Learner::new(model(&config, Kernels::Fused), AdamWConfig::default()).unwrap();
    let before = learner.model.weights().to_vec().unwrap();
    let mut huge = good.clone();
    huge.weights.iter_mut().for_each(|weight| *weight = f32::MAX);
    let error = learner.update(&huge, Objective::Reinforce, 1e-2).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    assert!(matches!(
        learner.update(&good, Objective::Reinforce, f64::NAN),
        Err(TrainError::Setting { .. })
    ));
    assert!(matches!(
        learner.update(&PackedBatch::new(0), Objective::Reinforce, 0.1),
        Err(TrainError::Batch(_))
    ));
    assert_eq!(learner.model.weights().to_vec().unwrap(), before);
    assert_eq!(learner.optim.steps(), 0);
    let embedding = learner
        .model
        .weights()
        .get("model.embed_tokens.weight")
        .unwrap()
        .clone();
    let whole = embedding.as_detached_tensor().copy().unwrap();
    embedding.set(&(&whole * f64::NAN).unwrap()).unwrap();
    let error = learner.update(&good, Objective::Reinforce, 1e-2).unwrap_err();
    assert!(error.to_string().contains("the loss is NaN"), "{error}");
    // Nothing of it stays in the memory that is kept between calls.
    embedding.set(&whole).unwrap();
    learner.update(&good, Objective::Reinforce, 1e-2).unwrap();
}

#[test]
fn settings_outside_their_range_are_named_and_change_nothing() {
    let good = AdamWConfig::default();
    let weights = Weights::new(&ModelConfig::tiny(40), 1, &Device::Cpu).unwrap();
    for (constants, what) in [
        (
            AdamWConfig { beta1: 1.0, ..good },
            "beta1 must be at least 0 and below 1, got 1",
        ),
        (AdamWConfig { beta1: -0.1, ..good }, "beta1"),
        (
            AdamWConfig {
                beta2: f64::NAN,
                ..good
            },
            "beta2",
        ),
        // 1 in single precision.
        (
            AdamWConfig {
                beta2: 1.0 - 1e-12,
                ..good
            },
            "beta2",
        ),
        (
            AdamWConfig { eps: 0.0, ..good },
            "eps must be finite and above 0, got 0",
        ),
        (
            AdamWConfig {
                eps: f64::INFINITY,
                ..good
            },
            "eps",
        ),
        (
            AdamWConfig {
                weight_decay: -1.0,
                ..good
            },
            "weight_decay",
        ),
        (
            AdamWConfig {
                weight_decay: f64::INFINITY,
                ..good
            },
            "weight_decay",
        ),
        (AdamWConfig { clip_norm: 0.0, ..good }, "clip_norm"),
        (
            AdamWConfig {
                clip_norm: f64::NAN,
                ..good
            },
            "clip_norm",
        ),
    ] {
        let error = AdamW::new((weights.names(), weights.vars()), constants).unwrap_err();
        assert!(
            matches!(error, TrainError::Setting { .. }) && error.to_string().starts_with(what),
            "{error}"
        );
    }
    let loosest = AdamWConfig {
        beta1: 0.0,
        beta2: 0.0,
        weight_decay: 0.0,
        clip_norm: f64::INFINITY,
        ..good
    };
    let mut learner = Learner::new(Qwen3::new(weights), loosest).unwrap();
    let before = learner.model.weights().to_vec().unwrap();
    let batch = batch(40, &[9, 30], false);
    let objective = Objective::Cispo {
        clip_low: 2.0,
        clip_high: 1.0,
    };
    for (objective, lr) in [
        (objective, 0.1),
        (Objective::Reinforce, -0.1),
        (Objective::default(), f64::INFINITY),
    ] {
        let error = learner.update(&batch, objective, lr).unwrap_err();
        assert!(matches!(error, TrainError::Setting { .. }), "{error}");
    }
    assert_eq!(
        (learner.model.weights().to_vec().unwrap(), learner.optim.steps()),
        (before, 0)
    );
    learner.update(&batch, Objective::Reinforce, 0.0).unwrap();
}

/// Sequences whose second half repeats the first: what was seen must be found again by position.
fn copying(seed: u64, count: usize) -> PackedBatch {
    let mut batch = PackedBatch::new(1);
    for sequence in 0..count {
        let half: Vec<u32> = random(seed * 1000 + sequence as u64, 4)
            .iter()
            .map(|x| 1 + ((x + 1.0) * 3.99) as u32)
            .collect();
        let tokens = [&[0], &half[..], &half[..]].concat();
        let actions: Vec<Action<'_>> = (5..9)
            .map(|index| Action {
                index,
                behaviour_logprob: 0.0,
                weight: 1.0,
                mask: &[0x1fe],
            })
            .collect();
        batch.push(&tokens, &actions).unwrap();
    }
    batch
}

#[test]
fn a_tiny_model_learns_to_copy_and_the_seed_decides_every_bit() {
    let run = |seed: u64| {
        let weights = Weights::new(&ModelConfig::tiny(16), seed, &Device::Cpu).unwrap();
        let mut learner = Learner::new(Qwen3::new(weights), AdamWConfig::default()).unwrap();
        let losses: Vec<f64> = (0..60)
            .map(|step| {
                learner
                    .update(&copying(step, 64), Objective::Reinforce, 5e-3)
                    .unwrap()
                    .loss
            })
            .collect();
        (losses, learner.model.weights().to_vec().unwrap())
    };
    let (losses, weights) = run(1);
    let last = losses[50..].iter().sum::<f64>() / 10.0;
    assert!(
        (losses[0] - 8.0_f64.ln()).abs() < 0.5,
        "starts near the uniform guess: {}",
        losses[0]
    );
    assert!(last < 0.2, "{losses:?}");
    assert_eq!(run(1).1, weights);
    assert_ne!(run(2).1, weights);
}

#[test]
fn rewarded_choices_become_likelier_and_punished_ones_rarer() {
    let config = ModelConfig::tiny(16);
    let mut learner = Learner::new(model(&config, Kernels::Fused), AdamWConfig::default()).unwrap();
    let mut batch = PackedBatch::new(0);
    for (chosen, weight) in [(3, 1.0), (4, -1.0)] {
        batch
            .push(
                &[1, 2, chosen],
                &[Action {
                    index: 2,
                    behaviour_logprob: -2.77,
                    weight,
                    mask: &[],
                }],
            )
            .unwrap();
    }
    let before = learner.logprobs(&batch).unwrap();
    let report = learner.update(&batch, Objective::default(), 1e-3).unwrap();
    let after = learner.logprobs(&batch).unwrap();
    assert!(after[0] > before[0] && after[1] < before[1], "{before:?} {after:?}");
    assert_eq!((report.actions, report.tokens_computed), (2, 4));
}
