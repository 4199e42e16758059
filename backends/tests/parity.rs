//! Sampler and learner are two implementations of one model: what the one drew, the other must find as likely.
#![cfg(feature = "candle")]

use rao_backends::candle::sampler::{Geometry, Sampler, SamplerOptions, SamplerWeights};
use rao_backends::candle::{
    Action, AdamWConfig, Device, Kernels, Learner, ModelConfig, Objective, PackedBatch, Qwen3, RopeScaling, Weights,
    Yarn,
};
use rao_tree::{Completion, Constraint, Mask, Next, Policy, PolicyExt, Request, SequenceId, Token, WeightsVersion};
use std::sync::Arc;

const VOCAB: usize = 113;
const ROOM: usize = 20;

/// Allows every third token, from an offset that moves with the completion.
struct Thirds(u32);

impl Constraint for Thirds {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        let from = (self.0 + completion.len() as u32) % 3;
        (from..VOCAB as u32).step_by(3).for_each(|id| mask.allow(Token(id)));
        Next::Draw
    }
}

fn pack(weights: &Weights) -> Arc<SamplerWeights> {
    let tensors = weights
        .iter()
        .map(|(name, var)| (name.to_owned(), var.as_tensor().clone()))
        .collect();
    SamplerWeights::pack(&Geometry::from(weights.config()), &tensors).unwrap()
}

/// Samples 40 sequences with masks at this temperature, prompts of 1 to 40 tokens, and packs them for the learner.
fn sampled(sampler: &mut impl Policy, temperature: f32) -> PackedBatch {
    let prompts: Vec<Vec<Token>> = (1..=40_u32)
        .map(|length| (0..length).map(|i| Token((i * 7 + length) % VOCAB as u32)).collect())
        .collect();
    sampled_behind(sampler, &prompts, temperature)
}

/// What the sampler draws behind these prompts, [`ROOM`] tokens each, packed for the learner.
fn sampled_behind(sampler: &mut impl Policy, prompts: &[Vec<Token>], temperature: f32) -> PackedBatch {
    let words = Mask::words(VOCAB);
    let mut buffers: Vec<_> = prompts
        .iter()
        .map(|_| (vec![Token(0); ROOM], vec![0.0; ROOM], vec![0; ROOM * words]))
        .collect();
    let mut grammars: Vec<Thirds> = (0..prompts.len() as u32).map(Thirds).collect();
    let mut requests: Vec<Request<'_>> = prompts
        .iter()
        .zip(&mut buffers)
        .zip(&mut grammars)
        .enumerate()
        .map(|(index, ((prompt, (tokens, logprobs, masks)), grammar))| Request {
            sequence: SequenceId(index as u64),
            prompt,
            seed: index as u64,
            temperature,
            constraint: Some(grammar),
            completion: Completion::new(tokens, logprobs, masks, words).unwrap(),
            stop: None,
        })
        .collect();
    sampler.sample_all(&mut requests).unwrap();
    drop(requests);
    let mut batch = PackedBatch::new(words);
    batch.temperature = temperature;
    for (prompt, (tokens, logprobs, masks)) in prompts.iter().zip(&buffers) {
        let all: Vec<u32> = prompt.iter().chain(tokens).map(|token| token.0).collect();
        let actions: Vec<Action<'_>> = (0..ROOM)
            .map(|drawn| Action {
                index: prompt.len() + drawn,
                behaviour_logprob: logprobs[drawn],
                weight: 1.0,
                mask: &masks[drawn * words..][..words],
            })
            .collect();
        batch.push(&all, &actions).unwrap();
    }
    batch
}

fn gap(learner: &Learner, batch: &PackedBatch) -> f32 {
    let found = learner.logprobs(batch).unwrap();
    assert_eq!(found.len(), batch.behaviour_logprobs.len());
    let gaps = found.iter().zip(&batch.behaviour_logprobs).map(|(a, b)| (a - b).abs());
    gaps.fold(0.0, f32::max)
}

