//! The published benchmark: [`embedded`] in the binary, or [`load`]ed from its own files, gold trajectories included.
//!
//! The directory holds `recipes/*.json` (one recipe a file, item names prefixed `synth:`, an ingredient repeated as often as it is needed),
//! `recipes/_metadata.json` (which lists the base materials, two of them in no recipe) and one JSON object a line in
//! `textcraft_synth_train.jsonl` and `textcraft_synth_val.jsonl`.

use super::Difficulty;
use super::builder::{WorldBuilder, WorldError};
use super::minecraft::RecipeError;
use super::records::{GoldRecord, MetadataRecord, RecipeRecord, TaskRecord};
use super::tables;
use super::tasks::{Benchmark, SplitError, Task, TaskError};
use super::world::{ItemId, World};
use rao_backends::files;
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The official world and its 3,154 tasks, from the tables in `data/textcraft-synth`: nothing is read from disk.
///
/// # Errors
/// The tables are broken, which a test rules out for what is released.
pub fn embedded() -> Result<Benchmark, OfficialError> {
    let world = tables::parse_world("recipes.tsv", include_str!("../../../data/textcraft-synth/recipes.tsv"))?;
    let train = tables::parse_tasks(
        "train.tsv",
        include_str!("../../../data/textcraft-synth/train.tsv"),
        &world,
    )?;
    let val = tables::parse_tasks("val.tsv", include_str!("../../../data/textcraft-synth/val.tsv"), &world)?;
    benchmark(Path::new("textcraft-synth"), world, train, val)
}

/// Reads the official directory.
///
/// # Errors
/// [`OfficialError`], which names the file and, where there is one, the line; or the directory, where a task id is used twice or an item is
/// both trained on and held out.
pub fn load(directory: &Path) -> Result<Benchmark, OfficialError> {
    let world = load_world(&directory.join("recipes"))?;
    let train = load_tasks(&directory.join(TRAIN_FILE), &world)?;
    let val = load_tasks(&directory.join(VAL_FILE), &world)?;
    benchmark(directory, world, train, val)
}

fn benchmark(path: &Path, world: World, train: Vec<Task>, val: Vec<Task>) -> Result<Benchmark, OfficialError> {
    Benchmark::new(Arc::new(world), train, val).map_err(|fault| OfficialError::Split {
        path: path.into(),
        fault,
    })
}

/// Reads a directory of recipes, one a file. Tiers are those that the recipes state.
///
/// With a `_metadata.json` an ingredient must be one of its base materials or have a recipe; without, every ingredient that has no recipe
/// is a base material.
///
/// # Errors
/// [`OfficialError`], which names the file.
pub fn load_world(recipes: &Path) -> Result<World, OfficialError> {
    let metadata = recipes.join(METADATA_FILE);
    let mut builder = WorldBuilder::new();
    let mut records = Vec::new();
    for path in json_files(recipes)? {
        let record: RecipeRecord = parse(&path, &read(&path)?)?;
        records.push((path, record));
    }
    if records.is_empty() {
        return Err(OfficialError::Empty { path: recipes.into() });
    }
    for (path, record) in &records {
        let ingredients = record.ingredients.iter().map(|entry| (bare(&entry.item), 1));
        let tier = record.synth_metadata.as_ref().map(|metadata| metadata.depth);
        builder
            .recipe(bare(&record.result.item), tier, record.result.count, ingredients)
            .map_err(|fault| OfficialError::World {
                path: path.clone(),
                fault,
            })?;
    }
    let wrong = |fault| OfficialError::World {
        path: recipes.into(),
        fault,
    };
    if metadata.exists() {
        let record: MetadataRecord = parse(&metadata, &read(&metadata)?)?;
        record
            .base_items
            .iter()
            .try_for_each(|name| builder.base(bare(name)))
            .map_err(wrong)?;
    } else {
        let made: std::collections::HashSet<_> = records.iter().map(|(_, record)| bare(&record.result.item)).collect();
        let needed = records
            .iter()
            .flat_map(|(_, record)| &record.ingredients)
            .map(|entry| bare(&entry.item));
        needed
            .filter(|name| !made.contains(name))
            .try_for_each(|name| builder.base(name))
            .map_err(wrong)?;
    }
    builder.build().map_err(wrong)
}

