//! Training tokens per second: forward, backward, clipping and AdamW, on every core.
//!
//! `cargo bench -p rao-backends --bench train` prints a line for people and one of JSON per case; `-- tiny` runs one case. Tokens are all tokens of
//! the batch, also those that need not be computed; a case runs for about three seconds and reports the median step.
//!
//! The batches are those of `tests/conformance/speed.py`, drawn by the same rules from another generator: `tiny` holds ragged sequences
//! of 10 to 48 tokens, `1m` 32 of 256, 8,192 tokens each; half of them are actions, which were chosen among 5 to 15 allowed tokens.

use std::time::{Duration, Instant};

use candle_core::Device;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rao_backends::candle::{
    Action, AdamWConfig, Kernels, Learner, ModelConfig, Objective, PackedBatch, Qwen3, Weights,
};

struct Case {
    name: &'static str,
    config: ModelConfig,
    batch: PackedBatch,
    kernels: Kernels,
}

fn main() {
    // Cargo adds `--bench`; what remains names cases.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    for case in cases() {
        if wanted.is_empty() || wanted.iter().any(|name| name == case.name) {
            run(&case);
        }
    }
}

fn cases() -> Vec<Case> {
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
    let tiny_batch = batch(&tiny, &ragged_lengths());
    let long_batch = batch(&million, &[256; 32]);
    vec![
        Case {
            name: "tiny",
            config: tiny.clone(),
            batch: tiny_batch.clone(),
            kernels: Kernels::Fused,
        },
        Case {
            name: "1m",
            config: million,
            batch: long_batch,
            kernels: Kernels::Fused,
        },
        Case {
            name: "tiny-composite",
            config: tiny,
            batch: tiny_batch,
            kernels: Kernels::Composite,
        },
    ]
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
    let weights = Weights::new(&case.config, 1, &Device::Cpu).expect("a valid configuration");
    let mut model = Qwen3::new(weights).with_kernels(case.kernels).expect("on the CPU");
    if let Some(micro) = std::env::var("MICRO_TOKENS").ok().and_then(|value| value.parse().ok()) {
        model = model.with_micro_tokens(micro);
    }
    let mut learner = Learner::new(model, AdamWConfig::default()).expect("memory for two moments");
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
    let threads = rayon::current_num_threads();
    println!(
        "{:15} {:9} parameters {:6} tokens {:6} actions {threads} threads: {median:9.0} tokens/s (best {best:.0}, {:.0} per CPU second)",
        case.name,
        case.config.parameters(),
        tokens,
        case.batch.actions.len(),
        cpu_rate.unwrap_or(f64::NAN),
    );
    println!(
        "{}",
        serde_json::json!({"case": case.name, "parameters": case.config.parameters(), "tokens": tokens,
            "actions": case.batch.actions.len(), "threads": threads, "tokens_per_s": median, "tokens_per_s_best": best,
            "tokens_per_cpu_s": cpu_rate})
    );
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
