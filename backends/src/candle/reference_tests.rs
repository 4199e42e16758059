//! The model against transformers, PyTorch's autograd and AdamW, and PEFT, on the numbers that `tests/conformance/reference.py` wrote.
//!
//! Each bound is several times what was measured, because other processors round differently.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::loss::Tally;
use super::ops::check::values;
use super::reference::{ADAPTERS, AdapterCase, Batch, Digest, MODELS, ModelCase, Sequence, Training, largest};
use super::tests::flat;
use super::*;

const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Composite];
/// Absolute. Measured: 5.7e-6, of logits up to 4.
const LOGITS: f32 = 3e-5;
/// Absolute: a loss is a sum of terms of both signs, up to 10 each. Measured: 1.1e-6.
const LOSS: f64 = 1e-5;
/// Relative, as the digest says; also of norms. Measured: 5.1e-6.
const GRADIENTS: f64 = 3e-5;
/// The same of how far the weights have moved after one step and after three. Measured: 2.0e-5 and 1.4e-4, where PyTorch's own f32 and
/// f64 differ by as much.
const MOVED: [f64; 2] = [1e-4, 5e-4];

#[test]
fn logits_are_those_of_transformers() {
    for name in MODELS {
        let case = ModelCase::load(name);
        for kernels in KERNELS {
            let model = model(&case, kernels);
            let worst = assert_logits(&model, &case.sequences, name);
            println!("{name}, {kernels:?}: logits differ by {worst:.1e}");
        }
    }
}

#[test]
fn the_gradient_of_every_tensor_is_autograds() {
    for name in MODELS {
        let case = ModelCase::load(name);
        let batch = case.batch.at_step(0);
        // In one part, and cut into several.
        for (kernels, micro_tokens) in KERNELS.into_iter().flat_map(|kernels| [(kernels, 1024), (kernels, 30)]) {
            let model = model(&case, kernels).with_micro_tokens(micro_tokens);
            let (tally, gradients) = model.gradients(&batch, case.batch.objective()).unwrap();
            let off = assert_loss(&tally, &batch, case.training.loss);
            let gradients = by_name(&model, &flat(gradients));
            let worst = difference(&case.training.gradients, &gradients);
            assert!(worst < GRADIENTS, "{name}: gradients differ by {worst:e}");
            println!("{name}, {kernels:?}, {micro_tokens}: loss {off:.1e}, gradients {worst:.1e}");
        }
    }
}

#[test]
fn ratios_are_cut_on_both_sides_and_norms_lie_on_both_sides_of_the_clip() {
    let mut cut = [false; 2];
    let mut norms = Vec::new();
    for name in MODELS {
        let case = ModelCase::load(name);
        let batch = case.batch.at_step(0);
        let Objective::Cispo { clip_low, clip_high } = case.batch.objective() else {
            unreachable!("the files hold no other")
        };
        let logprobs = model(&case, Kernels::Fused).logprobs(&batch).unwrap();
        for (logprob, behaviour) in logprobs.iter().zip(&batch.behaviour_logprobs) {
            let ratio = (logprob - behaviour).exp();
            cut[0] |= ratio < clip_low;
            cut[1] |= ratio > clip_high;
        }
        norms.extend(case.training.grad_norms);
    }
    assert_eq!(cut, [true; 2]);
    assert!(norms.iter().any(|norm| *norm < 1.0) && norms.iter().any(|norm| *norm > 1.0));
}

#[test]
fn steps_of_adamw_are_pytorchs() {
    for name in MODELS {
        let case = ModelCase::load(name);
        for kernels in KERNELS {
            let (norm, moved) = steps(
                model(&case, kernels),
                &case.batch,
                &case.training,
                AdamWConfig::default(),
            );
            let [first, last] = moved[..] else {
                panic!(
                    "{name}: digests after the first and the last step, found {}",
                    moved.len()
                )
            };
            println!("{name}, {kernels:?}: norms {norm:.1e}, moved {first:.1e} and {last:.1e}");
            let holds = norm < GRADIENTS && first < MOVED[0] && last < MOVED[1];
            assert!(
                holds,
                "{name}, {kernels:?}: norms {norm:e}, moved {first:e} and {last:e}"
            );
        }
    }
}

#[test]
fn other_constants_of_adamw_would_show() {
    let default = AdamWConfig::default();
    let case = ModelCase::load("grouped-tied");
    let other = |change: fn(&mut AdamWConfig)| {
        let mut config = default;
        change(&mut config);
        config
    };
    for config in [
        other(|config| config.beta1 = 0.91),
        other(|config| config.beta2 = 0.96),
        other(|config| config.eps = 1e-7),
        other(|config| config.weight_decay = 0.01),
        other(|config| config.clip_norm = f64::INFINITY),
    ] {
        let (_, moved) = steps(model(&case, Kernels::Fused), &case.batch, &case.training, config);
        let last = moved.last().unwrap();
        assert!(*last > 2.0 * MOVED[1], "{config:?}: {last:e}");
    }
}

