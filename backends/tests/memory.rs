//! [`Footprint`] against what an update takes: five million parameters, each case in a process of its own, whose peak the system knows.
//!
//! Linux only: elsewhere the tests say that they are skipped.

#![cfg(feature = "candle")]

use std::process::Command;

use rao_backends::candle::{
    Action, AdamWConfig, Adapter, DType, Device, Footprint, Learner, LoraConfig, ModelConfig, Objective, PackedBatch,
    Qwen3, Update, Weights,
};

/// How far prediction and measurement may lie apart, as a share of what was measured.
const TOLERANCE: f64 = 0.15;
/// Tells a process of this program which case it is: [`Case::name`].
const CASE: &str = "RAO_MEMORY_CASE";
/// Where that process finds a base in bf16.
const BASE: &str = "RAO_MEMORY_BASE";
/// Threads of that process: how much is kept side by side depends on them.
const THREADS: usize = 2;
const SEQUENCES: usize = 8;
const LENGTH: usize = 256;

#[derive(Clone, Copy)]
struct Case {
    lora: bool,
    checkpointing: bool,
}

impl Case {
    fn name(self) -> String {
        format!("lora={} checkpointing={}", self.lora, self.checkpointing)
    }

    fn lora(self) -> Option<LoraConfig> {
        self.lora.then(|| LoraConfig::new(16))
    }

    fn dtype(self) -> DType {
        if self.lora { DType::BF16 } else { DType::F32 }
    }
}

fn config() -> ModelConfig {
    ModelConfig {
        hidden_size: 256,
        num_hidden_layers: 6,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 64,
        intermediate_size: 768,
        ..ModelConfig::tiny(512)
    }
}

#[test]
fn all_weights() {
    check(Case {
        lora: false,
        checkpointing: false,
    });
}

#[test]
fn all_weights_with_checkpointing() {
    check(Case {
        lora: false,
        checkpointing: true,
    });
}

#[test]
fn an_adapter_on_a_base_in_bf16() {
    check(Case {
        lora: true,
        checkpointing: false,
    });
}

#[test]
fn an_adapter_on_a_base_in_bf16_with_checkpointing() {
    check(Case {
        lora: true,
        checkpointing: true,
    });
}

fn check(case: Case) {
    if status("VmHWM").is_none() {
        eprintln!("skipped: only Linux says in /proc/self/status what a process took");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    if case.lora {
        let weights = Weights::new(&config(), 1, &Device::Cpu).unwrap();
        weights.save_as(directory.path(), DType::BF16, None).unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CASE, case.name())
        .env(BASE, directory.path())
        .env("RAYON_NUM_THREADS", THREADS.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let taken = text
        .lines()
        .find_map(|line| line.strip_prefix("KiB ")?.parse::<f64>().ok());
    let taken = taken.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let footprint = Footprint::of(
        &config(),
        &Update {
            dtype: case.dtype(),
            lora: case.lora(),
            tokens: 0,
            longest: LENGTH,
            batch: SEQUENCES * LENGTH,
            checkpointing: case.checkpointing,
            threads: THREADS,
        },
    );
    let (taken, said) = (taken / 1024.0, footprint.total() as f64 / f64::from(1 << 20));
    println!("{}: {taken:.1} MiB taken, {said:.1} predicted", case.name());
    assert!(
        (said - taken).abs() <= TOLERANCE * taken,
        "{}: {taken:.1} MiB taken, {said:.1} predicted: {footprint:?}",
        case.name()
    );
}

#[test]
#[ignore = "the other tests run it, in a process of its own"]
fn child() {
    let Ok(name) = std::env::var(CASE) else { return };
    let case = [(false, false), (false, true), (true, false), (true, true)]
        .map(|(lora, checkpointing)| Case { lora, checkpointing })
        .into_iter()
        .find(|case| case.name() == name)
        .expect("a case of this file");
    let batch = batch();
    let before = status("VmRSS").unwrap();
    let weights = match case.lora {
        true => Weights::load_as(std::env::var_os(BASE).unwrap().as_ref(), DType::BF16, &Device::Cpu).unwrap(),
        false => Weights::new(&config(), 1, &Device::Cpu).unwrap(),
    };
    let mut model = Qwen3::new(weights).with_checkpointing(case.checkpointing);
    if let Some(lora) = case.lora() {
        model = model
            .with_adapter(Adapter::new(&config(), lora, 1, &Device::Cpu).unwrap())
            .unwrap();
    }
    let mut learner = Learner::new(model, AdamWConfig::default()).unwrap();
    learner.update(&batch, Objective::default(), 1e-5).unwrap();
    // Apart from what the harness wrote on the line.
    println!("\nKiB {}", status("VmHWM").unwrap() - before);
}

/// Every second token is an action.
fn batch() -> PackedBatch {
    let mut batch = PackedBatch::new(0);
    for sequence in 0..SEQUENCES as u32 {
        let tokens: Vec<u32> = (0..LENGTH as u32).map(|at| (at * 31 + sequence * 7) % 512).collect();
        let action = |index| Action {
            index,
            behaviour_logprob: -6.0,
            weight: 1.0,
            mask: &[],
        };
        let actions: Vec<_> = (1..LENGTH).step_by(2).map(action).collect();
        batch.push(&tokens, &actions).unwrap();
    }
    batch
}

/// A line of the process's status, in KiB.
fn status(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let rest = status
        .lines()
        .find_map(|each| each.strip_prefix(line)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}
