//! Names in, a checked [`World`] out: [`WorldBuilder`], which refuses a world in which something needs itself.

use super::world::{Item, ItemId, Recipe, World, id};
use std::collections::HashMap;

/// Collects items and recipes by name, in any order, and makes a [`World`] of them.
#[derive(Clone, Debug, Default)]
pub struct WorldBuilder {
    drafts: Vec<Draft>,
    by_name: HashMap<Box<str>, usize>,
}

#[derive(Clone, Debug)]
struct Draft {
    name: Box<str>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Named as an ingredient by the draft at this position, and nothing else known of it yet.
    Mentioned(usize),
    Base,
    Made {
        yields: u32,
        tier: Option<u8>,
        ingredients: Vec<(usize, u32)>,
    },
}

/// Why something is not a world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// To make the first item one needs it already.
    #[error("{} needs itself: {}", cycle[0], cycle.join(" needs "))]
    NeedsItself {
        /// Every item of the circle in the order in which one needs the next; the last is the first again.
        cycle: Vec<String>,
    },
    /// An ingredient is neither a base material nor made by any recipe.
    #[error("the recipe for {item} needs {ingredient}, which is neither a base material nor made by any recipe")]
    UnknownIngredient {
        /// What the recipe makes.
        item: String,
        /// What nobody knows.
        ingredient: String,
    },
    /// A second recipe for the same item.
    #[error("{item} has two recipes")]
    DuplicateRecipe {
        /// What both make.
        item: String,
    },
    /// A base material with a recipe.
    #[error("{item} is a base material and has a recipe")]
    BaseWithRecipe {
        /// Which.
        item: String,
    },
    /// A recipe that makes nothing.
    #[error("the recipe for {item} makes 0 of it")]
    ZeroYield {
        /// What it should make.
        item: String,
    },
    /// A recipe without ingredients.
    #[error("the recipe for {item} needs nothing")]
    NoIngredients {
        /// What it makes.
        item: String,
    },
    /// A recipe that lists an ingredient and uses none of it.
    #[error("the recipe for {item} needs 0 of {ingredient}")]
    ZeroIngredient {
        /// What it makes.
        item: String,
        /// What it lists.
        ingredient: String,
    },
    /// The entries of one ingredient add up to more than can be counted.
    #[error("the recipe for {item} needs more of {ingredient} than can be counted")]
    CountOverflow {
        /// What it makes.
        item: String,
        /// What it needs too much of.
        ingredient: String,
    },
    /// A declared tier that is not above an ingredient's.
    #[error("{item} is of tier {tier} but needs {ingredient} of tier {ingredient_tier}")]
    TierOrder {
        /// What the recipe makes.
        item: String,
        /// Its declared tier.
        tier: u8,
        /// The ingredient.
        ingredient: String,
        /// The ingredient's tier.
        ingredient_tier: u8,
    },
    /// A chain of more than 255 recipes.
    #[error("{item} takes a chain of more than 255 recipes")]
    TooDeep {
        /// The first item past the limit.
        item: String,
    },
}

impl WorldBuilder {
    /// No items yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a base material; once more changes nothing.
    ///
    /// # Errors
    /// [`WorldError::BaseWithRecipe`]; the builder is as it was.
    pub fn base(&mut self, name: &str) -> Result<(), WorldError> {
        let index = self.intern(name, Kind::Base);
        match self.drafts[index].kind {
            Kind::Made { .. } => return Err(WorldError::BaseWithRecipe { item: name.into() }),
            Kind::Mentioned(_) | Kind::Base => self.drafts[index].kind = Kind::Base,
        }
        Ok(())
    }

    /// Adds a recipe. Entries of one ingredient add up. Without a `tier` the item's tier is one above its highest ingredient's.
    ///
    /// # Errors
    /// What is wrong with this recipe by itself; the builder is as it was. What is wrong between recipes shows in [`build`](Self::build).
    pub fn recipe<'a>(
        &mut self,
        name: &str,
        tier: Option<u8>,
        yields: u32,
        ingredients: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Result<(), WorldError> {
        match self.by_name.get(name).map(|&index| &self.drafts[index].kind) {
            Some(Kind::Made { .. }) => return Err(WorldError::DuplicateRecipe { item: name.into() }),
            Some(Kind::Base) => return Err(WorldError::BaseWithRecipe { item: name.into() }),
            Some(Kind::Mentioned(_)) | None => {}
        }
        if yields == 0 {
            return Err(WorldError::ZeroYield { item: name.into() });
        }
        let mut merged: Vec<(&str, u32)> = Vec::new();
        for (ingredient, count) in ingredients {
            if count == 0 {
                return Err(WorldError::ZeroIngredient {
                    item: name.into(),
                    ingredient: ingredient.into(),
                });
            }
            match merged.iter_mut().find(|(known, _)| *known == ingredient) {
                Some((_, sum)) => {
                    *sum = sum.checked_add(count).ok_or_else(|| WorldError::CountOverflow {
                        item: name.into(),
                        ingredient: ingredient.into(),
                    })?;
                }
                None => merged.push((ingredient, count)),
            }
        }
        if merged.is_empty() {
            return Err(WorldError::NoIngredients { item: name.into() });
        }
        let index = self.intern(name, Kind::Mentioned(0));
        let ingredients = merged
            .into_iter()
            .map(|(name, count)| (self.intern(name, Kind::Mentioned(index)), count))
            .collect();
        self.drafts[index].kind = Kind::Made {
            yields,
            tier,
            ingredients,
        };
        Ok(())
    }

