//! Original TextCraft, from the files of `platoon-textcraft`: recipes of Minecraft with kinds of ingredients, and tasks of one to three targets.
//!
//! The directory holds `recipes/*.json`, one recipe of Minecraft's own format a file, and one JSON object a line in `textcraft_train.jsonl`
//! and `textcraft_val.jsonl`. Nothing of it is embedded: the recipes are Minecraft's.
//!
//! What the reference makes of the files holds here too, so that tasks and results compare: shaped and shapeless recipes count, those for
//! furnaces and the like do not; an ingredient with alternatives that are no kind is not asked for (12 recipes, and nothing is left of eight
//! of them); which items are of a kind is read off their names; several recipes of an item are tried in the order of their files' names.
//! Tasks state no difficulty: it is easy up to recipes that go two deep, medium up to four, and hard beyond.

use super::book::{Book, Entry, Formula, Need, Tag, TagId};
use super::official::{self, LineError, OfficialError};
use super::records::Ordered;
use super::tasks::TaskError;
use super::text::{Options, Task};
use super::world::ItemId;
use crate::environments::Difficulty;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The recipes and the tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minecraft {
    /// What can be made of what.
    pub book: Arc<Book>,
    /// Tasks to train on.
    pub train: Vec<Task>,
    /// Tasks to be judged by. Some of their targets are trained on, as in the reference.
    pub val: Vec<Task>,
}

/// Reads the directory.
///
/// # Errors
/// [`OfficialError`], which names the file and, where there is one, the line.
pub fn load(directory: &Path, options: Options) -> Result<Minecraft, OfficialError> {
    let book = Arc::new(load_book(&directory.join("recipes"))?);
    let tasks = |file| load_tasks(&directory.join(file), &book, options);
    let (train, val) = (tasks(TRAIN_FILE)?, tasks(VAL_FILE)?);
    Ok(Minecraft { book, train, val })
}

/// Reads a directory of Minecraft's recipes, one a file.
///
/// # Errors
/// [`OfficialError`], which names the file.
pub fn load_book(recipes: &Path) -> Result<Book, OfficialError> {
    let mut drafts = Vec::new();
    for path in official::json_files(recipes)? {
        let text = official::read(&path)?;
        let KindRecord { kind } = official::parse(&path, &text)?;
        let is_shaped = kind == "minecraft:crafting_shaped";
        if is_shaped || kind == "minecraft:crafting_shapeless" {
            let record: RecipeRecord = official::parse(&path, &text)?;
            let draft = record.draft(is_shaped).map_err(|fault| OfficialError::Recipe {
                path: path.clone(),
                fault,
            })?;
            drafts.push(draft);
        }
    }
    if drafts.is_empty() {
        return Err(OfficialError::Empty { path: recipes.into() });
    }
    compile(&drafts).map_err(|fault| OfficialError::Recipe {
        path: recipes.into(),
        fault,
    })
}

/// Reads a task file, one JSON object a line.
///
/// # Errors
/// [`OfficialError`], which names the file and the line.
pub fn load_tasks(path: &Path, book: &Arc<Book>, options: Options) -> Result<Vec<Task>, OfficialError> {
    official::each_line(path, |line| {
        let record: TaskRecord = serde_json::from_str(line).map_err(LineError::Json)?;
        record.task(book, options).map_err(LineError::Task)
    })
}

/// Why a file is no recipe, or recipes are no book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// It makes none.
    #[error("the recipe for {item} makes 0 of it")]
    ZeroYield {
        /// What it should make.
        item: String,
    },
    /// Its pattern has a sign that its key does not explain.
    #[error("the pattern for {item} has {sign:?}, which its key does not explain")]
    UnknownSign {
        /// What it makes.
        item: String,
        /// The sign.
        sign: char,
    },
    /// Circles within circles: how deep the recipes of an item go cannot be told within reason.
    #[error("the recipes for {item} go round in too many circles")]
    Entangled {
        /// Where the search ended.
        item: String,
    },
}

const TRAIN_FILE: &str = "textcraft_train.jsonl";
const VAL_FILE: &str = "textcraft_val.jsonl";
/// The steps after which the search for the deepest chain of recipes gives up. The reference's 635 recipes take 7,512.
const STEPS_MAX: u32 = 1_000_000;

