//! The llama.cpp backend against llama.cpp's own batched loop and against the Candle sampler, on one GGUF file of a million parameters.
//!
//! ```text
//! cargo bench -p rao-backends --features llama-cpp --bench llama_cpp
//! ```
//!
//! Everything is measured in turns within one run, and ratios are formed turn by turn: machines are noisy. Rates count sampled tokens over the
//! whole time, prompts included. llama.cpp's loop feeds tokens that were fixed beforehand and looks at no logits: it does what cannot be avoided.

use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use rao_backends::candle::gguf::{self, Quant, SpecialTokens, TokenKind, Vocabulary};
use rao_backends::candle::sampler::{Geometry, Sampler, SamplerOptions, SamplerWeights};
use rao_backends::candle::{Device, ModelConfig, Weights};
use rao_backends::llama_cpp::{KvPrecision, LlamaCpp, LlamaCppOptions, ModelFile, quantise};
use rao_tree::{Completion, Policy, PolicyExt, Request, SequenceId, Token, WeightsVersion};
use std::error::Error;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Instant;

const VOCAB: usize = 512;
const AGENTS: usize = 32;
const PROMPT: usize = 64;
const NEW: usize = 128;
const WINDOW: usize = 256;
const TURNS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    // What the backend takes by default: its threads spin, and one core is left for whoever asks.
    let threads = LlamaCppOptions::default().threads as usize;
    let config = ModelConfig {
        hidden_size: 128,
        num_hidden_layers: 4,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        head_dim: 64,
        intermediate_size: 384,
        max_position_embeddings: WINDOW,
        ..ModelConfig::tiny(VOCAB)
    };
    let weights = Weights::new(&config, 1, &Device::Cpu)?;
    let folder = tempfile::tempdir()?;
    let f32 = folder.path().join("f32.gguf");
    gguf::save(&weights, &vocabulary()?, Quant::F32, WeightsVersion(0), &f32)?;
    println!(
        "{} parameters, {AGENTS} agents, prompts of {PROMPT}, {NEW} tokens each, {threads} threads",
        config.parameters()
    );

    let tensors = weights
        .iter()
        .map(|(name, var)| (name.to_owned(), var.as_tensor().clone()))
        .collect();
    let packed = SamplerWeights::pack(&Geometry::from(&config), &tensors)?;
    for quant in ["f32", "q8_0"] {
        let path = folder.path().join(format!("{quant}.gguf"));
        if quant != "f32" {
            quantise(&f32, &path, quant.parse()?)?;
        }
        let mut backend = load(&path, threads, 16)?;
        let (mut ours, mut loops, mut candle) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..TURNS {
            ours.push(rate(AGENTS * NEW, || agents(&mut backend, AGENTS, turn)));
            loops.push(raw_loop(&path, threads)?);
            // One sampler is one thread.
            let mut sampler = Sampler::new(packed.clone(), WeightsVersion(0), SamplerOptions::default());
            candle.push(rate(AGENTS * NEW, || agents(&mut sampler, AGENTS, turn)));
        }
        println!(
            "{quant}: backend {:.0} tokens/s, llama.cpp's loop {:.0}, Candle sampler (one thread, f32) {:.0}",
            median(&ours),
            median(&loops),
            median(&candle)
        );
        println!(
            "{quant}: backend / loop {}, backend / Candle {}",
            ratio(&ours, &loops),
            ratio(&ours, &candle)
        );

        let (mut with, mut without) = (Vec::new(), Vec::new());
        let mut none = load(&path, threads, u32::MAX)?;
        for turn in 0..TURNS {
            with.push(rate(AGENTS * 4 * 16, || conversations(&mut backend, turn, true)));
            without.push(rate(AGENTS * 4 * 16, || conversations(&mut none, turn, false)));
        }
        println!(
            "{quant}: four turns behind a common prompt of 128: {:.0} tokens/s with reuse, {:.0} without: {}",
            median(&with),
            median(&without),
            ratio(&with, &without)
        );

        let (mut at_once, mut in_turn) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            at_once.push(rate(4 * NEW, || agents(&mut backend, 4, turn)));
            in_turn.push(rate(4 * NEW, || {
                (0..4).for_each(|child| agents(&mut backend, 1, 4 * turn + child))
            }));
        }
        println!(
            "{quant}: four children at once against one after the other: {} in wall clock",
            ratio(&at_once, &in_turn)
        );
    }
    Ok(())
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

fn load(path: &Path, threads: usize, share_min: u32) -> Result<LlamaCpp, Box<dyn Error>> {
    let options = LlamaCppOptions {
        slots: AGENTS as u32,
        window: WINDOW as u32,
        threads: threads as u32,
        kv: KvPrecision::F16,
        share_min,
        ..LlamaCppOptions::default()
    };
    Ok(LlamaCpp::load(
        ModelFile::new(path.to_owned()),
        WeightsVersion(0),
        options,
    )?)
}

