//! The sampler: which tokens to feed, in which chunks, and what to draw.

use super::cache::Cache;
use super::forward::{Forward, Row};
use super::weights::SamplerWeights;
use crate::random::uniform;
use crate::sampling::{Draw, SamplerError, begin, consult};
use rao_tree::{Mask, Policy, Request, SequenceId, WeightsVersion};
use std::sync::Arc;

/// How much memory a [`Sampler`] may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerOptions {
    /// Longest context, prompt and completion together; what exceeds it ends as [`rao_tree::Stop::ContextOverflow`]. The model's own
    /// limit applies as well.
    pub window: usize,
    /// Bytes of keys and values kept. Raised to what one sequence of `window` tokens needs. Results never depend on it.
    pub cache_bytes: usize,
    /// Rows computed at once. Results never depend on it.
    pub chunk_rows: usize,
}

impl Default for SamplerOptions {
    /// A window of 4096 tokens, 256 MiB of cache, 256 rows (their activations stay in the second-level cache for small models).
    fn default() -> Self {
        Self {
            window: 4096,
            cache_bytes: 256 << 20,
            chunk_rows: 256,
        }
    }
}

/// Samples a Qwen3 decoder on one thread; the [module](super) says what it promises.
#[derive(Debug)]
pub struct Sampler {
    weights: Arc<SamplerWeights>,
    version: WeightsVersion,
    options: SamplerOptions,
    window: usize,
    cache: Cache,
    forward: Forward,
    draw: Draw,
    rows: Vec<Row>,
    live: Vec<u32>,
    masks: Vec<u64>,
}

impl Sampler {
    /// A sampler with an empty cache.
    #[must_use]
    pub fn new(weights: Arc<SamplerWeights>, version: WeightsVersion, options: SamplerOptions) -> Self {
        let g = weights.geometry();
        let window = options.window.clamp(1, g.max_positions);
        let options = SamplerOptions {
            chunk_rows: options.chunk_rows.max(1),
            ..options
        };
        Self {
            cache: Cache::new(g, options.cache_bytes, window),
            forward: Forward::new(g, window, options.chunk_rows),
            draw: Draw::default(),
            rows: Vec::with_capacity(options.chunk_rows),
            live: Vec::new(),
            masks: Vec::new(),
            weights,
            version,
            options,
            window,
        }
    }

    /// Takes the memory of its cache now, not in the middle of the work: a run that begins does not run out of it later, and takes what
    /// [`SamplerOptions::cache_bytes`] says. Without it, the system hands it over piece by piece.
    pub fn reserve(&mut self) {
        self.cache.arena.touch();
    }

