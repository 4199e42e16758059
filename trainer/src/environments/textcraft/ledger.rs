//! One inventory and the account of who made what: [`Ledger`], which knows no recipes.

use super::world::ItemId;

/// One agent at work on a [`Ledger`], numbered in the order of arrival: a parent precedes its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub u32);

impl ActorId {
    /// Position in every table that is indexed by actor.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An inventory, and for everyone who works on it how much of their goal item they and their descendants made.
///
/// Memory: 4 bytes an item and 24 an actor. An exchange costs one step for each ancestor of the actor.
#[derive(Clone, Debug)]
pub struct Ledger {
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

/// Why nothing changed hands; the inventory is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The inventory holds too little.
    #[error("{needed} of ingredient {} are needed, {stock} are there", ingredient.0)]
    TooLittle {
        /// Of what.
        ingredient: ItemId,
        /// What is to be used up.
        needed: u32,
        /// What is there.
        stock: u32,
    },
    /// More than can be counted would be used or made.
    #[error("more than can be counted")]
    Overflow,
}

impl Ledger {
    /// The inventory of a world of that many items, and nobody at work. Of an item that is listed twice the last count holds.
    ///
    /// # Panics
    /// When the inventory lists an item of another world, as everywhere here.
    #[must_use]
    pub fn new(items: usize, inventory: &[(ItemId, u32)]) -> Self {
        let mut stock = vec![0; items];
        for &(item, count) in inventory {
            stock[item.index()] = count;
        }
        Self {
            stock,
            actors: Vec::new(),
        }
    }

    /// Admits an actor who is to make `count` of `goal`. Limits on depth and number are the caller's; none overflows anything here.
    ///
    /// # Panics
    /// When the parent is of another ledger, as with every actor here.
    pub fn actor(&mut self, parent: Option<ActorId>, goal: ItemId, count: u32) -> ActorId {
        assert!(
            parent.is_none_or(|parent| parent.index() < self.actors.len()),
            "a parent precedes its children"
        );
        assert!(
            goal.index() < self.stock.len(),
            "a goal is an item of the ledger's world"
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

    /// Takes what is `used` (each item once) out of the inventory, puts what is `made` in, and enters both into the accounts.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub fn exchange(
        &mut self,
        actor: ActorId,
        used: impl IntoIterator<Item = (ItemId, u32)> + Clone,
        (item, total): (ItemId, u32),
    ) -> Result<(), ExchangeError> {
        for (ingredient, needed) in used.clone() {
            let stock = self.stock(ingredient);
            if stock < needed {
                return Err(ExchangeError::TooLittle {
                    ingredient,
                    needed,
                    stock,
                });
            }
        }
        let made = &mut self.stock[item.index()];
        *made = made.checked_add(total).ok_or(ExchangeError::Overflow)?;
        for (ingredient, count) in used.clone() {
            self.stock[ingredient.index()] -= count;
        }

        let mut next = Some(actor);
        while let Some(at) = next {
            let at = &mut self.actors[at.index()];
            if at.goal == item {
                at.net += i64::from(total);
            }
            let lost = used.clone().into_iter().find(|&(used, _)| used == at.goal);
            at.net -= lost.map_or(0, |(_, count)| i64::from(count));
            next = at.parent;
        }
        Ok(())
    }

    /// How many of the item are there.
    ///
    /// # Panics
    /// When the item is of another world.
    #[must_use]
    pub fn stock(&self, item: ItemId) -> u32 {
        self.stock[item.index()]
    }

    /// What is there, in the order of ids; nothing that there is none of.
    pub fn inventory(&self) -> impl Iterator<Item = (ItemId, u32)> + use<'_> {
        let numbered = (0..).map(ItemId).zip(self.stock.iter().copied());
        numbered.filter(|&(_, count)| count > 0)
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

    /// The actor and its descendants made what was asked of it. Final once they are all done.
    #[must_use]
    pub fn verdict(&self, actor: ActorId) -> bool {
        let actor = &self.actors[actor.index()];
        actor.net >= i64::from(actor.count)
    }
}
