//! From a Hugging Face checkpoint to all that `rao export` writes of it, as a person does it.
#![cfg(feature = "candle")]

mod common;

use common::{memory_is_as_predicted, rao, refused, stdout};
use rao_backends::candle::gguf::Quant;
use rao_backends::candle::{Adapter, DType, Device, ModelConfig, Weights};
use rao_trainer::environments::textcraft::vocabulary::{LANGUAGE, VOCAB};
use serde_json::{Value, json};
use std::path::Path;

/// Tokens of the checkpoint: more than the language has.
const TOKENS: usize = VOCAB + 15;

/// A checkpoint in bf16 and several shards, with grouped queries and a tied output layer.
fn checkpoint(directory: &Path) -> Weights {
    let config = ModelConfig {
        num_key_value_heads: 2,
        tie_word_embeddings: true,
        max_position_embeddings: 512,
        ..ModelConfig::tiny(TOKENS)
    };
    let weights = Weights::new(&config, 5, &Device::Cpu).unwrap();
    weights.save_as(directory, DType::BF16, Some(60_000)).unwrap();
    assert!(directory.join("model.safetensors.index.json").is_file());
    Weights::load(directory, &Device::Cpu).unwrap()
}

/// A tokenizer that calls every token by a name of its own.
fn tokenizer(directory: &Path, names: impl Iterator<Item = String>) {
    let vocab: serde_json::Map<String, Value> = names.zip(0..).map(|(name, id)| (name, json!(id))).collect();
    let text = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unused0>"},
    });
    std::fs::write(directory.join("tokenizer.json"), text.to_string()).unwrap();
    std::fs::write(directory.join("tokenizer_config.json"), r#"{"eos_token": "FINISH"}"#).unwrap();
}

/// A run that is too short to learn much.
const SHORT: [&str; 14] = [
    "train",
    "--run",
    "run",
    "--set",
    "model.path=checkpoint",
    "--set",
    "warmstart.steps=20",
    "--set",
    "warmstart.trees=100",
    "--set",
    "rao.steps=2",
    "--set",
    r#"eval.difficulties=["easy"]"#,
    "--set=eval.easy=10",
];

#[test]
fn an_adapter_is_trained_on_a_frozen_checkpoint_and_written_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let base = checkpoint(&here.join("checkpoint"));
    let lora = ["--set", "lora.rank=16", "--dtype", "bf16"];
    stdout(&rao(here, &[&SHORT[..], &lora].concat()));

    let summary = std::fs::read(here.join("run/summary.json")).unwrap();
    memory_is_as_predicted(&serde_json::from_slice(&summary).unwrap());

    // Megabytes of a checkpoint are not written again: a policy is its adapter.
    let policy = here.join("run/recursive");
    assert!(!policy.join("model.safetensors").exists());
    let adapter = Adapter::load(&policy, base.config(), &Device::Cpu).unwrap();
    let merged = adapter.merge(&base).unwrap().to_vec().unwrap();
    assert_ne!(merged, base.to_vec().unwrap(), "it has learnt nothing");

    // What is sampled is what was written: evaluation reads the adapter and the checkpoint again.
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(here.join("run/summary.json")).unwrap()).unwrap();
    let scores = stdout(&rao(here, &["eval", "--policy", "run", "--tasks", "easy", "--json"]));
    let scores: Value = serde_json::from_str(&scores).unwrap();
    for key in ["greedy", "t1", "tokens"] {
        assert_eq!(scores["easy"][key], summary["recursive"]["easy"][key], "{key}");
    }

    let export = |arguments: &[&str]| stdout(&rao(here, &[&["export", "run"][..], arguments].concat()));
    export(&["--format", "safetensors", "-o", "merged"]);
    assert_eq!(
        Weights::load(&here.join("merged"), &Device::Cpu)
            .unwrap()
            .to_vec()
            .unwrap(),
        merged
    );
    let printed = export(&[
        "--format",
        "safetensors",
        "--dtype",
        "bf16",
        "--max-shard",
        "0.00005",
        "-o",
        "halves",
    ]);
    assert!(
        printed.contains("model-00001-of-") && printed.contains("as bf16"),
        "{printed}"
    );
    let halves = Weights::load(&here.join("halves"), &Device::Cpu)
        .unwrap()
        .to_vec()
        .unwrap();
    let largest = |off: f32, (half, whole): (&f32, &f32)| off.max((half - whole).abs() / whole.abs().max(1e-6));
    assert!(halves.iter().zip(&merged).fold(0.0, largest) <= 1.0 / 256.0);
    let printed = export(&["--format", "adapter", "-o", "adapter"]);
    assert!(printed.contains("adapter_model.safetensors"), "{printed}");
    let read = Adapter::load(&here.join("adapter"), base.config(), &Device::Cpu).unwrap();
    assert_eq!(read.merge(&base).unwrap().to_vec().unwrap(), merged);
    export(&["--format", "gguf-adapter", "--quant", "f16", "-o", "adapter.gguf"]);
    for quant in Quant::ALL {
        let (quant, file) = (quant.to_string(), format!("{quant}.gguf"));
        export(&["--quant", &quant, "-o", &file]);
    }
    // An exported policy is a checkpoint too.
    let again = [
        "train",
        "--set",
        "model.path=merged",
        "--set",
        "lora.rank=4",
        "--dry-run",
    ];
    assert!(stdout(&rao(here, &again)).contains("it fits"));

    let message = refused(
        here,
        &[
            "export",
            "run",
            "--format",
            "gguf-adapter",
            "--quant",
            "q8_0",
            "-o",
            "x.gguf",
        ],
    );
    assert!(message.contains("f32") && message.contains("f16"), "{message}");
    let message = refused(
        here,
        &["export", "run", "--format", "adapter", "--dtype", "bf16", "-o", "x"],
    );
    assert!(message.contains("--format safetensors"), "{message}");
}