    /// The position of the draft of this name, new with this kind when there was none.
    fn intern(&mut self, name: &str, kind: Kind) -> usize {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        let index = self.drafts.len();
        self.drafts.push(Draft {
            name: name.into(),
            kind,
        });
        self.by_name.insert(name.into(), index);
        index
    }

    /// Checks everything between recipes, and numbers the items by tier and then by name: the order in which they were added leaves no trace.
    ///
    /// # Errors
    /// An unknown ingredient, a circle, a tier out of order, or a chain too long.
    pub fn build(self) -> Result<World, WorldError> {
        for draft in &self.drafts {
            if let Kind::Mentioned(by) = draft.kind {
                let item = self.drafts[by].name.to_string();
                return Err(WorldError::UnknownIngredient {
                    item,
                    ingredient: draft.name.to_string(),
                });
            }
        }
        let (depths, tiers) = self.levels()?;

        let mut order: Vec<usize> = (0..self.drafts.len()).collect();
        order.sort_by_key(|&index| (tiers[index], &self.drafts[index].name));
        let mut ids = vec![ItemId::default(); order.len()];
        for (place, &index) in order.iter().enumerate() {
            ids[index] = id(place);
        }
        let items = order.iter().map(|&index| Item {
            name: self.drafts[index].name.clone(),
            tier: tiers[index],
            depth: depths[index],
            recipe: match &self.drafts[index].kind {
                Kind::Made {
                    yields, ingredients, ..
                } => {
                    let ingredients = ingredients.iter().map(|&(index, count)| (ids[index], count)).collect();
                    Some(Recipe {
                        yields: *yields,
                        ingredients,
                    })
                }
                Kind::Mentioned(_) | Kind::Base => None,
            },
        });
        let items = items.collect();
        let by_name = self
            .by_name
            .into_iter()
            .map(|(name, index)| (name, ids[index]))
            .collect();
        Ok(World { items, by_name })
    }

    /// Depth and tier of every draft, ingredients first (Kahn's order, so that a long chain costs no stack).
    fn levels(&self) -> Result<(Vec<u8>, Vec<u8>), WorldError> {
        let mut open: Vec<usize> = self.drafts.iter().map(|draft| draft.ingredients().len()).collect();
        let mut users = vec![Vec::new(); self.drafts.len()];
        for (index, draft) in self.drafts.iter().enumerate() {
            for &(ingredient, _) in draft.ingredients() {
                users[ingredient].push(index);
            }
        }
        let mut ready: Vec<usize> = (0..self.drafts.len()).filter(|&index| open[index] == 0).collect();
        let mut depths = vec![0_u8; self.drafts.len()];
        let mut tiers = vec![0_u8; self.drafts.len()];
        let mut done = 0;
        while let Some(index) = ready.pop() {
            done += 1;
            let draft = &self.drafts[index];
            if let Kind::Made { tier, ingredients, .. } = &draft.kind {
                let too_deep = || WorldError::TooDeep {
                    item: draft.name.to_string(),
                };
                let deepest = ingredients.iter().map(|&(i, _)| depths[i]).max().unwrap_or(0);
                depths[index] = deepest.checked_add(1).ok_or_else(too_deep)?;
                let highest = ingredients
                    .iter()
                    .map(|&(i, _)| i)
                    .max_by_key(|&i| tiers[i])
                    .unwrap_or(index);
                tiers[index] = match *tier {
                    None => tiers[highest].checked_add(1).ok_or_else(too_deep)?,
                    Some(tier) if tier > tiers[highest] => tier,
                    Some(tier) => {
                        return Err(WorldError::TierOrder {
                            item: draft.name.to_string(),
                            tier,
                            ingredient: self.drafts[highest].name.to_string(),
                            ingredient_tier: tiers[highest],
                        });
                    }
                };
            }
            for &user in &users[index] {
                open[user] -= 1;
                if open[user] == 0 {
                    ready.push(user);
                }
            }
        }
        if done < self.drafts.len() {
            Err(self.circle(&open))
        } else {
            Ok((depths, tiers))
        }
    }

    /// Names a circle among the drafts that still wait for an ingredient, of which there is at least one.
    fn circle(&self, open: &[usize]) -> WorldError {
        let mut path: Vec<usize> = Vec::new();
        let mut at = open.iter().position(|&count| count > 0).unwrap_or(0);
        let start = loop {
            if let Some(start) = path.iter().position(|&seen| seen == at) {
                break start;
            }
            path.push(at);
            let next = self.drafts[at]
                .ingredients()
                .iter()
                .find(|&&(ingredient, _)| open[ingredient] > 0);
            at = next.map_or(at, |&(ingredient, _)| ingredient);
        };
        path.push(at);
        WorldError::NeedsItself {
            cycle: path[start..]
                .iter()
                .map(|&index| self.drafts[index].name.to_string())
                .collect(),
        }
    }
}

