//! An agent on a device: a GGUF file and a task in, a recursive run out. One thread, no async runtime, no Candle; every event is in the trace
//! before the next one happens, so that what is left of an interrupted run can be read.
//!
//! ```text
//! rao export runs/train-001 --quant q8_0 -o policy.gguf
//! cargo run --release --no-default-features --features llama-cpp --example edge -- policy.gguf medium edge.trace
//! rao trace edge.trace
//! ```
//!
//! Options behind the three: `--bytes N` (the trace's cap, 1 MiB), `--slots N` (agents whose keys and values are kept, 16), `--seed N`,
//! `--seconds N` (deadline of the run, 300).

use rao_backends::llama_cpp::{KvPrecision, LlamaCppOptions, Local, ModelFile, inspect, on_this_thread};
use rao_proto::Recorder;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::environments::textcraft::vocabulary::{ACTION_MAX, Interface, LANGUAGE, VOCAB};
use rao_trainer::environments::textcraft::{Benchmark, Task, official};
use rao_trainer::rollout::{Job, Progress, Rollout, Worker};
use rao_trainer::{config::Config, evaluate, trace::Trace};
use rao_tree::WeightsVersion;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest frame: an act of this interface takes some ten bytes, a task's text a hundred.
const FRAME: usize = 1024;

struct Options {
    model: PathBuf,
    task: String,
    trace: PathBuf,
    bytes: u64,
    slots: u32,
    seed: u64,
    seconds: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = options(std::env::args().skip(1))?;
    let benchmark = official::embedded()?;
    let named = |task: &&Task| task.id == options.task || task.difficulty.name() == options.task;
    let task = benchmark.val.iter().find(named);
    let task = task.ok_or_else(|| {
        format!(
            "no task {:?}: an identifier, or easy, medium, hard, extreme",
            options.task
        )
    })?;

    let model = ModelFile::new(options.model.clone());
    let info = inspect(model.path())?;
    let settings = LlamaCppOptions {
        slots: options.slots,
        window: Config::default().limits.context,
        threads: 1,
        batch: 128,
        kv: KvPrecision::F16,
        vocab: Some(VOCAB),
        fingerprint: Some(LANGUAGE.fingerprint(VOCAB)),
        ..LlamaCppOptions::default()
    };
    let version = WeightsVersion(info.weights_version.unwrap_or(0));
    let rollout = on_this_thread(&model, version, settings, |policy| {
        run(policy, task, &benchmark, &options)
    })??;

    let (tree, damage) = Trace::read(&std::fs::read(&options.trace)?);
    print!("{}", tree.draw(30));
    for error in damage {
        println!("trace: {error}");
    }
    println!(
        "success {}, {} nodes, {} tokens sampled, {:.2} s",
        rollout.success(),
        rollout.tree.nodes().len(),
        rollout.sampled(),
        rollout.seconds
    );
    println!("model {} bytes on disk; {}", info.bytes, memory());
    Ok(if rollout.success() > 0.0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Rolls the task out and writes its trace while it happens.
fn run(
    policy: &mut Local<'_>,
    task: &Task,
    benchmark: &Benchmark,
    options: &Options,
) -> Result<Rollout, Box<dyn Error>> {
    let mut file = File::create_new(&options.trace).map_err(|error| format!("{}: {error}", options.trace.display()))?;
    // Straight to the file, without a buffer: what was recorded is there, whatever happens next.
    let recorder = Recorder::<_, _, FRAME>::new(move |frame: &[u8]| file.write_all(frame)).capped(options.bytes);
    let recorder = Arc::new(Mutex::new(recorder));

    let depth = Config::default().eval.limits.depth;
    let agent = AgentOptions {
        depth_max: depth,
        slots: Config::default().agent.slots,
        shuffle_slots: false,
        interface: Interface::default(),
    };
    let mut limits = evaluate::limits(&Config::default().eval, task.difficulty, depth, ACTION_MAX);
    limits.deadline_us = Some(options.seconds.saturating_mul(1_000_000));
    let job = Job {
        root: Agent::root(&benchmark.world, task, agent, options.seed),
        task: task.id.clone(),
        seed: options.seed,
        limits,
    };
    let mut settings = evaluate::settings(0.0, VOCAB, &Arc::new(Progress::default()));
    settings.sink = Some(Arc::clone(&recorder) as _);
    let mut jobs = std::iter::once((0, job));
    let mut rollouts = Worker::new(policy).rollout(|| jobs.next(), &settings)?;
    drop(settings);
    let recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
    // A full trace ends early and is sound; the run went on.
    match recorder.error() {
        Some(error) => println!("the trace ends early: {error}"),
        None => println!("trace: {} bytes", recorder.bytes()),
    }
    rollouts.pop().ok_or_else(|| "the rollout was stopped".into())
}

/// Most memory that this process has held, where the system says so.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(
        || "peak memory unknown".to_owned(),
        |peak| format!("peak memory {}", peak.trim()),
    )
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    const USAGE: &str = "usage: edge MODEL.gguf TASK TRACE [--bytes N] [--slots N] [--seed N] [--seconds N]";
    let mut next = || arguments.next();
    let (Some(model), Some(task), Some(trace)) = (next(), next(), next()) else {
        return Err(USAGE.into());
    };
    let mut options = Options {
        model: model.into(),
        task,
        trace: trace.into(),
        bytes: 1 << 20,
        slots: 16,
        seed: 0,
        seconds: 300,
    };
    while let Some(name) = next() {
        let number: u64 = next().ok_or(USAGE)?.parse()?;
        match name.as_str() {
            "--bytes" => options.bytes = number,
            "--slots" => options.slots = number.try_into()?,
            "--seed" => options.seed = number,
            "--seconds" => options.seconds = number,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}