#[test]
fn all_weights_of_a_checkpoint_are_trained_and_its_tokenizer_stays_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let base = checkpoint(&here.join("checkpoint"));
    tokenizer(&here.join("checkpoint"), LANGUAGE.names(TOKENS));
    stdout(&rao(here, &SHORT));
    let policy = here.join("run/recursive");
    let trained = Weights::load(&policy, &Device::Cpu).unwrap();
    assert_ne!(trained.to_vec().unwrap(), base.to_vec().unwrap());
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let bytes = |directory: &str| std::fs::read(here.join(directory).join(file)).unwrap();
        assert_eq!(bytes("run/recursive"), bytes("checkpoint"));
    }
    stdout(&rao(here, &["export", "run", "--quant", "f16", "-o", "policy.gguf"]));
    let message = refused(here, &["export", "run", "--format", "adapter", "-o", "adapter"]);
    assert!(message.contains("no adapter"), "{message}");
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let path = here.join("checkpoint");
    checkpoint(&path);
    let train = |more: &[&str]| refused(here, &[&SHORT[..], more].concat());
    let check = |message: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!here.join("run").exists());
    };
    check(train(&["--set", "lora.rank=1000"]), &["rank 1000", "q_proj"]);
    check(
        train(&["--set", "lora.rank=4", "--set", r#"lora.targets=["qkv"]"#]),
        &["qkv", "q_proj"],
    );
    check(train(&["--dtype", "bf16"]), &["lora.rank"]);
    check(
        train(&["--set", "learner.memory=0.01"]),
        &["there are 10.2 MiB", "weights", "learner.memory"],
    );
    check(train(&["--device", "tpu"]), &["device", "cuda"]);
    check(
        train(&["--set", "eval.limits.context=1000"]),
        &["512 positions", "eval.limits.context"],
    );
    let mut names: Vec<String> = LANGUAGE.names(TOKENS).collect();
    names.swap(3, 5);
    tokenizer(&path, names.into_iter());
    check(train(&[]), &["tokenizer.json", "token 3", "INFO", "BASE"]);
    tokenizer(&path, LANGUAGE.names(TOKENS + 1));
    check(train(&[]), &["tokenizer.json", "129", "128"]);
    std::fs::remove_file(path.join("tokenizer.json")).unwrap();
    let files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().file_name());
    let shard = files
        .map(|name| name.into_string().unwrap())
        .find(|name| name.starts_with("model-00002-of-"));
    let shard = shard.expect("a second shard");
    std::fs::remove_file(path.join(&shard)).unwrap();
    check(train(&[]), &[&shard, "absent"]);
    std::fs::remove_file(path.join("config.json")).unwrap();
    check(train(&[]), &["config.json"]);
}