    /// Tokens of the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.weights.geometry().vocab
    }

    /// Draws the next token, of every request, with other weights; what was cached is forgotten. They may be of another shape.
    pub fn publish(&mut self, weights: Arc<SamplerWeights>, version: WeightsVersion) {
        if weights.geometry() == self.weights.geometry() {
            self.cache.clear();
            (self.weights, self.version) = (weights, version);
        } else {
            *self = Self::new(weights, version, self.options);
        }
    }

    /// Sequences with cached keys and values.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Longest context it takes: the smaller of [`SamplerOptions::window`] and the model's limit.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
    }

    /// Collects what is unfinished into `live`, ending what cannot draw even once. Returns how many it ended.
    fn begin(&mut self, batch: &mut [Request<'_>]) -> Result<usize, SamplerError> {
        self.live.clear();
        self.rows.clear();
        let Self { live, masks, .. } = self;
        let vocab = self.weights.geometry.vocab;
        let ended = begin(batch, vocab, self.window, masks, |index| live.push(index as u32))?;
        self.cache
            .begin_call(self.live.iter().map(|&index| batch[index as usize].sequence));
        Ok(ended)
    }

    /// One token for every live request. Returns how many ended.
    fn step(&mut self, batch: &mut [Request<'_>]) -> Result<usize, SamplerError> {
        self.cache.begin_step();
        let mut ended = 0;
        for live in 0..self.live.len() {
            let index = self.live[live];
            let Request { sequence, prompt, .. } = batch[index as usize];
            let (slot, shared) = self.cache.enter(sequence);
            if shared {
                // Two requests of one name: the second must not cut the cache under the first.
                ended += self.flush(batch)?;
            }
            self.cache.pin(slot);
            let kept = self.cache.keep(slot, prompt, batch[index as usize].completion.tokens());
            let len = prompt.len() + batch[index as usize].completion.len();
            while !self.cache.reserve(slot, len, self.rows.is_empty()) {
                ended += self.flush(batch)?;
                self.cache.pin(slot);
            }
            for at in kept..len {
                let completion = batch[index as usize].completion.tokens();
                let token = prompt.get(at).copied().unwrap_or_else(|| completion[at - prompt.len()]);
                let position = self.cache.append(slot, token) as u32;
                let draws = (at + 1 == len).then_some(index);
                self.rows.push(Row {
                    token: token.0,
                    position,
                    slot,
                    draws,
                });
                if self.rows.len() == self.options.chunk_rows {
                    ended += self.flush(batch)?;
                    self.cache.pin(slot);
                }
            }
        }
        ended += self.flush(batch)?;
        Ok(ended)
    }

    /// Computes the rows gathered so far and draws where a context ends. Returns how many requests ended.
    fn flush(&mut self, batch: &mut [Request<'_>]) -> Result<usize, SamplerError> {
        self.cache.begin_chunk();
        if self.rows.is_empty() {
            return Ok(0);
        }
        self.forward.run(&self.weights, &mut self.cache, &mut self.rows);
        let g = &self.weights.geometry;
        let words = Mask::words(g.vocab);
        let arch = self.forward.arch();
        let at_once = Forward::logit_rows(&self.weights);
        let mut ended = 0;
        for (part, rows) in self.rows.chunks(at_once).enumerate() {
            let (logits, stride) = self.forward.logits(&self.weights, part * at_once, rows.len());
            for (index, logits) in rows.iter().filter_map(|row| row.draws).zip(logits.chunks_exact(stride)) {
                let request = &mut batch[index as usize];
                let mask = &mut self.masks[index as usize * words..][..words];
                let allowed = request.constraint.is_some().then_some(&*mask);
                let draw = || uniform(request.seed, request.completion.len());
                let drawn = self
                    .draw
                    .draw(arch, &logits[..g.vocab], allowed, request.temperature, draw);
                let (token, logprob) = drawn.map_err(|_| SamplerError::NonFinite {
                    sequence: request.sequence,
                })?;
                request.completion.push(token, logprob, allowed);
                request.stop = consult(request, mask, self.window, g.vocab);
                ended += usize::from(request.stop.is_some());
            }
        }
        self.rows.clear();
        Ok(ended)
    }
}

impl Policy for Sampler {
    type Error = SamplerError;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, SamplerError> {
        let mut ended = self.begin(batch)?;
        while !self.live.is_empty() {
            ended += self.step(batch)?;
            if ended > 0 {
                break;
            }
        }
        Ok(batch.iter().filter(|request| request.stop.is_some()).count())
    }

    fn weights(&self) -> WeightsVersion {
        self.version
    }

    /// Frees what is cached of the sequence. Never needed: what is used least goes first anyway.
    fn forget(&mut self, sequence: SequenceId) {
        self.cache.forget(sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Geometry;
    use super::*;
    use pulp::Arch;
    use rao_tree::{Completion, PolicyExt, Token};

    fn weights() -> Arc<SamplerWeights> {
        let (vocab, hidden, head_dim) = (50, 24, 22);
        let g = Geometry {
            vocab,
            hidden,
            layers: 2,
            heads: 6,
            kv_heads: 2,
            head_dim,
            ff: 37,
            rope_theta: 1e4,
            rope_scaling: None,
            rms_eps: 1e-6,
            tied: true,
            max_positions: 64,
        };
        let source = |name: &str| {
            let shape = match name.split('.').rev().nth(1).unwrap_or_default() {
                "embed_tokens" => vec![vocab, hidden],
                "q_proj" => vec![6 * head_dim, hidden],
                "k_proj" | "v_proj" => vec![2 * head_dim, hidden],
                "o_proj" => vec![hidden, 6 * head_dim],
                "gate_proj" | "up_proj" => vec![37, hidden],
                "down_proj" => vec![hidden, 37],
                "q_norm" | "k_norm" => vec![head_dim],
                _ => vec![hidden],
            };
            let salt = name.bytes().map(usize::from).sum::<usize>();
            let floats =
                (0..shape.iter().product()).map(|i: usize| ((i * 7919 + salt * 31) % 1013) as f32 / 1700.0 - 0.3);
            let floats = floats.collect();
            Ok((shape, floats))
        };
        SamplerWeights::pack_with(&g, source).expect("complete weights")
    }

    /// Greedy tokens and log-probabilities of eleven nodes, which exercises several row counts.
    fn sample(arch: Arch) -> (Vec<u32>, Vec<f32>) {
        let options = SamplerOptions {
            window: 64,
            cache_bytes: 1 << 20,
            chunk_rows: 50,
        };
        let mut sampler = Sampler::new(weights(), WeightsVersion(0), options);
        sampler.forward.force(arch);
        let prompts: Vec<Vec<Token>> = (0..11)
            .map(|n| (0..1 + n * 3).map(|i| Token((i * 7 + n) % 50)).collect())
            .collect();
        let (mut tokens, mut logprobs) = (vec![Token(0); 11 * 8], vec![0.0; 11 * 8]);
        let buffers = tokens.chunks_mut(8).zip(logprobs.chunks_mut(8));
        let request = |(n, (prompt, (tokens, logprobs)))| Request {
            sequence: SequenceId(n),
            prompt,
            seed: n,
            temperature: 0.0,
            constraint: None,
            completion: Completion::new(tokens, logprobs, &mut [], 0).expect("buffers fit"),
            stop: None,
        };
        let prompts = prompts.iter().map(Vec::as_slice);
        let mut batch: Vec<Request<'_>> = (0..).zip(prompts.zip(buffers)).map(request).collect();
        sampler.sample_all(&mut batch).expect("finite logits");
        drop(batch);
        (tokens.iter().map(|token| token.0).collect(), logprobs)
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn instruction_sets_agree() {
        let (tokens, logprobs) = sample(Arch::Scalar);
        let wide: Vec<Arch> = [
            pulp::x86::V3::try_new().map(Arch::V3),
            pulp::x86::V4::try_new().map(Arch::V4),
        ]
        .into_iter()
        .flatten()
        .collect();
        let wide: Vec<_> = wide.into_iter().map(sample).collect();
        for (other, found) in &wide {
            assert_eq!(&tokens, other);
            assert!(logprobs.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        assert!(
            wide.windows(2).all(|pair| pair[0] == pair[1]),
            "AVX2 and AVX-512 differ"
        );
    }
}
