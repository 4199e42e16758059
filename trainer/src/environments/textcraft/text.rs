//! One agent of TextCraft that speaks a language: [`Crafter`], with the paper's tools over a [`Book`].
//!
//! | tool | what it does |
//! |---|---|
//! | `get_info(items)` | for each item: whether and how it is made, whether it is a base material, how many are there, how deep its recipes go |
//! | `craft(ingredients, target)` | makes `target`, an item and the total of it, from exactly these ingredients |
//! | `view_inventory()` | what is there |
//! | `launch_subagent(goal, targets, context)` | an agent that is to make `targets` |
//!
//! # How nodes are graded
//! As the [`Workshop`](super::Workshop)'s: by the account of what a node and its descendants made of its targets, less what they used up.
//! For a root, and for every node while its relatives wait, that is the reference's difference in stock since the agent began; what a
//! sibling does changes nothing. The reference also fails an agent whose closing message is empty; here the message is no part of it.
//! Everything else that its game says and does is held to it by `tests/conformance/textcraft.sh`.
//!
//! # What a child has
//! By [`Options::fork`]: the one inventory of the whole tree (the paper's); a copy of it, in which it may try things out; or what the task began with.
//! It is told its targets, its parent's words and context, and the targets of those above it.

use super::book::{Book, Need, Offer};
use super::ledger::{ActorId, Ledger};
use super::world::ItemId;
use crate::environments::{Difficulty, RootTask, TextTask};
use crate::language::{
    Arguments, Brief, BrokenEnvironment, Fork, Kind, Launch, Parameter, TextEnvironment, Tool, ToolError, Value,
    Verdict,
};
use rao_tree::Success;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// How the agents of a tree are set up; the same for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What a child has of its parent's inventory.
    pub fork: Fork,
    /// The depth of the deepest agent, the root's being 0: the agents are told what is left of it, and one that has none left is refused a launch.
    /// `None`: they are told nothing, and only the run's own limit holds.
    pub depth_max: Option<u8>,
}

/// Make the targets out of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name, unique in its benchmark.
    pub id: String,
    /// The size class it is reported under.
    pub difficulty: Difficulty,
    /// What can be made of what.
    pub book: Arc<Book>,
    /// What to make: each item once, at least 1 of it, and at least one item.
    pub targets: Vec<(ItemId, u32)>,
    /// What is there to begin with.
    pub inventory: Vec<(ItemId, u32)>,
    /// How its agents are set up.
    pub options: Options,
}

/// The environment of one node.
#[derive(Debug)]
pub struct Crafter {
    task: Arc<Task>,
    ledger: Arc<Mutex<Ledger>>,
    /// One for each target, the next below the one before: what the last of them makes counts for all, and so does what a child makes.
    actors: Vec<ActorId>,
    brief: Brief,
    depth: u8,
}

impl Task {
    /// A task of TextCraft-Synth; the book is that of the task's world.
    #[must_use]
    pub fn synth(book: &Arc<Book>, task: &super::Task, options: Options) -> Self {
        Self {
            id: task.id.clone(),
            difficulty: task.difficulty,
            book: Arc::clone(book),
            targets: vec![(task.target, task.count)],
            inventory: task.inventory.clone(),
            options,
        }
    }

    fn ledger(&self) -> Arc<Mutex<Ledger>> {
        Arc::new(Mutex::new(Ledger::new(self.book.len(), &self.inventory)))
    }

    fn goal(&self, targets: &[(ItemId, u32)]) -> String {
        let targets: Vec<String> = targets
            .iter()
            .map(|&(item, count)| format!("{count}x {}", self.book.name(item)))
            .collect();
        format!("Craft these items: {}.", targets.join(", "))
    }
}

impl RootTask for Task {
    fn id(&self) -> &str {
        &self.id
    }

    fn difficulty(&self) -> Difficulty {
        self.difficulty
    }
}

impl TextTask for Task {
    type Root = Crafter;

    fn root(&self) -> Crafter {
        let brief = Brief {
            goal: self.goal(&self.targets),
            ..Brief::default()
        };
        Crafter::seated(Arc::new(self.clone()), self.ledger(), None, &self.targets, brief, 0)
    }
}

impl Crafter {
    fn seated(
        task: Arc<Task>,
        ledger: Arc<Mutex<Ledger>>,
        mut parent: Option<ActorId>,
        targets: &[(ItemId, u32)],
        brief: Brief,
        depth: u8,
    ) -> Self {
        let mut actors = Vec::with_capacity(targets.len());
        for &(item, count) in targets {
            let actor = lock(&ledger).actor(parent, item, count);
            actors.push(actor);
            parent = Some(actor);
        }
        Self {
            task,
            ledger,
            actors,
            brief,
            depth,
        }
    }

    /// How many of the item there are.
    #[must_use]
    pub fn stock(&self, item: ItemId) -> u32 {
        lock(&self.ledger).stock(item)
    }

