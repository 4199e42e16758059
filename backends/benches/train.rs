//! Training tokens per second and peak memory: forward, backward, clipping and AdamW, on every core.
//!
//! `cargo bench -p rao-backends --bench train` prints a line for people and one of JSON per case, each from a process of its own; `-- tiny` runs
//! one case. Tokens are all tokens of the batch, also those that need not be computed; a case runs for about three seconds and reports the
//! median step. Peak memory (Linux) is the process's, beside it what it grew by from before there was a model, and what
//! [`Footprint`] says.
//!
//! The batches are those of `tests/conformance/speed.py`, drawn by the same rules from another generator: `tiny` holds ragged sequences
//! of 10 to 48 tokens, the others 32 or (`50m`) 8 of 256; half of them are actions, which were chosen among 5 to 15 allowed tokens.
//! `DEVICE=cuda` trains on a card (feature `cuda`), with the composite kernels; peak memory is then the host's alone.
//! `-lora`: rank 16 on all projections of a base in bf16. `-checkpoint`: blocks are computed again on the way back.

use std::process::Command;
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rao_backends::candle::{
    Action, AdamWConfig, Adapter, Footprint, Kernels, Learner, LoraConfig, ModelConfig, Objective, PackedBatch, Qwen3,
    Update, Weights,
};

struct Case {
    name: &'static str,
    config: ModelConfig,
    batch: PackedBatch,
    kernels: Kernels,
    lora: Option<LoraConfig>,
    checkpointing: bool,
}

/// Argument of the process that writes a base in bf16: the case and the directory follow.
const WRITE_BASE: &str = "--write-base";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, directory] = &arguments[..]
        && first == WRITE_BASE
    {
        return write_base(name, directory.as_ref());
    }
    // Cargo adds `--bench`; what remains names cases.
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if let [name] = wanted[..] {
        return run(&case(name));
    }
    for name in NAMES {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            let status = this_program().arg(name).status().expect("this program runs again");
            assert!(status.success(), "{name}: {status}");
        }
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("the system names this program"))
}

const NAMES: [&str; 11] = [
    "tiny",
    "1m",
    "5m",
    "5m-checkpoint",
    "5m-lora",
    "5m-lora-checkpoint",
    "50m",
    "50m-checkpoint",
    "50m-lora",
    "50m-lora-checkpoint",
    "tiny-composite",
];

fn case(name: &str) -> Case {
    let name = NAMES.into_iter().find(|known| *known == name);
    let name = name.unwrap_or_else(|| panic!("cases are {}", NAMES.join(", ")));
    let size = name.split('-').next().unwrap_or(name);
    let tiny = ModelConfig::tiny(113);
    // About a million parameters, the shape that the stack was first measured with.
    let million = ModelConfig {
        hidden_size: 128,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 32,
        intermediate_size: 384,
        vocab_size: 512,
        tie_word_embeddings: false,
        ..tiny.clone()
    };
    // Proportions of Qwen3: two queries to a key, a feed-forward layer of three times the width.
    let grown = |hidden_size: usize, num_hidden_layers: usize| ModelConfig {
        hidden_size,
        num_hidden_layers,
        num_attention_heads: hidden_size / 64,
        num_key_value_heads: hidden_size / 128,
        head_dim: 64,
        intermediate_size: 3 * hidden_size,
        ..million.clone()
    };
    let (config, lengths) = match size {
        "tiny" => (tiny, ragged_lengths()),
        "1m" => (million, vec![256; 32]),
        "5m" => (grown(256, 6), vec![256; 32]),
        _ => (grown(768, 7), vec![256; 8]),
    };
    Case {
        name,
        batch: batch(&config, &lengths),
        config,
        kernels: if name.ends_with("-composite") {
            Kernels::Composite
        } else {
            Kernels::Fused
        },
        lora: name.contains("-lora").then(|| LoraConfig::new(16)),
        checkpointing: name.ends_with("-checkpoint"),
    }
}

/// In a process of its own, so that the weights in f32 do not count.
fn write_base(name: &str, directory: &std::path::Path) {
    let weights = Weights::new(&case(name).config, 1, &Device::Cpu).expect("a valid configuration");
    weights.save_as(directory, DType::BF16, None).expect("room on the disk");
}

/// Tokens of one batch.
const BATCH_TOKENS: usize = 8192;

/// Nodes of a tree: 10 tokens at least, 48 at most, mean about 17, [`BATCH_TOKENS`] together.
fn ragged_lengths() -> Vec<usize> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let (mut lengths, mut left) = (Vec::new(), BATCH_TOKENS);
    while left >= 20 {
        // What remains is enough for another one.
        let most = if left < 58 { left - 10 } else { 48 };
        let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let drawn = 10 + (-7.5 * (1.0 - uniform).ln()) as usize;
        let length = drawn.min(most).min(48);
        lengths.push(length);
        left -= length;
    }
    lengths.push(left);
    lengths
}

/// Random sequences in which every second token is an action, the last one among them.
fn batch(config: &ModelConfig, lengths: &[usize]) -> PackedBatch {
    let (vocab, words) = (config.vocab_size as u64, config.vocab_size.div_ceil(64));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut batch = PackedBatch::new(words);
    for &length in lengths {
        let tokens: Vec<u32> = (0..length).map(|_| (rng.next_u64() % vocab) as u32).collect();
        let indices: Vec<usize> = (1 + length % 2..length).step_by(2).collect();
        let mut masks = vec![0_u64; indices.len() * words];
        for (mask, &index) in masks.chunks_exact_mut(words).zip(&indices) {
            let (allowed, mut token) = (5 + rng.next_u64() % 11, u64::from(tokens[index]));
            while u64::from(mask.iter().map(|word| word.count_ones()).sum::<u32>()) < allowed {
                mask[token as usize / 64] |= 1 << (token % 64);
                token = rng.next_u64() % vocab;
            }
        }
        let actions: Vec<Action<'_>> = indices
            .iter()
            .zip(masks.chunks_exact(words))
            .map(|(&index, mask)| Action {
                index,
                behaviour_logprob: -std::f32::consts::LN_10,
                weight: if index % 3 == 0 { -1.0 } else { 0.7 },
                mask,
            })
            .collect();
        batch.push(&tokens, &actions).expect("masks have the batch's width");
    }
    batch
}