#[test]
fn adapters_are_pefts_in_logits_gradients_and_steps() {
    for name in ADAPTERS {
        let case = AdapterCase::load(name);
        // In one part, and cut into several; with and without blocks that are computed again.
        for (kernels, micro_tokens, checkpointing) in [
            (Kernels::Fused, 1024, false),
            (Kernels::Fused, 30, true),
            (Kernels::Composite, 1024, false),
            (Kernels::Composite, 30, true),
        ] {
            let model = || {
                let model = adapted(&case, name, kernels).with_micro_tokens(micro_tokens);
                model.with_checkpointing(checkpointing)
            };
            let logits = assert_logits(&model(), &case.sequences, name);
            let batch = case.batch.at_step(0);
            let (tally, gradients) = model().gradients(&batch, case.batch.objective()).unwrap();
            let loss = assert_loss(&tally, &batch, case.training.loss);
            let worst = difference(&case.training.gradients, &by_name(&model(), &flat(gradients)));
            assert!(worst < GRADIENTS, "{name}: gradients differ by {worst:e}");
            let (norm, moved) = steps(model(), &case.batch, &case.training, AdamWConfig::default());
            assert!(
                norm < GRADIENTS && moved[0] < MOVED[0],
                "{name}: norm {norm:e}, moved {moved:?}"
            );
            println!(
                "{name}, {kernels:?}: logits {logits:.1e}, loss {loss:.1e}, gradients {worst:.1e}, moved {moved:?}"
            );
        }
    }
}

#[test]
fn a_directory_of_peft_is_read_bit_by_bit() {
    let case = AdapterCase::load("query-value");
    let config = ModelCase::load(&case.base).config();
    let adapter = Adapter::load(&reference::path("lora/query-value"), &config, &Device::Cpu).unwrap();
    assert_eq!(adapter.iter().len(), case.tensors.len());
    for (name, var) in adapter.iter() {
        assert_eq!(var.dims(), case.tensors[name]);
        assert_eq!(values(var), case.tensor(name), "{name}");
    }
}

/// The case's base with the case's adapter.
fn adapted(case: &AdapterCase, name: &str, kernels: Kernels) -> Qwen3 {
    let model = model(&ModelCase::load(&case.base), kernels);
    let lora = LoraConfig::load(&reference::path(&format!("lora/{name}"))).unwrap();
    let adapter = Adapter::new(model.config(), lora, 0, &Device::Cpu).unwrap();
    for (name, var) in adapter.iter() {
        var.set(&Tensor::from_vec(case.tensor(name), var.dims(), &Device::Cpu).unwrap())
            .unwrap();
    }
    model.with_adapter(adapter).unwrap()
}

fn model(case: &ModelCase, kernels: Kernels) -> Qwen3 {
    Qwen3::new(case.weights()).with_kernels(kernels).unwrap()
}

#[track_caller]
fn assert_logits(model: &Qwen3, sequences: &[Sequence], case: &str) -> f32 {
    let difference = |sequence: &Sequence| sequence.difference(&model.logits(&sequence.tokens).unwrap());
    let worst = sequences.iter().map(difference).fold(0.0, largest);
    assert!(worst < LOGITS, "{case}: logits differ by {worst:e}");
    worst
}

#[track_caller]
fn assert_loss(tally: &Tally, batch: &PackedBatch, expected: f64) -> f64 {
    let found = tally.report(0.0, batch.actions.len()).loss;
    let off = (found - expected).abs();
    assert!(off < LOSS, "loss {found}, expected {expected}");
    off
}

/// Trains, and returns the largest difference of the gradient's norm at any step, and of how far what learns has moved wherever there is a
/// digest of that.
fn steps(model: Qwen3, batch: &Batch, training: &Training, config: AdamWConfig) -> (f64, Vec<f64>) {
    let numbers = |model: &Qwen3| {
        model
            .trained()
            .1
            .iter()
            .flat_map(|var| values(var))
            .collect::<Vec<f32>>()
    };
    let start = by_name(&model, &numbers(&model));
    let mut learner = Learner::new(model, config).unwrap();
    let (mut norm, mut differences) = (0.0, Vec::new());
    for (step, expected) in training.grad_norms.iter().enumerate() {
        let report = learner
            .update(&batch.at_step(step), batch.objective(), training.lr)
            .unwrap();
        norm = largest(norm, (report.grad_norm - expected).abs() / expected);
        if let Some(moved) = training.moved.get(&(step + 1).to_string()) {
            let mut found = by_name(&learner.model, &numbers(&learner.model));
            for (name, start) in &start {
                let now = found.get_mut(name).unwrap();
                now.iter_mut().zip(start).for_each(|(now, start)| *now -= start);
            }
            differences.push(difference(moved, &found));
        }
    }
    (norm, differences)
}

/// Largest relative difference of any tensor.
#[track_caller]
fn difference(expected: &BTreeMap<String, Digest>, found: &BTreeMap<String, Vec<f64>>) -> f64 {
    assert!(expected.keys().eq(found.keys()), "other tensors");
    let differences = expected
        .iter()
        .map(|(name, digest)| digest.difference(name, &found[name]));
    differences.fold(0.0, largest)
}

/// One flat list in the order of what learns, by tensor.
fn by_name(model: &Qwen3, mut flat: &[f32]) -> BTreeMap<String, Vec<f64>> {
    let mut tensors = BTreeMap::new();
    let (names, vars) = model.trained();
    for (name, var) in names.iter().zip(vars) {
        let (values, rest) = flat.split_at(var.elem_count());
        flat = rest;
        tensors.insert(name.clone(), widened(values));
    }
    tensors
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}
