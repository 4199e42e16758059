//! One agent of aggregation that speaks a language: [`Analyst`].
//!
//! | tool | what it does |
//! |---|---|
//! | `records()` | the records that are this agent's: the first one's number, and how many |
//! | `read(start, count)` | the lines of a few of them |
//! | `launch_subagent(goal, start, count, question, ..)` | an agent that answers a question about a part of them |

use super::world::{self, Field, Filter, Question, Reply, Task};
use crate::environments::TextTask;
use crate::language::{
    Arguments, Brief, BrokenEnvironment, Kind, Launch, Parameter, TextEnvironment, Tool, ToolError, Value, Verdict,
};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// The environment of one node: the task, the records that are this node's, and what it is asked about them.
///
/// A child has some of its parent's records. They share the log, which nobody changes.
#[derive(Debug)]
pub struct Analyst {
    task: Arc<Task>,
    part: Range<usize>,
    question: Question,
    brief: Brief,
}

impl TextTask for Task {
    type Root = Analyst;

    fn root(&self) -> Analyst {
        let part = 0..self.log.len();
        let brief = Brief {
            goal: goal(&part, self.question),
            context: Some(handle(&part)),
            ancestors: Vec::new(),
        };
        Analyst {
            task: Arc::new(self.clone()),
            part,
            question: self.question,
            brief,
        }
    }
}

impl Analyst {
    /// The records that the arguments name, if they are this node's.
    fn range(&self, arguments: &Arguments) -> Result<Range<usize>, ToolError> {
        let (start, count) = (arguments.int("start")?, arguments.int("count")?);
        if count < 1 {
            return Err(ToolError(format!("count must be at least 1, not {count}")));
        }
        let (own, none) = (&self.part, || {
            ToolError(format!("your records are {}", numbers(&self.part)))
        });
        let start = usize::try_from(start).map_err(|_| none())?;
        let end = usize::try_from(count).ok().and_then(|count| start.checked_add(count));
        let end = end
            .filter(|&end| start >= own.start && end <= own.end)
            .ok_or_else(none)?;
        Ok(start..end)
    }

    fn read(&self, arguments: &Arguments) -> Result<Value, ToolError> {
        let (range, read_max) = (self.range(arguments)?, self.task.read_max.get());
        if range.len() > read_max as usize {
            let count = range.len();
            return Err(ToolError(format!(
                "at most {read_max} records can be read at once, not {count}"
            )));
        }
        let lines = range.map(|number| world::line(number, &self.task.log[number]));
        Ok(lines.collect::<Vec<_>>().into())
    }

    /// What a launch asks: its own question, or without one this node's.
    fn asked(&self, arguments: &Arguments) -> Result<Question, ToolError> {
        if arguments.find("question").is_none() {
            return Ok(self.question);
        }
        let filter = |name| filter(field(arguments)?, arguments.text(name)?);
        Ok(match arguments.text("question")? {
            "count" => {
                let above = arguments.find("above").map_or(Ok(0), |_| arguments.int("above"))?;
                let above =
                    u32::try_from(above).map_err(|_| ToolError(format!("above must be at least 0, not {above}")))?;
                Question::Count(filter("value")?, above)
            }
            "tally" => Question::Tally(field(arguments)?),
            "compare" => Question::Compare(filter("value")?, filter("other")?),
            "most_common" => Question::MostCommon(field(arguments)?),
            "earliest" => Question::Earliest(filter("value")?),
            "latest" => Question::Latest(filter("value")?),
            other => return Err(ToolError(format!("there is no question called {other}: {QUESTIONS}"))),
        })
    }
}

fn field(arguments: &Arguments) -> Result<Field, ToolError> {
    let name = arguments.text("field")?;
    let known = Field::ALL.into_iter().find(|field| field.name() == name);
    known.ok_or_else(|| ToolError(format!("there is no field called {name}: user, kind or place")))
}

fn filter(field: Field, value: &str) -> Result<Filter, ToolError> {
    let known = || {
        format!(
            "there is no {} called {value}: {}",
            field.name(),
            field.values().join(", ")
        )
    };
    Filter::find(field, value).ok_or_else(|| ToolError(known()))
}

