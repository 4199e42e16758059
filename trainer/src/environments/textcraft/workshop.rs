//! What one tree of agents shares: [`Workshop`], the inventory, with the account of who made what.
//!
//! # How nodes are graded, and how that differs from the reference
//! A node succeeds when the net production of its goal item, made minus used up, by the node and its descendants reaches what was asked of
//! it. The reference compares the stock now with the stock when the agent started, and says the same as long as nobody else is at work:
//! for a single agent, for every root, and for every node while its relatives wait. With siblings at work at once it does not: a sibling
//! that makes the same item lets an idle agent succeed, and one that uses it up makes an agent fail that did its work. Here nothing that
//! happens outside a node's subtree changes its verdict, so credit stays with whoever earned it and the order in which siblings are
//! scheduled is no part of the result. What siblings do still changes what can be crafted: stock is shared, as in the reference.

use super::ledger::{ActorId, ExchangeError, Ledger};
use super::tasks::Task;
use super::world::{ItemId, World};
use std::sync::Arc;

/// The [`Ledger`] of one world, with its recipes at hand.
#[derive(Clone, Debug)]
pub struct Workshop {
    world: Arc<World>,
    ledger: Ledger,
}

/// Why nothing was crafted; the inventory is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CraftError {
    /// Nothing was asked for.
    #[error("a craft makes at least one")]
    ZeroTotal,
    /// A base material, which can only be found.
    #[error("item {} has no recipe", item.0)]
    NoRecipe {
        /// Which.
        item: ItemId,
    },
    /// Batches make whole multiples.
    #[error("the recipe makes {yields} at a time, which {total} is no multiple of")]
    NoMultiple {
        /// What was asked for.
        total: u32,
        /// What a batch makes.
        yields: u32,
    },
    /// Too little is there, or more than can be counted would be.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl Workshop {
    /// A workshop with the inventory a task begins with, and nobody in it.
    #[must_use]
    pub fn new(world: Arc<World>, task: &Task) -> Self {
        let ledger = Ledger::new(world.len(), &task.inventory);
        Self { world, ledger }
    }

    /// Admits an actor who is to make `count` of `goal`. Limits on depth and number are the caller's; none overflows anything here.
    ///
    /// # Panics
    /// When the parent is of another workshop, as with every actor here.
    pub fn actor(&mut self, parent: Option<ActorId>, goal: ItemId, count: u32) -> ActorId {
        self.ledger.actor(parent, goal, count)
    }

    /// Makes `total` of `item`, taking whatever ingredients that needs from the inventory.
    ///
    /// # Errors
    /// [`CraftError`]: no recipe, no multiple of the yield, too little in stock, or more than can be counted.
    pub fn craft(&mut self, actor: ActorId, item: ItemId, total: u32) -> Result<(), CraftError> {
        if total == 0 {
            return Err(CraftError::ZeroTotal);
        }
        let recipe = self.world.recipe(item).ok_or(CraftError::NoRecipe { item })?;
        if !total.is_multiple_of(recipe.yields) {
            return Err(CraftError::NoMultiple {
                total,
                yields: recipe.yields,
            });
        }
        let batches = total / recipe.yields;
        if recipe
            .ingredients
            .iter()
            .any(|(_, count)| count.checked_mul(batches).is_none())
        {
            return Err(ExchangeError::Overflow.into());
        }
        let used = recipe.ingredients.iter().map(|&(item, count)| (item, count * batches));
        Ok(self.ledger.exchange(actor, used, (item, total))?)
    }

    /// How many of the item are there.
    ///
    /// # Panics
    /// When the item is of another world.
    #[must_use]
    pub fn stock(&self, item: ItemId) -> u32 {
        self.ledger.stock(item)
    }

    /// What can be made here.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What the actor is to make, and how many.
    #[must_use]
    pub fn goal(&self, actor: ActorId) -> (ItemId, u32) {
        self.ledger.goal(actor)
    }

    /// How many of its goal item the actor and its descendants made, less what they used up of it.
    #[must_use]
    pub fn net(&self, actor: ActorId) -> i64 {
        self.ledger.net(actor)
    }

    /// The actor and its descendants made what was asked of it; see the module's head. Final once they are all done.
    #[must_use]
    pub fn verdict(&self, actor: ActorId) -> bool {
        self.ledger.verdict(actor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environments::textcraft::{Difficulty, WorldBuilder};
    use rand::{RngExt, SeedableRng, seq::SliceRandom};
    use rand_xoshiro::Xoshiro256PlusPlus;

    /// log -> 4 planks; 2 planks -> 4 sticks; 3 planks + 2 sticks -> axe.
    fn workshop(logs: u32) -> (Workshop, [ItemId; 4]) {
        let mut builder = WorldBuilder::new();
        builder.base("log").unwrap();
        builder.recipe("plank", None, 4, [("log", 1)]).unwrap();
        builder.recipe("stick", None, 4, [("plank", 2)]).unwrap();
        builder.recipe("axe", None, 1, [("plank", 3), ("stick", 2)]).unwrap();
        let world = builder.build().unwrap();
        let task = Task::from_names(&world, "t", ("axe", 1), [("log", logs)], Difficulty::Easy).unwrap();
        (Workshop::new(Arc::new(world), &task), [0, 1, 2, 3].map(ItemId))
    }

    #[test]
    fn a_craft_takes_and_makes_or_changes_nothing() {
        let (mut shop, [log, plank, stick, axe]) = workshop(2);
        let root = shop.actor(None, axe, 1);
        shop.craft(root, plank, 8).unwrap();
        shop.craft(root, stick, 4).unwrap();
        shop.craft(root, axe, 1).unwrap();
        assert_eq!([log, plank, stick, axe].map(|item| shop.stock(item)), [0, 3, 2, 1]);
        assert!(shop.verdict(root));

        let before = shop.ledger.clone();
        let mut refuse = |item, total| shop.craft(root, item, total).unwrap_err();
        assert_eq!(refuse(log, 1), CraftError::NoRecipe { item: log });
        assert_eq!(refuse(plank, 0), CraftError::ZeroTotal);
        assert_eq!(refuse(plank, 6), CraftError::NoMultiple { total: 6, yields: 4 });
        assert_eq!(
            refuse(axe, 2),
            CraftError::Exchange(ExchangeError::TooLittle {
                ingredient: plank,
                needed: 6,
                stock: 3
            })
        );
        assert_eq!(refuse(axe, u32::MAX), ExchangeError::Overflow.into());
        assert!(shop.ledger.inventory().eq(before.inventory()));
        assert_eq!(shop.net(root), 1);
    }

    #[test]
    fn a_sibling_changes_the_stock_but_no_verdict() {
        let (mut shop, [_, plank, stick, axe]) = workshop(4);
        let root = shop.actor(None, axe, 1);
        let planks = shop.actor(Some(root), plank, 4);
        let sticks = shop.actor(Some(root), stick, 4);
        let idle = shop.actor(Some(root), stick, 4);
        shop.craft(planks, plank, 4).unwrap();
        shop.craft(sticks, stick, 4).unwrap();
        assert_eq!(
            shop.stock(plank),
            2,
            "the reference fails the one who made planks: stock rose by 2, not 4"
        );
        assert!(shop.verdict(planks));
        assert!(shop.verdict(sticks));
        assert!(
            !shop.verdict(idle),
            "the reference lets the idle one succeed: stock rose by 4"
        );
    }

    #[test]
    fn what_a_subtree_uses_up_is_taken_off() {
        let (mut shop, [_, plank, stick, _]) = workshop(1);
        let root = shop.actor(None, plank, 4);
        let child = shop.actor(Some(root), stick, 4);
        shop.craft(root, plank, 4).unwrap();
        assert!(shop.verdict(root));
        shop.craft(child, stick, 4).unwrap();
        assert_eq!(shop.net(root), 2);
        assert!(!shop.verdict(root) && shop.verdict(child));
    }

    /// Crafts of random actors of random trees: however they interleave, every node's account is that of its own subtree's crafts, and the
    /// root's is the difference in stock.
    #[test]
    fn verdicts_do_not_depend_on_the_interleaving() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for _ in 0..200 {
            let (mut empty, items) = workshop(10_000);
            empty.ledger = Ledger::new(items.len(), &items.map(|item| (item, 10_000)));
            let mut parents = Vec::new();
            let actors: Vec<ActorId> = (0..rng.random_range(2..12))
                .map(|n| {
                    let parent = (n > 0).then(|| ActorId(rng.random_range(0..n)));
                    parents.push(parent);
                    empty.actor(parent, items[rng.random_range(1..4)], rng.random_range(1..12))
                })
                .collect();
            let mut crafts: Vec<(ActorId, ItemId, u32)> = (0..40)
                .map(|_| {
                    let item = items[rng.random_range(1..4)];
                    let yields = empty.world.recipe(item).unwrap().yields;
                    (
                        actors[rng.random_range(0..actors.len())],
                        item,
                        yields * rng.random_range(1..4),
                    )
                })
                .collect();

            let run = |crafts: &[(ActorId, ItemId, u32)]| {
                let mut shop = empty.clone();
                crafts
                    .iter()
                    .for_each(|&(actor, item, total)| shop.craft(actor, item, total).unwrap());
                shop
            };
            let all = run(&crafts);
            crafts.shuffle(&mut rng);
            let shuffled = run(&crafts);
            for &actor in &actors {
                assert_eq!(all.verdict(actor), shuffled.verdict(actor));
                let within = |mut at: ActorId| {
                    while let Some(parent) = parents[at.index()].filter(|_| at != actor) {
                        at = parent;
                    }
                    at == actor
                };
                let own: Vec<_> = crafts.iter().copied().filter(|&(at, ..)| within(at)).collect();
                let alone = run(&own);
                let goal = all.goal(actor).0;
                assert_eq!(
                    all.net(actor),
                    i64::from(alone.stock(goal)) - i64::from(empty.stock(goal))
                );
                assert_eq!(all.verdict(actor), alone.verdict(actor));
            }
        }
    }
}
