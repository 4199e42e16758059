//! What a weight update costs llama.cpp: a whole file against a LoRA adapter of rank 16, for a model of 50 million parameters.
//!
//! ```text
//! cargo bench -p rao-backends --features llama-cpp --bench adapter
//! ```
//!
//! An update is written to a file, published, and sampled from. Medians of several turns, in which every kind of update has its own.

use rao_backends::candle::gguf::{
    self, Adapter, AdapterTensor, Quant, SpecialTokens, TokenKind, Vocabulary, save_adapter,
};
use rao_backends::candle::{Device, ModelConfig, Weights};
use rao_backends::llama_cpp::{KvPrecision, LlamaCpp, LlamaCppOptions, ModelFile};
use rao_tree::{Completion, Policy, PolicyExt, Request, SequenceId, Token, WeightsVersion};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

const VOCAB: usize = 16_384;
const RANK: usize = 16;
const TURNS: usize = 7;

/// What an update is written as.
#[derive(Clone, Copy)]
enum Update {
    Whole(Quant),
    Adapter(Quant),
}

/// Bytes of the file, and milliseconds to write it, to publish it, and to draw the first token.
type Cost = [f64; 4];

fn main() -> Result<(), Box<dyn Error>> {
    let config = ModelConfig {
        hidden_size: 512,
        num_hidden_layers: 12,
        num_attention_heads: 8,
        num_key_value_heads: 8,
        head_dim: 64,
        intermediate_size: 1536,
        max_position_embeddings: 256,
        tie_word_embeddings: true,
        ..ModelConfig::tiny(VOCAB)
    };
    let weights = Weights::new(&config, 1, &Device::Cpu)?;
    let numbers: Vec<f32> = (0..RANK * config.intermediate_size.max(config.hidden_size))
        .map(|at| (at * 37 % 101) as f32 * 1e-4)
        .collect();
    let modules: Vec<(String, Vec<usize>)> = config
        .tensors()
        .into_iter()
        .filter(|(name, shape)| shape.len() == 2 && !name.contains("embed"))
        .map(|(name, shape)| (name.trim_end_matches(".weight").to_owned(), shape))
        .collect();
    let tensors: Vec<AdapterTensor<'_>> = modules
        .iter()
        .map(|(module, shape)| AdapterTensor {
            module,
            a: &numbers[..RANK * shape[1]],
            b: &numbers[..shape[0] * RANK],
        })
        .collect();
    println!(
        "{} parameters; an adapter of rank {RANK} of {} matrices",
        config.parameters(),
        tensors.len()
    );

    let bench = Bench {
        folder: tempfile::tempdir()?,
        vocabulary: vocabulary()?,
        weights,
        tensors: &tensors,
    };
    let base = bench.folder.path().join("base.gguf");
    bench.write(Update::Whole(Quant::Q8_0), 0, &base)?;
    let options = LlamaCppOptions {
        slots: 16,
        window: 256,
        kv: KvPrecision::F16,
        ..LlamaCppOptions::default()
    };
    let mut policy = LlamaCpp::load(ModelFile::new(base.clone()), WeightsVersion(0), options)?;
    let updates = [
        ("whole, f32", Update::Whole(Quant::F32)),
        ("whole, q8_0", Update::Whole(Quant::Q8_0)),
        // Behind a base in q8_0, which the row above leaves.
        ("adapter, f32", Update::Adapter(Quant::F32)),
        ("adapter, f16", Update::Adapter(Quant::F16)),
    ];
    let mut costs = [const { Vec::new() }; 4];
    for turn in 0..TURNS {
        for ((_, update), costs) in updates.iter().zip(&mut costs) {
            costs.push(bench.update(&mut policy, *update, turn)?);
        }
    }
    println!(
        "| update | bytes | written, ms | published, ms | both, ms | first token, ms |\n|---|---|---|---|---|---|"
    );
    for ((name, _), costs) in updates.iter().zip(&costs) {
        let of = |what: fn(&Cost) -> f64| median(costs.iter().map(what).collect());
        println!(
            "| {name} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} |",
            of(|cost| cost[0]),
            of(|cost| cost[1]),
            of(|cost| cost[2]),
            of(|cost| cost[1] + cost[2]),
            of(|cost| cost[3])
        );
    }
    Ok(())
}

struct Bench<'a> {
    folder: tempfile::TempDir,
    vocabulary: Vocabulary,
    weights: Weights,
    tensors: &'a [AdapterTensor<'a>],
}

impl Bench<'_> {
    fn write(&self, update: Update, version: u64, path: &Path) -> Result<(), Box<dyn Error>> {
        let version = WeightsVersion(version);
        match update {
            Update::Whole(quant) => gguf::save(&self.weights, &self.vocabulary, quant, version, path)?,
            Update::Adapter(quant) => {
                let adapter = Adapter {
                    tensors: self.tensors,
                    rank: RANK,
                    alpha: 32.0,
                    version,
                    fingerprint: Some(self.vocabulary.fingerprint()),
                };
                save_adapter(&adapter, self.weights.config(), quant, path)?;
            }
        }
        Ok(())
    }

    fn update(&self, policy: &mut LlamaCpp, update: Update, turn: usize) -> Result<Cost, Box<dyn Error>> {
        let name = match update {
            Update::Whole(quant) => format!("whole-{quant}-{}", turn % 2),
            Update::Adapter(quant) => format!("adapter-{quant}-{}", turn % 2),
        };
        let (path, version) = (self.folder.path().join(name), turn as u64 + 1);
        let clock = Instant::now();
        self.write(update, version, &path)?;
        let written = milliseconds(clock);
        let bytes = std::fs::metadata(&path)?.len() as f64;
        let (file, version) = (ModelFile::new(path), WeightsVersion(version));
        let clock = Instant::now();
        match update {
            Update::Whole(_) => policy.publish(file, version)?,
            Update::Adapter(_) => policy.publish_adapter(file, version)?,
        }
        let published = milliseconds(clock);
        let clock = Instant::now();
        first_token(policy)?;
        Ok([bytes, written, published, milliseconds(clock)])
    }
}

fn vocabulary() -> Result<Vocabulary, Box<dyn Error>> {
    let tokens = (0..VOCAB).map(|id| (format!("<{id}>"), TokenKind::Word));
    let special = SpecialTokens {
        bos: Token(0),
        eos: Token(1),
        pad: Token(0),
    };
    Ok(Vocabulary::new(tokens, special)?)
}

fn first_token(policy: &mut impl Policy<Error: Error + 'static>) -> Result<(), Box<dyn Error>> {
    let (mut tokens, mut logprobs) = ([Token(0)], [0.0]);
    let mut batch = [Request {
        sequence: SequenceId(0),
        prompt: &[Token(1); 16],
        seed: 1,
        temperature: 1.0,
        constraint: None,
        completion: Completion::new(&mut tokens, &mut logprobs, &mut [], 0)?,
        stop: None,
    }];
    policy.sample_all(&mut batch)?;
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
