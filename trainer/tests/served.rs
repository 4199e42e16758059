//! `rao eval` against a real llama-server, from end to end: a tiny model learns a program by heart, is exported to GGUF, is served, and plays.
//! `RAO_LLAMA_SERVER` names the server's binary, which `tests/conformance/llama_server.sh` builds; without it, this says that it is skipped.
#![cfg(all(feature = "candle", feature = "openai"))]

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rao_backends::candle::gguf::{self, Quant, Vocabulary};
use rao_backends::candle::{Action, AdamWConfig, Device, Learner, ModelConfig, Objective, PackedBatch, Qwen3, Weights};
use rao_backends::text::{ChatTemplate, Tokenizer};
use rao_trainer::environments::textcraft::book::Book;
use rao_trainer::environments::textcraft::{official, text};
use rao_trainer::environments::{Difficulty, TextTask, aggregation, number_search};
use rao_trainer::language::speech::{Speech, TemplateSpeech};
use rao_trainer::language::{Arguments, Caps, CodeCells, Launch, Sandbox, Setup, Tally, TextEnvironment, Value};
use rao_tree::{Environment, Mask, Observation, Token, WeightsVersion};
use serde_json::{Map, Value as Json};
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Rows of the embedding: the tokenizer's, and a few to spare.
const ROWS: usize = 540;
/// Of each of the server's slots.
const WINDOW: usize = 8_192;

fn qwen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../backends/tests/data/text/qwen")
}

/// What agents see at first, as the server's chat template writes it: roots of these tasks, and those below that launch the same again.
fn openings<T: TextTask>(tasks: &[T], launch: impl Fn(&T) -> Option<Launch>) -> Vec<Vec<u32>> {
    let levels = |task: &T| {
        let mut agents = vec![task.root()];
        while let Some(launch) = launch(task)
            && agents.len() <= usize::from(DEPTH)
        {
            let child = agents.last_mut().unwrap().child(&launch).unwrap();
            agents.push(child);
        }
        agents
    };
    let agents = tasks.iter().flat_map(|task| (0..=DEPTH).rev().zip(levels(task)));
    agents.map(|(left, agent)| opening(agent, left)).collect()
}

/// What an agent sees at first, below which there may be so many levels.
fn opening(agent: impl TextEnvironment, left: u8) -> Vec<u32> {
    let setup = Arc::new(Setup {
        speech: Arc::new(TemplateSpeech::load(&qwen(), Map::new()).unwrap()),
        caps: Caps::default(),
        depth_max: left,
        tally: Arc::new(Tally::default()),
    });
    let mut window = vec![Token(0); WINDOW];
    let mut seen = Observation::new(&mut window);
    CodeCells::root(agent, setup, Sandbox::default())
        .observe(&mut seen)
        .unwrap();
    assert!(!seen.overflowed());
    seen.tokens().iter().map(|token| token.0).collect()
}

/// A model that has learned to say the program after each of these.
fn memorise(openings: &[Vec<u32>], program: &str) -> Weights {
    let speech = TemplateSpeech::load(&qwen(), Map::new()).unwrap();
    let said = speech.tokenizer().encode(&format!("```python\n{program}```")).unwrap();
    let said: Vec<u32> = said.iter().chain(&speech.ends()[..1]).map(|token| token.0).collect();
    let mask = vec![u64::MAX; Mask::words(ROWS)];
    let config = ModelConfig {
        max_position_embeddings: WINDOW,
        rope_theta: 10_000.0,
        ..ModelConfig::tiny(ROWS)
    };
    let model = Qwen3::new(Weights::new(&config, 1, &Device::Cpu).unwrap());
    let mut learner = Learner::new(model, AdamWConfig::default()).unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    for step in 0..STEPS {
        let mut batch = PackedBatch::new(mask.len());
        for opening in [&openings[step % openings.len()], &openings[(step + 1) % openings.len()]] {
            // Every other time only the end of it, and always with some other words: the program goes on from what was said last, not from where in
            // the context it stands, nor from what was asked.
            let from = match step % 4 {
                1 => opening.len() - 60,
                3 => opening.len() / 2,
                _ => 0,
            };
            let mut tokens = [&opening[from..], &said].concat();
            let strange = opening.len() - from - ASSISTANT;
            for token in &mut tokens[..strange] {
                if rng.random_bool(0.15) {
                    *token = opening[rng.random_range(0..opening.len())];
                }
            }
            let action = |place| Action {
                index: opening.len() - from + place,
                behaviour_logprob: 0.0,
                weight: 1.0,
                mask: &mask,
            };
            batch
                .push(&tokens, &(0..said.len()).map(action).collect::<Vec<_>>())
                .unwrap();
        }
        let lr = 4e-3 * (1.0 - step as f64 / STEPS as f64);
        let report = learner.update(&batch, Objective::Reinforce, lr).unwrap();
        if step % 50 == 49 {
            println!("step {}: cross-entropy {:.4}", step + 1, report.loss);
        }
    }
    learner.model.weights().copy().unwrap()
}

