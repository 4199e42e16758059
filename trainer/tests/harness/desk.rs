//! A small world to try harnesses in: two tools, children of any goal, and a policy that says what the goal is.

use rao_backends::scripted::Scripted;
use rao_trainer::judge::Grader;
use rao_trainer::language::speech::{ByteSpeech, Role};
use rao_trainer::language::{
    Arguments, Brief, BrokenEnvironment, Caps, HarnessError, Kind, Launch, Parameter, Setup, Slip, Tally,
    TextEnvironment, Tool, ToolError, Value, Verdict,
};
use rao_trainer::rollout::{InProcess, Job, Progress, Rollout, RolloutEngine, Settings};
use rao_tree::{Answer, Constraint, Environment, Limits, NodeStatus, Observation, Outcome, Request, Success, Token};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};

/// The environment of a node.
pub struct Desk {
    brief: Brief,
}

static TOOLS: LazyLock<[Tool; 2]> = LazyLock::new(|| {
    let one = |name, kind| {
        vec![Parameter {
            name,
            description: "what",
            kind,
            required: true,
        }]
    };
    [
        Tool {
            name: "twice",
            description: "A pair of it.",
            parameters: one("x", Kind::Any),
        },
        Tool {
            name: "spell",
            description: "Its letters.",
            parameters: one("text", Kind::Str),
        },
    ]
});

impl TextEnvironment for Desk {
    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn instructions(&self) -> Cow<'_, str> {
        "Do as you are told.".into()
    }

    fn tools(&self) -> &[Tool] {
        &*TOOLS
    }

    fn call(&mut self, tool: &str, arguments: &Arguments) -> Result<Value, ToolError> {
        match tool {
            "twice" => {
                let x = arguments.find("x").unwrap();
                Ok(Value::Tuple(vec![x.clone(), x.clone()]))
            }
            _ => match arguments.text("text")? {
                "" => Err(ToolError("nothing to spell".into())),
                text => Ok(text.chars().map(String::from).collect::<Vec<_>>().into()),
            },
        }
    }

    fn check(&self, launch: &Launch) -> Result<(), ToolError> {
        match launch.goal.is_empty() {
            true => Err(ToolError("a goal must say something".into())),
            false => Ok(()),
        }
    }

    fn child(&mut self, launch: &Launch) -> Result<Self, BrokenEnvironment> {
        Ok(Self {
            brief: Brief {
                goal: launch.goal.clone(),
                context: launch.context.clone(),
                ancestors: Vec::new(),
            },
        })
    }

    fn judge(&mut self, answer: &Value) -> Verdict {
        match answer {
            Value::Str(text) if text == "unjudged" => Verdict::Unjudged("nobody knows".into()),
            Value::Str(text) if text == "submit" => Verdict::Submit,
            _ => Verdict::Score(Success::ONE),
        }
    }
}

/// What the root of a tree met with.
#[derive(Default)]
struct Seen {
    told: Vec<String>,
    delegations: Vec<u8>,
    answer: Option<Value>,
    largest_wait: usize,
}

/// A tree that was run.
pub struct Run {
    pub rollout: Rollout,
    tally: Arc<Tally>,
    seen: Arc<Mutex<Seen>>,
}

impl Run {
    pub fn status(&self, node: usize) -> NodeStatus {
        self.rollout.tree.nodes()[node].judged().expect("it ended")
    }

    /// What the root answered.
    pub fn answer(&self) -> Value {
        let seen = self.seen.lock().unwrap();
        let no_answer = || panic!("no answer; told {:?}; {:?}", seen.told, self.rollout.faults);
        seen.answer.clone().unwrap_or_else(no_answer)
    }

    /// What the root was told after each of its turns but the last.
    pub fn told(&self) -> Vec<String> {
        self.seen.lock().unwrap().told.clone()
    }

    pub fn count(&self, slip: Slip) -> u64 {
        self.tally.count(slip)
    }

    pub fn slips(&self) -> Vec<(Slip, u64)> {
        self.tally.slips().collect()
    }

    /// Children of each delegation of the root, in order.
    pub fn delegations(&self) -> Vec<u8> {
        self.seen.lock().unwrap().delegations.clone()
    }

    /// The most bytes that the root kept while it waited for children.
    #[cfg(feature = "code")]
    pub fn largest_wait(&self) -> usize {
        self.seen.lock().unwrap().largest_wait
    }
}

/// Watches a harness.
struct Watched<H> {
    harness: H,
    state_bytes: fn(&H) -> usize,
    /// Of the root.
    seen: Option<Arc<Mutex<Seen>>>,
}

