//! What quantisation does to a trained policy: one line per kind, in the layout of a Markdown table.
//!
//! ```text
//! cargo run --release --features llama-cpp --example quantisation -- runs/train-001 [QUANT ...]
//! ```
//!
//! *bytes*: of the GGUF file. *mean*, *max*: difference between the log-probability with which llama.cpp drew a token and that which the policy
//! itself, in full precision, gives it, in nats, over rollouts of held-out medium tasks at temperature 1. *argmax*: how often llama.cpp's
//! most likely token is that of the Candle sampler, in the contexts of those rollouts. *greedy*, *T=1*: share of held-out tasks solved.

use rao_trainer::backend::{Sequence, Trainee};
use rao_trainer::config::Config;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::environments::textcraft::vocabulary::{ACTION_MAX, Interface, VOCAB};
use rao_trainer::environments::textcraft::{Difficulty, Task};
use rao_trainer::environments::{self, Seating};
use rao_trainer::evaluate::{self, Suite, judge, select};
use rao_trainer::rollout::{InProcess, Job, Progress, RolloutEngine, Settings, Transcript};
use rao_trainer::run::RunDir;
use rao_trainer::sampler::Sampler;
use rao_tree::{Completion, Constraint, Mask, Next, Policy, PolicyExt, Request, SequenceId, Token};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Tasks whose rollouts are compared token by token.
const TASKS: usize = 40;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let run = arguments.next().ok_or("usage: quantisation RUN [QUANT ...]")?;
    let mut quants: Vec<String> = arguments.collect();
    if quants.is_empty() {
        quants = ["f32", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q2_k"]
            .map(String::from)
            .to_vec();
    }
    println!("| | bytes | mean | max | argmax | easy, greedy | T=1 | medium, greedy | T=1 |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for quant in quants {
        println!("{}", line(Path::new(&run), &quant).await?);
    }
    Ok(())
}

async fn line(run: &Path, quant: &str) -> Result<String, Box<dyn Error>> {
    let settings = [
        "rollout.backend=llama-cpp".to_owned(),
        format!("rollout.quant={quant}"),
        "eval.difficulties=[\"easy\",\"medium\"]".to_owned(),
    ];
    let config = Config::resolve(Some(&run.join("config.toml")), &settings)?;
    let policy = Trainee::load(&RunDir::open(run)?.policy("recursive"), &config)?;
    let file = tempfile::NamedTempFile::new()?.into_temp_path();
    policy.export(quant.parse()?, &file)?;
    let bytes = std::fs::metadata(&file)?.len();

    let benchmark = environments::benchmark(&config.world)?;
    let depth = config.eval.limits.depth;
    let mut engine = policy.engine(&config, config.threads)?;
    let jobs = select(&benchmark.val, Difficulty::Medium, TASKS)
        .zip(0..)
        .map(|(task, seed)| {
            let options = AgentOptions {
                depth_max: depth,
                slots: config.agent.slots,
                shuffle_slots: true,
                interface: Interface::default(),
            };
            Job {
                root: Agent::root(&benchmark.world, task, options, seed),
                task: task.id.clone(),
                seed,
                limits: evaluate::limits(&config.eval, task.difficulty, depth, ACTION_MAX),
            }
        });
    let progress = Arc::new(Progress::default());
    let settings = Settings {
        keep_transcripts: true,
        ..evaluate::settings(1.0, policy.vocab(), &progress)
    };
    let rollouts = engine.rollout(jobs.collect(), &settings).await?;
    let transcripts: Vec<&Transcript> = rollouts.iter().flat_map(|rollout| &rollout.transcripts).collect();
    let acted = transcripts.iter().filter(|transcript| !transcript.actions.is_empty());
    let sequences: Vec<Sequence<'_>> = acted
        .map(|transcript| Sequence {
            transcript,
            weights: vec![1.0; transcript.actions.len()],
        })
        .collect();
    let exact = policy.logprobs(&sequences, 1.0)?;
    let drawn = sequences.iter().flat_map(|sequence| &sequence.transcript.logprobs);
    let gaps: Vec<f32> = exact
        .iter()
        .zip(drawn)
        .map(|(exact, drawn)| (exact - drawn).abs())
        .collect();
    let mean = gaps.iter().sum::<f32>() / gaps.len() as f32;
    let max = gaps.iter().copied().fold(0.0, f32::max);

    let theirs = favourites(&mut engine, &sequences)?;
    let ours = favourites(&mut policy.exact_engine(&config.rollout, 1)?, &sequences)?;
    let same = theirs.iter().zip(&ours).filter(|(one, other)| one == other).count();
    let argmax = same as f64 / ours.len() as f64;

    let suite = Suite {
        tasks: &benchmark.val,
        root: |task: &Task, seating: Seating, seed| {
            let options = AgentOptions {
                depth_max: seating.depth_max,
                slots: config.agent.slots,
                shuffle_slots: seating.shuffle,
                interface: Interface::default(),
            };
            Agent::root(&benchmark.world, task, options, seed)
        },
        action_max: ACTION_MAX,
        windows: [None; 4],
    };
    let scores = judge(
        &mut engine,
        &suite,
        &config,
        (depth, policy.vocab()),
        "evaluation",
        &progress,
        |_| (),
    )
    .await?;
    let (easy, medium) = (scores.easy.unwrap_or_default(), scores.medium.unwrap_or_default());
    Ok(format!(
        "| {quant} | {bytes} | {mean:.5} | {max:.4} | {argmax:.4} | {:.2} | {:.2} | {:.2} | {:.2} |",
        easy.greedy, easy.t1, medium.greedy, medium.t1
    ))
}

/// The tokens that were allowed when one was drawn.
struct Allowed<'a>(&'a [u64]);

impl Constraint for Allowed<'_> {
    fn next(&mut self, _: &[Token], mask: &mut Mask<'_>) -> Next {
        for token in (0..VOCAB as u32).filter(|token| self.0[*token as usize / 64] >> (token % 64) & 1 == 1) {
            mask.allow(Token(token));
        }
        Next::Draw
    }
}

/// The most likely token wherever one was drawn.
fn favourites(engine: &mut InProcess<Sampler>, sequences: &[Sequence<'_>]) -> Result<Vec<Token>, Box<dyn Error>> {
    let words = Mask::words(VOCAB);
    let sampler = engine.policies_mut().next().ok_or("an engine without a policy")?;
    let mut favourites = Vec::new();
    for (name, sequence) in (1 << 40..).zip(sequences) {
        let transcript = sequence.transcript;
        for (position, mask) in transcript.action_positions().zip(transcript.masks.chunks(words)) {
            let (mut token, mut logprob, mut allowed) = ([Token(0)], [0.0], Allowed(mask));
            let mut batch = [Request {
                sequence: SequenceId(name),
                prompt: &transcript.tokens[..position as usize],
                seed: 0,
                temperature: 0.0,
                constraint: Some(&mut allowed),
                completion: Completion::new(&mut token, &mut logprob, &mut [], 0)?,
                stop: None,
            }];
            sampler.sample_all(&mut batch)?;
            favourites.push(token[0]);
        }
        sampler.forget(SequenceId(name));
    }
    Ok(favourites)
}
