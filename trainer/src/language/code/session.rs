//! [`Session`]: an interpreter that runs cells and waits as bytes.

use super::Sandbox;
use super::object::{Foreign, shown, to_object, to_value};
use crate::language::Value;
use monty::{Dump, DumpError, MontyRepl, ReplFunctionCall, ReplProgress, ReplResolveFutures, ReplStartError};
use monty::{Session as State, SessionRef, dump};
use monty_types::{
    BASELINE_MEMORY, CompileOptions, ExcType, ExtFunctionResult, LIVE_MEMORY, MontyException, MontyObject,
    NameLookupResult, PrintWriter, ResourceLimits, ResourceTracker,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// What a cell may call.
pub(super) trait Host {
    /// Answers a call.
    fn call(&mut self, function: &str, positional: Vec<Value>, named: Vec<(String, Value)>) -> Reply;
}

/// What a call gives the cell.
pub(super) enum Reply {
    /// This.
    Value(Value),
    /// An exception with this message.
    Raise(String),
    /// An awaitable; what it gives is told when the cell waits for it.
    Later,
    /// Nothing: the cell is over, and so is the session.
    End,
}

/// Where a cell got to.
#[derive(Debug)]
pub(super) enum Progress {
    /// To its end.
    Over(Report),
    /// It waits for all that was to come later.
    Waits,
    /// A call ended it.
    Ended,
}

/// What a cell that is over leaves behind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Report {
    /// What it printed, and the value of its last expression.
    pub(super) output: String,
    /// How it failed.
    pub(super) failure: Option<Failure>,
    /// Awaitables that it never awaited; they are forgotten.
    pub(super) never_awaited: usize,
    /// Bytes of its variables, which were too many: they are gone.
    pub(super) too_large: Option<usize>,
}

/// How a cell failed, and what the model is told.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) message: String,
}

/// What a failure is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    Syntax,
    Exception,
    Time,
    Memory,
    Recursion,
    Suspensions,
    Forbidden,
}

/// The session itself is broken, not the cell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The interpreter did not begin.
    #[error("the interpreter did not begin: {0}")]
    Begin(String),
    /// The interpreter could not be written down.
    #[error("the interpreter could not be saved: {0}")]
    Save(String),
    /// What was written down could not be read.
    #[error("the interpreter could not be restored: {0}")]
    Restore(#[from] DumpError),
    /// What was awaited and what was answered differ.
    #[error("{answers} answers to a cell that waits for {waits}")]
    Answers {
        /// Answers that came.
        answers: usize,
        /// Awaitables.
        waits: usize,
    },
}

/// An interpreter between two turns, or in the midst of a cell that waits: bytes.
pub(super) struct Session {
    sandbox: Sandbox,
    /// Empty before the first cell.
    state: Vec<u8>,
    /// The cell under way.
    cell: Cell,
}

/// What is known of the cell under way.
#[derive(Default)]
struct Cell {
    printed: String,
    calls: usize,
    /// Calls that are to be answered later.
    later: Vec<u32>,
    /// It asked for what is out of reach.
    forbidden: bool,
}

const NAME: &str = "cell";

impl Session {
    pub(super) fn new(sandbox: Sandbox) -> Self {
        Self {
            sandbox,
            state: Vec::new(),
            cell: Cell::default(),
        }
    }

    /// Bytes that it takes while it waits.
    pub(super) fn len(&self) -> usize {
        self.state.len()
    }

    /// Whether there are variables of earlier cells.
    pub(super) fn is_fresh(&self) -> bool {
        self.state.is_empty()
    }

    /// Adds a line to what the cell under way printed.
    pub(super) fn note(&mut self, line: &str) {
        let printed = &mut self.cell.printed;
        if !printed.is_empty() && !printed.ends_with('\n') {
            printed.push('\n');
        }
        printed.push_str(line);
        printed.push('\n');
    }

    /// Runs a cell. `functions` are what it may call, and `variables` are set beforehand.
    pub(super) fn run(
        &mut self,
        code: &str,
        functions: &[&str],
        variables: Vec<(String, Value)>,
        host: &mut impl Host,
    ) -> Result<Progress, SessionError> {
        let mut repl = match self.load()? {
            Some(State::Idle(repl)) => *repl,
            // A cell that waits is resumed; one that is not was given up with its turn.
            Some(State::Suspended(progress)) => progress.into_repl(),
            // Nothing else is ever saved.
            Some(State::Running(_)) | None => fresh()?,
        };
        // Each cell has the limits for itself.
        *repl.tracker_mut() = self.sandbox.tracker();
        self.cell = Cell::default();
        let function = |name: &&str| {
            let object = MontyObject::Function {
                name: (*name).to_owned(),
                docstring: None,
            };
            ((*name).to_owned(), object)
        };
        let variables = variables.into_iter().map(|(name, value)| (name, to_object(value)));
        let inputs = functions.iter().map(function).chain(variables).collect();
        self.guarded(host, |print| repl.feed_start(code, inputs, print))
    }

