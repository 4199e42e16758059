//! What one tree of agents shares: [`Workshop`], the inventory, with the account of who made what.
//!
//! # How nodes are graded, and how that differs from the reference
//! A node succeeds when the net production of its goal item, made minus used up, by the node and its descendants reaches what was asked of
//! it. The reference compares the stock now with the stock when the agent started, and says the same as long as nobody else is at work:
//! for a single agent, for every root, and for every node while its relatives wait. With siblings at work at once it does not: a sibling
//! that makes the same item lets an idle agent succeed, and one that uses it up makes an agent fail that did its work. Here nothing that
//! happens outside a node's subtree changes its verdict, so credit stays with whoever earned it and the order in which siblings are
//! scheduled is no part of the result. What siblings do still changes what can be crafted: stock is shared, as in the reference.

use super::tasks::Task;
use super::world::{ItemId, World};
use std::sync::Arc;

/// One agent at work in a [`Workshop`], numbered in the order of arrival: a parent precedes its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub u32);

impl ActorId {
    /// Position in every table that is indexed by actor.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One inventory, and everyone who works on it.
///
/// Memory: 4 bytes an item of the world and 24 an actor. A craft costs one step for each ancestor of the actor.
#[derive(Clone, Debug)]
pub struct Workshop {
    world: Arc<World>,
    stock: Vec<u32>,
    actors: Vec<Actor>,
}

#[derive(Clone, Copy, Debug)]
struct Actor {
    parent: Option<ActorId>,
    goal: ItemId,
    count: u32,
    /// Goal items made minus used up by this actor and its descendants.
    net: i64,
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
    /// An ingredient was not named.
    #[error("ingredient {} is missing, {needed} are needed", ingredient.0)]
    MissingIngredient {
        /// Which.
        ingredient: ItemId,
        /// How many.
        needed: u32,
    },
    /// An ingredient was named with another amount than the craft takes.
    #[error("{needed} of ingredient {} are needed, not {given}", ingredient.0)]
    WrongAmount {
        /// Which.
        ingredient: ItemId,
        /// What the craft takes.
        needed: u32,
        /// What was named.
        given: u32,
    },
    /// Something was named that the recipe does not take, or twice.
    #[error("item {} is not needed", item.0)]
    ExtraIngredient {
        /// What.
        item: ItemId,
    },
    /// The inventory holds too little.
    #[error("{needed} of ingredient {} are needed, {stock} are there", ingredient.0)]
    TooLittle {
        /// Of what.
        ingredient: ItemId,
        /// What the craft takes.
        needed: u32,
        /// What is there.
        stock: u32,
    },
    /// More than can be counted would be used or made.
    #[error("more than can be counted")]
    Overflow,
}

impl Workshop {
    /// A workshop with the inventory a task begins with, and nobody in it.
    #[must_use]
    pub fn new(world: Arc<World>, task: &Task) -> Self {
        let mut stock = vec![0; world.len()];
        for &(item, count) in &task.inventory {
            stock[item.index()] = count;
        }
        Self {
            world,
            stock,
            actors: Vec::new(),
        }
    }

    /// Admits an actor who is to make `count` of `goal`. Limits on depth and number are the caller's; none overflows anything here.
    ///
    /// # Panics
    /// When the parent is of another workshop, as with every actor here.
    pub fn actor(&mut self, parent: Option<ActorId>, goal: ItemId, count: u32) -> ActorId {
        assert!(
            parent.is_none_or(|parent| parent.index() < self.actors.len()),
            "a parent precedes its children"
        );
        assert!(
            goal.index() < self.world.len(),
            "a goal is an item of the workshop's world"
        );
        let actor = ActorId(u32::try_from(self.actors.len()).expect("more than four billion actors"));
        self.actors.push(Actor {
            parent,
            goal,
            count,
            net: 0,
        });
        actor
    }

    /// Makes `total` of `item`, taking whatever ingredients that needs from the inventory.
    ///
    /// # Errors
    /// [`CraftError`]: no recipe, no multiple of the yield, too little in stock, or more than can be counted.
    pub fn craft(&mut self, actor: ActorId, item: ItemId, total: u32) -> Result<(), CraftError> {
        self.apply(actor, item, total, None)
    }

    /// Makes `total` of an item from exactly the ingredients named: the reference's crafting action, with its rules in its order.
    ///
    /// # Errors
    /// [`CraftError`]: as [`craft`](Self::craft), and when an ingredient is missing, of a wrong amount, or not needed.
    pub fn craft_with(
        &mut self,
        actor: ActorId,
        ingredients: &[(ItemId, u32)],
        (item, total): (ItemId, u32),
    ) -> Result<(), CraftError> {
        self.apply(actor, item, total, Some(ingredients))
    }

    /// How many of the item are there.
    ///
    /// # Panics
    /// When the item is of another world.
    #[must_use]
    pub fn stock(&self, item: ItemId) -> u32 {
        self.stock[item.index()]
    }

    /// What can be made here.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What the actor is to make, and how many.
    #[must_use]
    pub fn goal(&self, actor: ActorId) -> (ItemId, u32) {
        let Actor { goal, count, .. } = self.actors[actor.index()];
        (goal, count)
    }

    /// How many of its goal item the actor and its descendants made, less what they used up of it.
    #[must_use]
    pub fn net(&self, actor: ActorId) -> i64 {
        self.actors[actor.index()].net
    }

