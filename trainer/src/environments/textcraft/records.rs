//! The JSON of the official files, as far as it is used.

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

#[derive(Deserialize)]
pub(super) struct RecipeRecord {
    pub(super) ingredients: Vec<Entry>,
    pub(super) result: ResultRecord,
    pub(super) synth_metadata: Option<TierRecord>,
}

#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) item: String,
}

#[derive(Deserialize)]
pub(super) struct ResultRecord {
    pub(super) item: String,
    /// A Minecraft recipe that states no count makes one.
    #[serde(default = "one")]
    pub(super) count: u32,
}

fn one() -> u32 {
    1
}

/// What the files call depth is the tier.
#[derive(Deserialize)]
pub(super) struct TierRecord {
    pub(super) depth: u8,
}

#[derive(Deserialize)]
pub(super) struct MetadataRecord {
    pub(super) base_items: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct TaskRecord {
    pub(super) id: String,
    pub(super) misc: TaskMisc,
}

#[derive(Deserialize)]
pub(super) struct TaskMisc {
    pub(super) target_items: Ordered<u32>,
    pub(super) initial_inventory: Ordered<u32>,
    pub(super) difficulty: String,
}

#[derive(Deserialize)]
pub(super) struct GoldRecord {
    pub(super) id: String,
    pub(super) misc: GoldMisc,
}

#[derive(Deserialize)]
pub(super) struct GoldMisc {
    #[serde(default)]
    pub(super) gold_trajectory: Vec<GoldStep>,
}

#[derive(Deserialize)]
pub(super) struct GoldStep {
    /// The item, and how many batches: what the crafting action itself takes is the total.
    pub(super) target: (String, u32),
    pub(super) ingredients: Ordered<u32>,
    pub(super) result_count: u32,
}

/// A JSON object as a list, in the order of the text and with whatever it repeats: a map would hide both.
pub(super) struct Ordered<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}
