//! The policy that asks a server, against a real llama-server with a GGUF file of ours. `RAO_LLAMA_SERVER` names the binary, which
//! `tests/conformance/llama_server.sh` builds; without it, these tests say that they are skipped.
#![cfg(all(feature = "openai", feature = "candle", feature = "text"))]

use rao_backends::bytes;
use rao_backends::candle::gguf::{self, Quant, SpecialTokens, TokenKind, Vocabulary};
use rao_backends::candle::sampler::{Geometry, Sampler, SamplerOptions, SamplerWeights};
use rao_backends::candle::{Device, ModelConfig, Qwen3, Weights};
use rao_backends::openai::{ApiKey, Logprobs, OpenAi, OpenAiError, OpenAiOptions, Wire};
use rao_backends::text::{ChatTemplate, Tokenizer};
use rao_tree::{
    Completion, Constraint, Mask, Next, Policy, PolicyExt, Request, SequenceId, Stop, Token, WeightsVersion,
};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Rows of the embedding: six more than the tokenizer has tokens.
const ROWS: usize = 540;
/// At which the file has llama.cpp stop; `<|im_end|>` among the pieces.
const END: Token = Token(522);
/// Longest context of each of the server's slots.
const WINDOW: usize = 512;
const SLOTS: usize = 4;
const KEY: &str = "sk-of-the-test";
const PATIENCE: Duration = Duration::from_secs(60);

fn weights() -> Weights {
    Weights::new(&ModelConfig::tiny(ROWS), 11, &Device::Cpu).unwrap()
}

/// Tokens that are whole words.
fn words() -> Vocabulary {
    let kind = |token| match Token(token) {
        END => TokenKind::Control,
        _ => TokenKind::Word,
    };
    let special = SpecialTokens {
        bos: END,
        eos: END,
        pad: END,
    };
    Vocabulary::new(
        (0..ROWS as u32).map(|token| (format!("W{token} "), kind(token))),
        special,
    )
    .unwrap()
}

/// Tokens that are pieces of words, and bytes.
fn pieces() -> Vocabulary {
    let qwen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/text/qwen");
    let template = ChatTemplate::load(&qwen).unwrap();
    let vocabulary = Vocabulary::from_tokenizer(&Tokenizer::load(&qwen).unwrap(), ROWS).unwrap();
    vocabulary.with_chat_template(template.source())
}

/// A llama-server that ends with the test.
struct Server {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Nothing where no binary is named.
    fn start(vocabulary: &Vocabulary) -> Option<Self> {
        Self::start_with(vocabulary, &[])
    }