/// Reads a task file, one JSON object a line.
///
/// # Errors
/// [`OfficialError`], which names the file and the line.
pub fn load_tasks(path: &Path, world: &World) -> Result<Vec<Task>, OfficialError> {
    each_line(path, |line| {
        let record: TaskRecord = serde_json::from_str(line).map_err(LineError::Json)?;
        record.task(world).map_err(LineError::Task)
    })
}

/// One craft of a published solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldCraft {
    /// What is made.
    pub item: ItemId,
    /// How many items that makes: batches times the recipe's yield.
    pub total: u32,
    /// What it uses up in all.
    pub ingredients: Box<[(ItemId, u32)]>,
}

/// Reads a task file together with the published solution of every task; empty where a task has none.
///
/// # Errors
/// [`OfficialError`], which names the file and the line.
pub fn load_gold(path: &Path, world: &World) -> Result<Vec<(Task, Vec<GoldCraft>)>, OfficialError> {
    each_line(path, |line| {
        let record: GoldRecord = serde_json::from_str(line).map_err(LineError::Json)?;
        let id = &record.id;
        let item = |name: &str| {
            let unknown = || {
                LineError::Task(TaskError::UnknownItem {
                    id: id.clone(),
                    name: name.into(),
                })
            };
            world.item(bare(name)).ok_or_else(unknown)
        };
        let mut crafts = Vec::with_capacity(record.misc.gold_trajectory.len());
        for step in &record.misc.gold_trajectory {
            let ingredients = step.ingredients.0.iter().map(|(name, count)| Ok((item(name)?, *count)));
            let ingredients = ingredients.collect::<Result<_, LineError>>()?;
            crafts.push(GoldCraft {
                item: item(&step.target.0)?,
                total: step.result_count,
                ingredients,
            });
        }
        let task: TaskRecord = serde_json::from_str(line).map_err(LineError::Json)?;
        Ok((task.task(world).map_err(LineError::Task)?, crafts))
    })
}

/// Why the benchmark could not be read.
#[derive(Debug, thiserror::Error)]
pub enum OfficialError {
    /// The file or directory cannot be read.
    #[error("cannot read {}: {fault}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        fault: io::Error,
    },
    /// The directory holds no recipe, or the file no task.
    #[error("{}: nothing in it", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The text is not what belongs there.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A recipe is wrong by itself (then the path is its file) or together with the others (then it is their directory).
    #[error("{}: {fault}", path.display())]
    World {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        fault: WorldError,
    },
    /// A recipe of original TextCraft is wrong by itself (then the path is its file) or together with the others.
    #[error("{}: {fault}", path.display())]
    Recipe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        fault: RecipeError,
    },
    /// A task does not fit the world.
    #[error("{}:{line}: {fault}", path.display())]
    Task {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: TaskError,
    },
    /// The tasks do not fit together.
    #[error("{}: {fault}", path.display())]
    Split {
        /// The directory.
        path: PathBuf,
        /// What is wrong with them.
        fault: SplitError,
    },
}

const TRAIN_FILE: &str = "textcraft_synth_train.jsonl";
const VAL_FILE: &str = "textcraft_synth_val.jsonl";
const METADATA_FILE: &str = "_metadata.json";

impl TaskRecord {
    fn task(&self, world: &World) -> Result<Task, TaskError> {
        let [(target, count)] = self.misc.target_items.0.as_slice() else {
            return Err(TaskError::Targets {
                id: self.id.clone(),
                targets: self.misc.target_items.0.len(),
            });
        };
        let difficulty: Result<Difficulty, _> = self.misc.difficulty.parse();
        let difficulty = difficulty.map_err(|fault| TaskError::Difficulty {
            id: self.id.clone(),
            fault,
        })?;
        let inventory = self
            .misc
            .initial_inventory
            .0
            .iter()
            .map(|(name, count)| (bare(name), *count));
        Task::from_names(world, &self.id, (bare(target), *count), inventory, difficulty)
    }
}

/// An item's name without the namespace that recipe files write before it.
fn bare(name: &str) -> &str {
    name.strip_prefix("synth:").unwrap_or(name)
}

/// Longest file of tasks or recipes that is read, in bytes: twenty times the official one.
const TASKS_MAX: u64 = 512 << 20;

pub(super) fn read(path: &Path) -> Result<String, OfficialError> {
    files::read_text(path, TASKS_MAX).map_err(|fault| OfficialError::Read {
        path: path.into(),
        fault,
    })
}