impl TextEnvironment for Analyst {
    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn instructions(&self) -> Cow<'_, str> {
        let names = |field: Field| format!("{} ({})", field.name(), field.values().join(", "));
        let [user, kind, place] = Field::ALL.map(names);
        format!(
            "You answer a question about records of a log. A record has a number, a time, {user}, {kind}, an amount and {place}. Records are in no \
             order of time. You have not seen them: read shows at most {} at a time. A long log takes more reading than you have room for: launch agents \
             for parts of it, several at once, each with its start, its count and the question it is to answer, and make the answer out of theirs. A \
             number that is off by n is worth 0.75 to the n; other answers are right or wrong.",
            self.task.read_max
        )
        .into()
    }

    fn tools(&self) -> &[Tool] {
        &*TOOLS
    }

    fn call(&mut self, tool: &str, arguments: &Arguments) -> Result<Value, ToolError> {
        match tool {
            "records" => Ok(handle(&self.part)),
            "read" => self.read(arguments),
            _ => Err(ToolError(format!(
                "there is no tool called {tool}: there are records and read"
            ))),
        }
    }

    fn launch_parameters(&self) -> &[Parameter] {
        &*LAUNCH
    }

    fn check(&self, launch: &Launch) -> Result<(), ToolError> {
        self.range(&launch.arguments)?;
        self.asked(&launch.arguments).map(|_| ())
    }

    fn child(&mut self, launch: &Launch) -> Result<Self, BrokenEnvironment> {
        let broken = |error: ToolError| BrokenEnvironment(error.0);
        let part = self.range(&launch.arguments).map_err(broken)?;
        let question = self.asked(&launch.arguments).map_err(broken)?;
        let brief = Brief {
            goal: format!("{} {}", goal(&part, question), launch.goal)
                .trim_end()
                .to_owned(),
            context: Some(launch.context.clone().unwrap_or_else(|| handle(&part))),
            ancestors: Vec::new(),
        };
        Ok(Self {
            task: Arc::clone(&self.task),
            part,
            question,
            brief,
        })
    }

    fn judge(&mut self, answer: &Value) -> Verdict {
        let right = self.task.answer(self.part.clone(), self.question);
        let given = Arguments(vec![("answer", answer.clone())]);
        let reply = match answer {
            Value::Int(number) => Some(Reply::Number(*number)),
            Value::Str(text) => Some(Reply::Text(text)),
            Value::Dict(_) => given.counts("answer").ok().map(Reply::Tally),
            _ => None,
        };
        Verdict::Score(reply.map_or(rao_tree::Success::ZERO, |reply| right.score(&reply)))
    }
}

fn goal(part: &Range<usize>, question: Question) -> String {
    format!("About records {}: {question}", numbers(part))
}

fn numbers(part: &Range<usize>) -> String {
    format!("{} to {}", part.start, part.end - 1)
}

/// What an agent is handed in place of the text.
fn handle(part: &Range<usize>) -> Value {
    let entry = |key: &str, number: usize| (key.into(), Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
    Value::Dict(vec![entry("start", part.start), entry("count", part.len())])
}

const QUESTIONS: &str = "count, tally, compare, most_common, earliest or latest";

fn parameter(name: &'static str, description: &'static str, kind: Kind, required: bool) -> Parameter {
    Parameter {
        name,
        description,
        kind,
        required,
    }
}

static TOOLS: LazyLock<[Tool; 2]> = LazyLock::new(|| {
    [
        Tool {
            name: "records",
            description: "The records that are yours: start, the number of the first, and count, how many.",
            parameters: Vec::new(),
        },
        Tool {
            name: "read",
            description: "The lines of a few records.",
            parameters: vec![
                parameter("start", "The number of the first.", Kind::Int, true),
                parameter("count", "How many.", Kind::Int, true),
            ],
        },
    ]
});

static LAUNCH: LazyLock<[Parameter; 7]> = LazyLock::new(|| {
    [
        parameter(
            "start",
            "The number of the first record that is the agent's.",
            Kind::Int,
            true,
        ),
        parameter("count", "How many are.", Kind::Int, true),
        parameter(
            "question",
            "What it is asked: count (how many records have the value), tally (how many there are of every value of the field, as a dictionary), \
             compare (of which of two values there are more), most_common (value of the field), earliest or latest (time of a record with the \
             value). Left out: the same as you.",
            Kind::Str,
            false,
        ),
        parameter("field", "user, kind or place.", Kind::Str, false),
        parameter(
            "value",
            "A value of the field; for all but tally and most_common.",
            Kind::Str,
            false,
        ),
        parameter("other", "The other value, for compare.", Kind::Str, false),
        parameter(
            "above",
            "For count: only records with an amount above this.",
            Kind::Int,
            false,
        ),
    ]
});

#[cfg(test)]
mod tests;
