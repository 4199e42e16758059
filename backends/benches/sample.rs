//! Tokens sampled per second, by live nodes, model, mask and threads. One JSON line per case.
//!
//! Nodes start from a prompt of three tokens and end at 48; whenever one ends another takes its place, so that contexts of
//! all lengths are live at once. `threads` samplers share the weights and the `live` nodes; figures are their sum,
//! medians of five runs. `tokens_per_cpu_s` counts the time that the threads were on a processor (Linux, otherwise 0), which a busy
//! machine distorts less. Arguments filter cases by substring of `case/live`; `--chunk=N` sets the rows per chunk.

use candle_core::{Device, Tensor};
use rao_backends::candle::sampler::{Geometry, Sampler, SamplerOptions, SamplerWeights};
use rao_tree::{Completion, Constraint, Mask, Next, Policy, Request, SequenceId, Token, WeightsVersion};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WINDOW: usize = 48;
const PROMPT: usize = 3;
const ROOM: usize = WINDOW - PROMPT;

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let chunk = std::env::args().find_map(|arg| arg.strip_prefix("--chunk=")?.parse().ok());
    let chunk_rows = chunk.unwrap_or(SamplerOptions::default().chunk_rows);
    let options = SamplerOptions {
        window: WINDOW,
        cache_bytes: 64 << 20,
        chunk_rows,
    };
    for (case, geometry) in [("tiny", tiny()), ("1m", one_million())] {
        let weights = random_weights(&geometry);
        for live in [1, 64, 256] {
            let name = format!("{case}/{live}");
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
                continue;
            }
            for (masked, threads) in [(true, 1), (false, 1), (true, 2)] {
                if threads > live {
                    continue;
                }
                let runs: Vec<[f64; 2]> = (0..5).map(|_| rate(&weights, options, live, masked, threads)).collect();
                let [wall, cpu] = [0, 1].map(|which| {
                    let mut runs: Vec<f64> = runs.iter().map(|run| run[which]).collect();
                    runs.sort_by(f64::total_cmp);
                    runs[2]
                });
                println!(
                    r#"{{"case":"{case}","live":{live},"masked":{masked},"threads":{threads},"context":[{PROMPT},{WINDOW}],"tokens_per_s":{wall:.0},"tokens_per_cpu_s":{cpu:.0}}}"#
                );
            }
        }
    }
}

/// The quickstart's model: about 100 thousand parameters.
fn tiny() -> Geometry {
    Geometry {
        vocab: 113,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        ff: 128,
        rope_theta: 1000.0,
        rope_scaling: None,
        rms_eps: 1e-6,
        tied: false,
        max_positions: WINDOW,
    }
}

/// About one million parameters.
fn one_million() -> Geometry {
    Geometry {
        vocab: 512,
        hidden: 128,
        layers: 4,
        heads: 4,
        kv_heads: 4,
        head_dim: 32,
        ff: 384,
        ..tiny()
    }
}

/// Tokens per second, and per second of processor time, of `threads` samplers together.
fn rate(weights: &Arc<SamplerWeights>, options: SamplerOptions, live: usize, masked: bool, threads: usize) -> [f64; 2] {
    std::thread::scope(|scope| {
        let worker = |thread| scope.spawn(move || work(weights, options, live / threads, masked, thread));
        let workers: Vec<_> = (0..threads as u64).map(worker).collect();
        let rates = workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker panicked"));
        rates.fold([0.0; 2], |sum, rate| [sum[0] + rate[0], sum[1] + rate[1]])
    })
}

/// Nanoseconds that this thread was on a processor.
fn on_cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ')
        .next()
        .and_then(|nanoseconds| nanoseconds.parse().ok())
        .unwrap_or(0)
}