/// Every recipe file, by name: what goes wrong first does not depend on the file system.
pub(super) fn json_files(directory: &Path) -> Result<Vec<PathBuf>, OfficialError> {
    let unreadable = |fault| OfficialError::Read {
        path: directory.into(),
        fault,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && path.file_name().is_some_and(|name| name != METADATA_FILE)
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn parse<'a, T: Deserialize<'a>>(path: &Path, text: &'a str) -> Result<T, OfficialError> {
    serde_json::from_str(text).map_err(|error| syntax(path, error.line(), &error))
}

pub(super) enum LineError {
    Json(serde_json::Error),
    Task(TaskError),
}

pub(super) fn each_line<T>(
    path: &Path,
    read_one: impl Fn(&str) -> Result<T, LineError>,
) -> Result<Vec<T>, OfficialError> {
    let text = read(path)?;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        found.push(read_one(line).map_err(|error| match error {
            LineError::Json(error) => syntax(path, index + 1, &error),
            LineError::Task(fault) => OfficialError::Task {
                path: path.into(),
                line: index + 1,
                fault,
            },
        })?);
    }
    if found.is_empty() {
        Err(OfficialError::Empty { path: path.into() })
    } else {
        Ok(found)
    }
}

/// The parser's message with the line in the file instead of the line within what it was given.
fn syntax(path: &Path, line: usize, error: &serde_json::Error) -> OfficialError {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    OfficialError::Syntax {
        path: path.into(),
        line,
        message: format!("{message} (column {})", error.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANK: &str = r#"{"ingredients": [{"item": "synth:log"}, {"item": "synth:log"}],
        "result": {"item": "synth:plank", "count": 4}, "synth_metadata": {"depth": 2}}"#;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("recipes")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    /// The message without the name of the temporary directory.
    fn message<T>(directory: &tempfile::TempDir, result: Result<T, OfficialError>) -> String {
        let message = result.err().expect("an error").to_string();
        message.replace(&format!("{}/", directory.path().display()), "")
    }

    fn tasks_message(lines: &str) -> String {
        let directory = directory(&[("recipes/plank.json", PLANK), ("t.jsonl", lines)]);
        let world = load_world(&directory.path().join("recipes")).unwrap();
        message(&directory, load_gold(&directory.path().join("t.jsonl"), &world))
    }

    fn world_message(files: &[(&str, &str)]) -> String {
        let directory = directory(files);
        message(&directory, load_world(&directory.path().join("recipes")))
    }

    #[test]
    fn a_directory_without_metadata_takes_what_nothing_makes_as_base_material() {
        let directory = directory(&[("recipes/plank.json", PLANK), ("recipes/notes.txt", "")]);
        let world = load_world(&directory.path().join("recipes")).unwrap();
        let plank = world.item("plank").unwrap();
        assert_eq!(
            *world.recipe(plank).unwrap().ingredients,
            [(world.item("log").unwrap(), 2)]
        );
        assert_eq!(
            (
                world.recipe(plank).unwrap().yields,
                world.tier(plank),
                world.depth(plank)
            ),
            (4, 2, 1)
        );
    }

    #[test]
    fn broken_recipes_are_refused_with_their_file() {
        let a = r#"{"ingredients": [{"item": "synth:b"}], "result": {"item": "synth:a"}}"#;
        let b = r#"{"ingredients": [{"item": "synth:a"}], "result": {"item": "synth:b"}}"#;
        assert_eq!(
            world_message(&[("recipes/a.json", a), ("recipes/b.json", b)]),
            "recipes: a needs itself: a needs b needs a"
        );
        assert_eq!(
            world_message(&[("recipes/a.json", a), ("recipes/b.json", a)]),
            "recipes/b.json: a has two recipes"
        );
        assert_eq!(
            world_message(&[
                ("recipes/a.json", a),
                ("recipes/_metadata.json", r#"{"base_items": []}"#)
            ]),
            "recipes: the recipe for a needs b, which is neither a base material nor made by any recipe"
        );
        assert_eq!(
            world_message(&[("recipes/a.json", "{\n\"ingredients\": [{\"tag\": \"wood\"}]}")]),
            "recipes/a.json:2: missing field `item` (column 31)"
        );
        assert_eq!(world_message(&[]), "recipes: nothing in it");
    }

    #[test]
    fn broken_tasks_are_refused_with_their_line() {
        let line = |targets: &str, inventory: &str, difficulty: &str| {
            format!(
                r#"{{"id": "t.0", "misc": {{"target_items": {targets}, "initial_inventory": {inventory}, "difficulty": "{difficulty}"}}}}"#
            )
        };
        let fine = line(r#"{"plank": 1}"#, r#"{"log": 1}"#, "easy");
        let second = |line: String| tasks_message(&format!("{fine}\n{line}\n"));
        assert_eq!(
            second(line(r#"{"log": 1}"#, "{}", "easy")),
            "t.jsonl:2: task t.0: its target log has no recipe"
        );
        assert_eq!(
            second(line(r#"{"plank": 1}"#, r#"{"log": -1}"#, "easy"))
                .split(',')
                .next(),
            { Some("t.jsonl:2: invalid value: integer `-1`") }
        );
        assert_eq!(
            second(line("{}", "{}", "easy")),
            "t.jsonl:2: task t.0: it has 0 targets, not one"
        );
        assert_eq!(
            second(line(r#"{"plank": 1}"#, "{}", "simple")),
            "t.jsonl:2: task t.0: no difficulty is called \"simple\": easy, medium, hard or extreme"
        );
        assert_eq!(
            second(line(r#"{"plank": 1}"#, r#"{"log": 1, "log": 2}"#, "easy")),
            "t.jsonl:2: task t.0: its inventory lists log twice"
        );
        assert_eq!(tasks_message("\n"), "t.jsonl: nothing in it");
    }

    const STICK: &str = r#"{"ingredients": [{"item": "synth:plank"}],
        "result": {"item": "synth:stick", "count": 4}, "synth_metadata": {"depth": 3}}"#;

    /// A line of a task file that asks for one `target` of plenty of logs.
    fn task_line(id: &str, target: &str) -> String {
        format!(
            r#"{{"id": "{id}", "misc": {{"target_items": {{"{target}": 1}}, "initial_inventory": {{"log": 9}}, "difficulty": "easy"}}}}"#
        )
    }

    /// What comes of a whole directory; tasks are given as id and target.
    fn load_all(
        recipes: &[(&str, &str)],
        [train, val]: [&[(&str, &str)]; 2],
    ) -> (tempfile::TempDir, Result<Benchmark, OfficialError>) {
        let lines = |tasks: &[(&str, &str)]| tasks.iter().map(|(id, target)| task_line(id, target) + "\n").collect();
        let [train, val]: [String; 2] = [train, val].map(lines);
        let directory = directory(recipes);
        for (name, text) in [(TRAIN_FILE, train), (VAL_FILE, val)] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let loaded = load(directory.path());
        (directory, loaded)
    }

    #[test]
    fn a_whole_directory_is_a_benchmark_or_is_refused_by_name() {
        let recipes = [("recipes/plank.json", PLANK), ("recipes/stick.json", STICK)];
        let (_, loaded) = load_all(&recipes, [&[("t.0", "stick"), ("t.1", "stick")], &[("v.0", "plank")]]);
        let Benchmark { world, train, val } = loaded.unwrap();
        assert_eq!((world.len(), train.len(), val.len()), (3, 2, 1));

        let refused = |recipes: &[_], tasks| {
            let (directory, loaded) = load_all(recipes, tasks);
            let message = message(&directory, loaded);
            message.replace(&directory.path().display().to_string(), "directory")
        };
        assert_eq!(
            refused(&recipes, [&[("t.0", "stick"), ("t.0", "stick")], &[("v.0", "plank")]]),
            "directory: two tasks are called t.0"
        );
        assert_eq!(
            refused(&recipes, [&[("t.0", "stick")], &[("t.0", "plank")]]),
            "directory: two tasks are called t.0"
        );
        assert_eq!(
            refused(&recipes, [&[("t.0", "plank"), ("t.1", "stick")], &[("v.0", "stick")]]),
            "directory: stick is held out by task v.0 and trained on by task t.1"
        );
        assert_eq!(
            refused(&recipes, [&[("t.0", "stick")], &[("v.0", "log")]]),
            "textcraft_synth_val.jsonl:1: task v.0: its target log has no recipe"
        );
        let cycle = r#"{"ingredients": [{"item": "synth:stick"}], "result": {"item": "synth:log"}}"#;
        assert_eq!(
            refused(
                &[recipes[0], recipes[1], ("recipes/log.json", cycle)],
                [&[("t.0", "stick")], &[("v.0", "plank")]]
            ),
            "recipes: log needs itself: log needs stick needs plank needs log"
        );
    }
}