#[derive(Deserialize)]
struct KindRecord {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct RecipeRecord {
    result: ResultRecord,
    #[serde(default)]
    ingredients: Vec<IngredientRecord>,
    #[serde(default)]
    pattern: Vec<String>,
    #[serde(default)]
    key: BTreeMap<char, IngredientRecord>,
}

#[derive(Deserialize)]
struct ResultRecord {
    item: String,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IngredientRecord {
    Item { item: String },
    Tag { tag: String },
    Alternatives(#[expect(dead_code, reason = "that it is a list is all that matters")] Vec<IgnoredAny>),
}

#[derive(Deserialize)]
struct TaskRecord {
    id: String,
    misc: MiscRecord,
}

#[derive(Deserialize)]
struct MiscRecord {
    target_items: Ordered<u32>,
    initial_inventory: Ordered<u32>,
}

/// A recipe by names; those of kinds begin with `tag:`.
#[derive(Debug)]
struct Draft {
    item: String,
    yields: u32,
    needs: Vec<(String, u32)>,
}

impl RecipeRecord {
    fn draft(&self, is_shaped: bool) -> Result<Draft, RecipeError> {
        let mut draft = Draft {
            item: bare(&self.result.item).into(),
            yields: self.result.count,
            needs: Vec::new(),
        };
        if draft.yields == 0 {
            return Err(RecipeError::ZeroYield { item: draft.item });
        }
        if is_shaped {
            for sign in self
                .pattern
                .iter()
                .flat_map(|row| row.chars())
                .filter(|&sign| sign != ' ')
            {
                let Some(ingredient) = self.key.get(&sign) else {
                    return Err(RecipeError::UnknownSign { item: draft.item, sign });
                };
                draft.need(ingredient);
            }
        } else {
            self.ingredients.iter().for_each(|ingredient| draft.need(ingredient));
        }
        Ok(draft)
    }
}

impl Draft {
    fn need(&mut self, ingredient: &IngredientRecord) {
        let name = match ingredient {
            IngredientRecord::Item { item } => bare(item).to_owned(),
            IngredientRecord::Tag { tag } => format!("tag:{}", bare(tag)),
            IngredientRecord::Alternatives(_) => return,
        };
        match self.needs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.needs.push((name, 1)),
        }
    }
}

impl TaskRecord {
    fn task(self, book: &Arc<Book>, options: Options) -> Result<Task, TaskError> {
        let id = self.id;
        let item = |name: &str| {
            book.item(bare(name)).ok_or_else(|| TaskError::UnknownItem {
                id: id.clone(),
                name: name.into(),
            })
        };
        let items = |entries: &[(String, u32)]| -> Result<Vec<(ItemId, u32)>, TaskError> {
            let mut found: Vec<(ItemId, u32)> = Vec::with_capacity(entries.len());
            for (name, count) in entries {
                let (id, name, item) = (id.clone(), name.clone(), item(name)?);
                if found.iter().any(|&(known, _)| known == item) {
                    return Err(TaskError::ListedTwice { id, name });
                }
                found.push((item, *count));
            }
            Ok(found)
        };
        let targets = items(&self.misc.target_items.0)?;
        let inventory = items(&self.misc.initial_inventory.0)?;
        if targets.is_empty() {
            return Err(TaskError::Targets { id, targets: 0 });
        }
        for &(target, count) in &targets {
            let name = book.name(target).to_owned();
            if book.formulas(target).is_empty() {
                return Err(TaskError::NoRecipe { id, target: name });
            }
            if count == 0 {
                return Err(TaskError::ZeroCount { id, target: name });
            }
        }
        let depth = targets.iter().map(|&(target, _)| book.depth(target)).max();
        let difficulty = match depth.unwrap_or(0) {
            0..=2 => Difficulty::Easy,
            3..=4 => Difficulty::Medium,
            _ => Difficulty::Hard,
        };
        Ok(Task {
            id,
            difficulty,
            book: Arc::clone(book),
            targets,
            inventory,
            options,
        })
    }
}

/// A name without the namespace before it.
fn bare(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, name)| name)
}