    /// Goes on with a cell that waits, in the order in which the awaitables were made.
    pub(super) fn resume(&mut self, answers: Vec<Value>, host: &mut impl Host) -> Result<Progress, SessionError> {
        let later = std::mem::take(&mut self.cell.later);
        let waiting = match self.load()? {
            Some(State::Suspended(progress)) => progress.into_resolve_futures(),
            _ => None,
        };
        let (Some(waiting), true) = (waiting, later.len() == answers.len()) else {
            return Err(SessionError::Answers {
                answers: answers.len(),
                waits: later.len(),
            });
        };
        let results = later
            .into_iter()
            .zip(answers)
            .map(|(call, value)| (call, ExtFunctionResult::Return(to_object(value))))
            .collect();
        self.guarded(host, |print| waiting.resume(results, print))
    }

    fn load(&mut self) -> Result<Option<State>, SessionError> {
        match std::mem::take(&mut self.state) {
            state if state.is_empty() => Ok(None),
            state => Ok(Some(Dump::load(&state)?.state)),
        }
    }

    /// Goes on until the cell is over or waits. A panic of the interpreter costs the cell its variables, not the run its thread.
    fn guarded(
        &mut self,
        host: &mut impl Host,
        begin: impl FnOnce(PrintWriter<'_>) -> Result<ReplProgress, Box<ReplStartError>>,
    ) -> Result<Progress, SessionError> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.go_on(host, begin)));
        ran.unwrap_or_else(|_| {
            self.state.clear();
            Ok(Progress::Over(Report {
                output: std::mem::take(&mut self.cell.printed),
                failure: Some(Failure {
                    kind: FailureKind::Exception,
                    message: "the interpreter broke down, and your variables are gone: write it in another way".into(),
                }),
                ..Report::default()
            }))
        })
    }

    fn go_on(
        &mut self,
        host: &mut impl Host,
        begin: impl FnOnce(PrintWriter<'_>) -> Result<ReplProgress, Box<ReplStartError>>,
    ) -> Result<Progress, SessionError> {
        // What is allocated from here on is the cell's.
        BASELINE_MEMORY.store(LIVE_MEMORY.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut cell = std::mem::take(&mut self.cell);
        let max = self.sandbox.printed;
        let mut progress = begin(PrintWriter::CollectString(&mut cell.printed, Some(max)));
        loop {
            let paused = match progress {
                Ok(ReplProgress::Complete { repl, value }) => return self.over(repl, Ok(value), cell),
                Err(error) => return self.over(error.repl, Err(error.error), cell),
                Ok(ReplProgress::ResolveFutures(waiting)) if cell.later.is_empty() => {
                    let nothing = exception(ExcType::RuntimeError, "await of something that never comes");
                    let print = PrintWriter::CollectString(&mut cell.printed, Some(max));
                    progress = waiting.abort(nothing, print);
                    continue;
                }
                Ok(ReplProgress::ResolveFutures(waiting)) => return self.wait(waiting, cell),
                Ok(paused) => paused,
            };
            cell.calls += 1;
            let over = cell.calls > self.sandbox.calls;
            progress = match paused {
                ReplProgress::FunctionCall(call) => {
                    let answered = if over { Answered::Abort } else { answer(&call, host) };
                    let print = PrintWriter::CollectString(&mut cell.printed, Some(max));
                    match answered {
                        Answered::With(result) => call.resume(result, print),
                        Answered::Later => {
                            cell.later.push(call.call_id);
                            call.resume_pending(print)
                        }
                        Answered::Abort => call.abort(self.too_many_calls(), print),
                        Answered::End => return Ok(Progress::Ended),
                    }
                }
                ReplProgress::OsCall(call) => {
                    let print = PrintWriter::CollectString(&mut cell.printed, Some(max));
                    cell.forbidden = true;
                    let name: &'static str = (&call.function_call).into();
                    let refused = exception(
                        ExcType::PermissionError,
                        &format!("{name}: out of reach in this sandbox"),
                    );
                    if over {
                        call.abort(self.too_many_calls(), print)
                    } else {
                        call.resume(ExtFunctionResult::Error(refused), print)
                    }
                }
                ReplProgress::NameLookup(lookup) => {
                    let print = PrintWriter::CollectString(&mut cell.printed, Some(max));
                    if over {
                        lookup.abort(self.too_many_calls(), print)
                    } else {
                        lookup.resume(NameLookupResult::Undefined, print)
                    }
                }
                ReplProgress::Complete { .. } | ReplProgress::ResolveFutures(_) => unreachable!("returned above"),
            };
        }
    }

    fn too_many_calls(&self) -> MontyException {
        let max = self.sandbox.calls;
        exception(
            ExcType::RuntimeError,
            &format!("{TOO_MANY_CALLS}: more than {max} in one cell"),
        )
    }

    fn wait(&mut self, waiting: ReplResolveFutures, cell: Cell) -> Result<Progress, SessionError> {
        self.save(SessionRef::Suspended(&ReplProgress::ResolveFutures(waiting)))?;
        if let Some(bytes) = self.forget() {
            return Ok(Progress::Over(Report {
                output: cell.printed,
                too_large: Some(bytes),
                ..Report::default()
            }));
        }
        self.cell = cell;
        Ok(Progress::Waits)
    }

    fn over(
        &mut self,
        repl: MontyRepl,
        result: Result<MontyObject, MontyException>,
        mut cell: Cell,
    ) -> Result<Progress, SessionError> {
        self.save(SessionRef::Idle(&repl))?;
        drop(repl);
        let failure = match result {
            Ok(MontyObject::None) => None,
            Ok(value) => {
                cell.printed.push_str(&shown(value));
                None
            }
            Err(error) => Some(failure(&error, cell.forbidden)),
        };
        Ok(Progress::Over(Report {
            output: cell.printed,
            failure,
            never_awaited: cell.later.len(),
            too_large: self.forget(),
        }))
    }

    /// Gives variables that take too much room up: so many bytes.
    fn forget(&mut self) -> Option<usize> {
        let bytes = self.state.len();
        (bytes > self.sandbox.state).then(|| {
            self.state.clear();
            bytes
        })
    }

    fn save(&mut self, state: SessionRef<'_>) -> Result<(), SessionError> {
        self.state = dump(NAME, None, state).map_err(|error| SessionError::Save(error.to_string()))?;
        Ok(())
    }
}

impl Sandbox {
    fn tracker(&self) -> ResourceTracker {
        ResourceTracker::new(
            ResourceLimits::default()
                .max_duration(self.time)
                .max_memory(self.memory)
                .max_recursion_depth(self.recursion)
                .max_suspensions(self.calls),
        )
    }
}

/// An interpreter at its beginning. What `await` of several takes is there, as every notebook's user would have seen to.
fn fresh() -> Result<MontyRepl, SessionError> {
    let mut repl = MontyRepl::new(NAME, ResourceTracker::default(), CompileOptions::default());
    repl.feed_run("import asyncio", Vec::new(), PrintWriter::Disabled)
        .map_err(|error| SessionError::Begin(error.to_string()))?;
    Ok(repl)
}

enum Answered {
    With(ExtFunctionResult),
    Later,
    Abort,
    End,
}

fn answer(call: &ReplFunctionCall, host: &mut impl Host) -> Answered {
    let raise = |error: &str| Answered::With(ExtFunctionResult::Error(exception(ExcType::RuntimeError, error)));
    let positional = call.args.iter().cloned().map(to_value).collect::<Result<_, Foreign>>();
    let named = call
        .kwargs
        .iter()
        .map(|(name, value)| Ok((name.to_string(), to_value(value.clone())?)))
        .collect::<Result<_, Foreign>>();
    let (positional, named) = match (positional, named) {
        (Ok(positional), Ok(named)) => (positional, named),
        (Err(foreign), _) | (_, Err(foreign)) => return raise(&foreign.to_string()),
    };
    match host.call(&call.function_name, positional, named) {
        Reply::Value(value) => Answered::With(ExtFunctionResult::Return(to_object(value))),
        Reply::Raise(hint) => raise(&hint),
        Reply::Later => Answered::Later,
        Reply::End => Answered::End,
    }
}

fn exception(kind: ExcType, message: &str) -> MontyException {
    MontyException::new(kind, Some(message.to_owned()))
}

const TOO_MANY_CALLS: &str = "too many calls";

fn failure(error: &MontyException, forbidden: bool) -> Failure {
    let said = error.message().unwrap_or_default();
    let (kind, hint) = match error.exc_type() {
        ExcType::SyntaxError => (FailureKind::Syntax, ""),
        ExcType::TimeoutError if said.starts_with("time limit") => (FailureKind::Time, ": do less in one cell"),
        ExcType::MemoryError => (FailureKind::Memory, ": hold less at once"),
        ExcType::RecursionError => (FailureKind::Recursion, ""),
        ExcType::RuntimeError if said.starts_with(TOO_MANY_CALLS) => (FailureKind::Suspensions, ""),
        ExcType::PermissionError if forbidden => (FailureKind::Forbidden, ""),
        _ => (FailureKind::Exception, ""),
    };
    let mut message = String::new();
    for line in error.to_string().lines() {
        // A traceback quotes lines of the source, however long they are.
        match line.char_indices().nth(LINE_MAX) {
            Some((end, _)) => message.extend([&line[..end], "...\n"]),
            None => message.extend([line, "\n"]),
        }
    }
    message.truncate(message.trim_end().len());
    message.push_str(hint);
    Failure { kind, message }
}

/// Characters of a line of a traceback.
const LINE_MAX: usize = 200;
