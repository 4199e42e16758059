//! What [`Policy`] asks of every implementation, as functions of a way to make one, run on each policy of this crate.
//!
//! A policy under this suite speaks [`VOCAB`] tokens, and is made the same every time.

use rao_tree::{Completion, Constraint, Mask, Next, Policy, PolicyExt, Request, SequenceId, Stop, Token};

const VOCAB: u32 = 70;
const WORDS: usize = Mask::words(VOCAB as usize);

/// The whole suite.
fn keeps_the_contract<P: Policy>(make: impl Fn() -> P) {
    moves_with_every_call(&make);
    keeps_the_contract_in_its_own_time(&make);
}

/// The suite for a policy that is not here: it may return before anything has moved.
fn keeps_the_contract_in_its_own_time<P: Policy>(make: impl Fn() -> P) {
    appends_only_what_is_allowed(&make);
    stops_for_the_right_reason(&make);
    company_changes_nothing(&make);
    resumes_where_it_stopped(&make);
    leaves_what_is_finished(&make);
    forgetting_changes_nothing(&make);
}

/// Allows tokens `t` with `(t + len) % 3 != phase`; complete once a multiple of `end` was drawn.
#[derive(Clone, Copy, Debug)]
struct Grammar {
    phase: u32,
    end: u32,
}

impl Grammar {
    fn allows(self, token: u32, len: usize) -> bool {
        token < VOCAB && (token + len as u32) % 3 != self.phase
    }
}

impl Constraint for Grammar {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if completion.last().is_some_and(|token| token.0.is_multiple_of(self.end)) {
            return Next::Complete;
        }
        let allowed = (0..VOCAB).filter(|&token| self.allows(token, completion.len()));
        allowed.for_each(|token| mask.allow(Token(token)));
        Next::Draw
    }
}

/// Allows the same tokens for ever.
struct Only(&'static [u32]);

impl Constraint for Only {
    fn next(&mut self, _: &[Token], mask: &mut Mask<'_>) -> Next {
        self.0.iter().for_each(|&token| mask.allow(Token(token)));
        Next::Draw
    }
}

/// A request's buffers between calls.
#[derive(Clone, Debug)]
struct Node {
    id: u64,
    prompt: Vec<Token>,
    temperature: f32,
    grammar: Option<Grammar>,
    tokens: Vec<Token>,
    logprobs: Vec<f32>,
    masks: Vec<u64>,
    len: usize,
    stop: Option<Stop>,
}

/// Tokens, bits of their log-probabilities, masks.
type Drawn<'a> = (&'a [Token], Vec<u32>, &'a [u64]);

impl Node {
    fn new(id: u64, room: usize) -> Self {
        let prompt = (0..1 + id as u32 * 5 % 9).map(|i| Token((i * 11 + id as u32) % VOCAB));
        Self {
            id,
            prompt: prompt.collect(),
            temperature: 1.0,
            grammar: None,
            tokens: vec![Token(0); room],
            logprobs: vec![0.0; room],
            masks: vec![0; room * WORDS],
            len: 0,
            stop: None,
        }
    }

    fn request(&mut self) -> Request<'_> {
        Request {
            sequence: SequenceId(self.id),
            prompt: &self.prompt,
            seed: self.id * 77 + 5,
            temperature: self.temperature,
            constraint: self.grammar.as_mut().map(|grammar| grammar as &mut dyn Constraint),
            completion: Completion::new(&mut self.tokens, &mut self.logprobs, &mut self.masks, WORDS)
                .expect("buffers fit")
                .resumed(self.len),
            stop: self.stop,
        }
    }

    /// Everything that was drawn, to the bit.
    fn drawn(&self, len: usize) -> Drawn<'_> {
        let logprobs = self.logprobs[..len].iter().map(|x| x.to_bits()).collect();
        (&self.tokens[..len], logprobs, &self.masks[..len * WORDS])
    }

    /// That, and why it ended.
    fn outcome(&self) -> (Drawn<'_>, Option<Stop>) {
        (self.drawn(self.len), self.stop)
    }
}