/// Numbers items and kinds in the order of their names.
fn compile(drafts: &[Draft]) -> Result<Book, RecipeError> {
    let needs = || {
        drafts
            .iter()
            .flat_map(|draft| &draft.needs)
            .map(|(name, _)| name.as_str())
    };
    let made = drafts.iter().map(|draft| draft.item.as_str());
    let items: BTreeSet<&str> = made.chain(needs().filter(|name| !name.starts_with("tag:"))).collect();
    let tags: BTreeSet<&str> = needs().filter_map(|name| name.strip_prefix("tag:")).collect();
    let by_name: HashMap<Box<str>, ItemId> = (0..)
        .map(ItemId)
        .zip(&items)
        .map(|(id, &name)| (name.into(), id))
        .collect();
    let tag_ids: HashMap<&str, TagId> = (0..).map(TagId).zip(&tags).map(|(id, &name)| (name, id)).collect();

    let need = |(name, count): &(String, u32)| match name.strip_prefix("tag:") {
        Some(tag) => (Need::AnyOf(tag_ids[tag]), *count),
        None => (Need::Item(by_name[name.as_str()]), *count),
    };
    let mut formulas: Vec<Vec<Formula>> = vec![Vec::new(); items.len()];
    for draft in drafts {
        formulas[by_name[draft.item.as_str()].index()].push(Formula {
            yields: draft.yields,
            needs: draft.needs.iter().map(need).collect(),
        });
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(items.len());
    let mut steps = 0;
    for (id, &name) in (0..).map(ItemId).zip(&items) {
        let depth = depth(&formulas, id, &mut steps).ok_or_else(|| RecipeError::Entangled { item: name.into() })?;
        entries.push(Entry {
            name: name.into(),
            depth,
            formulas: formulas[id.index()].clone().into(),
        });
    }
    let tag = |&name: &&str| Tag {
        name: name.into(),
        items: items
            .iter()
            .filter(|item| is_of(item, name))
            .map(|&item| by_name[item])
            .collect(),
    };
    let tags = tags.iter().map(tag).collect();
    Ok(Book { entries, by_name, tags })
}

/// The longest chain of recipes below the item that does not come back to what it went through; `None` when the steps do not suffice.
fn depth(formulas: &[Vec<Formula>], item: ItemId, steps: &mut u32) -> Option<u32> {
    let below = |item: ItemId| {
        let needs = formulas[item.index()].iter().flat_map(|formula| &formula.needs);
        let items = needs.filter_map(|&(need, _)| match need {
            Need::Item(item) => Some(item),
            Need::AnyOf(_) => None,
        });
        let items: BTreeSet<ItemId> = items.collect();
        items.into_iter().collect::<Vec<_>>()
    };
    let mut deepest = 0;
    let mut on_path = HashSet::from([item]);
    // The item, and what of it is still to be followed.
    let mut path = vec![(item, below(item))];
    while let Some((item, open)) = path.last_mut() {
        *steps += 1;
        if *steps > STEPS_MAX {
            return None;
        }
        match open.pop() {
            Some(next) => {
                // As many recipes as items are on the path: the next one is an ingredient, whether it has a recipe or not.
                deepest = deepest.max(path.len() as u32);
                if on_path.insert(next) {
                    path.push((next, below(next)));
                }
            }
            None => {
                on_path.remove(item);
                path.pop();
            }
        }
    }
    Some(deepest)
}

/// Whether an item is of a kind, by its name: the reference's rules, for the kinds that its recipes name.
fn is_of(item: &str, tag: &str) -> bool {
    let starts = |wood: &str, ends: [&str; 2]| {
        let rest = item.strip_prefix(wood).unwrap_or_default();
        ends.iter().any(|end| rest.starts_with(end))
    };
    let wood = ["_log", "_stem"];
    match tag {
        "planks" => item.ends_with("_planks"),
        "logs" => wood.iter().any(|end| item.ends_with(end)) || item == "log" || item == "stem",
        "coals" => ["coal", "charcoal"].contains(&item),
        "wool" => item.ends_with("_wool"),
        _ if tag.ends_with("_logs") => starts(&tag.replace("_logs", ""), wood),
        _ if tag.ends_with("_stems") => starts(&tag.replace("_stems", ""), wood),
        _ if tag.contains("wooden_slab") => {
            item.contains("_slab") && (item.contains("planks") || item.contains("wood"))
        }
        _ if tag.contains("stone_tool") => ["cobblestone", "blackstone", "cobbled_deepslate", "stone"].contains(&item),
        _ if tag.contains("stone_crafting") => ["cobblestone", "stone", "smooth_stone"].contains(&item),
        _ if tag.contains("soul_fire") => ["soul_sand", "soul_soil"].contains(&item),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