    fn start_with(vocabulary: &Vocabulary, arguments: &[&str]) -> Option<Self> {
        let Some(binary) = std::env::var_os("RAO_LLAMA_SERVER").map(PathBuf::from) else {
            println!(
                "skipped: a real llama-server: set RAO_LLAMA_SERVER to what tests/conformance/llama_server.sh prints"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.gguf");
        gguf::save(&weights(), vocabulary, Quant::F32, WeightsVersion(1), &model).unwrap();
        let context = (WINDOW * SLOTS).to_string();
        // Keys and values in full, so that its log-probabilities are comparable with ours.
        let process = Command::new(&binary)
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--threads",
                "1",
                "--no-ui",
                "--model",
            ])
            .arg(&model)
            .args([
                "--ctx-size",
                &context,
                "--parallel",
                &SLOTS.to_string(),
                "--api-key",
                KEY,
            ])
            // Requests under way at once: a connection that is kept open keeps a thread.
            .args(["--threads-http", "32"])
            .args(["--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let process = process.unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut server = Self {
            process,
            url: String::new(),
            _folder: folder,
        };
        let log = server.process.stderr.take().unwrap();
        let (tell, told) = channel();
        // Reads on to the end, so that the server is never kept from writing.
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let address = line.split_once("http://127.0.0.1:").map(|(_, rest)| {
                    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    format!("http://127.0.0.1:{port}/v1")
                });
                if let Some(address) = address {
                    let _ = tell.send(address);
                }
            }
        });
        server.url = told
            .recv_timeout(PATIENCE)
            .expect("the server does not say where it listens");
        Some(server)
    }

    fn options(&self, wire: Wire) -> OpenAiOptions {
        OpenAiOptions {
            api_key: Some(ApiKey::new(KEY)),
            // It loads its model first.
            retries: 50,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            ..OpenAiOptions::new(&self.url, wire)
        }
    }

    fn tokens(&self) -> OpenAiOptions {
        OpenAiOptions {
            logprobs: Logprobs::Required,
            ..self.options(Wire::Tokens {
                vocab: ROWS,
                window: 100_000,
            })
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Ends(Token);

impl Constraint for Ends {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if completion.last() == Some(&self.0) {
            return Next::Complete;
        }
        mask.allow_all();
        Next::Draw
    }

    fn ends(&self) -> Option<&[Token]> {
        Some(std::slice::from_ref(&self.0))
    }
}

struct Node {
    id: u64,
    prompt: Vec<Token>,
    temperature: f32,
    ends: Ends,
    tokens: Vec<Token>,
    logprobs: Vec<f32>,
}

impl Node {
    fn new(id: u64, prompt: usize, room: usize) -> Self {
        let token = |at: usize| Token(((at * 37 + id as usize * 11) % 500) as u32);
        Self {
            id,
            prompt: (0..prompt).map(token).collect(),
            temperature: 1.0,
            ends: Ends(END),
            tokens: vec![Token(0); room],
            logprobs: vec![0.0; room],
        }
    }

    fn request(&mut self) -> Request<'_> {
        Request {
            sequence: SequenceId(self.id),
            prompt: &self.prompt,
            seed: self.id * 77 + 5,
            temperature: self.temperature,
            constraint: Some(&mut self.ends),
            completion: Completion::new(&mut self.tokens, &mut self.logprobs, &mut [], 0).unwrap(),
            stop: None,
        }
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    logits.iter().map(|logit| logit - max - sum.ln() as f32).collect()
}

#[test]
fn what_it_says_has_the_probability_that_our_own_model_gives_it() {
    let Some(server) = Server::start(&words()) else { return };
    let mut policy = OpenAi::open(server.tokens()).unwrap();
    // What the server says of its window is believed.
    assert_eq!((policy.vocab(), policy.window()), (ROWS, Some(WINDOW)));
    // More than there are slots, the last ones greedy.
    let mut nodes: Vec<Node> = (0..10).map(|id| Node::new(id, 3 + id as usize * 5, 24)).collect();
    nodes[8..].iter_mut().for_each(|node| node.temperature = 0.0);
    let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(Node::request).collect();
    policy.sample_all(&mut batch).unwrap();
    let ends: Vec<_> = batch
        .iter()
        .map(|request| (request.completion.len(), request.stop))
        .collect();
    drop(batch);

    let model = Qwen3::new(weights());
    let (mut worst, mut count) = (0.0_f32, 0);
    for (node, (len, stop)) in nodes.iter().zip(ends) {
        let said = &node.tokens[..len];
        match stop {
            Some(Stop::Complete) => assert_eq!(said.last(), Some(&END), "node {}", node.id),
            stop => assert_eq!((stop, len), (Some(Stop::Length), 24), "node {}", node.id),
        }
        let context: Vec<u32> = node.prompt.iter().chain(said).map(|token| token.0).collect();
        let logits = model.logits(&context).unwrap();
        for (at, (token, logprob)) in said.iter().zip(&node.logprobs).enumerate() {
            let expected = log_softmax(&logits[(node.prompt.len() + at - 1) * ROWS..][..ROWS]);
            worst = worst.max((expected[token.0 as usize] - logprob).abs());
            if node.temperature == 0.0 {
                let best = expected.iter().copied().fold(f32::MIN, f32::max);
                assert!(expected[token.0 as usize] >= best - 1e-2, "node {} at {at}", node.id);
            }
            count += 1;
        }
    }
    println!("{count} log-probabilities differ by {worst:e} at most");
    assert!(count > 100 && worst < 1e-2, "{count} tokens, by {worst}");
    let said: Vec<&Vec<Token>> = nodes.iter().map(|node| &node.tokens).collect();
    assert!(said.iter().any(|tokens| *tokens != said[0]));
    let stats = policy.stats();
    assert_eq!((stats.requests, stats.failures, stats.tokens_out), (10, 0, count));
    assert_eq!(
        stats.tokens_in,
        nodes.iter().map(|node| node.prompt.len() as u64).sum::<u64>()
    );
}

/// Any of these tokens, never the same twice in a row.
struct Among(Vec<Token>);

impl Constraint for Among {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        let allowed = self.0.iter().filter(|token| completion.last() != Some(*token));
        allowed.for_each(|token| mask.allow(*token));
        Next::Draw
    }
}

