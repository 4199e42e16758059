//! The flawed teacher of the warm start: it knows the motif (ask, obtain what is missing, craft, finish) and carries it out badly.
//!
//! It is a policy like any other, rolled out by the same engine, and sees what the model sees: the tokens of one node. It skips
//! ingredients, acts at random now and then, and gives up early, so that cloning it yields a prior in which delegation occurs and
//! nearly nothing succeeds: what is left to learn is left to reinforcement.

use super::vocabulary::{Interface, SLOTS, Word};
pub use crate::environments::Flaws;
use rand::RngExt;
use rand_xoshiro::SplitMix64;
use rao_backends::scripted::Scripted;
use rao_tree::{Policy, Request, Token};
use std::convert::Infallible;
use std::iter::Peekable;

/// A teacher with these flaws, for agents that speak so and a policy of `vocab` tokens.
#[must_use]
pub fn teacher(flaws: Flaws, interface: Interface, vocab: usize) -> impl Policy<Error = Infallible> + Send + 'static {
    Scripted::new(vocab, move |request: &Request<'_>, rng: &mut SplitMix64| {
        if rng.random_bool(flaws.distraction) {
            return Vec::new();
        }
        // What it neglects is decided once per node, not at every look.
        let node = crate::seed::derive(request.sequence.0, &[]);
        Reading::of(request.prompt, interface).plan(&flaws, node, rng)
    })
}

/// What the teacher makes of a node's context.
struct Reading {
    interface: Interface,
    goal: Name,
    deep: bool,
    /// In the order of first mention.
    items: Vec<Item>,
}

/// What an item is called: a slot, or where names are spelled its two syllables, the first times [`SLOTS`].
type Name = u32;

struct Item {
    name: Name,
    /// What was last shown as missing of it; of the goal, what is asked for.
    amount: u32,
    state: State,
    /// What its latest `INFO` listed; `None` before the first.
    listed: Option<Vec<Name>>,
    base: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Wanted,
    Made,
    Failed,
}

impl Reading {
    fn of(context: &[Token], interface: Interface) -> Self {
        let mut words = context.iter().filter_map(|&token| Word::parse(token)).peekable();
        let mut reading = Self {
            interface,
            goal: 0,
            deep: false,
            items: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word {
                Word::Goal => {
                    if let Some(goal) = reading.name(&mut words) {
                        reading.goal = goal;
                        reading.item(goal);
                        reading.amount(goal, &mut words);
                    }
                }
                Word::Deep => reading.deep = true,
                Word::Info => {
                    let Some(name) = reading.name(&mut words) else { continue };
                    words.next_if_eq(&Word::Res);
                    let base = words.next_if_eq(&Word::Base).is_some();
                    let mut listed = Vec::new();
                    while let Some(missing) = reading.name(&mut words) {
                        reading.amount(missing, &mut words);
                        reading.item(missing).state = State::Wanted;
                        listed.push(missing);
                    }
                    let item = reading.item(name);
                    item.listed = Some(listed);
                    item.base = base;
                    if item.state == State::Failed {
                        item.state = State::Wanted;
                    }
                }
                Word::Craft => {
                    let Some(name) = reading.name(&mut words) else { continue };
                    words.next_if(|word| matches!(word, Word::Amount(_)));
                    let done = words.next_if_eq(&Word::Ok).is_some();
                    reading.item(name).state = if done { State::Made } else { State::Failed };
                }
                Word::Spawn => {
                    let mut asked = Vec::new();
                    loop {
                        asked.extend(reading.name(&mut words));
                        let between = |word: &Word| matches!(word, Word::Amount(_) | Word::And | Word::Go);
                        if words.next_if(between).is_none() {
                            break;
                        }
                    }
                    for name in asked {
                        let done = words.next_if(|word| matches!(word, Word::Ok | Word::Fail)) == Some(Word::Ok);
                        reading.item(name).state = if done { State::Made } else { State::Failed };
                    }
                }
                _ => {}
            }
        }
        reading
    }

