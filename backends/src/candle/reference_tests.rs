//! The model against transformers, PyTorch's autograd and AdamW, and PEFT, on the numbers that `tests/conformance/reference.py` wrote.
//!
//! Each bound is several times what was measured, because other processors round differently.

use std::collections::BTreeMap;

use candle_core::Tensor;
use safetensors::SafeTensors;

use super::loss::Tally;
use super::ops::check::values;
use super::reference::{ADAPTERS, AdapterCase, Digest, MODELS, ModelCase, Sequence, largest, read};
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
            let [norm, first, last] = steps(&case, kernels, AdamWConfig::default());
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
        let [_, _, last] = steps(&case, Kernels::Fused, config);
        assert!(last > 2.0 * MOVED[1], "{config:?}: {last:e}");
    }
}

#[test]
fn an_adapter_is_its_product_added_to_the_base() {
    for name in ADAPTERS {
        let case = AdapterCase::load(name);
        let base = ModelCase::load(&case.base);
        let config: serde_json::Value = reference::load(&format!("lora/{name}/adapter_config.json"));
        let scale = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
        let matrix =
            |name: &str| Tensor::from_vec(case.tensor(name), case.tensors[name].as_slice(), &Device::Cpu).unwrap();
        let pairs: Vec<[String; 3]> = case.tensors.keys().filter_map(|name| pair(name)).collect();
        assert_eq!(pairs.len() * 2, case.tensors.len());
        for kernels in KERNELS {
            let model = model(&base, kernels);
            for [target, a, b] in &pairs {
                let var = model.weights().get(target).unwrap();
                let product = (matrix(b).matmul(&matrix(a)).unwrap() * scale).unwrap();
                var.set(&(var.as_tensor() + product).unwrap()).unwrap();
            }
            let logits = assert_logits(&model, &case.sequences, name);
            // What reaches W reaches A through B, and B through A.
            let batch = case.batch.at_step(0);
            let (tally, gradients) = model.gradients(&batch, case.batch.objective()).unwrap();
            let loss = assert_loss(&tally, &batch, case.training.loss);
            let of_weights = by_name(&model, &flat(gradients));
            let mut of_adapter = BTreeMap::new();
            for [target, a, b] in &pairs {
                let slope: Vec<f32> = of_weights[target].iter().map(|x| (x * scale) as f32).collect();
                let shape = model.weights().get(target).unwrap().dims().to_vec();
                let slope = Tensor::from_vec(slope, shape, &Device::Cpu).unwrap();
                let of_a = matrix(b).t().unwrap().matmul(&slope).unwrap();
                let of_b = slope.matmul(&matrix(a).t().unwrap()).unwrap();
                of_adapter.insert(a.clone(), widened(&values(&of_a)));
                of_adapter.insert(b.clone(), widened(&values(&of_b)));
            }
            let worst = difference(&case.training.gradients, &of_adapter);
            assert!(worst < GRADIENTS, "{name}: gradients differ by {worst:e}");
            println!("{name}, {kernels:?}: logits {logits:.1e}, loss {loss:.1e}, gradients {worst:.1e}");
        }
    }
}

#[test]
fn a_file_of_peft_holds_what_the_rule_says() {
    let case = AdapterCase::load("query-value");
    let bytes = read("lora/query-value/adapter_model.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names().len(), case.tensors.len());
    for (name, shape) in &case.tensors {
        let view = file.tensor(name).unwrap();
        assert_eq!(
            (view.dtype(), view.shape()),
            (safetensors::Dtype::F32, shape.as_slice())
        );
        let (numbers, _) = view.data().as_chunks::<4>();
        let found: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(found, case.tensor(name), "{name}");
    }
}

fn model(case: &ModelCase, kernels: Kernels) -> Qwen3 {
    Qwen3::new(case.weights()).with_kernels(kernels).unwrap()
}

/// Target, A and B of the A called so, by the names that PEFT gives.
fn pair(a: &str) -> Option<[String; 3]> {
    let target = a.strip_prefix("base_model.model.")?.strip_suffix(".lora_A.weight")?;
    Some([
        format!("{target}.weight"),
        a.to_owned(),
        a.replace(".lora_A.", ".lora_B."),
    ])
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

/// Trains on the case, and returns the largest difference of the gradient's norm at any step, and of how far the weights have moved after
/// the first step and the last.
fn steps(case: &ModelCase, kernels: Kernels, config: AdamWConfig) -> [f64; 3] {
    let training = &case.training;
    let start = case.weights().to_vec().unwrap();
    let mut learner = Learner::new(model(case, kernels), config).unwrap();
    let (mut norm, mut differences) = (0.0, Vec::new());
    for (step, expected) in training.grad_norms.iter().enumerate() {
        let batch = case.batch.at_step(step);
        let report = learner.update(&batch, case.batch.objective(), training.lr).unwrap();
        norm = largest(norm, (report.grad_norm - expected).abs() / expected);
        if let Some(moved) = training.moved.get(&(step + 1).to_string()) {
            let mut found = by_name(&learner.model, &learner.model.weights().to_vec().unwrap());
            for (name, start) in by_name(&learner.model, &start) {
                let now = found.get_mut(&name).unwrap();
                now.iter_mut().zip(start).for_each(|(now, start)| *now -= start);
            }
            differences.push(difference(moved, &found));
        }
    }
    let [first, last] = differences[..] else {
        panic!("digests after the first and the last step, found {}", differences.len())
    };
    [norm, first, last]
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

/// One flat list in the order of the configuration, by tensor.
fn by_name(model: &Qwen3, mut flat: &[f32]) -> BTreeMap<String, Vec<f64>> {
    let mut tensors = BTreeMap::new();
    for (name, shape) in model.config().tensors() {
        let (values, rest) = flat.split_at(shape.iter().product());
        flat = rest;
        tensors.insert(name, widened(values));
    }
    tensors
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}
