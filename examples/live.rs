//! A chat with an agent that may ask others: every question grows a tree, shown while it grows, and its sub-agents are new instances of the same policy.
//!
//! The policy is on an OpenAI-compatible server (llama-server, vLLM, a hosted one). Agents act by Python cells in a sandbox, and share a notebook.
//! What an answer is worth nobody can check, so the policy itself is asked: a judge that fails leaves an answer unjudged.
//!
//! ```text
//! cargo run --release --features openai --example live -- http://127.0.0.1:8080/v1
//! > Which of 1789, 1799 and 1811 are prime? Let an agent of its own look at each.
//! ```
//!
//! The key, where the server wants one, is read from `OPENAI_API_KEY`. Exit: end of input.

use rao_backends::openai::{ApiKey, OpenAi, OpenAiOptions, Wire};
use rao_proto::Event;
use rao_trainer::judge::{Bench, Grader};
use rao_trainer::language::speech::{ByteSpeech, Speech};
use rao_trainer::language::{
    Arguments, Brief, BrokenEnvironment, Caps, CodeCells, Kind, Launch, Parameter, PolicyJudge, RUBRIC, Sandbox, Setup,
    Tally, TextEnvironment, Tool, ToolError, Value, Verdict,
};
use rao_trainer::live::{Growth, Screen};
use rao_trainer::rollout::{InProcess, Job, Progress, RolloutEngine, Settings, SharedSink};
use rao_tree::{Limits, NodeId, Token};
use std::borrow::Cow;
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// One agent: a question, and the notebook that all agents of its tree write to.
struct Desk {
    brief: Brief,
    notes: Arc<Mutex<Vec<String>>>,
}

static NOTE: LazyLock<[Tool; 1]> = LazyLock::new(|| {
    [Tool {
        name: "note",
        description: "Writes a line into the notebook that all agents share, and gives back all lines.",
        parameters: vec![Parameter {
            name: "text",
            description: "The line.",
            kind: Kind::Str,
            required: true,
        }],
    }]
});

impl TextEnvironment for Desk {
    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn instructions(&self) -> Cow<'_, str> {
        "You answer a question. Where its parts have nothing to do with each other, have an agent of its own look at each.".into()
    }

    fn tools(&self) -> &[Tool] {
        &*NOTE
    }

    fn call(&mut self, _: &str, arguments: &Arguments) -> Result<Value, ToolError> {
        let text = arguments.text("text")?;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // What grows has a cap.
        if notes.len() >= 1_000 || text.len() > 1_000 {
            return Err(ToolError("the notebook takes 1,000 lines of 1,000 bytes".into()));
        }
        notes.push(text.to_owned());
        Ok(notes.clone().into())
    }

    fn child(&mut self, launch: &Launch) -> Result<Self, BrokenEnvironment> {
        let mut ancestors = self.brief.ancestors.clone();
        ancestors.push(self.brief.goal.clone());
        Ok(Self {
            brief: Brief {
                goal: launch.goal.clone(),
                context: launch.context.clone(),
                ancestors,
            },
            notes: Arc::clone(&self.notes),
        })
    }

    fn judge(&mut self, _: &Value) -> Verdict {
        Verdict::Submit
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: live http://127.0.0.1:8080/v1")?;
    let mut options = OpenAiOptions::new(url, Wire::Chat);
    options.api_key = std::env::var("OPENAI_API_KEY").ok().map(ApiKey::new);
    let policy = OpenAi::open(options)?;
    println!("{}: ask something", policy.model());
    let judge = PolicyJudge::new(policy.clone(), Arc::new(ByteSpeech), RUBRIC, 2_000)?;
    let bench = Bench::new(Arc::new(judge), 4, Duration::from_secs(120));
    let mut engine = InProcess::new(vec![policy]);
    for (seed, question) in io::stdin().lock().lines().enumerate() {
        let question = question?;
        if question.trim().is_empty() {
            continue;
        }
        let answer = ask(&mut engine, question, seed as u64, Grader::Judge(bench.clone())).await?;
        println!("\n{answer}\n");
        io::stdout().flush()?;
    }
    Ok(())
}

/// Grows a tree on a question and gives back what its root answered.
async fn ask(
    engine: &mut InProcess<OpenAi>,
    question: String,
    seed: u64,
    grader: Grader,
) -> Result<String, Box<dyn Error>> {
    const DEPTH: u8 = 3;
    let tally = Arc::new(Tally::default());
    let setup = Setup {
        speech: Arc::new(ByteSpeech),
        caps: Caps::default(),
        depth_max: DEPTH,
        tally: Arc::clone(&tally),
    };
    let brief = Brief {
        goal: question,
        ..Brief::default()
    };
    let desk = Desk {
        brief,
        notes: Arc::default(),
    };
    let job = Job {
        root: CodeCells::root(desk, Arc::new(setup), Sandbox::default()),
        task: "chat".into(),
        seed,
        limits: Limits {
            depth_max: DEPTH,
            nodes_max: 50,
            children_max: 10,
            steps_max: 10,
            tokens_max: 5_000_000,
            action_max: 8_192,
            context_max: 65_536,
            concurrent_max: 8,
            deadline_us: Some(600_000_000),
        },
    };
    let words = Box::new(|tokens: &[Token]| ByteSpeech.text(tokens).unwrap_or_default());
    let screen = Arc::new(Mutex::new(Screen::new(Growth::new(words), io::stderr(), (40, 120))));
    let settings = Settings {
        temperature: 0.7,
        vocab: ByteSpeech::VOCAB,
        keep_transcripts: false,
        keep_log: true,
        trees_in_flight: 1,
        grader,
        sink: Some(Arc::clone(&screen) as SharedSink),
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let rollout = engine.rollout(vec![job], &settings).await?.pop().ok_or("interrupted")?;
    screen.lock().unwrap_or_else(PoisonError::into_inner).finish()?;
    eprintln!("{:.1} s, {tally}", rollout.seconds);
    for fault in &rollout.faults {
        eprintln!("{fault}");
    }
    for frame in rao_proto::Frames::new(&rollout.log) {
        if let Event::Return { node, value, .. } = frame?.event
            && node == NodeId::ROOT
        {
            return Ok(match Value::decode(value) {
                Ok(Value::Str(text)) => text,
                Ok(value) => value.to_string(),
                Err(_) => "(no answer)".into(),
            });
        }
    }
    Ok("(no answer)".into())
}
