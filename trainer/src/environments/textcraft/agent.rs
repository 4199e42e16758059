//! One agent of TextCraft: what a single node knows, what it may say, and what its words do to the workshop.

use super::ledger::ActorId;
use super::tasks::Task;
use super::vocabulary::{self, AMOUNT_MAX, Interface, SLOTS, Spawning, Word};
use super::workshop::Workshop;
use super::world::{ItemId, World};
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use rao_tree::{Answer, Constraint, Environment, Mask, Next, NodeStatus, Observation, Outcome, Success, Token};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How an agent is set up; the same for every node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// Deepest node: one that is told DEEP and cannot spawn. 0 is the flat agent.
    pub depth_max: u8,
    /// Slots that a node may give out; items beyond stay unseen.
    pub slots: u32,
    /// Number the slots by a random permutation per node, so that every slot is trained; otherwise in order of mention.
    pub shuffle_slots: bool,
    /// What an agent may say, and what is filled in for it.
    pub interface: Interface,
}

/// An item that this node has seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    item: ItemId,
    /// Amount that was last shown as missing; 0 once the goal lacks none of it.
    missing: u32,
    /// This node or a child has made it since it was last shown as missing.
    delivered: bool,
}

/// The environment of one node. All agents of a tree share one workshop.
#[derive(Debug)]
pub struct Agent {
    workshop: Arc<Mutex<Workshop>>,
    world: Arc<World>,
    options: AgentOptions,
    actor: ActorId,
    goal: ItemId,
    count: u32,
    depth: u8,
    /// In order of mention; the goal is the first.
    seen: Vec<Seen>,
    /// Slot number of the i-th mention.
    naming: Vec<u8>,
    /// What the delegation under way asks for: positions in `seen`, and amounts.
    launched: Vec<(usize, u32)>,
    /// Source of this node's slot permutation and of its children's.
    seed: u64,
    children: u64,
}

/// A well-formed action, of positions in `seen` and amounts.
enum Action {
    Info(usize),
    Craft(usize, u32),
    Spawn(Vec<(usize, u32)>),
    Finish,
}

/// The agent cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A child was asked for that no delegation named.
    #[error("no launch {0} in the delegation under way")]
    NoSuchLaunch(u8),
}

impl Agent {
    /// The root agent of a task, with a workshop of its own.
    #[must_use]
    pub fn root(world: &Arc<World>, task: &Task, options: AgentOptions, seed: u64) -> Self {
        let mut workshop = Workshop::new(Arc::clone(world), task);
        let actor = workshop.actor(None, task.target, task.count);
        let workshop = Arc::new(Mutex::new(workshop));
        Self::seated(
            workshop,
            Arc::clone(world),
            options,
            actor,
            (task.target, task.count),
            0,
            seed,
        )
    }

    fn seated(
        workshop: Arc<Mutex<Workshop>>,
        world: Arc<World>,
        options: AgentOptions,
        actor: ActorId,
        (goal, count): (ItemId, u32),
        depth: u8,
        seed: u64,
    ) -> Self {
        let mut naming: Vec<u8> = (0..options.slots.min(SLOTS) as u8).collect();
        if options.shuffle_slots {
            naming.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
        }
        let seen = vec![Seen {
            item: goal,
            missing: count,
            delivered: false,
        }];
        Self {
            workshop,
            world,
            options,
            actor,
            goal,
            count,
            depth,
            seen,
            naming,
            launched: Vec::new(),
            seed,
            children: 0,
        }
    }

    /// The item that this node is to make.
    #[must_use]
    pub fn goal(&self) -> (ItemId, u32) {
        (self.goal, self.count)
    }

    fn is_deep(&self) -> bool {
        self.depth >= self.options.depth_max
    }