    /// The actor and its descendants made what was asked of it; see the module's head. Final once they are all done.
    #[must_use]
    pub fn verdict(&self, actor: ActorId) -> bool {
        let actor = &self.actors[actor.index()];
        actor.net >= i64::from(actor.count)
    }

    fn apply(
        &mut self,
        actor: ActorId,
        item: ItemId,
        total: u32,
        named: Option<&[(ItemId, u32)]>,
    ) -> Result<(), CraftError> {
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
        if let Some(named) = named {
            check_named(&recipe.ingredients, batches, named)?;
        }
        for &(ingredient, count) in &recipe.ingredients {
            let needed = count.checked_mul(batches).ok_or(CraftError::Overflow)?;
            let stock = self.stock[ingredient.index()];
            if stock < needed {
                return Err(CraftError::TooLittle {
                    ingredient,
                    needed,
                    stock,
                });
            }
        }
        let made = &mut self.stock[item.index()];
        *made = made.checked_add(total).ok_or(CraftError::Overflow)?;
        for &(ingredient, count) in &recipe.ingredients {
            self.stock[ingredient.index()] -= count * batches;
        }

        let mut next = Some(actor);
        while let Some(at) = next {
            let at = &mut self.actors[at.index()];
            if at.goal == item {
                at.net += i64::from(total);
            } else if let Some(&(_, count)) = recipe.ingredients.iter().find(|&&(used, _)| used == at.goal) {
                at.net -= i64::from(count * batches);
            }
            next = at.parent;
        }
        Ok(())
    }
}

/// Whether `named` is exactly what that many batches take.
fn check_named(needs: &[(ItemId, u32)], batches: u32, named: &[(ItemId, u32)]) -> Result<(), CraftError> {
    for &(ingredient, count) in needs {
        let needed = count.checked_mul(batches).ok_or(CraftError::Overflow)?;
        match named.iter().find(|&&(name, _)| name == ingredient) {
            None => return Err(CraftError::MissingIngredient { ingredient, needed }),
            Some(&(_, given)) if given != needed => {
                return Err(CraftError::WrongAmount {
                    ingredient,
                    needed,
                    given,
                });
            }
            Some(_) => {}
        }
    }
    // Every need was found, and needs are distinct: more entries than needs are something else, or a repetition.
    let extra = named.iter().enumerate().find(|&(place, &(item, _))| {
        !needs.iter().any(|&(need, _)| need == item) || named[..place].iter().any(|&(earlier, _)| earlier == item)
    });
    match extra {
        Some((_, &(item, _))) if named.len() > needs.len() => Err(CraftError::ExtraIngredient { item }),
        _ => Ok(()),
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

        let before = shop.stock.clone();
        let mut refuse = |item, total| shop.craft(root, item, total).unwrap_err();
        assert_eq!(refuse(log, 1), CraftError::NoRecipe { item: log });
        assert_eq!(refuse(plank, 0), CraftError::ZeroTotal);
        assert_eq!(refuse(plank, 6), CraftError::NoMultiple { total: 6, yields: 4 });
        assert_eq!(
            refuse(axe, 2),
            CraftError::TooLittle {
                ingredient: plank,
                needed: 6,
                stock: 3
            }
        );
        assert_eq!(refuse(axe, u32::MAX), CraftError::Overflow);
        assert_eq!(shop.stock, before);
        assert_eq!(shop.net(root), 1);
    }

    #[test]
    fn named_ingredients_must_be_exact() {
        let (mut shop, [log, plank, stick, axe]) = workshop(5);
        let root = shop.actor(None, axe, 1);
        shop.craft_with(root, &[(log, 3)], (plank, 12)).unwrap();
        shop.craft_with(root, &[(plank, 4)], (stick, 8)).unwrap();
        let mut refuse = |ingredients: &[_], total| shop.craft_with(root, ingredients, (axe, total)).unwrap_err();
        assert_eq!(
            refuse(&[(plank, 3)], 1),
            CraftError::MissingIngredient {
                ingredient: stick,
                needed: 2
            }
        );
        assert_eq!(
            refuse(&[(plank, 3), (stick, 3)], 1),
            CraftError::WrongAmount {
                ingredient: stick,
                needed: 2,
                given: 3
            }
        );
        assert_eq!(
            refuse(&[(plank, 3), (stick, 2), (log, 1)], 1),
            CraftError::ExtraIngredient { item: log }
        );
        assert_eq!(
            refuse(&[(plank, 3), (stick, 2), (plank, 3)], 1),
            CraftError::ExtraIngredient { item: plank }
        );
        assert_eq!(
            refuse(&[(stick, 6), (plank, 9)], 3),
            CraftError::TooLittle {
                ingredient: plank,
                needed: 9,
                stock: 8
            }
        );
        shop.craft_with(root, &[(stick, 4), (plank, 6)], (axe, 2)).unwrap();
        assert_eq!(shop.stock(axe), 2);
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
            for item in items {
                empty.stock[item.index()] = 10_000;
            }
            let actors: Vec<ActorId> = (0..rng.random_range(2..12))
                .map(|n| {
                    let parent = (n > 0).then(|| ActorId(rng.random_range(0..n)));
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
                    while let Some(parent) = all.actors[at.index()].parent.filter(|_| at != actor) {
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
