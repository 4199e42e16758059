//! Small models, nodes to sample, and the decoder written down as plainly as possible.

use candle_core::{Device, Tensor};
use rao_backends::candle::sampler::{Geometry, Sampler, SamplerOptions, SamplerWeights};
use rao_tree::{Completion, Constraint, Mask, Next, Request, SequenceId, Stop, Token, WeightsVersion};
use std::collections::HashMap;
use std::sync::Arc;

/// SplitMix64: tests need numbers, not quality.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

pub fn geometry() -> Geometry {
    Geometry {
        vocab: 37,
        hidden: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        ff: 40,
        rope_theta: 1000.0,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied: false,
        max_positions: 64,
    }
}

/// Tensors by name, `(shape, row-major floats)`.
pub type Raw = HashMap<String, (Vec<usize>, Vec<f32>)>;

pub fn raw_weights(g: &Geometry, seed: u64) -> Raw {
    let mut noise = Noise(seed);
    let mut raw = Raw::new();
    let mut add = |name: String, shape: &[usize]| {
        let norm = shape.len() == 1;
        let scale = if norm {
            0.3
        } else {
            2.0 / (shape[shape.len() - 1] as f32).sqrt()
        };
        let floats = (0..shape.iter().product())
            .map(|_| noise.signed() * scale + f32::from(u8::from(norm)))
            .collect();
        raw.insert(name, (shape.to_vec(), floats));
    };
    let (q, kv) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
    add("model.embed_tokens.weight".into(), &[g.vocab, g.hidden]);
    if !g.tied {
        add("lm_head.weight".into(), &[g.vocab, g.hidden]);
    }
    add("model.norm.weight".into(), &[g.hidden]);
    for layer in 0..g.layers {
        let mut part = |name: &str, shape: &[usize]| add(format!("model.layers.{layer}.{name}.weight"), shape);
        part("self_attn.q_proj", &[q, g.hidden]);
        part("self_attn.k_proj", &[kv, g.hidden]);
        part("self_attn.v_proj", &[kv, g.hidden]);
        part("self_attn.o_proj", &[g.hidden, q]);
        part("self_attn.q_norm", &[g.head_dim]);
        part("self_attn.k_norm", &[g.head_dim]);
        part("mlp.gate_proj", &[g.ff, g.hidden]);
        part("mlp.up_proj", &[g.ff, g.hidden]);
        part("mlp.down_proj", &[g.hidden, g.ff]);
        part("input_layernorm", &[g.hidden]);
        part("post_attention_layernorm", &[g.hidden]);
    }
    raw
}

pub fn tensors(raw: &Raw) -> HashMap<String, Tensor> {
    let tensor = |(shape, floats): &(Vec<usize>, Vec<f32>)| {
        Tensor::from_vec(floats.clone(), shape.as_slice(), &Device::Cpu).unwrap()
    };
    raw.iter().map(|(name, raw)| (name.clone(), tensor(raw))).collect()
}

pub fn weights(g: &Geometry, seed: u64) -> Arc<SamplerWeights> {
    SamplerWeights::pack(g, &tensors(&raw_weights(g, seed))).unwrap()
}

pub fn sampler(weights: &Arc<SamplerWeights>, cache_bytes: usize, chunk_rows: usize) -> Sampler {
    let options = SamplerOptions {
        window: 64,
        cache_bytes,
        chunk_rows,
    };
    Sampler::new(weights.clone(), WeightsVersion(0), options)
}

/// A node that owns its buffers between calls.
#[derive(Clone, Debug)]
pub struct Node {
    pub sequence: u64,
    pub prompt: Vec<Token>,
    pub seed: u64,
    pub temperature: f32,
    pub grammar: Option<Grammar>,
    pub tokens: Vec<Token>,
    pub logprobs: Vec<f32>,
    pub masks: Vec<u64>,
    pub words: usize,
    pub len: usize,
    pub stop: Option<Stop>,
}

impl Node {
    pub fn new(sequence: u64, prompt: &[u32], room: usize) -> Self {
        Self {
            sequence,
            prompt: prompt.iter().copied().map(Token).collect(),
            seed: sequence * 77 + 5,
            temperature: 1.0,
            grammar: None,
            tokens: vec![Token(0); room],
            logprobs: vec![0.0; room],
            masks: Vec::new(),
            words: 0,
            len: 0,
            stop: None,
        }
    }

    pub fn masked(mut self, grammar: Grammar, words: usize) -> Self {
        self.masks = vec![0; self.tokens.len() * words];
        self.words = words;
        self.grammar = Some(grammar);
        self
    }

    pub fn request(&mut self) -> Request<'_> {
        let completion = Completion::new(&mut self.tokens, &mut self.logprobs, &mut self.masks, self.words);
        Request {
            sequence: SequenceId(self.sequence),
            prompt: &self.prompt,
            seed: self.seed,
            temperature: self.temperature,
            constraint: self.grammar.as_mut().map(|grammar| grammar as &mut dyn Constraint),
            completion: completion.unwrap().resumed(self.len),
            stop: self.stop,
        }
    }

    /// What must not depend on anything but the node.
    pub fn outcome(&self) -> (Vec<u32>, Vec<u32>, Option<Stop>) {
        let tokens = self.tokens[..self.len].iter().map(|token| token.0).collect();
        (
            tokens,
            self.logprobs[..self.len].iter().map(|x| x.to_bits()).collect(),
            self.stop,
        )
    }
}

