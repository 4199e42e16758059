//! Recipes as players read them: [`Book`], in which an item may have several and an ingredient may be one of many, with the crafting
//! action of the reference: exactly the ingredients named, in exactly the amounts.

use super::ledger::{ActorId, Ledger};
use super::world::{ItemId, World};
use std::collections::HashMap;
use std::fmt;

/// A kind of ingredient of one [`Book`], such as planks of any wood, as a dense index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagId(pub u32);

/// What a recipe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// This item.
    Item(ItemId),
    /// One item of this kind, in the whole amount.
    AnyOf(TagId),
}

/// One way to make an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formula {
    /// How many items one batch makes, at least 1.
    pub yields: u32,
    /// What one batch uses up, each need once and at least 1 of it, in the order of the recipe's source. May be empty: the reference loads
    /// eight recipes of Minecraft so.
    pub needs: Box<[(Need, u32)]>,
}

/// Items and every way to make them; unlike a [`World`] it may go round in circles (nine ingots are a block, a block is nine ingots).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    pub(super) entries: Vec<Entry>,
    pub(super) by_name: HashMap<Box<str>, ItemId>,
    pub(super) tags: Vec<Tag>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Box<str>,
    pub(super) depth: u32,
    pub(super) formulas: Box<[Formula]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) name: Box<str>,
    pub(super) items: Box<[ItemId]>,
}

/// Why nothing was crafted, with the facts that the reference gives; the inventory is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Nothing, or less than nothing, was asked for.
    #[error("the total must be at least 1, not {total}")]
    Total {
        /// What was asked for.
        total: i64,
    },
    /// An ingredient was named with no positive amount.
    #[error("the amount of {item} must be at least 1, not {count}")]
    Amount {
        /// Which.
        item: String,
        /// What was named.
        count: i64,
    },
    /// A base material, or nothing known.
    #[error("there is no recipe for {item}")]
    NoRecipe {
        /// What was asked for.
        item: String,
    },
    /// No recipe of the item fits; a reason for each.
    #[error("{item} was not crafted. {}", Reasons(reasons))]
    NoneFits {
        /// What was asked for.
        item: String,
        /// In the order of the item's recipes.
        reasons: Vec<Misfit>,
    },
}

/// Why one recipe does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Batches make whole multiples.
    #[error("it makes {yields} at a time, which {total} is no multiple of")]
    NoMultiple {
        /// What was asked for.
        total: i64,
        /// What a batch makes.
        yields: u32,
    },
    /// No item of a kind was named in the amount that is needed.
    #[error("it needs {needed} of one item of {tag}: {}", items.join(", "))]
    NoneOf {
        /// The kind, as recipes name it.
        tag: String,
        /// How many.
        needed: i128,
        /// The items of the kind.
        items: Vec<String>,
    },
    /// An ingredient was not named.
    #[error("ingredient {item} is missing, it needs {needed}")]
    Missing {
        /// Which.
        item: String,
        /// How many.
        needed: i128,
    },
    /// An ingredient was named with another amount than the craft takes.
    #[error("it needs {needed} of {item}, not {given}")]
    WrongAmount {
        /// Which.
        item: String,
        /// What the craft takes.
        needed: i128,
        /// What was named.
        given: i64,
    },
    /// These were named and are not needed.
    #[error("it does not need {}", items.join(", "))]
    Extra {
        /// In the order in which they were named.
        items: Vec<String>,
    },
    /// The inventory holds too little: of what, what it takes, what is there.
    #[error("the inventory holds too little: {}", Shortage(short))]
    TooLittle {
        /// Everything that is short.
        short: Vec<(String, i128, u32)>,
    },
    /// More would be there than can be counted.
    #[error("more than can be counted")]
    Overflow,
}

/// An ingredient as a player names it, which need not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Its name.
    pub item: &'a str,
    /// How many.
    pub count: i64,
}

