//! Low-rank adaptation of the whole decoder: fused against Candle's differentiation, against merged weights, on bases of every precision;
//! checkpointing; and the directory that PEFT reads.

use candle_core::{DType, Device, Var};

use super::ops::check::{assert_close, random, values};
use super::tests::{batch, flat};
use super::weights::Shard;
use super::*;

/// Grouped queries, heads apart from the width, an odd vocabulary.
fn config() -> ModelConfig {
    ModelConfig {
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 10,
        tie_word_embeddings: true,
        ..ModelConfig::tiny(97)
    }
}

fn lora(targets: &[Target]) -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 4.5,
        targets: targets.to_vec(),
    }
}

/// Matrices in `dtype`, gains in f32.
fn base(dtype: DType) -> Weights {
    let weights = Weights::new(&config(), 5, &Device::Cpu).unwrap();
    weights
        .map(|_, var| {
            let tensor = var.as_detached_tensor();
            let kept = if tensor.rank() > 1 {
                tensor.to_dtype(dtype)?
            } else {
                tensor
            };
            Ok(Var::from_tensor(&kept)?)
        })
        .unwrap()
}

/// An adapter whose factors both say something.
fn adapter(targets: &[Target]) -> Adapter {
    let adapter = Adapter::new(&config(), lora(targets), 3, &Device::Cpu).unwrap();
    for (seed, (_, var)) in adapter.iter().enumerate() {
        let numbers = random(seed as u64 + 50, var.elem_count());
        let numbers: Vec<f32> = numbers.iter().map(|x| 0.2 * x).collect();
        var.set(&candle_core::Tensor::from_vec(numbers, var.dims(), &Device::Cpu).unwrap())
            .unwrap();
    }
    adapter
}

fn adapted(dtype: DType, targets: &[Target], kernels: Kernels) -> Qwen3 {
    let model = Qwen3::new(base(dtype)).with_adapter(adapter(targets)).unwrap();
    model.with_kernels(kernels).unwrap()
}

#[test]
fn fused_equals_composite_on_a_base_of_every_precision() {
    let batch = batch(97, &[5, 17, 40, 2, 90, 11], true);
    for (dtype, targets) in [
        (DType::F32, &Target::ALL[..]),
        (DType::BF16, &Target::ALL[..]),
        (DType::F16, &[Target::Query, Target::Value][..]),
    ] {
        let fused = adapted(dtype, targets, Kernels::Fused).with_micro_tokens(50);
        let composite = adapted(dtype, targets, Kernels::Composite);
        let (left, right) = (fused.logprobs(&batch).unwrap(), composite.logprobs(&batch).unwrap());
        assert_close(&left, &right, 1e-5);
        let (_, grads) = fused.gradients(&batch, Objective::default()).unwrap();
        let (_, expected) = composite.gradients(&batch, Objective::default()).unwrap();
        let (grads, expected) = (flat(grads), flat(expected));
        assert_eq!(grads.len(), fused.trained_parameters());
        assert_close(&grads, &expected, 3e-5);
        let mut at = 0;
        for (name, var) in adapter(targets).iter() {
            let here = &grads[at..at + var.elem_count()];
            assert!(here.iter().any(|g| *g != 0.0), "no gradient reached {name}");
            at += var.elem_count();
        }
    }
}