#[test]
fn the_learner_finds_what_the_sampler_drew_as_likely_as_it_did() {
    for (kv_heads, tied) in [(4, false), (2, true), (1, false)] {
        let config = ModelConfig {
            num_key_value_heads: kv_heads,
            tie_word_embeddings: tied,
            ..ModelConfig::tiny(VOCAB)
        };
        let weights = Weights::new(&config, 3, &Device::Cpu).unwrap();
        let mut sampler = Sampler::new(pack(&weights), WeightsVersion(0), SamplerOptions::default());
        let copy = weights.copy().unwrap();
        let fused = Learner::new(Qwen3::new(weights), AdamWConfig::default()).unwrap();
        let composite = Qwen3::new(copy).with_kernels(Kernels::Composite).unwrap();
        let composite = Learner::new(composite, AdamWConfig::default()).unwrap();
        for temperature in [1.0, 0.6] {
            let batch = sampled(&mut sampler, temperature);
            assert!(gap(&fused, &batch) < 2e-4, "fused: {}", gap(&fused, &batch));
            assert!(gap(&composite, &batch) < 2e-4, "composite: {}", gap(&composite, &batch));
        }
    }
}

/// Every kind of RoPE scaling, made for 16 positions and stretched.
fn scalings() -> Vec<RopeScaling> {
    let sharper = Yarn {
        attention_factor: Some(1.4),
        ..Yarn::new(8.0, 32)
    };
    vec![
        RopeScaling::Linear { factor: 3.0 },
        RopeScaling::Yarn(Yarn::new(4.0, 16)),
        RopeScaling::Yarn(sharper),
        RopeScaling::Llama3 {
            factor: 4.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 16,
        },
    ]
}

#[test]
fn sampler_and_learner_stretch_positions_alike() {
    let logprobs = |scaling| {
        let config = ModelConfig {
            rope_scaling: scaling,
            ..ModelConfig::tiny(VOCAB)
        };
        let weights = Weights::new(&config, 3, &Device::Cpu).unwrap();
        let mut sampler = Sampler::new(pack(&weights), WeightsVersion(0), SamplerOptions::default());
        let copy = weights.copy().unwrap();
        let fused = Learner::new(Qwen3::new(weights), AdamWConfig::default()).unwrap();
        let composite = Qwen3::new(copy).with_kernels(Kernels::Composite).unwrap();
        let composite = Learner::new(composite, AdamWConfig::default()).unwrap();
        let batch = sampled(&mut sampler, 1.0);
        assert!(gap(&fused, &batch) < 2e-4, "fused: {}", gap(&fused, &batch));
        assert!(gap(&composite, &batch) < 2e-4, "composite: {}", gap(&composite, &batch));
        batch.behaviour_logprobs
    };
    let plain = logprobs(None);
    for scaling in scalings() {
        assert_ne!(logprobs(Some(scaling)), plain, "{scaling:?}");
    }
}

#[test]
fn after_an_update_the_old_samples_are_off_and_published_weights_agree_again() {
    let weights = Weights::new(&ModelConfig::tiny(VOCAB), 5, &Device::Cpu).unwrap();
    let mut sampler = Sampler::new(pack(&weights), WeightsVersion(0), SamplerOptions::default());
    let mut learner = Learner::new(Qwen3::new(weights), AdamWConfig::default()).unwrap();
    let batch = sampled(&mut sampler, 1.0);
    let report = learner.update(&batch, Objective::default(), 1e-3).unwrap();
    assert!(
        (report.ratio - 1.0).abs() < 1e-4,
        "on policy the ratio is 1: {report:?}"
    );
    assert!(gap(&learner, &batch) > 1e-3, "the update moved the policy");

    sampler.publish(pack(learner.model.weights()), WeightsVersion(1));
    assert_eq!(sampler.weights(), WeightsVersion(1));
    let batch = sampled(&mut sampler, 1.0);
    assert!(gap(&learner, &batch) < 2e-4, "{}", gap(&learner, &batch));
}

