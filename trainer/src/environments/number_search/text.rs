//! One agent of number search that speaks a language: [`Search`].

use super::world::Task;
use crate::environments::TextTask;
use crate::language::{
    Arguments, Brief, BrokenEnvironment, Kind, Launch, Parameter, TextEnvironment, Tool, ToolError, Value, Verdict,
};
use rao_tree::Success;
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

/// The environment of one node: the task, and the part of its range that is this node's.
///
/// A child searches a part of its parent's range. They share what is hidden and nothing that changes.
#[derive(Debug)]
pub struct Search {
    task: Arc<Task>,
    part: RangeInclusive<i64>,
    brief: Brief,
}

/// What is answered when the number is not there.
pub const NOT_HERE: &str = "not here";

impl TextTask for Task {
    type Root = Search;

    fn root(&self) -> Search {
        let brief = Brief {
            goal: goal(&self.range),
            ..Brief::default()
        };
        Search {
            task: Arc::new(self.clone()),
            part: self.range.clone(),
            brief,
        }
    }
}

impl Search {
    /// The range that the arguments name, if it is a part of this node's.
    fn range(&self, arguments: &Arguments) -> Result<RangeInclusive<i64>, ToolError> {
        let range = arguments.int("low")?..=arguments.int("high")?;
        let (low, high) = (self.part.start(), self.part.end());
        if range.is_empty() {
            return Err(ToolError("low must not be above high".into()));
        }
        if range.start() < low || range.end() > high {
            return Err(ToolError(format!("your range is {low} to {high}: stay within it")));
        }
        Ok(range)
    }
}

impl TextEnvironment for Search {
    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn instructions(&self) -> Cow<'_, str> {
        let width = self.task.width;
        format!(
            "A number is hidden. probe tells whether it lies within low to high, of which it covers at most {width} numbers at a time. Your steps are \
             limited and may not suffice for all of a long range: then launch agents for parts of it, several at once, each with low and high of its \
             own. Answer with the number, or with \"{NOT_HERE}\" when it is not in your range. Both are right only when they are true."
        )
        .into()
    }

    fn tools(&self) -> &[Tool] {
        &*TOOLS
    }

    fn call(&mut self, tool: &str, arguments: &Arguments) -> Result<Value, ToolError> {
        if tool != "probe" {
            return Err(ToolError(format!("there is no tool called {tool}: there is probe")));
        }
        let range = self.range(arguments)?;
        let (size, width) = (range.end() - range.start() + 1, self.task.width);
        if size > i64::from(width.get()) {
            return Err(ToolError(format!("a probe covers at most {width} numbers, not {size}")));
        }
        Ok(range.contains(&self.task.hidden).into())
    }

    fn launch_parameters(&self) -> &[Parameter] {
        &TOOLS[0].parameters
    }

    fn check(&self, launch: &Launch) -> Result<(), ToolError> {
        self.range(&launch.arguments).map(|_| ())
    }

    fn child(&mut self, launch: &Launch) -> Result<Self, BrokenEnvironment> {
        let part = self
            .range(&launch.arguments)
            .map_err(|error| BrokenEnvironment(error.0))?;
        let brief = Brief {
            goal: format!("{} {}", goal(&part), launch.goal).trim_end().to_owned(),
            context: launch.context.clone(),
            ancestors: Vec::new(),
        };
        let task = Arc::clone(&self.task);
        Ok(Self { task, part, brief })
    }

    fn judge(&mut self, answer: &Value) -> Verdict {
        let right = match (self.task.answer(&self.part), answer) {
            (Some(number), Value::Int(answer)) => number == *answer,
            (Some(number), Value::Str(answer)) => answer.trim().parse() == Ok(number),
            (None, Value::Str(answer)) => answer.trim().eq_ignore_ascii_case(NOT_HERE),
            _ => false,
        };
        Verdict::Score(if right { Success::ONE } else { Success::ZERO })
    }
}

fn goal(range: &RangeInclusive<i64>) -> String {
    format!("Find the hidden number between {} and {}.", range.start(), range.end())
}

static TOOLS: LazyLock<[Tool; 1]> = LazyLock::new(|| {
    let bound = |name, description| Parameter {
        name,
        description,
        kind: Kind::Int,
        required: true,
    };
    [Tool {
        name: "probe",
        description: "Whether the hidden number lies within low to high.",
        parameters: vec![
            bound("low", "The first number of the range."),
            bound("high", "The last number of the range."),
        ],
    }]
});

#[cfg(test)]
mod tests;