    /// Whether what was asked of it is made. Final once its descendants are done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let ledger = lock(&self.ledger);
        self.actors.iter().all(|&actor| ledger.verdict(actor))
    }

    /// How many levels of agents there may be below this one, if that is known.
    fn depth_left(&self) -> Option<u8> {
        let depth_max = self.task.options.depth_max?;
        Some(depth_max.saturating_sub(self.depth))
    }

    fn craft(&mut self, arguments: &Arguments) -> Result<Value, ToolError> {
        let counts = arguments.counts("ingredients")?;
        let target = arguments.list("target")?;
        let [Value::Str(item), Value::Int(total)] = target else {
            let expected = "target must be an item and the total of it, such as [\"stick\", 4]";
            return Err(ToolError(expected.into()));
        };
        let offers: Vec<Offer<'_>> = counts.iter().map(|&(item, count)| Offer { item, count }).collect();
        let actor = *self
            .actors
            .last()
            .ok_or_else(|| ToolError("there is nothing to craft for".into()))?;
        let book = &self.task.book;
        let mut ledger = lock(&self.ledger);
        book.craft(&mut ledger, actor, &offers, (item, *total))
            .map_err(|error| ToolError(error.to_string()))?;
        let stock = book.item(item).map_or(0, |item| ledger.stock(item));
        Ok(format!("Crafted {total} {item}; the inventory now holds {stock}.").into())
    }

    fn info(&self, name: &str) -> Value {
        let book = &self.task.book;
        let item = book.item(name);
        let formulas = item.map_or(&[][..], |item| book.formulas(item));
        let recipes: Vec<Value> = formulas
            .iter()
            .map(|formula| {
                let needs = formula.needs.iter();
                let needs = needs.map(|&(need, count)| (book.need_name(need).into(), self.need(need, count)));
                dict([
                    ("ingredients", Value::Dict(needs.collect())),
                    ("result_count", i64::from(formula.yields).into()),
                ])
            })
            .collect();
        dict([
            ("item", name.into()),
            ("can_craft", (!formulas.is_empty()).into()),
            ("is_base", (item.is_some() && formulas.is_empty()).into()),
            (
                "in_inventory",
                item.map_or(0, |item| i64::from(self.stock(item))).into(),
            ),
            (
                "crafting_depth",
                item.map_or(0, |item| i64::from(book.depth(item))).into(),
            ),
            ("recipes", recipes.into()),
        ])
    }

    fn need(&self, need: Need, count: u32) -> Value {
        let count = Value::from(i64::from(count));
        match need {
            Need::Item(_) => count,
            Need::AnyOf(tag) => {
                let items = self.task.book.tag(tag).1;
                let items: Vec<&str> = items.iter().map(|&item| self.task.book.name(item)).collect();
                dict([("count", count), ("use_one_of", items.into())])
            }
        }
    }

    fn inventory(&self) -> Value {
        let ledger = lock(&self.ledger);
        let entries = ledger
            .inventory()
            .map(|(item, count)| (self.task.book.name(item).into(), i64::from(count).into()));
        Value::Dict(entries.collect())
    }

    /// What a launch asks for.
    fn targets(&self, launch: &Launch) -> Result<Vec<(ItemId, u32)>, ToolError> {
        let counts = launch.arguments.counts("targets")?;
        if !(1..=TARGETS_MAX).contains(&counts.len()) {
            return Err(ToolError(format!("targets must name 1 to {TARGETS_MAX} items")));
        }
        let target = |&(name, count): &(&str, i64)| {
            let book = &self.task.book;
            let unknown = || ToolError(format!("targets: there is no item called {name}"));
            let item = book.item(name).ok_or_else(unknown)?;
            if book.formulas(item).is_empty() {
                return Err(ToolError(format!(
                    "targets: {name} is a base material and cannot be crafted"
                )));
            }
            match u32::try_from(count) {
                Ok(count) if count > 0 => Ok((item, count)),
                _ => Err(ToolError(format!("targets: {count} of {name} cannot be asked for"))),
            }
        };
        counts.iter().map(target).collect()
    }
}

