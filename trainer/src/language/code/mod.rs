//! [`CodeCells`]: the harness of models that act by writing Python.
//!
//! A turn is a cell of Python for the interpreter `monty`, which runs it in this process: tools and `launch_subagent` are functions of it, and
//! `await` and `asyncio.gather` of launches are a delegation. Between cells, and while it waits for its children, an interpreter is bytes.
//!
//! # What is out of reach
//! Processes, files, the environment, the network and the clock: the interpreter has none of them and asks its host, which refuses. Time, memory,
//! recursion, calls and output of a cell, and the size of what it leaves behind, have limits ([`Sandbox`]). What the sandbox does not
//! contain is a flaw of the interpreter that aborts the process; a panic of it costs a node its variables.
//!
//! # Memory
//! A single object beyond [`Sandbox::memory`] is refused before it is made. That many small ones are refused too takes a program whose global
//! allocator counts, `monty_alloc::LimitedAllocator`; `rao` is one. It counts all threads: what others take while a cell runs is held against it,
//! so leave room.

mod cell;
mod object;
mod session;

use super::harness::{FINISH, HarnessError, LAUNCH, Node, Setup};
use super::{Slip, TextEnvironment, Tool, Value};
use rao_tree::{Answer, Constraint, Environment, Observation, Outcome, Token};
pub use session::SessionError;
use session::{FailureKind, Host, Progress, Reply, Report, Session};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// Limits of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Time that the interpreter may work, without what it waits.
    pub time: Duration,
    /// Bytes that it may take.
    pub memory: usize,
    /// Calls within calls.
    pub recursion: usize,
    /// Calls of tools and of `launch_subagent`.
    pub calls: usize,
    /// Bytes that it may print.
    pub printed: usize,
    /// Bytes of the variables, functions and source texts that are kept between cells.
    pub state: usize,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(1),
            memory: 256 << 20,
            recursion: 200,
            calls: 1_000,
            printed: 1 << 20,
            state: 4 << 20,
        }
    }
}

/// How calls are written.
const NOTATION: &str = "Act by writing Python. Each message holds one cell, between ```python and ```; you may think before. It runs in a sandbox \
    that keeps its variables. What it prints, and the value of its last expression, is what you see next. There are no files and no network. \
    Beside Python's own there are these functions:";
const DELEGATION: &str = "launch_subagent is awaited: `answer = await launch_subagent(...)`. Several at once work side by side: \
    `answers = await asyncio.gather(launch_subagent(...), launch_subagent(...))`. One that ends without an answer gives None.";

/// The variables that a node finds in its first cell: what it was asked, and what it was given.
const GOAL: &str = "goal";
const CONTEXT: &str = "context";

/// One node that acts by cells of Python.
///
/// What is wrong with a cell is told as Python would tell it, and counted as a [`Slip`]; it never ends the node.
pub struct CodeCells<E> {
    node: Node<E>,
    session: Session,
    sandbox: Sandbox,
}

impl<E: TextEnvironment> CodeCells<E> {
    /// The root of a tree.
    #[must_use]
    pub fn root(environment: E, setup: Arc<Setup>, sandbox: Sandbox) -> Self {
        Self::around(Node::root(environment, setup), sandbox)
    }

    /// What it acts upon.
    pub fn environment(&self) -> &E {
        &self.node.environment
    }

    /// Bytes that its interpreter takes while it waits.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.session.len()
    }

    fn around(node: Node<E>, sandbox: Sandbox) -> Self {
        Self {
            node,
            session: Session::new(sandbox),
            sandbox,
        }
    }

    fn rules(&self) -> String {
        let mut rules = format!("{}\n\n{NOTATION}\n", self.node.environment.instructions().trim_end());
        let own = self.node.own_tools();
        for tool in self.node.environment.tools().iter().chain(&own) {
            push_function(&mut rules, tool);
        }
        if self.node.may_launch() {
            rules.push_str(DELEGATION);
            rules.push(' ');
        }
        let _ = write!(rules, "What you are asked is also in the variable {GOAL}");
        if self.node.environment.brief().context.is_some() {
            let _ = write!(rules, ", and what you were given in {CONTEXT}");
        }
        rules.push_str(". ");
        rules + "Call finish when you are done."
    }

    /// What follows from where a cell got to.
    fn follow(
        &mut self,
        progress: Progress,
        ended: Option<Result<Outcome, HarnessError>>,
        out: &mut Observation<'_>,
    ) -> Result<Outcome, HarnessError> {
        match progress {
            Progress::Waits => Ok(Outcome::Delegate {
                children: self.node.launches(),
            }),
            // A cell ends by a call that says how.
            Progress::Ended => ended.unwrap_or(Err(HarnessError::Silent)),
            Progress::Over(report) => {
                let told = self.tell(report);
                self.node.reply([told], out)?;
                Ok(Outcome::Continue)
            }
        }
    }

    /// What the model is told of a cell that is over.
    fn tell(&mut self, report: Report) -> String {
        self.node.forget_launches();
        // What went wrong stands below what was printed, and is to be seen.
        let mut told = self
            .node
            .shorten(report.output, self.node.setup().caps.observation / 4 * 3);
        let mut line = |text: &str| {
            if !told.is_empty() && !told.ends_with('\n') {
                told.push('\n');
            }
            told.push_str(text);
        };
        if let Some(failure) = report.failure {
            let slip = match failure.kind {
                FailureKind::Syntax if self.node.was_cut_off() => Slip::CutOff,
                FailureKind::Syntax => Slip::Syntax,
                FailureKind::Exception => Slip::Exception,
                FailureKind::Time => Slip::Time,
                FailureKind::Memory => Slip::Memory,
                FailureKind::Recursion => Slip::Recursion,
                FailureKind::Suspensions => Slip::Suspensions,
                FailureKind::Forbidden => Slip::Forbidden,
            };
            line(&self.node.slip(slip, failure.message));
            if slip == Slip::CutOff {
                line("your message was cut off: write shorter cells");
            }
        }
        if report.never_awaited > 0 {
            let hint = "launch_subagent was called and never awaited, so nothing was launched: write await launch_subagent(...)";
            line(&self.node.slip(Slip::NeverAwaited, hint));
        }
        if let Some(bytes) = report.too_large {
            let max = self.sandbox.state;
            let hint =
                format!("your variables take {bytes} bytes, at most {max} are kept: all of them are gone, keep less");
            line(&self.node.slip(Slip::State, hint));
        }
        if told.is_empty() {
            told.push_str("(no output)");
        }
        told
    }
}