/// Draws of the same requests by any policy: tokens and log-probabilities.
fn draws<P: Policy>(policy: &mut P) -> Vec<(Vec<Token>, Vec<f32>)> {
    let mut nodes: Vec<Node> = (0..12)
        .map(|id| Node {
            temperature: [1.0, 0.0, 0.6][id % 3],
            ..Node::new(id as u64, 3 + id * 5, 20)
        })
        .collect();
    let mut among: Vec<Among> = (0..12)
        .map(|id| Among((0..40).map(|t| Token(t * 13 + id)).collect()))
        .collect();
    let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(Node::request).collect();
    for (request, among) in batch.iter_mut().zip(&mut among) {
        request.constraint = match request.sequence.0 % 4 {
            0 => None,
            _ => Some(among),
        };
    }
    policy.sample_all(&mut batch).unwrap();
    assert!(batch.iter().all(|request| request.stop == Some(Stop::Length)));
    drop(batch);
    nodes.into_iter().map(|node| (node.tokens, node.logprobs)).collect()
}

#[test]
fn over_distributions_it_draws_what_our_own_sampler_draws() {
    let Some(server) = Server::start(&words()) else { return };
    let wire = Wire::Distribution {
        vocab: ROWS,
        window: 100_000,
    };
    let mut policy = OpenAi::open(server.options(wire)).unwrap();
    assert_eq!((policy.vocab(), policy.window()), (ROWS, Some(WINDOW)));
    let begun = Instant::now();
    let served = draws(&mut policy);
    let took = begun.elapsed();
    let weights = weights();
    let tensors = weights
        .iter()
        .map(|(name, var)| (name.to_owned(), var.as_tensor().clone()))
        .collect();
    let packed = SamplerWeights::pack(&Geometry::from(&ModelConfig::tiny(ROWS)), &tensors).unwrap();
    let own = draws(&mut Sampler::new(packed, WeightsVersion(1), SamplerOptions::default()));
    let mut worst = 0.0_f32;
    for ((served, served_logprobs), (own, own_logprobs)) in served.iter().zip(&own) {
        assert_eq!(served, own);
        for (served, own) in served_logprobs.iter().zip(own_logprobs) {
            worst = worst.max((served - own).abs());
        }
    }
    println!(
        "{} tokens in {took:.2?}; their log-probabilities differ by {worst:e} at most",
        12 * 20
    );
    assert!(worst < 1e-3, "{worst}");
    // One for each token, and the first to see that it can.
    assert_eq!((policy.stats().requests, policy.stats().failures), (12 * 20 + 1, 0));
}