    fn workshop(&self) -> MutexGuard<'_, Workshop> {
        // A panic while the lock was held is reported where it happened; the stock itself is always whole.
        self.workshop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, position: usize) -> Word {
        Word::Slot(u32::from(self.naming[position]))
    }

    /// Writes what an item is called here.
    fn call(&self, position: usize, out: &mut Observation<'_>) {
        if self.options.interface.names {
            let name = vocabulary::name(self.seen[position].item.0);
            name.iter().for_each(|word| out.push(word.token()));
        } else {
            out.push(self.slot(position).token());
        }
    }

    /// The item that `words` begin with, as it is called here; `None` where that is none that was seen.
    fn position(&self, words: &mut &[Token]) -> Option<usize> {
        let (&first, rest) = words.split_first()?;
        *words = rest;
        if self.options.interface.names {
            let (&second, rest) = words.split_first()?;
            *words = rest;
            let called = |seen: &Seen| vocabulary::name(seen.item.0).map(Word::token) == [first, second];
            return self.seen.iter().position(called);
        }
        let all = 0..self.seen.len();
        all.into_iter().find(|&position| self.slot(position).token() == first)
    }

    /// There is still something to do for this item: it was shown as missing (the goal is from the start), and neither this node nor a
    /// child has made it since. Without this an agent learns to craft its goal again and again: successes are paid, surplus costs nothing.
    fn is_wanted(&self, position: usize) -> bool {
        let seen = self.seen[position];
        seen.missing > 0 && !seen.delivered
    }

    /// A child may be asked for this item. Recipes are acyclic, so what is missing for a goal is never one of its ancestors' goals; with free
    /// spawning a node may hand on whatever it has seen, its own goal too.
    fn may_spawn(&self, position: usize) -> bool {
        match self.options.interface.spawn {
            Spawning::Missing => position > 0 && self.is_wanted(position),
            Spawning::Free => true,
        }
    }

    /// How many of an item the node needs, as far as it was shown.
    fn wanted(&self, position: usize) -> u32 {
        if position == 0 {
            self.count
        } else {
            self.seen[position].missing
        }
    }

    /// An item and its amount at the head of `words`: what was written, or what is filled in. `None` where that is no item that was seen.
    fn part(&self, words: &mut &[Token]) -> Option<(usize, u32)> {
        let position = self.position(words)?;
        if !self.options.interface.amounts {
            return Some((position, self.wanted(position).max(1)));
        }
        let (&amount, rest) = words.split_first()?;
        *words = rest;
        match Word::parse(amount)? {
            Word::Amount(amount) if amount > 0 => Some((position, amount)),
            _ => None,
        }
    }

    fn parse(&self, action: &[Token]) -> Option<Action> {
        let (&verb, mut rest) = action.split_first()?;
        let action = match Word::parse(verb)? {
            Word::Finish => Action::Finish,
            Word::Info => Action::Info(self.position(&mut rest)?),
            Word::Craft => {
                let (position, amount) = self.part(&mut rest)?;
                self.is_wanted(position).then_some(Action::Craft(position, amount))?
            }
            Word::Spawn if !self.is_deep() => Action::Spawn(self.list(&mut rest)?),
            _ => return None,
        };
        rest.is_empty().then_some(action)
    }

    /// What a SPAWN lists, up to and with the GO that ends a list which could go on.
    fn list(&self, words: &mut &[Token]) -> Option<Vec<(usize, u32)>> {
        let most = self.options.interface.spawn_max();
        let mut parts: Vec<(usize, u32)> = Vec::with_capacity(most);
        loop {
            let (position, amount) = self.part(words).filter(|&(position, _)| self.may_spawn(position))?;
            parts
                .iter()
                .all(|&(listed, _)| listed != position)
                .then(|| parts.push((position, amount)))?;
            if parts.len() == most {
                return Some(parts);
            }
            let (&next, rest) = words.split_first()?;
            *words = rest;
            match Word::parse(next)? {
                Word::Go => return Some(parts),
                Word::And => {}
                _ => return None,
            }
        }
    }

    /// Shows what is missing to make the wanted amount of an item, in the order of its recipe; BASE for an item without one.
    ///
    /// What the node has to obtain is what its goal lacks: the goal's INFO sets every ingredient afresh, to nothing where nothing is
    /// missing. That of another item changes the ingredients it shows and leaves the rest alone, as the goal may still lack them.
    fn info(&mut self, position: usize, out: &mut Observation<'_>) {
        let Seen { item, .. } = self.seen[position];
        let wanted = self.wanted(position);
        let world = Arc::clone(&self.world);
        out.push(Word::Res.token());
        let Some(recipe) = world.recipe(item) else {
            out.push(Word::Base.token());
            return;
        };
        let batches = recipe.batches(wanted);
        for (ingredient, missing) in self.missing(&recipe.ingredients, batches) {
            let shown = missing > 0;
            let known = self.seen.iter().position(|seen| seen.item == ingredient);
            let fresh = Seen {
                item: ingredient,
                missing,
                delivered: false,
            };
            let place = match known {
                Some(place) => {
                    if shown || position == 0 {
                        self.seen[place] = fresh;
                    }
                    place
                }
                None if !shown || self.seen.len() >= self.naming.len() => continue,
                None => {
                    self.seen.push(fresh);
                    self.seen.len() - 1
                }
            };
            if shown {
                self.call(place, out);
                out.push(Word::Amount(missing).token());
            }
        }
    }

    /// What the stock lacks of each ingredient for that many batches, all read at one moment.
    fn missing(&self, ingredients: &[(ItemId, u32)], batches: u32) -> Vec<(ItemId, u32)> {
        let workshop = self.workshop();
        let lacks = |&(item, amount): &(ItemId, u32)| {
            let needed = amount.saturating_mul(batches);
            (item, needed.saturating_sub(workshop.stock(item)))
        };
        ingredients.iter().map(lacks).collect()
    }

    /// Makes at least that many, in whole batches.
    fn craft(&mut self, position: usize, amount: u32) -> bool {
        let item = self.seen[position].item;
        let Some(yields) = self.world.recipe(item).map(|recipe| recipe.yields) else {
            return false;
        };
        let total = amount.div_ceil(yields).saturating_mul(yields);
        let actor = self.actor;
        total > 0 && self.workshop().craft(actor, item, total).is_ok()
    }
}