impl TextEnvironment for Crafter {
    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn instructions(&self) -> Cow<'_, str> {
        let mut text = String::from(RULES);
        if !self.task.book.tags.is_empty() {
            text.push_str(TAG_RULE);
        }
        if self.depth_left() != Some(0) {
            text.push_str(DELEGATION);
            text.push_str(match self.task.options.fork {
                Fork::Shared => " It works on the same inventory: what it makes is there for you when it is done.",
                Fork::Copy => " It works on a copy of the inventory: you learn what it answers and get nothing that it makes.",
                Fork::Fresh => {
                    " It works on the inventory as it was at the very beginning: you learn what it answers and get nothing that it makes."
                }
            });
        }
        match self.depth_left() {
            None => {}
            Some(0) => text.push_str(" You cannot launch agents: craft what is missing yourself."),
            Some(1) => text.push_str(" Agents that you launch cannot launch others."),
            Some(left) => text.push_str(&format!(" Below you there may be {left} levels of agents.")),
        }
        text.into()
    }

    fn tools(&self) -> &[Tool] {
        &*TOOLS
    }

    fn call(&mut self, tool: &str, arguments: &Arguments) -> Result<Value, ToolError> {
        match tool {
            "get_info" => {
                let items = arguments.texts("items")?;
                if items.len() > ITEMS_MAX {
                    return Err(ToolError(format!("at most {ITEMS_MAX} items at once")));
                }
                Ok(Value::List(items.iter().map(|item| self.info(item)).collect()))
            }
            "craft" => self.craft(arguments),
            "view_inventory" => Ok(self.inventory()),
            _ => Err(ToolError(format!("there is no tool called {tool}"))),
        }
    }

    fn launch_parameters(&self) -> &[Parameter] {
        &*LAUNCH
    }

    fn check(&self, launch: &Launch) -> Result<(), ToolError> {
        if self.depth_left() == Some(0) {
            return Err(ToolError(
                "no agents can be launched at this depth: craft it yourself".into(),
            ));
        }
        self.targets(launch).map(|_| ())
    }

    fn child(&mut self, launch: &Launch) -> Result<Self, BrokenEnvironment> {
        let targets = self.targets(launch).map_err(|error| BrokenEnvironment(error.0))?;
        let (ledger, parent) = match self.task.options.fork {
            Fork::Shared => (Arc::clone(&self.ledger), self.actors.last().copied()),
            Fork::Copy => (Arc::new(Mutex::new(lock(&self.ledger).clone())), None),
            Fork::Fresh => (self.task.ledger(), None),
        };
        let mut ancestors = self.brief.ancestors.clone();
        ancestors.push(self.task.goal(&self.goals()));
        let mut goal = self.task.goal(&targets);
        if !launch.goal.trim().is_empty() {
            goal.push_str(&format!(
                "\nWords of the agent that asks for them: {}",
                launch.goal.trim()
            ));
        }
        let brief = Brief {
            goal,
            context: launch.context.clone(),
            ancestors,
        };
        let depth = self.depth.saturating_add(1);
        Ok(Self::seated(
            Arc::clone(&self.task),
            ledger,
            parent,
            &targets,
            brief,
            depth,
        ))
    }

    fn judge(&mut self, _: &Value) -> Verdict {
        Verdict::Score(if self.is_done() { Success::ONE } else { Success::ZERO })
    }
}

impl Crafter {
    fn goals(&self) -> Vec<(ItemId, u32)> {
        let ledger = lock(&self.ledger);
        self.actors.iter().map(|&actor| ledger.goal(actor)).collect()
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // A panic while the lock was held is reported where it happened; the stock itself is always whole.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dict<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// What one look may ask about: an answer stays within a few thousand words.
const ITEMS_MAX: usize = 64;
/// What one launch may ask for.
const TARGETS_MAX: usize = 32;

const RULES: &str = "You craft items. A recipe turns ingredients of the inventory into a fixed number of an item at a time, so only whole \
    multiples of that number can be crafted. Every ingredient has to be named, in exactly the amount that this takes, and nothing else. An \
    ingredient that is missing may have a recipe of its own; base materials have none. You succeed when as many of each item as your goal asks \
    for have been crafted, on top of what was there before, and not used up again. Finish as soon as that is so.";

const TAG_RULE: &str = " Where a recipe asks for an ingredient that begins with \"tag:\", name one item of that kind instead, in the whole amount.";

const DELEGATION: &str = " You may launch agents that craft what is missing, several at once where none needs what another makes. \
    One that is launched knows only the targets and the context that you give it. Deep recipes take many steps: leave them to agents rather \
    than follow them down yourself.";

static TOOLS: LazyLock<[Tool; 3]> = LazyLock::new(|| {
    [
        Tool {
            name: "get_info",
            description: "Tells of each item whether it can be crafted, whether it is a base material, how many there are, how deep its \
                recipes go (crafting_depth: 0 for a base material, 1 when it is made of these alone), and its recipes: ingredients for one \
                batch, and how many that makes (result_count).",
            parameters: vec![Parameter {
                name: "items",
                description: "Names of items.",
                kind: Kind::List(Box::new(Kind::Str)),
                required: true,
            }],
        },
        Tool {
            name: "craft",
            description: "Crafts an item. Takes the ingredients out of the inventory and puts the item in, or changes nothing and says why.",
            parameters: vec![
                Parameter {
                    name: "ingredients",
                    description: "How many of each ingredient to use up in all.",
                    kind: Kind::Dict(Box::new(Kind::Int)),
                    required: true,
                },
                Parameter {
                    name: "target",
                    description: "The item, and the total of it to make: a multiple of its recipe's result_count.",
                    kind: Kind::List(Box::new(Kind::Any)),
                    required: true,
                },
            ],
        },
        Tool {
            name: "view_inventory",
            description: "The items that there are, and how many of each.",
            parameters: Vec::new(),
        },
    ]
});

static LAUNCH: LazyLock<[Parameter; 1]> = LazyLock::new(|| {
    [Parameter {
        name: "targets",
        description: "What the agent is to craft: how many of each item, on top of what is there.",
        kind: Kind::Dict(Box::new(Kind::Int)),
        required: true,
    }]
});

#[cfg(test)]
mod tests;
