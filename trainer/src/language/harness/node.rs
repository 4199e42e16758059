//! [`Node`]: one node as both harnesses drive it, apart from how calls are written down.

use super::super::speech::{Continuation, EndOfTurn, Message, Role, Turn};
use super::super::{
    ArgumentError, Arguments, Launch, Slip, TextEnvironment, Tool, ToolError, Value, ValueError, Verdict,
};
use super::{HarnessError, Setup, cut};
use rao_tree::{Answer, Constraint, Limit, NodeStatus, Observation, Outcome, Token};
use serde_json::Value as Json;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Characters of a goal that go into the event log as the node's description.
const DESCRIBED_MAX: usize = 500;

/// What a node knows whatever its harness.
pub(in super::super) struct Node<E> {
    pub(in super::super) environment: E,
    setup: Arc<Setup>,
    depth: u8,
    ends: EndOfTurn,
    /// All that was said before the turn under way.
    conversation: Vec<Message>,
    /// The schemas that the opening listed.
    schemas: Vec<Json>,
    /// The turn under way.
    said: String,
    last: Option<Token>,
    /// The delegation under way.
    launches: Vec<Launch>,
    /// What it hands over; empty until it has finished.
    answer: Vec<u8>,
}

impl<E: TextEnvironment> Node<E> {
    pub(in super::super) fn root(environment: E, setup: Arc<Setup>) -> Self {
        Self::at(environment, setup, 0)
    }

    fn at(environment: E, setup: Arc<Setup>, depth: u8) -> Self {
        Self {
            environment,
            ends: EndOfTurn::of(setup.speech.as_ref()),
            setup,
            depth,
            conversation: Vec::new(),
            schemas: Vec::new(),
            said: String::new(),
            last: None,
            launches: Vec::new(),
            answer: Vec::new(),
        }
    }

    pub(in super::super) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(in super::super) fn constraint(&mut self) -> &mut dyn Constraint {
        &mut self.ends
    }

    pub(in super::super) fn answer(&self) -> &[u8] {
        &self.answer
    }