/// Nodes of several lengths, grammars and temperatures.
fn crowd() -> Vec<Node> {
    (0..24)
        .map(|id| Node {
            temperature: [1.0, 0.0, 0.7][id as usize % 3],
            grammar: (id % 4 != 0).then_some(Grammar {
                phase: id as u32 % 3,
                end: 5 + id as u32 % 7,
            }),
            ..Node::new(id, id as usize * 7 % 20)
        })
        .collect()
}

/// One call for these nodes.
fn call<P: Policy>(policy: &mut P, nodes: &mut [Node]) -> usize {
    let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(Node::request).collect();
    let finished = policy.sample(&mut batch).expect("a sound policy");
    let ends: Vec<_> = batch.iter().map(|r| (r.completion.len(), r.stop)).collect();
    for (node, (len, stop)) in nodes.iter_mut().zip(ends) {
        (node.len, node.stop) = (len, stop);
    }
    finished
}

fn finish<P: Policy>(policy: &mut P, nodes: &mut [Node]) {
    while call(policy, nodes) < nodes.len() {}
}

fn moves_with_every_call<P: Policy>(make: impl Fn() -> P) {
    let (mut policy, mut nodes) = (make(), crowd());
    while nodes.iter().any(|node| node.stop.is_none()) {
        let before: Vec<usize> = nodes.iter().map(|node| node.len).collect();
        let finished = call(&mut policy, &mut nodes);
        assert!(finished > 0, "a call returns when something has finished");
        for (before, node) in before.into_iter().zip(&nodes) {
            assert!(
                node.len > before || node.stop.is_some(),
                "node {} did not move",
                node.id
            );
        }
    }
}

fn appends_only_what_is_allowed<P: Policy>(make: impl Fn() -> P) {
    let (mut policy, mut nodes) = (make(), crowd());
    let version = policy.weights();
    while nodes.iter().any(|node| node.stop.is_none()) {
        let before = nodes.clone();
        let finished = call(&mut policy, &mut nodes);
        assert_eq!(finished, nodes.iter().filter(|node| node.stop.is_some()).count());
        for (before, node) in before.iter().zip(&nodes) {
            assert_eq!(before.drawn(before.len), node.drawn(before.len), "node {}", node.id);
        }
        assert_eq!(policy.weights(), version, "the weights did not change");
    }
    for node in &nodes {
        for at in 0..node.len {
            let allows = |token: u32| node.grammar.is_none_or(|grammar| grammar.allows(token, at));
            let (token, logprob) = (node.tokens[at].0, node.logprobs[at]);
            assert!(token < VOCAB && allows(token), "node {} drew {token} at {at}", node.id);
            assert!(logprob.is_finite() && logprob <= 0.0, "node {}: {logprob}", node.id);
            let mask = &node.masks[at * WORDS..][..WORDS];
            let bits = |token: u32| mask[token as usize / 64] >> (token % 64) & 1 == 1;
            match node.grammar {
                None => assert!((0..VOCAB).all(bits), "everything was allowed"),
                Some(_) => (0..64 * WORDS as u32)
                    .for_each(|token| assert_eq!(bits(token), token < VOCAB && allows(token), "token {token} at {at}")),
            }
        }
    }
}