#[cfg(feature = "llama-cpp")]
mod llama_cpp {
    use super::*;
    use rao_backends::candle::gguf::{self, Quant, SpecialTokens, TokenKind, Vocabulary};
    use rao_backends::llama_cpp::{KvPrecision, LlamaCpp, LlamaCppOptions, ModelFile};

    /// Largest difference of log-probabilities, in nats.
    const BOUND: f32 = 1e-3;

    fn policy(weights: &Weights, quant: Quant, slots: u32) -> LlamaCpp {
        let tokens = (0..VOCAB).map(|id| (format!("<{id}>"), TokenKind::Word));
        let special = SpecialTokens {
            bos: Token(0),
            eos: Token(1),
            pad: Token(0),
        };
        let vocabulary = Vocabulary::new(tokens, special).unwrap();
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        gguf::save(weights, &vocabulary, quant, WeightsVersion(0), &path).unwrap();
        let options = LlamaCppOptions {
            slots,
            window: 512,
            threads: 1,
            batch: 100,
            kv: KvPrecision::F32,
            fingerprint: Some(vocabulary.fingerprint().to_owned()),
            ..LlamaCppOptions::default()
        };
        LlamaCpp::load(ModelFile::new(path), WeightsVersion(0), options).unwrap()
    }

    fn model(kv_heads: usize, tied: bool) -> Weights {
        let config = ModelConfig {
            num_key_value_heads: kv_heads,
            tie_word_embeddings: tied,
            max_position_embeddings: 512,
            ..ModelConfig::tiny(VOCAB)
        };
        Weights::new(&config, 3, &Device::Cpu).unwrap()
    }

    #[test]
    fn in_f32_both_backends_find_every_token_as_likely() {
        for (kv_heads, tied) in [(4, false), (2, true), (1, false)] {
            let weights = model(kv_heads, tied);
            let mut policy = policy(&weights, Quant::F32, 64);
            let learner = Learner::new(Qwen3::new(weights), AdamWConfig::default()).unwrap();
            for temperature in [1.0, 0.6] {
                let gap = gap(&learner, &sampled(&mut policy, temperature));
                assert!(gap < BOUND, "{gap}");
            }
        }
    }

    #[test]
    fn so_they_do_at_any_length_after_reuse_and_after_eviction() {
        let weights = model(2, false);
        // Room for all of them, and for far too few.
        for slots in [16, 2] {
            let mut policy = policy(&weights, Quant::F32, slots);
            let learner = Learner::new(Qwen3::new(weights.copy().unwrap()), AdamWConfig::default()).unwrap();
            let token = |i: usize| Token((i * 31 % VOCAB) as u32);
            let lengths = [1, 2, 31, 32, 33, 99, 100, 101, 255, 256, 257, 450];
            // Without room everything is computed at every step: fewer, shorter ones will do.
            let lengths = if slots < lengths.len() as u32 {
                &lengths[..6]
            } else {
                &lengths
            };
            let mut prompts: Vec<Vec<Token>> = lengths.iter().map(|&length| (0..length).map(token).collect()).collect();
            // Twice: the second time all but the last token is in the cache. Then with more behind it, as a node's next turn.
            for more in [0, 0, 13] {
                for prompt in &mut prompts {
                    prompt.extend((0..more).map(|i| token(i + 5)));
                }
                let gap = gap(&learner, &sampled_behind(&mut policy, &prompts, 1.0));
                assert!(gap < BOUND, "{slots} slots: {gap}");
            }
        }
    }