fn work(weights: &Arc<SamplerWeights>, options: SamplerOptions, live: usize, masked: bool, thread: u64) -> [f64; 2] {
    let mut sampler = Sampler::new(weights.clone(), WeightsVersion(0), options);
    let vocab = weights.geometry().vocab;
    let mut next = thread << 32;
    let mut nodes: Vec<Node> = (0..live)
        .map(|i| {
            next += 1;
            Node::new(next, vocab, 1 + i * 7 % ROOM)
        })
        .collect();
    let run = |sampler: &mut Sampler, nodes: &mut Vec<Node>, next: &mut u64, limit: Duration| {
        let (start, cpu) = (Instant::now(), on_cpu());
        let mut tokens = 0;
        while start.elapsed() < limit {
            let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(|node| node.request(masked)).collect();
            let before: usize = batch.iter().map(|request| request.completion.len()).sum();
            sampler.sample(&mut batch).expect("finite logits");
            tokens += batch.iter().map(|request| request.completion.len()).sum::<usize>() - before;
            let ends: Vec<(usize, bool)> = batch
                .iter()
                .map(|request| (request.completion.len(), request.stop.is_some()))
                .collect();
            for (node, (len, ended)) in nodes.iter_mut().zip(ends) {
                node.len = len;
                if ended {
                    sampler.forget(node.sequence);
                    *next += 1;
                    *node = Node::new(*next, vocab, ROOM);
                }
            }
        }
        let cpu = (on_cpu() - cpu) as f64 / 1e9;
        [
            tokens as f64 / start.elapsed().as_secs_f64(),
            if cpu > 0.0 { tokens as f64 / cpu } else { 0.0 },
        ]
    };
    run(&mut sampler, &mut nodes, &mut next, Duration::from_millis(100));
    run(&mut sampler, &mut nodes, &mut next, Duration::from_millis(400))
}

/// One live node.
struct Node {
    sequence: SequenceId,
    prompt: [Token; PROMPT],
    tokens: Vec<Token>,
    logprobs: Vec<f32>,
    len: usize,
    grammar: Grammar,
}

impl Node {
    fn new(id: u64, vocab: usize, room: usize) -> Self {
        let token = |salt: u64| Token(((id * 31 + salt * 17) % vocab as u64) as u32);
        Self {
            sequence: SequenceId(id),
            prompt: [token(0), token(1), token(2)],
            tokens: vec![Token(0); room],
            logprobs: vec![0.0; room],
            len: 0,
            grammar: Grammar {
                vocab: vocab as u32,
                salt: id as u32,
            },
        }
    }

    fn request(&mut self, masked: bool) -> Request<'_> {
        Request {
            sequence: self.sequence,
            prompt: &self.prompt,
            seed: self.sequence.0,
            temperature: 1.0,
            constraint: masked.then_some(&mut self.grammar as &mut dyn Constraint),
            completion: Completion::new(&mut self.tokens, &mut self.logprobs, &mut [], 0)
                .expect("buffers fit")
                .resumed(self.len),
            stop: None,
        }
    }
}

/// Allows ten tokens, spread over the vocabulary.
struct Grammar {
    vocab: u32,
    salt: u32,
}

impl Constraint for Grammar {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        for i in 0..10 {
            mask.allow(Token((self.salt + completion.len() as u32 * 5 + i * 11) % self.vocab));
        }
        Next::Draw
    }
}

fn random_weights(g: &Geometry) -> Arc<SamplerWeights> {
    let mut tensors = HashMap::new();
    let mut state = 1u64;
    let mut add = |name: String, shape: &[usize], norm: bool| {
        let scale = if norm {
            0.1
        } else {
            1.0 / (shape[shape.len() - 1] as f32).sqrt()
        };
        let data: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let uniform = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
                uniform * scale * 1.7 + if norm { 1.0 } else { 0.0 }
            })
            .collect();
        let tensor = Tensor::from_vec(data, shape, &Device::Cpu).expect("shape fits");
        tensors.insert(name, tensor);
    };
    let (q, kv) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
    add("model.embed_tokens.weight".into(), &[g.vocab, g.hidden], false);
    add("lm_head.weight".into(), &[g.vocab, g.hidden], false);
    add("model.norm.weight".into(), &[g.hidden], true);
    for layer in 0..g.layers {
        let mut part = |name: &str, shape: &[usize]| {
            add(format!("model.layers.{layer}.{name}.weight"), shape, shape.len() == 1);
        };
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
    SamplerWeights::pack(g, &tensors).expect("complete weights")
}