#[test]
fn draws_follow_the_models_distribution() {
    let Some(server) = Server::start(&words()) else { return };
    let mut policy = OpenAi::open(server.tokens()).unwrap();
    const DRAWS: u64 = 400;
    let prompt = Node::new(0, 6, 1).prompt;
    let mut nodes: Vec<Node> = (0..DRAWS)
        .map(|id| Node {
            prompt: prompt.clone(),
            ..Node::new(id, 0, 1)
        })
        .collect();
    let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(Node::request).collect();
    policy.sample_all(&mut batch).unwrap();
    drop(batch);
    let context: Vec<u32> = prompt.iter().map(|token| token.0).collect();
    let logits = Qwen3::new(weights()).logits(&context).unwrap();
    let expected = log_softmax(&logits[(context.len() - 1) * ROWS..]);
    // The mean surprise is the entropy, with the standard error that the distribution itself has: a cut tail (top-k, top-p) lowers it.
    let moments = |power: i32| -> f64 {
        expected
            .iter()
            .map(|p| f64::from(*p).exp() * f64::from(-p).powi(power))
            .sum()
    };
    let (entropy, error) = (moments(1), ((moments(2) - moments(1).powi(2)) / DRAWS as f64).sqrt());
    let mean = nodes.iter().map(|node| f64::from(-node.logprobs[0])).sum::<f64>() / DRAWS as f64;
    println!("mean surprise {mean:.4}, entropy {entropy:.4}, standard error {error:.4}");
    assert!((mean - entropy).abs() < 4.0 * error);
    let likely: f64 = {
        let mut probabilities: Vec<f64> = expected.iter().map(|p| f64::from(*p).exp()).collect();
        probabilities.sort_by(|a, b| b.total_cmp(a));
        probabilities[..40].iter().sum()
    };
    let mut sorted: Vec<f32> = expected.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let beyond = nodes.iter().filter(|node| node.logprobs[0] < sorted[39] - 1e-3).count();
    // llama-server's own default is to keep the 40 most likely.
    assert!(
        likely < 0.9 && beyond > 0,
        "{likely} of the mass is in 40 tokens, {beyond} draws beyond"
    );
}

#[test]
fn its_window_and_its_key_are_felt() {
    let Some(server) = Server::start(&words()) else { return };
    // With a model that is named, its window is not asked for.
    let mut options = server.tokens();
    options.model = Some("any".to_owned());
    let mut policy = OpenAi::open(options.clone()).unwrap();
    let outcome = |policy: &mut OpenAi, prompt: usize, room: usize| {
        let mut node = Node::new(1, prompt, room);
        // An end that is never said.
        node.ends = Ends(Token(539));
        let mut batch = [node.request()];
        policy.sample_all(&mut batch).unwrap();
        (batch[0].completion.len(), batch[0].stop)
    };
    assert_eq!(outcome(&mut policy, WINDOW + 20, 4), (0, Some(Stop::ContextOverflow)));
    let (len, stop) = outcome(&mut policy, WINDOW - 8, 100);
    assert!(
        len < 100 && matches!(stop, Some(Stop::ContextOverflow | Stop::Complete)),
        "{len} {stop:?}"
    );
    options.api_key = Some(ApiKey::new("sk-another"));
    let mut node = Node::new(1, 3, 4);
    let error = OpenAi::open(options)
        .unwrap()
        .sample_all(&mut [node.request()])
        .unwrap_err();
    assert!(matches!(error, OpenAiError::Refused { status: 401, .. }), "{error}");
}

#[test]
fn what_is_forgotten_stops_being_generated() {
    // Without an end: past its window it drops what is oldest, and a million tokens take longer than this test waits.
    let Some(server) = Server::start_with(&words(), &["--context-shift"]) else {
        return;
    };
    let mut options = server.tokens();
    options.extra.insert("ignore_eos".to_owned(), true.into());
    options.extra.insert("max_tokens".to_owned(), 1_000_000.into());
    let slots = server.options(Wire::Chat);
    let mut policy = OpenAi::open(options).unwrap();
    let mut node = Node::new(1, 3, 400);
    let mut batch = [node.request()];
    let busy = || busy_slots(&slots);
    let begun = Instant::now();
    while busy() == 0 {
        assert_eq!(policy.sample(&mut batch).unwrap(), 0);
        assert!(begun.elapsed() < PATIENCE);
    }
    policy.forget(SequenceId(1));
    // It looks for clients that have left once it has had nothing to tell anybody for a second: asking more often would keep it from that.
    while busy() > 0 {
        assert!(begun.elapsed() < PATIENCE, "it goes on for nobody");
        std::thread::sleep(Duration::from_secs(2));
    }
    assert_eq!(policy.sample(&mut []).unwrap(), 0);
}