fn stops_for_the_right_reason<P: Policy>(make: impl Fn() -> P) {
    let mut nodes = crowd();
    finish(&mut make(), &mut nodes);
    for node in &nodes {
        match (node.stop, node.grammar) {
            (Some(Stop::Complete), Some(grammar)) => {
                assert!(node.tokens[node.len - 1].0.is_multiple_of(grammar.end));
            }
            (stop, _) => assert_eq!((stop, node.len), (Some(Stop::Length), node.tokens.len())),
        }
    }
    for stop in [Stop::Complete, Stop::Length] {
        assert!(
            nodes.iter().any(|node| node.stop == Some(stop) && node.len > 0),
            "no node ended as {stop:?}"
        );
    }

    let only = |allowed: &'static [u32], room: usize| {
        let (mut node, mut only) = (Node::new(1, room), Only(allowed));
        let mut batch = [Request {
            constraint: Some(&mut only),
            ..node.request()
        }];
        make().sample_all(&mut batch).expect("a sound policy");
        let (len, stop) = (batch[0].completion.len(), batch[0].stop);
        (node.tokens[..len].to_vec(), node.logprobs[..len].to_vec(), stop)
    };
    assert_eq!(only(&[], 4), (vec![], vec![], Some(Stop::Stuck)));
    // They fit the mask's last word, but not the vocabulary.
    assert_eq!(only(&[VOCAB, VOCAB + 1], 4), (vec![], vec![], Some(Stop::Stuck)));
    // The only choice is certain.
    assert_eq!(
        only(&[69, VOCAB + 1], 3),
        (vec![Token(69); 3], vec![0.0; 3], Some(Stop::Length))
    );
    // What has no room cannot be stuck for want of a token.
    assert_eq!(only(&[], 0), (vec![], vec![], Some(Stop::Length)));
    // What is complete on entry draws nothing, room or not.
    for room in [1, 3] {
        let mut complete = Node {
            grammar: Some(Grammar { phase: 0, end: 1 }),
            len: 1,
            ..Node::new(2, room)
        };
        finish(&mut make(), std::slice::from_mut(&mut complete));
        assert_eq!((complete.len, complete.stop), (1, Some(Stop::Complete)));
    }
}

fn company_changes_nothing<P: Policy>(make: impl Fn() -> P) {
    let (mut together, mut alone) = (crowd(), crowd());
    finish(&mut make(), &mut together);
    for (node, other) in alone.iter_mut().zip(&together) {
        finish(&mut make(), std::slice::from_mut(node));
        assert_eq!(node.outcome(), other.outcome(), "node {}", node.id);
    }
    let mut backwards = crowd();
    backwards.reverse();
    finish(&mut make(), &mut backwards);
    for (node, other) in backwards.iter().rev().zip(&together) {
        assert_eq!(node.outcome(), other.outcome(), "node {} in another order", node.id);
    }
}

fn resumes_where_it_stopped<P: Policy>(make: impl Fn() -> P) {
    let mut whole = crowd();
    let mut policy = make();
    finish(&mut policy, &mut whole);
    for node in &whole {
        for kept in 0..=node.len {
            // By a policy that has never seen it, and by one that has.
            let mut fresh = make();
            for policy in [&mut fresh, &mut policy] {
                let mut resumed = node.clone();
                (resumed.len, resumed.stop) = (kept, None);
                resumed.tokens[kept..].fill(Token(0));
                resumed.logprobs[kept..].fill(0.0);
                resumed.masks[kept * WORDS..].fill(0);
                finish(policy, std::slice::from_mut(&mut resumed));
                assert_eq!(resumed.outcome(), node.outcome(), "node {} resumed at {kept}", node.id);
            }
        }
    }
}

fn leaves_what_is_finished<P: Policy>(make: impl Fn() -> P) {
    let mut policy = make();
    assert_eq!(call(&mut policy, &mut []), 0);
    let stopped = |stop| {
        crowd().into_iter().map(move |node| Node {
            stop: Some(stop),
            len: node.tokens.len() / 2,
            ..node
        })
    };
    for stop in [
        Stop::Complete,
        Stop::Length,
        Stop::ContextOverflow,
        Stop::Stuck,
        Stop::Failed,
    ] {
        let mut nodes: Vec<Node> = stopped(stop).collect();
        assert_eq!(call(&mut policy, &mut nodes), nodes.len());
        for (node, before) in nodes.iter().zip(stopped(stop)) {
            assert_eq!(node.outcome(), before.outcome(), "node {}", node.id);
            assert_eq!(
                node.tokens, before.tokens,
                "node {}: beyond what was drawn too",
                node.id
            );
        }
    }
}