impl Book {
    /// How many items there are; ids run from 0 to one less.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The item of this name.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<ItemId> {
        self.by_name.get(name).copied()
    }

    /// What the item is called.
    ///
    /// # Panics
    /// When the item is of another book, as in every accessor here.
    #[must_use]
    pub fn name(&self, item: ItemId) -> &str {
        &self.entries[item.index()].name
    }

    /// Every way to make the item; none of a base material.
    #[must_use]
    pub fn formulas(&self, item: ItemId) -> &[Formula] {
        &self.entries[item.index()].formulas
    }

    /// The longest chain of recipes down to base materials, as the reference counts it: kinds of ingredients add nothing, and neither does
    /// the way back to an item that the chain already went through. In TextCraft-Synth it is the tier.
    #[must_use]
    pub fn depth(&self, item: ItemId) -> u32 {
        self.entries[item.index()].depth
    }

    /// The name of the kind, and its items.
    ///
    /// # Panics
    /// When the kind is of another book.
    #[must_use]
    pub fn tag(&self, tag: TagId) -> (&str, &[ItemId]) {
        let tag = &self.tags[tag.0 as usize];
        (&tag.name, &tag.items)
    }

    /// What recipes call the need: the item's name, or `tag:` and the kind's.
    #[must_use]
    pub fn need_name(&self, need: Need) -> String {
        match need {
            Need::Item(item) => self.name(item).to_owned(),
            Need::AnyOf(tag) => format!("tag:{}", self.tag(tag).0),
        }
    }

    /// Makes `total` of an item from exactly the ingredients offered, each of them once: by the first recipe that fits.
    ///
    /// # Errors
    /// [`BookError`].
    ///
    /// # Panics
    /// When the ledger is of another world.
    pub fn craft(
        &self,
        ledger: &mut Ledger,
        actor: ActorId,
        offers: &[Offer<'_>],
        (target, total): (&str, i64),
    ) -> Result<(), BookError> {
        if total <= 0 {
            return Err(BookError::Total { total });
        }
        if let Some(&Offer { item, count }) = offers.iter().find(|offer| offer.count <= 0) {
            let item = item.to_owned();
            return Err(BookError::Amount { item, count });
        }
        let no_recipe = || BookError::NoRecipe { item: target.into() };
        let item = self.item(target).ok_or_else(no_recipe)?;
        if self.formulas(item).is_empty() {
            return Err(no_recipe());
        }
        let known: Vec<Option<ItemId>> = offers.iter().map(|offer| self.item(offer.item)).collect();
        let mut reasons = Vec::new();
        for formula in self.formulas(item) {
            let fit = self.fit(formula, offers, &known, total);
            match fit.and_then(|needs| self.exchange(ledger, actor, &needs, (item, total))) {
                Ok(()) => return Ok(()),
                Err(misfit) => reasons.push(misfit),
            }
        }
        let item = target.to_owned();
        Err(BookError::NoneFits { item, reasons })
    }

    /// What that many items take by this recipe, if the offers are exactly that.
    fn fit(
        &self,
        formula: &Formula,
        offers: &[Offer<'_>],
        known: &[Option<ItemId>],
        total: i64,
    ) -> Result<Vec<(ItemId, i128)>, Misfit> {
        let yields = formula.yields;
        if total % i64::from(yields) != 0 {
            return Err(Misfit::NoMultiple { total, yields });
        }
        let batches = i128::from(total / i64::from(yields));
        let mut needs: Vec<(ItemId, i128)> = Vec::with_capacity(formula.needs.len());
        for &(need, count) in &formula.needs {
            let needed = i128::from(count) * batches;
            let item = match need {
                Need::Item(item) => {
                    let name = || self.name(item).to_owned();
                    let offered = known.iter().position(|&known| known == Some(item));
                    let offer = offered.ok_or_else(|| Misfit::Missing { item: name(), needed })?;
                    let given = offers[offer].count;
                    if i128::from(given) != needed {
                        return Err(Misfit::WrongAmount {
                            item: name(),
                            needed,
                            given,
                        });
                    }
                    item
                }
                Need::AnyOf(tag) => self
                    .offer_of(tag, needed, offers, known)
                    .ok_or_else(|| self.none_of(tag, needed))?,
            };
            // An item that serves two needs is used up for both.
            match needs.iter_mut().find(|(known, _)| *known == item) {
                Some((_, sum)) => *sum += needed,
                None => needs.push((item, needed)),
            }
        }
        let is_needed = |item: &Option<ItemId>| needs.iter().any(|&(need, _)| Some(need) == *item);
        let extra = offers.iter().zip(known).filter(|(_, item)| !is_needed(item));
        let extra: Vec<String> = extra.map(|(offer, _)| offer.item.to_owned()).collect();
        if extra.is_empty() {
            Ok(needs)
        } else {
            Err(Misfit::Extra { items: extra })
        }
    }

    /// The first offer of the kind in that very amount.
    fn offer_of(&self, tag: TagId, needed: i128, offers: &[Offer<'_>], known: &[Option<ItemId>]) -> Option<ItemId> {
        let fits = |(offer, item): (&Offer<'_>, &Option<ItemId>)| {
            item.filter(|item| self.tag(tag).1.contains(item) && i128::from(offer.count) == needed)
        };
        offers.iter().zip(known).find_map(fits)
    }

    fn none_of(&self, tag: TagId, needed: i128) -> Misfit {
        Misfit::NoneOf {
            tag: self.need_name(Need::AnyOf(tag)),
            needed,
            items: self.tag(tag).1.iter().map(|&item| self.name(item).to_owned()).collect(),
        }
    }

    fn exchange(
        &self,
        ledger: &mut Ledger,
        actor: ActorId,
        needs: &[(ItemId, i128)],
        (item, total): (ItemId, i64),
    ) -> Result<(), Misfit> {
        let short = needs.iter().filter_map(|&(item, needed)| {
            let stock = ledger.stock(item);
            (i128::from(stock) < needed).then(|| (self.name(item).to_owned(), needed, stock))
        });
        let short: Vec<_> = short.collect();
        if !short.is_empty() {
            return Err(Misfit::TooLittle { short });
        }
        let total = u32::try_from(total).map_err(|_| Misfit::Overflow)?;
        // Nothing is short, so every need is a number of the stock's type, and only the product can be too many.
        let used = needs
            .iter()
            .map(|&(item, needed)| (item, u32::try_from(needed).unwrap_or(u32::MAX)));
        let exchanged = ledger.exchange(actor, used, (item, total));
        exchanged.map_err(|_| Misfit::Overflow)
    }
}

impl From<&World> for Book {
    /// The same items under the same ids, with their one recipe.
    fn from(world: &World) -> Self {
        let formula = |item| {
            world.recipe(item).map(|recipe| Formula {
                yields: recipe.yields,
                needs: recipe
                    .ingredients
                    .iter()
                    .map(|&(item, count)| (Need::Item(item), count))
                    .collect(),
            })
        };
        let entry = |item| Entry {
            name: world.name(item).into(),
            depth: u32::from(world.tier(item)),
            formulas: formula(item).into_iter().collect(),
        };
        Self {
            entries: world.items().map(entry).collect(),
            by_name: world.by_name.clone(),
            tags: Vec::new(),
        }
    }
}

/// One reason alone, or a list of them by recipe.
struct Reasons<'a>(&'a [Misfit]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [reason] = self.0 {
            return write!(f, "Its recipe: {reason}");
        }
        for (place, reason) in self.0.iter().enumerate() {
            let separator = if place > 0 { "\n" } else { "" };
            write!(f, "{separator}Recipe {}: {reason}", place + 1)?;
        }
        Ok(())
    }
}

struct Shortage<'a>(&'a [(String, i128, u32)]);

impl fmt::Display for Shortage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (item, needed, stock)) in self.0.iter().enumerate() {
            let separator = if place > 0 { ", " } else { "" };
            write!(f, "{separator}{needed} of {item} needed, {stock} there")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