    /// What an item is called that the words go on with.
    fn name(&self, words: &mut Peekable<impl Iterator<Item = Word>>) -> Option<Name> {
        let mut slot = || match words.next_if(|word| matches!(word, Word::Slot(_)))? {
            Word::Slot(slot) => Some(slot),
            _ => None,
        };
        let first = slot()?;
        if self.interface.names {
            Some(first * SLOTS + slot()?)
        } else {
            Some(first)
        }
    }

    /// Takes in the amount that is shown behind an item.
    fn amount(&mut self, name: Name, words: &mut Peekable<impl Iterator<Item = Word>>) {
        if let Some(Word::Amount(amount)) = words.next_if(|word| matches!(word, Word::Amount(_))) {
            self.item(name).amount = amount;
        }
    }

    fn item(&mut self, name: Name) -> &mut Item {
        let place = self.items.iter().position(|item| item.name == name).unwrap_or_else(|| {
            self.items.push(Item {
                name,
                amount: 1,
                state: State::Wanted,
                listed: None,
                base: false,
            });
            self.items.len() - 1
        });
        &mut self.items[place]
    }

    fn find(&self, name: Name) -> Option<&Item> {
        self.items.iter().find(|item| item.name == name)
    }

    fn plan(&self, flaws: &Flaws, node: u64, rng: &mut SplitMix64) -> Vec<Token> {
        let root = self.find(self.goal);
        if root.is_none_or(|item| item.state == State::Made || item.base) {
            return vec![Word::Finish.token()];
        }
        if root.is_some_and(|item| item.state == State::Failed) {
            let surrender = rng.random_bool(flaws.surrender);
            return if surrender {
                vec![Word::Finish.token()]
            } else {
                self.ask(self.goal)
            };
        }
        // Down to the first item that is not known yet or has nothing left to be obtained. Recipes are acyclic and each level is
        // deeper, so this ends; the bound is for contexts that are not.
        let mut making = self.goal;
        for _ in 0..self.items.len() {
            let Some(listed) = self.find(making).and_then(|item| item.listed.as_ref()) else {
                return self.ask(making);
            };
            let cared_for = |name: &Name| {
                let chance = crate::seed::derive(node, &[u64::from(*name)]) as f64 / u64::MAX as f64;
                chance < flaws.diligence
            };
            let open = |name: &Name| {
                self.find(*name)
                    .is_some_and(|item| item.state == State::Wanted && !item.base)
                    && cared_for(name)
            };
            let open: Vec<Name> = listed.iter().copied().filter(open).collect();
            let Some(&first) = open.first() else { break };
            let started = self.find(first).is_some_and(|item| item.listed.is_some());
            if !self.deep && !started && rng.random_bool(flaws.delegation) {
                return self.spawn(&open[..open.len().min(self.interface.spawn_max())]);
            }
            making = first;
        }
        let mut action = vec![Word::Craft.token()];
        self.say(making, &mut action);
        action
    }

    fn spawn(&self, names: &[Name]) -> Vec<Token> {
        let mut action = vec![Word::Spawn.token()];
        for (place, &name) in names.iter().enumerate() {
            if place > 0 {
                action.push(Word::And.token());
            }
            self.say(name, &mut action);
        }
        if names.len() < self.interface.spawn_max() {
            action.push(Word::Go.token());
        }
        action
    }

    fn ask(&self, name: Name) -> Vec<Token> {
        let mut action = vec![Word::Info.token()];
        self.call(name, &mut action);
        action
    }

    fn call(&self, name: Name, action: &mut Vec<Token>) {
        if self.interface.names {
            action.push(Word::Slot(name / SLOTS).token());
        }
        action.push(Word::Slot(name % SLOTS).token());
    }

    /// An item, and where amounts are written how many.
    fn say(&self, name: Name, action: &mut Vec<Token>) {
        self.call(name, action);
        if self.interface.amounts {
            let amount = self.find(name).map_or(1, |item| item.amount.max(1));
            action.push(Word::Amount(amount).token());
        }
    }
}