    pub(in super::super) fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let goal = &self.environment.brief().goal;
        match cut(goal, DESCRIBED_MAX) {
            Some(cut) => out.write_str(&cut),
            None => out.write_str(goal),
        }
    }

    /// Whether it is told of `launch_subagent`.
    pub(in super::super) fn may_launch(&self) -> bool {
        self.depth < self.setup.depth_max
    }

    /// `finish`, and `launch_subagent` where it may launch.
    pub(in super::super) fn own_tools(&self) -> Vec<Tool> {
        let launch = self
            .may_launch()
            .then(|| super::launch(self.environment.launch_parameters()));
        launch.into_iter().chain([super::finish()]).collect()
    }

    /// Says the rules, and what the node was handed.
    pub(in super::super) fn open(
        &mut self,
        rules: String,
        schemas: Vec<Json>,
        out: &mut Observation<'_>,
    ) -> Result<(), HarnessError> {
        let brief = self.environment.brief();
        let mut task = brief.goal.clone();
        // Writing to a string does not fail.
        if let Some(context) = &brief.context {
            let shown = match context {
                Value::Str(text) => text.clone(),
                other => other.to_string(),
            };
            let _ = write!(
                task,
                "\n\nContext:\n{}",
                self.shorten(shown, self.setup.caps.observation)
            );
        }
        if !brief.ancestors.is_empty() {
            let _ = write!(task, "\n\nThis is part of: {}", brief.ancestors.join(" > "));
        }
        self.conversation = vec![Message::new(Role::System, rules), Message::new(Role::User, task)];
        self.schemas = schemas;
        let opening = self.setup.speech.opening(&self.conversation, &self.schemas)?;
        opening.into_iter().for_each(|token| out.push(token));
        Ok(())
    }

    /// Takes an action; its text is the turn under way.
    pub(in super::super) fn hear(&mut self, action: &[Token]) -> Result<&str, HarnessError> {
        self.said = self.setup.speech.text(action)?;
        self.last = action.last().copied();
        Ok(&self.said)
    }

    /// The turn under way met its limit of tokens.
    pub(in super::super) fn was_cut_off(&self) -> bool {
        !self.last.is_some_and(|last| self.setup.speech.ends().contains(&last))
    }

    /// Ends the turn under way with replies to it, each cut to its cap.
    pub(in super::super) fn reply(
        &mut self,
        replies: impl IntoIterator<Item = String>,
        out: &mut Observation<'_>,
    ) -> Result<(), HarnessError> {
        let replies = replies
            .into_iter()
            .map(|reply| Message::new(Role::Tool, self.shorten(reply, self.setup.caps.observation)));
        let replies: Vec<Message> = replies.collect();
        let continuation = self.setup.speech.continuation(&Turn {
            before: &self.conversation,
            tools: &self.schemas,
            said: &self.said,
            last: self.last,
            replies: &replies,
        })?;
        self.setup.tally.add_turn();
        let tokens = match continuation {
            Continuation::Extend(tokens) => tokens,
            Continuation::Restart(tokens) => {
                out.restart();
                tokens
            }
        };
        tokens.into_iter().for_each(|token| out.push(token));
        self.conversation
            .push(Message::new(Role::Assistant, std::mem::take(&mut self.said)));
        self.conversation.extend(replies);
        Ok(())
    }

    /// Counts a slip and hands back what the model is told about it.
    pub(in super::super) fn slip(&self, slip: Slip, hint: impl Into<String>) -> String {
        self.setup.tally.add(slip);
        hint.into()
    }

    /// At most so many characters of it, and that there were more.
    pub(in super::super) fn shorten(&self, text: String, max: usize) -> String {
        match cut(&text, max) {
            Some(cut) => self.slip(Slip::LongOutput, cut),
            None => text,
        }
    }

    /// Calls a tool of the environment; what is wrong with the call comes back as a hint.
    pub(in super::super) fn call(
        &mut self,
        name: &str,
        positional: Vec<Value>,
        named: Vec<(String, Value)>,
    ) -> Result<Value, String> {
        let Some(tool) = self.environment.tools().iter().find(|tool| tool.name == name) else {
            return Err(self.unknown(name));
        };
        let bound = tool.bind(positional, named);
        let arguments = bound.map_err(|error| self.slip(Slip::BadArguments, error.to_string()))?;
        let called = self.environment.call(name, &arguments);
        called.map_err(|ToolError(hint)| self.slip(Slip::Refused, hint))
    }

    /// What a call of something that there is not is told.
    pub(in super::super) fn unknown(&self, name: &str) -> String {
        let tools = self.environment.tools().iter().map(|tool| tool.name);
        let own = self.own_tools();
        let names: Vec<&str> = tools.chain(own.iter().map(|tool| tool.name)).collect();
        let name: String = name.chars().take(40).collect();
        self.slip(
            Slip::UnknownTool,
            format!("there is no {name}; there is {}", names.join(", ")),
        )
    }

    fn bind_own(&self, name: &str, positional: Vec<Value>, named: Vec<(String, Value)>) -> Result<Arguments, String> {
        let own = self.own_tools();
        let tool = own
            .iter()
            .find(|tool| tool.name == name)
            .ok_or_else(|| self.unknown(name))?;
        tool.bind(positional, named)
            .map_err(|error: ArgumentError| self.slip(Slip::BadArguments, error.to_string()))
    }

    /// Adds a launch to the delegation under way. What is refused here costs nothing.
    pub(in super::super) fn launch(
        &mut self,
        positional: Vec<Value>,
        named: Vec<(String, Value)>,
    ) -> Result<(), String> {
        let Arguments(mut arguments) = self.bind_own(super::LAUNCH, positional, named)?;
        let mut take = |name| {
            let place = arguments.iter().position(|&(given, _)| given == name)?;
            Some(arguments.remove(place).1)
        };
        // Checked above: there is a goal, and it is text.
        let goal = match take("goal") {
            Some(Value::Str(goal)) => goal,
            _ => String::new(),
        };
        let context = take("context");
        let caps = self.setup.caps;
        if goal.chars().count() > caps.goal {
            let hint = format!(
                "the goal has more than {} characters: say it shorter, and hand data over as context",
                caps.goal
            );
            return Err(self.slip(Slip::TooLong, hint));
        }
        if let Some(context) = &context {
            context
                .encode(caps.value)
                .map_err(|error| self.cannot_hand_over(&error))?;
        }
        if self.launches.len() >= usize::from(caps.launches) {
            let hint = format!("at most {} sub-agents at once: launch the others later", caps.launches);
            return Err(self.slip(Slip::TooMany, hint));
        }
        let arguments = Arguments(arguments);
        let launch = Launch {
            goal,
            context,
            arguments,
        };
        self.environment
            .check(&launch)
            .map_err(|ToolError(hint)| self.slip(Slip::Refused, hint))?;
        self.launches.push(launch);
        Ok(())
    }

    /// How many launches the delegation under way has.
    pub(in super::super) fn launches(&self) -> u8 {
        // Capped by a `u8`.
        self.launches.len() as u8
    }

    /// Forgets launches that will not be made.
    #[cfg(feature = "code")]
    pub(in super::super) fn forget_launches(&mut self) {
        self.launches.clear();
    }

    pub(in super::super) fn child(&mut self, index: u8) -> Result<Self, HarnessError> {
        let launch = self.launches.get(usize::from(index));
        let launch = launch.ok_or(HarnessError::NoSuchLaunch(index))?;
        let environment = self.environment.child(launch)?;
        let depth = self.depth.saturating_add(1);
        Ok(Self::at(environment, Arc::clone(&self.setup), depth))
    }

    /// What became of the delegation under way, which is over: values, or how a launch ended without one and what to do instead.
    pub(in super::super) fn read(
        &mut self,
        answers: &[Answer<'_>],
    ) -> Result<Vec<Result<Value, String>>, HarnessError> {
        let launches = std::mem::take(&mut self.launches);
        if launches.len() != answers.len() {
            let (answers, launches) = (answers.len(), launches.len());
            return Err(HarnessError::Answers { answers, launches });
        }
        let read = launches.iter().zip(answers).map(|(launch, answer)| match *answer {
            Answer::Refused(limit) => Err(self.slip(Slip::LaunchRefused, refused(limit))),
            Answer::Ended { status, value, .. } => {
                self.environment.ended(launch, status);
                let value = match status {
                    NodeStatus::Finished => {
                        Value::decode(value).map_err(|_| "ended with an answer that cannot be read")
                    }
                    other => Err(ended(other)),
                };
                value.map_err(|how| {
                    let hint = format!("the sub-agent {how}: do this part yourself, or launch smaller ones");
                    self.slip(Slip::NoAnswer, hint)
                })
            }
        });
        Ok(read.collect())
    }

    /// Finishes with an answer, unless there is something wrong with it, which comes back as a hint.
    pub(in super::super) fn finish(
        &mut self,
        positional: Vec<Value>,
        named: Vec<(String, Value)>,
    ) -> Result<Result<Outcome, String>, HarnessError> {
        let answer = match self.bind_own(super::FINISH, positional, named) {
            Ok(Arguments(arguments)) => arguments.into_iter().next().map_or(Value::None, |(_, answer)| answer),
            Err(hint) => return Ok(Err(hint)),
        };
        match answer.encode(self.setup.caps.value) {
            Ok(bytes) => self.answer = bytes,
            Err(error) => return Ok(Err(self.cannot_hand_over(&error))),
        }
        match self.environment.judge(&answer) {
            Verdict::Score(success) => Ok(Ok(Outcome::Finish(success))),
            Verdict::Submit => Ok(Ok(Outcome::Submit)),
            Verdict::Unjudged(why) => {
                self.answer.clear();
                Err(HarnessError::Unjudged(why))
            }
        }
    }

    fn cannot_hand_over(&self, error: &ValueError) -> String {
        self.slip(Slip::TooLong, format!("{error}: hand over less"))
    }
}

/// How a sub-agent ended, for its parent.
fn ended(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Finished => "finished",
        NodeStatus::Failed => "failed",
        NodeStatus::Truncated(Limit::Tokens) => "used up all tokens before it finished",
        NodeStatus::Truncated(Limit::Context) => "used up its context window before it finished",
        NodeStatus::Truncated(_) => "used up all its steps before it finished",
        NodeStatus::TimedOut => "ran out of time",
        NodeStatus::Cancelled => "was cancelled",
        // Invalid, or whatever is added to the statuses.
        _ => "broke down",
    }
}

/// Why a launch was not made, and what to do instead.
fn refused(limit: Limit) -> String {
    let why = match limit {
        Limit::Depth => "no sub-agent may be launched this deep".to_owned(),
        Limit::Nodes => "no more sub-agents are left to the whole team".to_owned(),
        Limit::Children => "no more sub-agents are left to you".to_owned(),
        other => format!("no sub-agent may be launched ({other})"),
    };
    format!("{why}: do this part yourself")
}