fn run(case: &Case) {
    let threads = rayon::current_num_threads();
    rayon::broadcast(|_| ());
    let before = memory("VmRSS");
    let mut learner = learner(case);
    let mut step = || {
        let start = Instant::now();
        learner
            .update(&case.batch, Objective::default(), 1e-5)
            .expect("a finite step");
        start.elapsed()
    };
    step();
    let (begin, busy, mut times) = (Instant::now(), cpu_seconds(), Vec::new());
    while times.len() < 5 || begin.elapsed() < Duration::from_secs(3) {
        times.push(step());
    }
    let busy = cpu_seconds().zip(busy).map(|(after, before)| after - before);
    let cpu_rate = busy.map(|busy| (case.batch.tokens.len() * times.len()) as f64 / busy);
    times.sort();
    let tokens = case.batch.tokens.len();
    let rate = |time: Duration| tokens as f64 / time.as_secs_f64();
    let (median, best) = (rate(times[times.len() / 2]), rate(times[0]));
    let (parameters, trained) = (case.config.parameters(), learner.model.trained_parameters());
    let (peak, predicted) = (memory("VmHWM"), predicted(case, threads));
    let grown = peak.zip(before).map(|(peak, before)| peak - before);
    let off = grown.map_or(f64::NAN, |grown| 100.0 * (predicted / grown - 1.0));
    println!(
        "{:20} {parameters:9} parameters {tokens:6} tokens {:6} actions {threads} threads: {median:9.0} tokens/s (best {best:.0}, \
        {:.0} per CPU second), peak {:.0} MiB, {:.0} of them training, {predicted:.0} predicted ({off:+.0} %)",
        case.name,
        case.batch.actions.len(),
        cpu_rate.unwrap_or(f64::NAN),
        peak.unwrap_or(f64::NAN),
        grown.unwrap_or(f64::NAN),
    );
    println!(
        "{}",
        serde_json::json!({"case": case.name, "parameters": parameters, "trained": trained, "tokens": tokens,
            "actions": case.batch.actions.len(), "threads": threads, "tokens_per_s": median, "tokens_per_s_best": best,
            "tokens_per_cpu_s": cpu_rate, "peak_mib": peak, "training_mib": grown, "predicted_mib": predicted})
    );
}

/// Where to compute: `DEVICE=cuda` is a card, if this was built for one.
fn device() -> Device {
    match std::env::var("DEVICE").as_deref() {
        #[cfg(feature = "cuda")]
        Ok("cuda") => Device::new_cuda(0).expect("a card"),
        Ok("cpu") | Err(_) => Device::Cpu,
        Ok(other) => panic!("DEVICE={other}: not built for it"),
    }
}

fn learner(case: &Case) -> Learner {
    let device = device();
    let weights = if case.lora.is_some() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut writer = this_program();
        writer.arg(WRITE_BASE).arg(case.name).arg(directory.path());
        assert!(writer.status().expect("this program runs again").success());
        Weights::load_as(directory.path(), DType::BF16, &device).expect("what was just written")
    } else {
        Weights::new(&case.config, 1, &device).expect("a valid configuration")
    };
    let mut model = Qwen3::new(weights).with_checkpointing(case.checkpointing);
    if device.is_cpu() {
        model = model.with_kernels(case.kernels).expect("on the CPU");
    }
    if let Some(micro) = micro_tokens() {
        model = model.with_micro_tokens(micro);
    }
    if let Some(lora) = &case.lora {
        let adapter = Adapter::new(&case.config, lora.clone(), 1, &device).expect("a rank that fits");
        model = model.with_adapter(adapter).expect("made for this model");
    }
    Learner::new(model, AdamWConfig::default()).expect("memory for two moments")
}

/// Tokens that are computed at once, where the environment says so.
fn micro_tokens() -> Option<usize> {
    std::env::var("MICRO_TOKENS").ok()?.parse().ok()
}

/// What [`Footprint`] says, in MiB.
fn predicted(case: &Case, threads: usize) -> f64 {
    let lengths = case.batch.cu_seqlens.windows(2).map(|pair| pair[1] - pair[0]);
    let update = Update {
        dtype: if case.lora.is_some() { DType::BF16 } else { DType::F32 },
        lora: case.lora.clone(),
        tokens: micro_tokens().unwrap_or(0),
        longest: lengths.max().unwrap_or(0),
        batch: case.batch.tokens.len(),
        checkpointing: case.checkpointing,
        threads,
    };
    Footprint::of(&case.config, &update).total() as f64 / f64::from(1 << 20)
}

/// A line of the process's status in MiB, where the system tells: `VmRSS` now, `VmHWM` at its peak.
fn memory(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let rest = status
        .lines()
        .find_map(|each| each.strip_prefix(line)?.strip_prefix(':'))?;
    let kib: f64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// CPU time of all threads so far, where the system tells: on a machine shared with others, wall time says little.
fn cpu_seconds() -> Option<f64> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    Some(nanoseconds.sum::<f64>() / 1e9)
}