impl<H: Environment<Error = HarnessError>> Watched<H> {
    fn note(&self, outcome: Outcome, out: &Observation<'_>) -> Outcome {
        let Some(mut seen) = self.seen.as_ref().map(|seen| seen.lock().unwrap()) else {
            return outcome;
        };
        match outcome {
            Outcome::Continue => seen.told.push(text(out.tokens())),
            Outcome::Delegate { children } => {
                seen.delegations.push(children);
                seen.largest_wait = seen.largest_wait.max((self.state_bytes)(&self.harness));
            }
            _ => seen.answer = Some(Value::decode(self.harness.answer()).unwrap()),
        }
        outcome
    }
}

impl<H: Environment<Error = HarnessError>> Environment for Watched<H> {
    type Error = HarnessError;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), HarnessError> {
        self.harness.observe(out)
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        self.harness.constraint()
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, HarnessError> {
        let outcome = self.harness.step(action, out)?;
        Ok(self.note(outcome, out))
    }

    fn child(&mut self, index: u8) -> Result<Self, HarnessError> {
        Ok(Self {
            harness: self.harness.child(index)?,
            state_bytes: self.state_bytes,
            seen: None,
        })
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, HarnessError> {
        let outcome = self.harness.resume(answers, out)?;
        Ok(self.note(outcome, out))
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.harness.describe(out)
    }

    fn answer(&self) -> &[u8] {
        self.harness.answer()
    }
}

/// The text of an observation: what is said between its tags.
pub fn text(tokens: &[Token]) -> String {
    let bytes: Vec<u8> = tokens.iter().filter_map(|token| u8::try_from(token.0).ok()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What separates the turns in a goal.
const TURN: &str = "\n---\n";

/// The next turn of a node, which is in its goal.
fn next_turn(context: &[Token], say: impl Fn(&str) -> String) -> Vec<Token> {
    let goal = context
        .iter()
        .position(|&token| token == ByteSpeech::begin(Role::User))
        .unwrap();
    let end = context[goal..]
        .iter()
        .position(|&token| token == ByteSpeech::END)
        .unwrap();
    let goal = text(&context[goal..goal + end]);
    let goal = goal.split("\n\nContext:\n").next().unwrap_or_default();
    let turns = context
        .iter()
        .filter(|&&token| token == ByteSpeech::begin(Role::Assistant));
    let turn = goal.split(TURN).nth(turns.count() - 1).map(say).unwrap_or_default();
    let bytes = turn.bytes().map(|byte| Token(byte.into()));
    bytes.chain([ByteSpeech::END]).collect()
}

/// As [`run_graded`], with nobody to judge what is submitted.
pub async fn run<H: Environment<Error = HarnessError> + Send + 'static>(
    goal: &str,
    root: impl FnOnce(Desk, Arc<Setup>) -> H,
    state_bytes: fn(&H) -> usize,
    say: impl Fn(&str) -> String + Send + Copy + 'static,
) -> Run {
    run_graded(goal, root, state_bytes, say, Grader::Nobody).await
}

/// Runs a tree on a goal, whose `n`th part is what the root says in turn `n`, after `say`; its children likewise.
pub async fn run_graded<H: Environment<Error = HarnessError> + Send + 'static>(
    goal: &str,
    root: impl FnOnce(Desk, Arc<Setup>) -> H,
    state_bytes: fn(&H) -> usize,
    say: impl Fn(&str) -> String + Send + Copy + 'static,
    grader: Grader,
) -> Run {
    let tally = Arc::new(Tally::default());
    let setup = Arc::new(Setup {
        speech: Arc::new(ByteSpeech),
        caps: Caps::default(),
        depth_max: 2,
        tally: Arc::clone(&tally),
    });
    let brief = Brief {
        goal: goal.to_owned(),
        ..Brief::default()
    };
    let seen = Arc::new(Mutex::new(Seen::default()));
    let root = Watched {
        harness: root(Desk { brief }, setup),
        state_bytes,
        seen: Some(Arc::clone(&seen)),
    };
    let settings = Settings {
        temperature: 1.0,
        vocab: ByteSpeech::VOCAB,
        keep_transcripts: false,
        keep_log: false,
        trees_in_flight: 1,
        grader,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let limits = Limits {
        depth_max: 2,
        nodes_max: 10,
        children_max: 20,
        steps_max: 4,
        tokens_max: 1_000_000,
        action_max: 70_000,
        context_max: 400_000,
        concurrent_max: 9,
        deadline_us: None,
    };
    let job = Job {
        root,
        task: "desk".into(),
        seed: 0,
        limits,
    };
    let policy = Scripted::new(ByteSpeech::VOCAB, move |request: &Request<'_>, _: &mut _| {
        next_turn(request.prompt, say)
    });
    let mut rollouts = InProcess::new(vec![policy])
        .rollout(vec![job], &settings)
        .await
        .unwrap();
    Run {
        rollout: rollouts.pop().unwrap(),
        tally,
        seen,
    }
}