fn forgetting_changes_nothing<P: Policy>(make: impl Fn() -> P) {
    let (mut expected, mut nodes) = (crowd(), crowd());
    finish(&mut make(), &mut expected);
    let mut policy = make();
    policy.forget(SequenceId(99));
    while call(&mut policy, &mut nodes) < nodes.len() {
        (0..24).step_by(2).for_each(|id| policy.forget(SequenceId(id)));
    }
    for (node, expected) in nodes.iter().zip(&expected) {
        assert_eq!(node.outcome(), expected.outcome(), "node {}", node.id);
    }
}

mod scripted {
    use super::*;
    use rand_xoshiro::SplitMix64;
    use rand_xoshiro::rand_core::Rng;
    use rao_backends::scripted::{Scripted, uniform};

    #[test]
    fn uniform_keeps_the_contract() {
        keeps_the_contract(|| uniform(VOCAB as usize));
    }

    #[test]
    fn a_plan_keeps_the_contract() {
        keeps_the_contract(|| {
            Scripted::new(VOCAB as usize, |request: &Request<'_>, rng: &mut SplitMix64| {
                let token = |i: u32| Token((request.prompt.len() as u32 + i + rng.next_u64() as u32 % 3) % 80);
                (0..request.prompt.len() as u32).map(token).collect()
            })
        });
    }

    #[test]
    fn what_was_planned_is_certain_and_the_rest_uniform() {
        // The second is forbidden, the fourth missing.
        let plan = [Token(4), Token(5), Token(69)];
        let mut policy = Scripted::new(VOCAB as usize, |_: &Request<'_>, _: &mut SplitMix64| plan.to_vec());
        for temperature in [1.0, 0.0] {
            let (mut node, mut only) = (Node::new(3, 4), Only(&[4, 9, 68, 69]));
            node.temperature = temperature;
            let mut batch = [Request {
                constraint: Some(&mut only),
                ..node.request()
            }];
            policy.sample_all(&mut batch).unwrap();
            assert_eq!(node.logprobs, [0.0, -4.0_f32.ln(), 0.0, -4.0_f32.ln()]);
            assert_eq!((node.tokens[0], node.tokens[2]), (plan[0], plan[2]));
            if temperature == 0.0 {
                assert_eq!((node.tokens[1], node.tokens[3]), (Token(4), Token(4)));
            }
        }
    }

    #[test]
    fn uniform_reaches_everything_that_is_allowed() {
        let mut nodes: Vec<Node> = (0..40).map(|id| Node::new(id, 20)).collect();
        finish(&mut uniform(VOCAB as usize), &mut nodes);
        let mut seen = [0; VOCAB as usize];
        nodes
            .iter()
            .flat_map(|node| &node.tokens)
            .for_each(|token| seen[token.0 as usize] += 1);
        assert!(seen.iter().all(|count| (1..40).contains(count)), "{seen:?}");
    }
}

#[cfg(feature = "candle")]
mod sampler {
    use super::*;
    use rao_backends::candle::sampler::{Geometry, Sampler, SamplerOptions, SamplerWeights};
    use rao_backends::candle::{Device, ModelConfig, Weights};
    use rao_tree::WeightsVersion;

    #[test]
    fn the_sampler_keeps_the_contract() {
        let config = ModelConfig {
            num_key_value_heads: 2,
            ..ModelConfig::tiny(VOCAB as usize)
        };
        let weights = Weights::new(&config, 3, &Device::Cpu).expect("a valid shape");
        let tensors = weights
            .iter()
            .map(|(name, var)| (name.to_owned(), var.as_tensor().clone()))
            .collect();
        let packed = SamplerWeights::pack(&Geometry::from(&config), &tensors).expect("complete weights");
        // Much room, and so little that sequences push each other out.
        for (cache_bytes, chunk_rows) in [(16 << 20, 256), (0, 5)] {
            let options = SamplerOptions {
                window: 64,
                cache_bytes,
                chunk_rows,
            };
            keeps_the_contract(|| Sampler::new(packed.clone(), WeightsVersion(4), options));
        }
    }
}