    /// Prompts of up to 450 tokens, most of them far beyond the 16 or 32 positions that the scalings start from.
    #[test]
    fn both_backends_stretch_positions_alike() {
        let token = |i: usize| Token((i * 31 % VOCAB) as u32);
        let prompts: Vec<Vec<Token>> = [3, 16, 17, 40, 200, 450]
            .iter()
            .map(|&length| (0..length).map(token).collect())
            .collect();
        for scaling in scalings() {
            if matches!(scaling, RopeScaling::Llama3 { .. }) {
                continue;
            }
            let config = ModelConfig {
                max_position_embeddings: 512,
                rope_scaling: Some(scaling),
                ..ModelConfig::tiny(VOCAB)
            };
            let weights = Weights::new(&config, 3, &Device::Cpu).unwrap();
            let mut policy = policy(&weights, Quant::F32, 16);
            let batch = sampled_behind(&mut policy, &prompts, 1.0);
            let found = Learner::new(Qwen3::new(weights), AdamWConfig::default()).unwrap();
            let gap_found = gap(&found, &batch);
            assert!(gap_found < BOUND, "{scaling:?}: {gap_found}");
            // The bound would notice: the same weights without scaling are further off.
            let plain = Weights::new(
                &ModelConfig {
                    rope_scaling: None,
                    ..config
                },
                3,
                &Device::Cpu,
            )
            .unwrap();
            let plain = Learner::new(Qwen3::new(plain), AdamWConfig::default()).unwrap();
            assert!(
                gap(&plain, &batch) > 10.0 * BOUND,
                "{scaling:?}: {}",
                gap(&plain, &batch)
            );
        }
    }

    #[test]
    fn fewer_bits_are_further_off_but_not_far() {
        let weights = model(4, false);
        let learner = Learner::new(Qwen3::new(weights.copy().unwrap()), AdamWConfig::default()).unwrap();
        let gaps = [Quant::F32, Quant::F16, Quant::Q8_0, Quant::Q4_0].map(|quant| {
            let mut policy = policy(&weights, quant, 64);
            gap(&learner, &sampled(&mut policy, 1.0))
        });
        assert!(gaps.is_sorted(), "{gaps:?}");
        assert!(gaps[1] < 0.02 && gaps[2] < 0.2, "{gaps:?}");
    }
}

/// On a card: `cargo test -p rao-backends --features cuda --test parity`.
#[cfg(feature = "cuda")]
mod cuda {
    use super::*;
    use rao_backends::candle::{Adapter, LoraConfig};

    fn on(device: &Device, lora: bool) -> Learner {
        let config = ModelConfig::tiny(VOCAB);
        let mut model = Qwen3::new(Weights::new(&config, 3, device).unwrap());
        if lora {
            let adapter = Adapter::new(&config, LoraConfig::new(4), 1, device).unwrap();
            model = model.with_adapter(adapter).unwrap();
        }
        Learner::new(model, AdamWConfig::default()).unwrap()
    }

    /// Losses, norms of gradients and likelihoods of a few updates, here and there.
    #[test]
    fn a_card_learns_what_the_cpu_learns() {
        let card = Device::new_cuda(0).expect("this test needs a card");
        let weights = Weights::new(&ModelConfig::tiny(VOCAB), 3, &Device::Cpu).unwrap();
        let mut sampler = Sampler::new(pack(&weights), WeightsVersion(0), SamplerOptions::default());
        let batch = sampled(&mut sampler, 1.0);
        for lora in [false, true] {
            let (mut here, mut there) = (on(&Device::Cpu, lora), on(&card, lora));
            assert!(gap(&there, &batch) < 1e-3, "{}", gap(&there, &batch));
            for update in 0..5 {
                let [a, b] = [&mut here, &mut there].map(|l| l.update(&batch, Objective::default(), 1e-3).unwrap());
                let near = |a: f64, b: f64, what: &str| {
                    assert!(
                        (a - b).abs() <= 1e-3 * (1.0 + a.abs()),
                        "{what} of update {update}: {a} and {b}"
                    );
                };
                near(a.loss, b.loss, "loss");
                near(a.grad_norm, b.grad_norm, "norm");
                near(a.ratio, b.ratio, "ratio");
            }
            let (a, b) = (here.logprobs(&batch).unwrap(), there.logprobs(&batch).unwrap());
            let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("lora {lora}: log-probabilities differ by at most {apart:e} after five updates");
            assert!(apart < 5e-3, "{apart}");
        }
    }
}