/// Calls a policy once for `nodes`.
pub fn call<P: rao_tree::Policy>(policy: &mut P, nodes: &mut [&mut Node]) -> Result<usize, P::Error> {
    let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(|node| node.request()).collect();
    let result = policy.sample(&mut batch);
    let after: Vec<_> = batch
        .iter()
        .map(|request| (request.completion.len(), request.stop))
        .collect();
    for (node, (len, stop)) in nodes.iter_mut().zip(after) {
        (node.len, node.stop) = (len, stop);
    }
    result
}

/// Calls it until all are finished.
pub fn finish<P: rao_tree::Policy>(policy: &mut P, nodes: &mut [Node]) {
    let mut nodes: Vec<&mut Node> = nodes.iter_mut().collect();
    while call(policy, &mut nodes).unwrap() < nodes.len() {}
}

/// Allows tokens `t` with `(t + len) % 3 != phase`, and is complete once `end` was drawn.
#[derive(Clone, Debug)]
pub struct Grammar {
    pub vocab: u32,
    pub phase: u32,
    pub end: u32,
}

impl Grammar {
    pub fn allows(&self, token: u32, len: usize) -> bool {
        (token + len as u32) % 3 != self.phase
    }
}

impl Constraint for Grammar {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if completion.last() == Some(&Token(self.end)) {
            return Next::Complete;
        }
        for token in (0..self.vocab).filter(|&token| self.allows(token, completion.len())) {
            mask.allow(Token(token));
        }
        Next::Draw
    }
}

/// Logits after every position of `context`, in f64 and without any cleverness.
pub fn reference(g: &Geometry, raw: &Raw, context: &[u32]) -> Vec<Vec<f64>> {
    let get = |name: &str| &raw[name].1;
    let linear = |w: &[f32], x: &[f64]| -> Vec<f64> {
        w.chunks(x.len())
            .map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum())
            .collect()
    };
    let norm = |w: &[f32], x: &[f64]| -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        x.iter()
            .zip(w)
            .map(|(x, w)| x / (mean + g.rms_eps).sqrt() * f64::from(*w))
            .collect()
    };
    let turn = |x: &[f64], position: usize| -> Vec<f64> {
        let half = x.len() / 2;
        let angle = |i: usize| position as f64 / g.rope_theta.powf(2.0 * (i % half) as f64 / x.len() as f64);
        let partner = |i: usize| if i < half { -x[i + half] } else { x[i - half] };
        (0..x.len())
            .map(|i| x[i] * angle(i).cos() + partner(i) * angle(i).sin())
            .collect()
    };
    let embed = get("model.embed_tokens.weight");
    let row = |token: u32| {
        embed[token as usize * g.hidden..][..g.hidden]
            .iter()
            .map(|x| f64::from(*x))
            .collect()
    };
    let mut x: Vec<Vec<f64>> = context.iter().map(|token| row(*token)).collect();
    for layer in 0..g.layers {
        let part = |name: &str| get(&format!("model.layers.{layer}.{name}.weight"));
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, x) in x.iter_mut().enumerate() {
            let h = norm(part("input_layernorm"), x);
            let heads = |name: &str, norm_name: &str| -> Vec<Vec<f64>> {
                let flat = linear(part(name), &h);
                flat.chunks(g.head_dim)
                    .map(|head| turn(&norm(part(norm_name), head), position))
                    .collect()
            };
            let q = heads("self_attn.q_proj", "self_attn.q_norm");
            keys.push(heads("self_attn.k_proj", "self_attn.k_norm"));
            values.push(linear(part("self_attn.v_proj"), &h));
            let mut attended = Vec::new();
            for (head, q) in q.iter().enumerate() {
                let shared = head / (g.heads / g.kv_heads);
                let dot = |k: &Vec<f64>| q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                let e: Vec<f64> = keys
                    .iter()
                    .map(|k| (dot(&k[shared]) / (g.head_dim as f64).sqrt()).exp())
                    .collect();
                let sum: f64 = e.iter().sum();
                for d in 0..g.head_dim {
                    attended.push(
                        e.iter()
                            .zip(&values)
                            .map(|(e, v)| e / sum * v[shared * g.head_dim + d])
                            .sum(),
                    );
                }
            }
            for (x, o) in x.iter_mut().zip(linear(part("self_attn.o_proj"), &attended)) {
                *x += o;
            }
            let h = norm(part("post_attention_layernorm"), x);
            let gate = linear(part("mlp.gate_proj"), &h);
            let up = linear(part("mlp.up_proj"), &h);
            let gated: Vec<f64> = gate.iter().zip(up).map(|(g, up)| g / (1.0 + (-g).exp()) * up).collect();
            for (x, down) in x.iter_mut().zip(linear(part("mlp.down_proj"), &gated)) {
                *x += down;
            }
        }
    }
    let head = if g.tied { embed } else { get("lm_head.weight") };
    x.iter()
        .map(|x| linear(head, &norm(get("model.norm.weight"), x)))
        .collect()
}

/// Log-softmax of `logits / temperature` over the tokens that `allow` passes.
pub fn log_softmax(logits: &[f64], temperature: f64, allow: impl Fn(u32) -> bool) -> Vec<f64> {
    let z = |token: usize| {
        if allow(token as u32) {
            logits[token] / temperature
        } else {
            f64::NEG_INFINITY
        }
    };
    let total: f64 = (0..logits.len()).map(|token| z(token).exp()).sum();
    (0..logits.len()).map(|token| z(token) - total.ln()).collect()
}