impl Draft {
    fn ingredients(&self) -> &[(usize, u32)] {
        match &self.kind {
            Kind::Made { ingredients, .. } => ingredients,
            Kind::Mentioned(_) | Kind::Base => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Entry<'a> = (&'a str, Option<u8>, u32, &'a [(&'a str, u32)]);

    fn build(bases: &[&str], recipes: &[Entry<'_>]) -> Result<World, WorldError> {
        let mut builder = WorldBuilder::new();
        for &(name, tier, yields, ingredients) in recipes {
            builder.recipe(name, tier, yields, ingredients.iter().copied())?;
        }
        bases.iter().try_for_each(|base| builder.base(base))?;
        builder.build()
    }

    fn message(bases: &[&str], recipes: &[Entry<'_>]) -> String {
        build(bases, recipes).expect_err("not a world").to_string()
    }

    #[test]
    fn items_are_numbered_by_tier_and_name_whatever_the_order() {
        let plank: Entry<'_> = ("plank", None, 4, &[("log", 1)]);
        let stick: Entry<'_> = ("stick", None, 4, &[("plank", 2)]);
        let axe: Entry<'_> = ("axe", None, 1, &[("plank", 1), ("stick", 1), ("plank", 2)]);
        let world = build(&["log"], &[axe, stick, plank]).unwrap();
        assert_eq!(world, build(&["log", "log"], &[plank, stick, axe]).unwrap());

        let names: Vec<_> = world.items().map(|item| world.name(item)).collect();
        assert_eq!(names, ["log", "plank", "stick", "axe"]);
        assert_eq!(
            world.items().map(|item| world.depth(item)).collect::<Vec<_>>(),
            [0, 1, 2, 3]
        );
        let recipe = world.recipe(ItemId(3)).unwrap();
        assert_eq!(
            *recipe.ingredients,
            [(ItemId(1), 3), (ItemId(2), 1)],
            "repeated entries add up"
        );
        assert_eq!(world.item("stick"), Some(ItemId(2)));
        assert_eq!(world.item("stone"), None);
        assert_eq!(world.recipe(ItemId(1)).map(|recipe| recipe.batches(9)), Some(3));
    }

    #[test]
    fn a_declared_tier_may_exceed_the_depth() {
        let world = build(
            &["log"],
            &[("mast", Some(4), 1, &[("log", 3)]), ("ship", None, 1, &[("mast", 2)])],
        )
        .unwrap();
        let ship = world.item("ship").unwrap();
        assert_eq!((world.tier(ship), world.depth(ship)), (5, 2));
    }

    #[test]
    fn what_is_no_world_is_refused_by_name() {
        assert_eq!(
            message(&[], &[("a", None, 1, &[("a", 1)])]),
            "a needs itself: a needs a"
        );
        let ring: &[Entry<'_>] = &[
            ("top", None, 1, &[("log", 1), ("a", 1)]),
            ("a", None, 1, &[("log", 1), ("b", 1)]),
            ("b", None, 1, &[("c", 1)]),
            ("c", None, 1, &[("a", 1)]),
        ];
        assert_eq!(message(&["log"], ring), "a needs itself: a needs b needs c needs a");
        let known: Entry<'_> = ("a", None, 1, &[("log", 1)]);
        assert_eq!(
            message(&[], &[known]),
            "the recipe for a needs log, which is neither a base material nor made by any recipe"
        );
        assert_eq!(message(&["log"], &[known, known]), "a has two recipes");
        assert_eq!(
            message(&["log", "a"], &[known]),
            "a is a base material and has a recipe"
        );
        assert_eq!(
            message(&["log"], &[("a", None, 0, &[("log", 1)])]),
            "the recipe for a makes 0 of it"
        );
        assert_eq!(
            message(&["log"], &[("a", None, 1, &[])]),
            "the recipe for a needs nothing"
        );
        assert_eq!(
            message(&["log"], &[("a", None, 1, &[("log", 0)])]),
            "the recipe for a needs 0 of log"
        );
        assert_eq!(
            message(&["log"], &[("a", None, 1, &[("log", u32::MAX), ("log", 1)])]),
            "the recipe for a needs more of log than can be counted"
        );
        assert_eq!(
            message(&["log"], &[known, ("b", Some(1), 1, &[("a", 1)])]),
            "b is of tier 1 but needs a of tier 1"
        );
    }

    #[test]
    fn a_chain_past_255_recipes_is_refused() {
        let names: Vec<String> = (0..=256).map(|n| format!("i{n}")).collect();
        let chain = |last: usize| {
            let mut builder = WorldBuilder::new();
            builder.base(&names[0]).unwrap();
            for pair in names[..=last].windows(2) {
                builder.recipe(&pair[1], None, 1, [(pair[0].as_str(), 1)]).unwrap();
            }
            builder.build()
        };
        assert_eq!(chain(255).unwrap().depth(ItemId(255)), 255);
        assert_eq!(chain(256).unwrap_err(), WorldError::TooDeep { item: "i256".into() });
    }
}
