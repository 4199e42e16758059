//! One agent of multi-hop search that speaks a language: [`Seeker`].
//!
//! | tool | what it does |
//! |---|---|
//! | `search(query)` | the documents that answer best: id, title and first words of each |
//! | `open(id)` | what a document says |
//! | `launch_subagent(goal, person, relations)` | an agent that follows these relations from that person |

use super::world::{Corpus, HOPS_MAX, RELATIONS, Task};
use crate::environments::TextTask;
use crate::language::{
    Arguments, Brief, BrokenEnvironment, Kind, Launch, Parameter, TextEnvironment, Tool, ToolError, Value, Verdict,
};
use rao_tree::Success;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// The environment of one node: the documents, and the chain that it is to follow.
///
/// Agents share the documents, which nobody changes. A child is judged by the chain that its launch names.
#[derive(Debug)]
pub struct Seeker {
    corpus: Arc<Corpus>,
    /// Whom one meets at the end of the chain.
    answer: usize,
    brief: Brief,
}

impl TextTask for Task {
    type Root = Seeker;

    fn root(&self) -> Seeker {
        let brief = Brief {
            goal: goal(&self.corpus, self.person, &self.relations),
            ..Brief::default()
        };
        Seeker {
            corpus: Arc::clone(&self.corpus),
            answer: self.corpus.follow(self.person, &self.relations),
            brief,
        }
    }
}

impl Seeker {
    fn search(&self, query: &str) -> Value {
        let hit = |id: &usize| -> Option<Value> {
            let (title, text) = self.corpus.document(*id)?;
            let snippet: String = text.chars().take(SNIPPET).collect();
            Some(Value::Dict(vec![
                ("id".into(), number(*id)),
                ("title".into(), title.into()),
                ("snippet".into(), format!("{snippet}...").into()),
            ]))
        };
        Value::List(self.corpus.search(query, HITS).iter().filter_map(hit).collect())
    }

    /// The chain that a launch names.
    fn chain(&self, arguments: &Arguments) -> Result<(usize, Vec<usize>), ToolError> {
        let (person, relations) = (arguments.text("person")?, arguments.texts("relations")?);
        let known = self.corpus.person(person);
        let person = known.ok_or_else(|| ToolError(format!("nobody is called {person}")))?;
        if !(1..=HOPS_MAX).contains(&relations.len()) {
            return Err(ToolError(format!("relations must name 1 to {HOPS_MAX} relations")));
        }
        let relation = |name: &&str| {
            let known = RELATIONS.iter().position(|known| known == name);
            known.ok_or_else(|| ToolError(format!("there is no relation called {name}: {}", RELATIONS.join(", "))))
        };
        let relations = relations.iter().map(relation).collect::<Result<_, _>>()?;
        Ok((person, relations))
    }
}

impl TextEnvironment for Seeker {
    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn instructions(&self) -> Cow<'_, str> {
        Cow::Borrowed(
            "You answer a question about people out of documents. Each fact is a sentence such as \"The rival of Pemuri is Tosak.\", and stands in \
             one document only, that of either person. Search for a fact, open what is found, and go on from there: each step needs the answer of the \
             one before. You may launch an agent that follows a part of the chain from a person that you know. Answer with the name alone.",
        )
    }

    fn tools(&self) -> &[Tool] {
        &*TOOLS
    }

    fn call(&mut self, tool: &str, arguments: &Arguments) -> Result<Value, ToolError> {
        match tool {
            "search" => Ok(self.search(arguments.text("query")?)),
            "open" => {
                let id = arguments.int("id")?;
                let document = usize::try_from(id).ok().and_then(|id| self.corpus.document(id));
                let none = || ToolError(format!("there is no document {id}: ids are what search gives"));
                Ok(document.ok_or_else(none)?.1.into())
            }
            _ => Err(ToolError(format!(
                "there is no tool called {tool}: there are search and open"
            ))),
        }
    }

    fn launch_parameters(&self) -> &[Parameter] {
        &*LAUNCH
    }

    fn check(&self, launch: &Launch) -> Result<(), ToolError> {
        self.chain(&launch.arguments).map(|_| ())
    }

    fn child(&mut self, launch: &Launch) -> Result<Self, BrokenEnvironment> {
        let chain = self.chain(&launch.arguments);
        let (person, relations) = chain.map_err(|error| BrokenEnvironment(error.0))?;
        let goal = goal(&self.corpus, person, &relations);
        let brief = Brief {
            goal: format!("{goal} {}", launch.goal).trim_end().to_owned(),
            context: launch.context.clone(),
            ancestors: Vec::new(),
        };
        Ok(Self {
            answer: self.corpus.follow(person, &relations),
            corpus: Arc::clone(&self.corpus),
            brief,
        })
    }

    fn judge(&mut self, answer: &Value) -> Verdict {
        let name = answer.as_str().unwrap_or_default().trim().trim_end_matches('.');
        let right = name.eq_ignore_ascii_case(self.corpus.name(self.answer));
        Verdict::Score(if right { Success::ONE } else { Success::ZERO })
    }
}

/// "Who is the heir of the rival of Pemuri?": the last relation first.
fn goal(corpus: &Corpus, person: usize, relations: &[usize]) -> String {
    let relations = relations
        .iter()
        .rev()
        .map(|&relation| format!("the {} of ", RELATIONS[relation]));
    format!("Who is {}{}?", relations.collect::<String>(), corpus.name(person))
}

fn number(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// What a search gives.
const HITS: usize = 5;
/// Characters of a document that a search shows: not a whole sentence.
const SNIPPET: usize = 20;

static TOOLS: LazyLock<[Tool; 2]> = LazyLock::new(|| {
    [
        Tool {
            name: "search",
            description: "The documents that answer a query best: id, title and snippet of each.",
            parameters: vec![Parameter {
                name: "query",
                description: "A few words, names above all.",
                kind: Kind::Str,
                required: true,
            }],
        },
        Tool {
            name: "open",
            description: "What a document says.",
            parameters: vec![Parameter {
                name: "id",
                description: "Its id.",
                kind: Kind::Int,
                required: true,
            }],
        },
    ]
});

static LAUNCH: LazyLock<[Parameter; 2]> = LazyLock::new(|| {
    [
        Parameter {
            name: "person",
            description: "The name of the person from whom the agent starts.",
            kind: Kind::Str,
            required: true,
        },
        Parameter {
            name: "relations",
            description: "The relations that it is to follow, the first one first: the heir of the rival is [\"rival\", \"heir\"].",
            kind: Kind::List(Box::new(Kind::Str)),
            required: true,
        },
    ]
});

#[cfg(test)]
mod tests;