/// Slots that are generating, by llama-server's own account.
fn busy_slots(options: &OpenAiOptions) -> usize {
    use std::io::{Read, Write};
    let authority = options.url.trim_start_matches("http://").trim_end_matches("/v1");
    let mut stream = std::net::TcpStream::connect(authority).unwrap();
    write!(stream, "GET /slots HTTP/1.0\r\nauthorization: Bearer {KEY}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.matches("\"is_processing\":true").count()
}

#[test]
fn messages_are_answered() {
    let Some(server) = Server::start(&pieces()) else { return };
    let mut options = server.options(Wire::Chat);
    let thinks = serde_json::json!({"enable_thinking": false});
    options.extra.insert("chat_template_kwargs".to_owned(), thinks);
    let mut policy = OpenAi::open(options).unwrap();
    let mut prompt = Vec::new();
    for (role, text) in [
        (bytes::SYSTEM, "Be brief."),
        (bytes::USER, "né?"),
        (bytes::ASSISTANT, "x"),
        (bytes::TOOL, "1"),
    ] {
        prompt.push(role);
        prompt.extend(text.bytes().map(|byte| Token(byte.into())));
        prompt.push(bytes::END);
    }
    prompt.push(bytes::ASSISTANT);
    let mut nodes: Vec<Node> = (0..6)
        .map(|id| Node {
            prompt: prompt.clone(),
            ends: Ends(bytes::END),
            ..Node::new(id, 0, 40)
        })
        .collect();
    let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(Node::request).collect();
    policy.sample_all(&mut batch).unwrap();
    for request in &batch {
        let said = request.completion.tokens();
        let (text, end) = said.split_at(said.iter().take_while(|token| token.0 < 256).count());
        assert!(!text.is_empty() || !end.is_empty());
        match request.stop {
            Some(Stop::Complete) => assert_eq!(end, [bytes::END]),
            stop => assert_eq!((stop, end), (Some(Stop::Length), &[][..])),
        }
    }
    let stats = policy.stats();
    assert_eq!((stats.requests, stats.failures), (6, 0));
    assert!(stats.tokens_in > 0 && stats.tokens_out > 0);
}

#[test]
fn tokens_that_end_within_a_character_are_given_though_their_probability_is_not() {
    let Some(server) = Server::start(&pieces()) else {
        return;
    };
    // The model was never trained: half of what it says are pieces of characters.
    let said = |logprobs| {
        let options = OpenAiOptions {
            logprobs,
            ..server.tokens()
        };
        let mut policy = OpenAi::open(options).unwrap();
        let mut nodes: Vec<Node> = (0..4).map(|id| Node::new(id, 8, 60)).collect();
        let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(Node::request).collect();
        policy.sample_all(&mut batch).unwrap();
        let outcome = |request: &Request<'_>| (request.completion.len(), request.stop);
        (batch.iter().map(outcome).collect::<Vec<_>>(), policy.stats())
    };
    let (outcomes, stats) = said(Logprobs::IfGiven);
    assert!(
        outcomes
            .iter()
            .all(|(len, stop)| *len == 60 || *stop == Some(Stop::Complete)),
        "{outcomes:?}"
    );
    assert_eq!(
        stats.tokens_out,
        outcomes.iter().map(|(len, _)| *len as u64).sum::<u64>()
    );
    // Training goes without them, and is not told that the server is gone.
    let (outcomes, stats) = said(Logprobs::Required);
    let failed = outcomes
        .iter()
        .filter(|outcome| **outcome == (0, Some(Stop::Failed)))
        .count();
    assert!(failed > 0, "{outcomes:?}");
    assert_eq!((stats.retries, stats.failures), (0, failed as u64));
}