/// Prompts that differ from their first token on, so that nothing is shared.
fn prompt(agent: usize, turn: usize, len: usize) -> Vec<Token> {
    (0..len)
        .map(|at| Token(((agent * 131 + turn * 17 + at * 7) % VOCAB) as u32))
        .collect()
}

/// Every agent draws [`NEW`] tokens.
fn agents(policy: &mut impl Policy, count: usize, turn: usize) {
    let prompts: Vec<_> = (0..count).map(|agent| prompt(agent, turn, PROMPT)).collect();
    let ids: Vec<_> = (0..count).map(|agent| (turn * AGENTS + agent) as u64).collect();
    draw(policy, &ids, &prompts, NEW);
    ids.iter().for_each(|id| policy.forget(SequenceId(*id)));
}

/// Four turns of 16 tokens behind a prompt that all share; without reuse every turn is another node.
fn conversations(policy: &mut impl Policy, turn: usize, reuse: bool) {
    let mut contexts: Vec<Vec<Token>> = (0..AGENTS)
        .map(|agent| prompt(0, turn, 128).into_iter().chain(prompt(agent, turn, 4)).collect())
        .collect();
    for round in 0..4 {
        let ids: Vec<_> = (0..AGENTS)
            .map(|agent| ((1 << 20) + agent + if reuse { 0 } else { round * AGENTS }) as u64)
            .collect();
        let said = draw(policy, &ids, &contexts, 16);
        for (context, said) in contexts.iter_mut().zip(said) {
            context.extend(said);
        }
        if !reuse || round == 3 {
            ids.iter().for_each(|id| policy.forget(SequenceId(*id)));
        }
    }
}

fn draw(policy: &mut impl Policy, ids: &[u64], prompts: &[Vec<Token>], room: usize) -> Vec<Vec<Token>> {
    let mut buffers = vec![(vec![Token(0); room], vec![0.0; room]); prompts.len()];
    let mut requests: Vec<Request<'_>> = ids
        .iter()
        .zip(prompts.iter().zip(&mut buffers))
        .map(|(&id, (prompt, (tokens, logprobs)))| Request {
            sequence: SequenceId(id),
            prompt,
            seed: id,
            temperature: 1.0,
            constraint: None,
            completion: Completion::new(tokens, logprobs, &mut [], 0).expect("buffers fit"),
            stop: None,
        })
        .collect();
    policy.sample_all(&mut requests).expect("a sound policy");
    drop(requests);
    buffers.into_iter().map(|(tokens, _)| tokens).collect()
}

/// The same work with nothing around it: prompts, then [`NEW`] steps of one token for every agent.
fn raw_loop(path: &Path, threads: usize) -> Result<f64, Box<dyn Error>> {
    // The backend initialised llama.cpp; this is only the proof that somebody has, and must not free it.
    let proof: &'static LlamaBackend = Box::leak(Box::new(LlamaBackend {}));
    let model = LlamaModel::load_from_file(proof, path, &LlamaModelParams::default())?;
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new((AGENTS * WINDOW) as u32))
        .with_n_seq_max(AGENTS as u32)
        .with_n_batch(512)
        .with_n_ubatch(512)
        .with_n_threads(threads as i32)
        .with_n_threads_batch(threads as i32)
        .with_type_k(KvCacheType::F16)
        .with_type_v(KvCacheType::F16)
        .with_no_perf(true)
        .with_flash_attention_policy(0);
    let mut context = model.new_context(proof, params)?;
    let mut batch = LlamaBatch::new(512, 1);
    let started = Instant::now();
    for agent in 0..AGENTS {
        for at in 0..PROMPT {
            if batch.n_tokens() == 512 {
                context.decode(&mut batch)?;
                batch.clear();
            }
            let token = (agent * 131 + at * 7) % VOCAB;
            batch.add(LlamaToken(token as i32), at as i32, &[agent as i32], at + 1 == PROMPT)?;
        }
    }
    context.decode(&mut batch)?;
    // The first token comes out of the prompts, so one step less is decoded.
    for step in 1..NEW {
        batch.clear();
        for agent in 0..AGENTS {
            let token = (agent * 37 + step * 101) % VOCAB;
            batch.add(
                LlamaToken(token as i32),
                (PROMPT + step - 1) as i32,
                &[agent as i32],
                true,
            )?;
        }
        context.decode(&mut batch)?;
    }
    // Logits of the last step have to be there.
    std::hint::black_box(context.get_logits_ith(0)[0]);
    Ok((AGENTS * NEW) as f64 / started.elapsed().as_secs_f64())
}

/// Tokens per second.
fn rate(tokens: usize, work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    tokens as f64 / started.elapsed().as_secs_f64()
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Median of the ratios, and their range.
fn ratio(one: &[f64], other: &[f64]) -> String {
    let ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    let (low, high) = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), ratio| {
        (low.min(*ratio), high.max(*ratio))
    });
    format!("{:.2} ({low:.2} to {high:.2})", median(&ratios))
}