impl Environment for Agent {
    type Error = AgentError;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), AgentError> {
        out.push(Word::Goal.token());
        self.call(0, out);
        out.push(Word::Amount(self.count).token());
        if self.is_deep() {
            out.push(Word::Deep.token());
        }
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, AgentError> {
        match self.parse(action) {
            // An action that the window cut short, or a name that was misspelled: the constraint allows no other malformed one.
            None => out.push(Word::Err.token()),
            Some(Action::Info(position)) => self.info(position, out),
            Some(Action::Craft(position, amount)) => {
                let done = self.craft(position, amount);
                self.seen[position].delivered |= done && amount >= self.wanted(position);
                out.push(if done { Word::Ok } else { Word::Err }.token());
            }
            Some(Action::Spawn(parts)) => {
                let children = parts.len() as u8;
                self.launched = parts;
                return Ok(Outcome::Delegate { children });
            }
            Some(Action::Finish) => {
                let done = self.workshop().verdict(self.actor);
                return Ok(Outcome::Finish(if done { Success::ONE } else { Success::ZERO }));
            }
        }
        Ok(Outcome::Continue)
    }

    fn child(&mut self, index: u8) -> Result<Self, AgentError> {
        let (position, amount) = *self
            .launched
            .get(usize::from(index))
            .ok_or(AgentError::NoSuchLaunch(index))?;
        let item = self.seen[position].item;
        let actor = self.workshop().actor(Some(self.actor), item, amount);
        self.children += 1;
        let seed = crate::seed::derive(self.seed, &[self.children]);
        Ok(Self::seated(
            Arc::clone(&self.workshop),
            Arc::clone(&self.world),
            self.options,
            actor,
            (item, amount),
            self.depth.saturating_add(1),
            seed,
        ))
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, AgentError> {
        for (answer, &(position, amount)) in answers.iter().zip(&self.launched) {
            let delivered = matches!(
                answer,
                Answer::Ended { status: NodeStatus::Finished, success, .. } if *success == Success::ONE
            );
            self.seen[position].delivered |= delivered && amount >= self.seen[position].missing;
            out.push(if delivered { Word::Ok } else { Word::Fail }.token());
        }
        self.launched.clear();
        Ok(Outcome::Continue)
    }

    fn describe(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        write!(out, "{}x {}", self.count, self.world.name(self.goal))
    }
}

impl Constraint for Agent {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        let all = 0..self.seen.len();
        let interface = self.options.interface;
        let listed = |position: &usize| !interface.names && completion.contains(&self.slot(*position).token());
        let spawnable = |position: &usize| self.may_spawn(*position) && !listed(position);
        // Tokens of an item, and with what is written behind it.
        let name = 1 + usize::from(interface.names);
        let part = name + usize::from(interface.amounts);
        let amounts = |mask: &mut Mask<'_>| (1..=AMOUNT_MAX).for_each(|n| mask.allow(Word::Amount(n).token()));
        // One of these items; where names are spelled, any syllable.
        let items = |mask: &mut Mask<'_>, fits: &dyn Fn(&usize) -> bool| {
            if interface.names {
                (0..SLOTS).for_each(|syllable| mask.allow(Word::Slot(syllable).token()));
            } else {
                let fitting = all.clone().filter(fits);
                fitting.for_each(|position| mask.allow(self.slot(position).token()));
            }
        };
        if completion.last().and_then(|&token| Word::parse(token)) == Some(Word::Go) {
            return Next::Complete;
        }
        match (
            completion.first().and_then(|&token| Word::parse(token)),
            completion.len(),
        ) {
            (None, 0) => {
                mask.allow(Word::Info.token());
                mask.allow(Word::Finish.token());
                if all.clone().any(|position| self.is_wanted(position)) {
                    mask.allow(Word::Craft.token());
                }
                if !self.is_deep() && all.clone().any(|position| spawnable(&position)) {
                    mask.allow(Word::Spawn.token());
                }
            }
            (Some(Word::Info), drawn) if drawn <= name => items(mask, &|_| true),
            (Some(Word::Craft), drawn) if drawn <= name => items(mask, &|&position| self.is_wanted(position)),
            (Some(Word::Craft), drawn) if drawn <= part => amounts(mask),
            // Items are divided by AND; no list has more than `spawn_max`.
            (Some(Word::Spawn), drawn) if drawn < (part + 1) * interface.spawn_max() => {
                match (drawn - 1) % (part + 1) {
                    place if place < name => items(mask, &spawnable),
                    place if place == part => {
                        mask.allow(Word::Go.token());
                        if all.clone().any(|position| spawnable(&position)) {
                            mask.allow(Word::And.token());
                        }
                    }
                    _ => amounts(mask),
                }
            }
            _ => return Next::Complete,
        }
        Next::Draw
    }
}

#[cfg(test)]
mod tests;