/// A function as the model reads it.
fn push_function(rules: &mut String, tool: &Tool) {
    // Writing to a string does not fail.
    let keyword = if tool.name == LAUNCH { "async def" } else { "def" };
    let _ = writeln!(rules, "{keyword} {}: {}", tool.signature(), tool.description);
    for parameter in &tool.parameters {
        let _ = writeln!(rules, "    {}: {}", parameter.name, parameter.description);
    }
}

/// What a cell may call: the node's tools, and how it ended.
struct Calls<'a, E> {
    node: &'a mut Node<E>,
    ended: Option<Result<Outcome, HarnessError>>,
}

impl<E: TextEnvironment> Host for Calls<'_, E> {
    fn call(&mut self, function: &str, positional: Vec<Value>, named: Vec<(String, Value)>) -> Reply {
        match function {
            FINISH if self.node.launches() > 0 => Reply::Raise(self.node.slip(
                Slip::EarlyFinish,
                "not finished: there are launches that you have not awaited, finish after their answers",
            )),
            FINISH => match self.node.finish(positional, named) {
                Ok(Ok(outcome)) => self.end(Ok(outcome)),
                Ok(Err(hint)) => Reply::Raise(hint),
                Err(error) => self.end(Err(error)),
            },
            LAUNCH => match self.node.launch(positional, named) {
                Ok(()) => Reply::Later,
                Err(hint) => Reply::Raise(hint),
            },
            name => match self.node.call(name, positional, named) {
                Ok(value) => Reply::Value(value),
                Err(hint) => Reply::Raise(hint),
            },
        }
    }
}

impl<E> Calls<'_, E> {
    fn end(&mut self, how: Result<Outcome, HarnessError>) -> Reply {
        self.ended = Some(how);
        Reply::End
    }
}

impl<E: TextEnvironment> Environment for CodeCells<E> {
    type Error = HarnessError;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), HarnessError> {
        self.node.open(self.rules(), Vec::new(), out)
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self.node.constraint())
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, HarnessError> {
        let Some(cell) = cell::cell(self.node.hear(action)?) else {
            let hint = if self.node.was_cut_off() {
                let hint = "your message was cut off before any code: think less, and write one cell";
                self.node.slip(Slip::CutOff, hint)
            } else {
                let hint = "there is no code in your message; write\n```python\nfinish(...)\n```\nif you are done";
                self.node.slip(Slip::NoCall, hint)
            };
            self.node.reply([hint], out)?;
            return Ok(Outcome::Continue);
        };
        let own = self.node.own_tools();
        let tools = self.node.environment.tools().iter().map(|tool| tool.name);
        let functions: Vec<&str> = tools.chain(own.iter().map(|tool| tool.name)).collect();
        let mut variables = Vec::new();
        if self.session.is_fresh() {
            let brief = self.node.environment.brief();
            variables.push((GOAL.to_owned(), Value::Str(brief.goal.clone())));
            variables.push((CONTEXT.to_owned(), brief.context.clone().unwrap_or_default()));
        }
        let mut calls = Calls {
            node: &mut self.node,
            ended: None,
        };
        let progress = self.session.run(&cell, &functions, variables, &mut calls)?;
        let ended = calls.ended;
        self.follow(progress, ended, out)
    }

    fn child(&mut self, index: u8) -> Result<Self, HarnessError> {
        Ok(Self::around(self.node.child(index)?, self.sandbox))
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, HarnessError> {
        let mut values = Vec::with_capacity(answers.len());
        for (index, answer) in self.node.read(answers)?.into_iter().enumerate() {
            values.push(answer.unwrap_or_else(|hint| {
                // The answers of its siblings are not lost with it, as they would be with an exception.
                self.session.note(&format!("launch {} gave None: {hint}", index + 1));
                Value::None
            }));
        }
        let mut calls = Calls {
            node: &mut self.node,
            ended: None,
        };
        let progress = self.session.resume(values, &mut calls)?;
        let ended = calls.ended;
        self.follow(progress, ended, out)
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.node.describe(out)
    }

    fn answer(&self) -> &[u8] {
        self.node.answer()
    }
}
