//! The flawed teacher of the warm start: it knows the motif (ask, obtain what is missing, craft, finish) and carries it out badly.
//!
//! It is a policy like any other, rolled out by the same engine, and sees what the model sees: the tokens of one node. It skips
//! ingredients, acts at random now and then, and gives up early, so that cloning it yields a prior in which delegation occurs and
//! nearly nothing succeeds: what is left to learn is left to reinforcement.

use super::vocabulary::{Interface, Word};
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
        Reading::of(request.prompt).plan(&flaws, interface, node, rng)
    })
}

/// What the teacher makes of a node's context.
#[derive(Default)]
struct Reading {
    goal: u32,
    deep: bool,
    /// By slot, in the order of first mention.
    items: Vec<Item>,
}

struct Item {
    slot: u32,
    /// What was last shown as missing of it; of the goal, what is asked for.
    amount: u32,
    state: State,
    /// What its latest `INFO` listed; `None` before the first.
    listed: Option<Vec<u32>>,
    base: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Wanted,
    Made,
    Failed,
}

impl Reading {
    fn of(context: &[Token]) -> Self {
        let mut words = context.iter().filter_map(|&token| Word::parse(token)).peekable();
        let mut reading = Self::default();
        while let Some(word) = words.next() {
            match word {
                Word::Goal => {
                    if let Some(Word::Slot(slot)) = words.next() {
                        reading.goal = slot;
                        reading.item(slot);
                        reading.amount(slot, &mut words);
                    }
                }
                Word::Deep => reading.deep = true,
                Word::Info => {
                    let Some(Word::Slot(slot)) = words.next() else { continue };
                    words.next_if_eq(&Word::Res);
                    let base = words.next_if_eq(&Word::Base).is_some();
                    let mut listed = Vec::new();
                    while let Some(Word::Slot(missing)) = words.next_if(|word| matches!(word, Word::Slot(_))) {
                        reading.amount(missing, &mut words);
                        reading.item(missing).state = State::Wanted;
                        listed.push(missing);
                    }
                    let item = reading.item(slot);
                    item.listed = Some(listed);
                    item.base = base;
                    if item.state == State::Failed {
                        item.state = State::Wanted;
                    }
                }
                Word::Craft => {
                    let Some(Word::Slot(slot)) = words.next() else { continue };
                    words.next_if(|word| matches!(word, Word::Amount(_)));
                    let done = words.next_if_eq(&Word::Ok).is_some();
                    reading.item(slot).state = if done { State::Made } else { State::Failed };
                }
                Word::Spawn => {
                    let mut asked = Vec::new();
                    let listed = |word: &Word| matches!(word, Word::Slot(_) | Word::Amount(_) | Word::And | Word::Go);
                    while let Some(word) = words.next_if(listed) {
                        if let Word::Slot(slot) = word {
                            asked.push(slot);
                        }
                    }
                    for slot in asked {
                        let done = words.next_if(|word| matches!(word, Word::Ok | Word::Fail)) == Some(Word::Ok);
                        reading.item(slot).state = if done { State::Made } else { State::Failed };
                    }
                }
                _ => {}
            }
        }
        reading
    }

    /// Takes in the amount that is shown behind an item.
    fn amount(&mut self, slot: u32, words: &mut Peekable<impl Iterator<Item = Word>>) {
        if let Some(Word::Amount(amount)) = words.next_if(|word| matches!(word, Word::Amount(_))) {
            self.item(slot).amount = amount;
        }
    }

    fn item(&mut self, slot: u32) -> &mut Item {
        let place = self.items.iter().position(|item| item.slot == slot).unwrap_or_else(|| {
            self.items.push(Item {
                slot,
                amount: 1,
                state: State::Wanted,
                listed: None,
                base: false,
            });
            self.items.len() - 1
        });
        &mut self.items[place]
    }

    fn find(&self, slot: u32) -> Option<&Item> {
        self.items.iter().find(|item| item.slot == slot)
    }

    fn plan(&self, flaws: &Flaws, interface: Interface, node: u64, rng: &mut SplitMix64) -> Vec<Token> {
        let root = self.find(self.goal);
        if root.is_none_or(|item| item.state == State::Made || item.base) {
            return vec![Word::Finish.token()];
        }
        if root.is_some_and(|item| item.state == State::Failed) {
            let surrender = rng.random_bool(flaws.surrender);
            return if surrender {
                vec![Word::Finish.token()]
            } else {
                ask(self.goal)
            };
        }
        // Down to the first item that is not known yet or has nothing left to be obtained. Recipes are acyclic and each level is
        // deeper, so this ends; the bound is for contexts that are not.
        let mut making = self.goal;
        for _ in 0..self.items.len() {
            let Some(listed) = self.find(making).and_then(|item| item.listed.as_ref()) else {
                return ask(making);
            };
            let cared_for = |slot: &u32| {
                let chance = crate::seed::derive(node, &[u64::from(*slot)]) as f64 / u64::MAX as f64;
                chance < flaws.diligence
            };
            let open = |slot: &u32| {
                self.find(*slot)
                    .is_some_and(|item| item.state == State::Wanted && !item.base)
                    && cared_for(slot)
            };
            let open: Vec<u32> = listed.iter().copied().filter(open).collect();
            let Some(&first) = open.first() else { break };
            let started = self.find(first).is_some_and(|item| item.listed.is_some());
            if !self.deep && !started && rng.random_bool(flaws.delegation) {
                return self.spawn(&open[..open.len().min(interface.spawn_max())], interface);
            }
            making = first;
        }
        let mut action = vec![Word::Craft.token()];
        self.name(making, interface, &mut action);
        action
    }

    fn spawn(&self, slots: &[u32], interface: Interface) -> Vec<Token> {
        let mut action = vec![Word::Spawn.token()];
        for (place, &slot) in slots.iter().enumerate() {
            if place > 0 {
                action.push(Word::And.token());
            }
            self.name(slot, interface, &mut action);
        }
        if slots.len() < interface.spawn_max() {
            action.push(Word::Go.token());
        }
        action
    }

    /// An item, and where amounts are written how many.
    fn name(&self, slot: u32, interface: Interface, action: &mut Vec<Token>) {
        action.push(Word::Slot(slot).token());
        if interface.written {
            let amount = self.find(slot).map_or(1, |item| item.amount.max(1));
            action.push(Word::Amount(amount).token());
        }
    }
}

fn ask(slot: u32) -> Vec<Token> {
    vec![Word::Info.token(), Word::Slot(slot).token()]
}
