//! Plain recursion, the yardstick: look up the recipe, delegate each missing ingredient for what is missing of it, craft.
//!
//! One child at a time, for the missing ingredient of the highest tier: whoever makes an ingredient uses up items of lower tiers only, so
//! what has been fetched stays (in the order of the recipe one fetches twice now and then, and needs 0.4 % more nodes on extreme tasks).
//! Leftovers of rounding up to whole batches stay in the shared inventory and are used by whoever comes next.

use super::ledger::{ActorId, ExchangeError};
use super::tasks::Task;
use super::workshop::{CraftError, Workshop};
use super::world::{ItemId, World};
use std::sync::Arc;

/// What plain recursion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Nodes of the tree, the root included; each crafts once.
    pub nodes: u32,
    /// Depth of the deepest node; the root is at 0.
    pub depth: u32,
    /// The largest number that any node but the root was asked for; 0 when there is none.
    pub count_max: u32,
    /// Every node was judged a success when it ended.
    pub success: bool,
}

/// Why plain recursion did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The inventory holds too little of a base material.
    #[error("{needed} of base material {} are needed, {stock} are there", item.0)]
    TooLittle {
        /// Which.
        item: ItemId,
        /// What the next craft takes.
        needed: u32,
        /// What is there.
        stock: u32,
    },
    /// A craft was refused for another reason: more was asked for than can be counted.
    #[error(transparent)]
    Craft(#[from] CraftError),
}

/// How many nodes plain recursion takes for a task.
///
/// # Errors
/// [`PlanError`] when the inventory does not suffice.
pub fn oracle_nodes(world: &Arc<World>, task: &Task) -> Result<u32, PlanError> {
    let mut workshop = Workshop::new(Arc::clone(world), task);
    let root = workshop.actor(None, task.target, task.count);
    Ok(play(&mut workshop, root)?.nodes)
}

/// Lets plain recursion do what `root` is asked for, admitting the nodes it delegates to.
///
/// Its stack holds one frame for each tier: at most 255, whatever the size of the tree.
///
/// # Errors
/// [`PlanError`] when the inventory does not suffice; what was crafted until then stays crafted.
pub fn play(workshop: &mut Workshop, root: ActorId) -> Result<Plan, PlanError> {
    let world = Arc::clone(workshop.world());
    let mut plan = Plan {
        nodes: 1,
        depth: 0,
        count_max: 0,
        success: true,
    };
    let mut stack = vec![root];
    while let Some(&actor) = stack.last() {
        let (item, wanted) = workshop.goal(actor);
        let recipe = world.recipe(item).ok_or(CraftError::NoRecipe { item })?;
        let batches = recipe.batches(wanted);
        match next_missing(workshop, &recipe.ingredients, batches)? {
            None => {
                let total = batches
                    .checked_mul(recipe.yields)
                    .ok_or(CraftError::from(ExchangeError::Overflow))?;
                workshop.craft(actor, item, total)?;
                plan.success &= workshop.verdict(actor);
                stack.pop();
            }
            Some((ingredient, needed, stock)) if world.recipe(ingredient).is_none() => {
                return Err(PlanError::TooLittle {
                    item: ingredient,
                    needed,
                    stock,
                });
            }
            Some((ingredient, needed, stock)) => {
                let shortfall = needed - stock;
                stack.push(workshop.actor(Some(actor), ingredient, shortfall));
                plan.nodes += 1;
                plan.depth = plan.depth.max(u32::try_from(stack.len() - 1).unwrap_or(u32::MAX));
                plan.count_max = plan.count_max.max(shortfall);
            }
        }
    }
    Ok(plan)
}

/// The missing ingredient of the highest tier, the first of several: what that many batches take of it, and what is there.
fn next_missing(
    workshop: &Workshop,
    ingredients: &[(ItemId, u32)],
    batches: u32,
) -> Result<Option<(ItemId, u32, u32)>, CraftError> {
    let mut next: Option<(ItemId, u32, u32)> = None;
    for &(item, count) in ingredients {
        let needed = count.checked_mul(batches).ok_or(ExchangeError::Overflow)?;
        let stock = workshop.stock(item);
        let tier = |item| workshop.world().tier(item);
        if stock < needed && next.is_none_or(|(known, ..)| tier(item) > tier(known)) {
            next = Some((item, needed, stock));
        }
    }
    Ok(next)
}

/// The base materials that plain recursion uses up for `count` of `target`, in ascending order of ids: with these in the inventory and
/// nothing else, [`play`] succeeds and leaves none of them over.
///
/// # Errors
/// [`PlanError::Craft`] when it takes more of one than can be counted.
///
/// # Panics
/// When the item is of another world.
pub fn base_needs(world: &Arc<World>, target: ItemId, count: u32) -> Result<Vec<(ItemId, u32)>, PlanError> {
    let bases = world.items().filter(|&item| world.recipe(item).is_none());
    let plenty = Task {
        id: String::new(),
        target,
        count,
        inventory: bases.map(|item| (item, u32::MAX)).collect(),
        difficulty: super::Difficulty::Easy,
    };
    let mut workshop = Workshop::new(Arc::clone(world), &plenty);
    let root = workshop.actor(None, target, count);
    play(&mut workshop, root).map_err(|error| match error {
        PlanError::TooLittle { .. } => PlanError::Craft(ExchangeError::Overflow.into()),
        PlanError::Craft(_) => error,
    })?;
    let used = plenty
        .inventory
        .into_iter()
        .map(|(item, had)| (item, had - workshop.stock(item)));
    Ok(used.filter(|&(_, used)| used > 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environments::textcraft::{Difficulty, WorldBuilder};

    fn world() -> Arc<World> {
        let mut builder = WorldBuilder::new();
        builder.base("log").unwrap();
        builder.recipe("plank", None, 4, [("log", 1)]).unwrap();
        builder.recipe("stick", None, 4, [("plank", 2)]).unwrap();
        builder.recipe("axe", None, 1, [("plank", 3), ("stick", 2)]).unwrap();
        Arc::new(builder.build().unwrap())
    }

    fn task(world: &World, count: u32, logs: u32) -> Task {
        Task::from_names(world, "t", ("axe", count), [("log", logs)], Difficulty::Easy).unwrap()
    }

    #[test]
    fn the_highest_tier_comes_first() {
        let world = world();
        // Sticks first, by way of planks of which two are left over; then planks for what the axe still lacks.
        assert_eq!(oracle_nodes(&world, &task(&world, 1, 2)), Ok(4));
        assert_eq!(base_needs(&world, ItemId(3), 1), Ok(vec![(ItemId(0), 2)]));
        let short = PlanError::TooLittle {
            item: ItemId(0),
            needed: 1,
            stock: 0,
        };
        assert_eq!(oracle_nodes(&world, &task(&world, 1, 1)), Err(short));
    }

    #[test]
    fn the_plan_reports_its_shape() {
        let world = world();
        let task = task(&world, 3, 9);
        let mut workshop = Workshop::new(Arc::clone(&world), &task);
        let root = workshop.actor(None, task.target, task.count);
        let plan = play(&mut workshop, root).unwrap();
        assert_eq!(
            plan,
            Plan {
                nodes: 4,
                depth: 2,
                count_max: 9,
                success: true
            }
        );
        assert_eq!(workshop.net(root), 3);
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        let world = world();
        assert_eq!(
            base_needs(&world, ItemId(3), u32::MAX),
            Err(PlanError::Craft(ExchangeError::Overflow.into()))
        );
    }
}