const STEPS: usize = 500;
/// As `rao` has it by default.
const DEPTH: u8 = 4;
/// Tokens with which the template begins a turn, or fewer.
const ASSISTANT: usize = 8;

fn launch(arguments: Vec<(&'static str, Value)>) -> Launch {
    Launch {
        goal: String::new(),
        context: None,
        arguments: Arguments(arguments),
    }
}

/// A llama-server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a model that has learned the program, and has `rao` evaluate it.
fn play(work: &str, openings: &[Vec<u32>], program: &str, more: &[&str]) -> Option<Json> {
    let Some(binary) = std::env::var_os("RAO_LLAMA_SERVER") else {
        println!("skipped: a real llama-server: set RAO_LLAMA_SERVER to what tests/conformance/llama_server.sh prints");
        return None;
    };
    let weights = memorise(openings, program);
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    let template = ChatTemplate::load(&qwen()).unwrap();
    let vocabulary = Vocabulary::from_tokenizer(&Tokenizer::load(&qwen()).unwrap(), ROWS).unwrap();
    let vocabulary = vocabulary.with_chat_template(template.source());
    gguf::save(&weights, &vocabulary, Quant::F32, WeightsVersion(1), &model).unwrap();

    // Free now, and most likely still when the server asks for it.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let server = Command::new(&binary)
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--threads",
            "2",
            "--no-ui",
            "--jinja",
            "--model",
        ])
        .arg(&model)
        .args([
            "--ctx-size",
            &(2 * WINDOW).to_string(),
            "--parallel",
            "2",
            "--threads-http",
            "32",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = Server(server.unwrap_or_else(|error| panic!("{}: {error}", binary.display())));
    let output = Command::new(env!("CARGO_BIN_EXE_rao"))
        .args([
            "eval",
            "--policy",
            &format!("http://127.0.0.1:{port}/v1"),
            "--harness",
            "code",
            "--work",
            work,
        ])
        .args(["--json", "--set", "eval.limits.steps=2"])
        .args(more)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    println!("{errors}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// All of them are solved, greedily.
fn assert_solved(scores: &Json, difficulty: &str) {
    let score = &scores[difficulty];
    assert_eq!(score["greedy"], 1.0, "{scores}");
    assert_eq!(
        (&score["unjudged"], &score["faults"]),
        (&0.into(), &0.into()),
        "{scores}"
    );
}

#[test]
fn number_search_is_played_on_a_server() {
    let width = NonZeroU32::new(16).unwrap();
    let of = |difficulty| number_search::world::generate(7, difficulty, width, 4);
    let openings = openings(&[of(Difficulty::Easy), of(Difficulty::Medium)].concat(), |task| {
        let (low, high) = (*task.range.start(), *task.range.end());
        Some(launch(vec![("low", low.into()), ("high", high.into())]))
    });
    let program = include_str!("programs/number_search.py");
    if let Some(scores) = play(
        "number-search",
        &openings,
        program,
        &["--tasks", "easy,medium", "--limit", "2"],
    ) {
        assert_solved(&scores, "easy");
        assert_solved(&scores, "medium");
        // It delegates through the server: five nodes each.
        assert_eq!(scores["medium"]["nodes"], 5.0, "{scores}");
    }
}

#[test]
fn aggregation_is_played_on_a_server() {
    let spec = aggregation::world::Spec {
        window: NonZeroU32::new(16_000).unwrap(),
        times: NonZeroU32::MIN,
        read_max: NonZeroU32::new(100).unwrap(),
    };
    let openings = openings(&aggregation::world::generate(7, &spec, 24), |_| None);
    let program = include_str!("programs/aggregation.py");
    if let Some(scores) = play("aggregation", &openings, program, &["--tasks", "easy", "--limit", "3"]) {
        assert_solved(&scores, "easy");
    }
}

#[test]
fn textcraft_is_played_on_a_server() {
    let benchmark = official::embedded().unwrap();
    let book = Arc::new(Book::from(&*benchmark.world));
    let options = text::Options {
        depth_max: Some(DEPTH),
        ..text::Options::default()
    };
    let train = benchmark
        .train
        .iter()
        .filter(|task| task.difficulty == Difficulty::Easy);
    let tasks: Vec<text::Task> = train
        .take(8)
        .map(|task| text::Task::synth(&book, task, options))
        .collect();
    let openings = openings(&tasks, |task| {
        let targets = task
            .targets
            .iter()
            .map(|&(item, count)| (book.name(item).into(), i64::from(count).into()));
        Some(launch(vec![("targets", Value::Dict(targets.collect()))]))
    });
    let program = include_str!("programs/textcraft.py");
    if let Some(scores) = play("textcraft", &openings, program, &["--tasks", "easy", "--limit", "3"]) {
        assert_solved(&scores, "easy");
    }
}
