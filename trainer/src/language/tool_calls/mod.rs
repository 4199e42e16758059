//! [`ToolCalls`]: the harness of models that call tools in their chat template.

mod parse;

use super::harness::{FINISH, HarnessError, LAUNCH, Node, Setup};
use super::{Slip, TextEnvironment, Value};
use parse::Call;
use rao_tree::{Answer, Constraint, Environment, Observation, Outcome, Token};
use std::fmt;
use std::sync::Arc;

/// How calls are written, where the chat template does not say so itself.
const NOTATION: &str = "Act by tool calls, each written as\n<tool_call>\n{\"name\": \"...\", \"arguments\": {...}}\n</tool_call>\n\
    You may think before. Several calls in one message are carried out in order.";
const DELEGATION: &str = "Several calls of launch_subagent in one message work side by side.";

/// One node that acts by tool calls.
///
/// All calls of a turn are carried out in order, and each is answered by a message of its own. The launches among them are one delegation,
/// after everything else. A call that cannot be carried out is answered by a hint and counted as a [`Slip`]; it never ends the node.
pub struct ToolCalls<E> {
    node: Node<E>,
    /// What the calls of the turn under way were answered; `None` for those that wait for a sub-agent.
    replies: Vec<Option<String>>,
}

impl<E: TextEnvironment> ToolCalls<E> {
    /// The root of a tree.
    #[must_use]
    pub fn root(environment: E, setup: Arc<Setup>) -> Self {
        Self::around(Node::root(environment, setup))
    }

    /// What it acts upon.
    pub fn environment(&self) -> &E {
        &self.node.environment
    }

    fn around(node: Node<E>) -> Self {
        Self {
            node,
            replies: Vec::new(),
        }
    }

    fn rules(&self) -> String {
        let mut rules = format!("{}\n\n{NOTATION}", self.node.environment.instructions().trim_end());
        if self.node.may_launch() {
            rules.push(' ');
            rules.push_str(DELEGATION);
        }
        rules + " Call finish when you are done."
    }

    /// Carries out a call; `Break` ends the turn.
    fn carry_out(&mut self, call: Call) -> Result<Done, HarnessError> {
        let Call { name, arguments } = call;
        Ok(match name.as_str() {
            FINISH if self.node.launches() > 0 => Done::Reply(error(&self.node.slip(
                Slip::EarlyFinish,
                "not finished: you launched sub-agents in the same message, finish after their answers",
            ))),
            FINISH => match self.node.finish(Vec::new(), arguments)? {
                Ok(outcome) => Done::Finished(outcome),
                Err(hint) => Done::Reply(error(&hint)),
            },
            LAUNCH => match self.node.launch(Vec::new(), arguments) {
                Ok(()) => Done::Launched,
                Err(hint) => Done::Reply(error(&hint)),
            },
            name => Done::Reply(match self.node.call(name, Vec::new(), arguments) {
                Ok(value) => shown(&value),
                Err(hint) => error(&hint),
            }),
        })
    }

    /// What a turn without a call is told.
    fn no_call(&self) -> String {
        if self.node.was_cut_off() {
            let hint = "your message was cut off before any call: think less, and make one call";
            return self.node.slip(Slip::CutOff, hint);
        }
        let hint = "there is no tool call in your message; write <tool_call>\n{\"name\": \"finish\", \"arguments\": \
            {\"answer\": ...}}\n</tool_call> if you are done";
        self.node.slip(Slip::NoCall, hint)
    }
}

/// What became of a call.
enum Done {
    Reply(String),
    Launched,
    Finished(Outcome),
}

fn error(hint: &str) -> String {
    format!("error: {hint}")
}

/// A value as the model reads it: text as it is, everything else as JSON, or as Python where JSON has no word for it.
fn shown(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        other => other
            .to_json()
            .map_or_else(|_| other.to_string(), |json| json.to_string()),
    }
}

impl<E: TextEnvironment> Environment for ToolCalls<E> {
    type Error = HarnessError;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), HarnessError> {
        let tools = self
            .node
            .environment
            .tools()
            .iter()
            .chain(&self.node.own_tools())
            .map(super::Tool::to_schema)
            .collect();
        self.node.open(self.rules(), tools, out)
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self.node.constraint())
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, HarnessError> {
        let calls = parse::calls(self.node.hear(action)?);
        if calls.is_empty() {
            let hint = self.no_call();
            self.node.reply([hint], out)?;
            return Ok(Outcome::Continue);
        }
        let max = self.node.setup().caps.calls;
        self.replies.clear();
        let mut calls = calls.into_iter().enumerate();
        for (index, call) in calls.by_ref() {
            let done = match call {
                _ if index >= max => {
                    let hint = format!("at most {max} calls a message: this one and the rest were not carried out");
                    self.replies.push(Some(error(&self.node.slip(Slip::TooMany, hint))));
                    break;
                }
                Err(wrong) => {
                    let slip = if self.node.was_cut_off() {
                        Slip::CutOff
                    } else {
                        Slip::BadCall
                    };
                    Done::Reply(error(&self.node.slip(slip, wrong.to_string())))
                }
                Ok(call) => self.carry_out(call)?,
            };
            match done {
                Done::Reply(reply) => self.replies.push(Some(reply)),
                Done::Launched => self.replies.push(None),
                Done::Finished(outcome) => {
                    calls.for_each(|_| drop(self.node.slip(Slip::AfterFinish, "")));
                    return Ok(outcome);
                }
            }
        }
        match self.node.launches() {
            0 => {
                self.node.reply(self.replies.drain(..).flatten(), out)?;
                Ok(Outcome::Continue)
            }
            children => Ok(Outcome::Delegate { children }),
        }
    }

    fn child(&mut self, index: u8) -> Result<Self, HarnessError> {
        Ok(Self::around(self.node.child(index)?))
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, HarnessError> {
        let mut answers = self.node.read(answers)?.into_iter();
        let replies: Vec<String> = self
            .replies
            .drain(..)
            .filter_map(|reply| {
                reply.or_else(|| {
                    Some(match answers.next()? {
                        Ok(value) => shown(&value),
                        Err(hint) => error(&hint),
                    })
                })
            })
            .collect();
        self.node.reply(replies, out)?;
        Ok(Outcome::Continue)
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.node.describe(out)
    }

    fn answer(&self) -> &[u8] {
        self.node.answer()
    }
}