#[test]
fn checkpointing_changes_no_bit_of_fused_gradients_and_nothing_that_counts_of_composite_ones() {
    let batch = batch(97, &[5, 17, 40, 2, 90, 11], true);
    let run = |model: Qwen3| flat(model.gradients(&batch, Objective::default()).unwrap().1);
    let whole = |kernels| Qwen3::new(base(DType::F32)).with_kernels(kernels).unwrap();
    let lora = |kernels| adapted(DType::BF16, &Target::ALL, kernels);
    for model in [whole, lora] {
        let fused = || model(Kernels::Fused).with_micro_tokens(50);
        assert_eq!(run(fused().with_checkpointing(true)), run(fused()));
        let composite = || model(Kernels::Composite);
        assert_close(&run(composite().with_checkpointing(true)), &run(composite()), 1e-6);
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_merged_one_is_the_same_model() {
    let batch = batch(97, &[17, 40, 9], false);
    let plain = Qwen3::new(base(DType::F32));
    let fresh = Adapter::new(&config(), lora(&Target::ALL), 3, &Device::Cpu).unwrap();
    let fresh = Qwen3::new(base(DType::F32)).with_adapter(fresh).unwrap();
    assert_eq!(fresh.logprobs(&batch).unwrap(), plain.logprobs(&batch).unwrap());
    for dtype in [DType::F32, DType::BF16] {
        let targets = [Target::Key, Target::Output, Target::Down];
        let merged = Qwen3::new(adapter(&targets).merge(&base(dtype)).unwrap());
        let model = adapted(dtype, &targets, Kernels::Fused);
        let logprobs = model.logprobs(&batch).unwrap();
        assert_close(&logprobs, &merged.logprobs(&batch).unwrap(), 1e-5);
        let moved = plain
            .logprobs(&batch)
            .unwrap()
            .iter()
            .zip(&logprobs)
            .any(|(a, b)| (a - b).abs() > 0.01);
        assert!(moved, "the adapter says nothing");
    }
}

#[test]
fn a_step_moves_the_factors_as_the_textbook_does_and_leaves_the_base_alone() {
    let batch = batch(97, &[17, 40, 9], true);
    let mut learner = Learner::new(
        adapted(DType::BF16, &Target::ALL, Kernels::Fused),
        AdamWConfig::default(),
    )
    .unwrap();
    let numbers = |model: &Qwen3| {
        let vars = model.weights().vars().iter();
        vars.map(|var| {
            var.to_dtype(DType::F32)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        })
        .collect::<Vec<_>>()
    };
    let before = numbers(&learner.model);
    let losses: Vec<f64> = (0..30)
        .map(|_| learner.update(&batch, Objective::Reinforce, 1e-2).unwrap().loss)
        .collect();
    assert!(losses[29] < losses[0] - 0.5, "{losses:?}");
    assert_eq!(numbers(&learner.model), before);
    // Moments of what learns alone: two of every factor.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    learner.optim.save(&path).unwrap();
    let moments = Shard::open(path).unwrap().names();
    assert_eq!(moments.len(), 2 * (2 * 7 * 3));
    let gradient = learner.model.gradients(&batch, Objective::Reinforce).unwrap().1;
    assert_eq!(flat(gradient).len(), lora(&Target::ALL).parameters(&config()));
}

#[test]
fn half_precision_does_not_learn_and_a_foreign_adapter_is_refused() {
    let batch = batch(97, &[9], false);
    let model = Qwen3::new(base(DType::BF16));
    assert!(model.logprobs(&batch).is_ok());
    let error = model.gradients(&batch, Objective::default()).unwrap_err();
    assert!(matches!(error, TrainError::Frozen { dtype: DType::BF16 }), "{error}");
    let wide = ModelConfig {
        intermediate_size: 100,
        ..config()
    };
    let foreign = Adapter::new(&wide, lora(&Target::ALL), 3, &Device::Cpu).unwrap();
    let error = Qwen3::new(base(DType::F32)).with_adapter(foreign).unwrap_err();
    assert!(error.to_string().contains("gate_proj"), "{error}");
    let error = Adapter::new(&config(), LoraConfig::new(33), 0, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("rank 33"), "{error}");
}

#[test]
fn a_peft_directory_round_trips_and_what_is_not_supported_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let targets = [Target::Query, Target::Up];
    let written = adapter(&targets);
    written.save(dir.path(), "base/model").unwrap();
    let read = Adapter::load(dir.path(), &config(), &Device::Cpu).unwrap();
    assert_eq!(read.config(), written.config());
    for ((name, var), (other, read)) in written.iter().zip(read.iter()) {
        assert_eq!(name, other);
        assert_eq!(values(var), values(read));
    }
    let first = written.iter().next().unwrap().0;
    assert_eq!(first, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    assert_eq!(written.modules().next().unwrap().0, "model.layers.0.self_attn.q_proj");

    let path = dir.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let load_with = |field: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[field] = value;
        std::fs::write(&path, json.to_string()).unwrap();
        Adapter::load(dir.path(), &config(), &Device::Cpu)
    };
    for (field, value) in [
        ("peft_type", "IA3".into()),
        ("bias", "all".into()),
        ("use_dora", true.into()),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("target_modules", serde_json::json!(["embed_tokens"])),
        ("target_modules", ".*proj".into()),
        ("rank_pattern", serde_json::json!({"q_proj": 8})),
    ] {
        let message = load_with(field, value).unwrap_err().to_string();
        assert!(
            message.contains(field) && message.contains("adapter_config.json"),
            "{message}"
        );
    }
    // Rank-stabilised: the scale is alpha over the root of the rank.
    let stabilised = load_with("use_rslora", true.into()).unwrap();
    assert!((stabilised.config().scale() - 4.5 / 3.0_f64.sqrt()).abs() < 1e-12);
    // Tensors that the configuration does not know, or asks for in vain.
    let message = load_with("target_modules", serde_json::json!(["q_proj"]))
        .unwrap_err()
        .to_string();
    assert!(message.contains("up_proj") && message.contains("not part"), "{message}");
    let message = load_with("r", 2.into()).unwrap_err().to_string();
    assert!(message.contains("lora_A") && message.contains("shape"), "{message}");
}
