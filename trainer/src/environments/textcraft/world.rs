//! What can be made of what: [`World`]. A [`WorldBuilder`](super::WorldBuilder) makes one.

use std::collections::HashMap;

/// An item of one [`World`], as a dense index.
///
/// Ids ascend with the tier, so an ingredient's id is always below the id of what is made of it: a pass over a world in the order of ids
/// meets every ingredient before its products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u32);

impl ItemId {
    /// Position in every table that is indexed by item.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How one item is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// How many items one batch makes, at least 1.
    pub yields: u32,
    /// What one batch uses up: distinct items of lower tiers, in the order of the recipe's source, each at least once; never empty.
    pub ingredients: Box<[(ItemId, u32)]>,
}

impl Recipe {
    /// The fewest batches that make at least `wanted`.
    #[must_use]
    pub const fn batches(&self, wanted: u32) -> u32 {
        wanted.div_ceil(self.yields)
    }
}

/// Items, their tiers, and at most one recipe for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub(super) items: Vec<Item>,
    pub(super) by_name: HashMap<Box<str>, ItemId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: Box<str>,
    pub(super) tier: u8,
    pub(super) depth: u8,
    pub(super) recipe: Option<Recipe>,
}

impl World {
    /// How many items there are; ids run from 0 to one less.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// There are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Every item, ingredients before their products.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = ItemId> + ExactSizeIterator + use<> {
        (0..id(self.items.len()).0).map(ItemId)
    }

    /// The item of this name.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<ItemId> {
        self.by_name.get(name).copied()
    }

    /// What the item is called.
    ///
    /// # Panics
    /// When the item is of another world, as in every accessor here.
    #[must_use]
    pub fn name(&self, item: ItemId) -> &str {
        &self.items[item.index()].name
    }

    /// How the item is made; `None` for base materials, which can only be found.
    #[must_use]
    pub fn recipe(&self, item: ItemId) -> Option<&Recipe> {
        self.items[item.index()].recipe.as_ref()
    }

    /// The tier the world's author gave the item, 0 for base materials; above the tier of every ingredient. Difficulty goes by it.
    #[must_use]
    pub fn tier(&self, item: ItemId) -> u8 {
        self.items[item.index()].tier
    }

    /// The longest chain of recipes down to base materials: 0 for those, else one more than the deepest ingredient.
    ///
    /// Never more than the [tier](Self::tier), sometimes less: a recipe of tier 4 that happens to draw on tier 2 alone is three deep. The
    /// official world has 164 such items among its 1,452.
    #[must_use]
    pub fn depth(&self, item: ItemId) -> u8 {
        self.items[item.index()].depth
    }
}

/// The id of the item at this place of [`World::items`].
pub(super) fn id(index: usize) -> ItemId {
    ItemId(u32::try_from(index).expect("a world of more than four billion items"))
}