#[cfg(feature = "llama-cpp")]
mod llama_cpp {
    use super::*;
    use rao_backends::llama_cpp::{KvPrecision, LlamaCpp, LlamaCppOptions, ModelFile, quantise};
    use rao_tree::WeightsVersion;
    use std::path::Path;

    /// Two layers of width 32 over [`VOCAB`] tokens, written by `candle::gguf`; `tests/llama_cpp.rs` says how it came about.
    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-f32.gguf");

    fn make(file: &ModelFile, slots: u32, batch: u32) -> LlamaCpp {
        let options = LlamaCppOptions {
            slots,
            batch,
            window: 64,
            threads: 1,
            kv: KvPrecision::F32,
            vocab: Some(VOCAB as usize),
            ..LlamaCppOptions::default()
        };
        LlamaCpp::load(file.clone(), WeightsVersion(4), options).expect("a sound file")
    }

    #[test]
    fn in_full_precision_it_keeps_the_contract() {
        let file = ModelFile::new(Path::new(MODEL));
        // A slot for everybody; and a cache far too small, in batches that cut prompts.
        for (slots, batch) in [(32, 512), (2, 5)] {
            keeps_the_contract(|| make(&file, slots, batch));
        }
    }

    #[test]
    fn quantised_it_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        for kind in ["q8_0", "q4_0", "q4_k_m"] {
            let path = folder.path().join(kind);
            quantise(Path::new(MODEL), &path, kind.parse().unwrap()).unwrap();
            keeps_the_contract(|| make(&ModelFile::new(path.clone()), 3, 7));
        }
    }
}

#[cfg(feature = "openai")]
#[path = "openai/server.rs"]
#[expect(dead_code, reason = "only some of what a server can do is done here")]
mod server;

#[cfg(feature = "openai")]
mod openai {
    use super::server::{Asked, Reaction, Server, ok};
    use super::*;
    use rao_backends::openai::{OpenAi, OpenAiOptions, Wire};
    use serde_json::{Value, json};

    /// What a model could say that looks at all of its context.
    fn logits(context: &[u64]) -> impl Iterator<Item = f64> {
        let sum = |sum: u64, (at, token): (usize, &u64)| sum.wrapping_mul(31) ^ (token + 1).wrapping_mul(at as u64 + 7);
        let context = context.iter().enumerate().fold(5, sum);
        (0..u64::from(VOCAB)).map(move |token| (context.wrapping_mul(2 * token + 3) >> 7) as f64 % 101.0 / 25.0)
    }

    /// As llama-server gives it: the likeliest first, in 32 bits.
    fn distribution(asked: &Asked) -> Reaction {
        if asked.path.ends_with("models") {
            return ok(&json!({"data": [{"id": "m", "meta": {"n_ctx": 64}}]}));
        }
        let prompt = asked.body["prompt"].as_array().unwrap();
        let context: Vec<u64> = prompt.iter().map(|token| token.as_u64().unwrap()).collect();
        let total = logits(&context).map(f64::exp).sum::<f64>().ln();
        let mut tokens: Vec<(usize, f64)> = logits(&context).map(|logit| logit - total).enumerate().collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|(id, logprob)| json!({"id": id, "token": "", "logprob": *logprob as f32}))
            .collect();
        let choice =
            json!({"text": "", "finish_reason": "length", "logprobs": {"content": [{"top_logprobs": tokens}]}});
        ok(&json!({"choices": [choice], "usage": {"prompt_tokens": context.len(), "completion_tokens": 1}}))
    }

    #[test]
    fn over_distributions_it_keeps_the_contract() {
        let server = Server::start_with(distribution);
        let wire = Wire::Distribution {
            vocab: VOCAB as usize,
            window: 1_000,
        };
        keeps_the_contract_in_its_own_time(|| {
            let policy = OpenAi::open(OpenAiOptions::new(server.url(), wire.clone())).unwrap();
            assert_eq!((policy.vocab(), policy.window()), (VOCAB as usize, Some(64)));
            policy
        });
    }
}
