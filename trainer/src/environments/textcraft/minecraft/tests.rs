use super::*;
use crate::environments::{RootTask, TextTask};
use crate::language::{Arguments, TextEnvironment, Value};
use std::fs;
use std::path::PathBuf;

const BLOCK: &str = r#"{"type": "minecraft:crafting_shaped", "pattern": ["+++", "+ +"], "key": {"+": {"item": "minecraft:ingot"}},
    "result": {"item": "minecraft:block"}}"#;
const INGOT: &str = r#"{"type": "minecraft:crafting_shapeless", "ingredients": [{"item": "minecraft:block"}],
    "result": {"item": "minecraft:ingot", "count": 5}}"#;
const NUGGETS: &str = r#"{"type": "minecraft:crafting_shapeless", "ingredients": [{"item": "minecraft:nugget"}, {"tag": "minecraft:planks"},
    {"tag": "minecraft:planks"}], "result": {"item": "minecraft:ingot"}}"#;
const TORCH: &str = r##"{"type": "minecraft:crafting_shaped", "pattern": ["X", "#"], "key": {"#": {"item": "minecraft:oak_planks"},
    "X": [{"item": "minecraft:coal"}, {"item": "minecraft:charcoal"}]}, "result": {"item": "minecraft:torch", "count": 4}}"##;
const SMELTED: &str =
    r#"{"type": "minecraft:smelting", "ingredient": {"item": "minecraft:ore"}, "result": "minecraft:ingot"}"#;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("recipes")).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn shop() -> [(&'static str, &'static str); 5] {
    [
        ("recipes/block.json", BLOCK),
        ("recipes/ingot.json", INGOT),
        ("recipes/ingot_from_nuggets.json", NUGGETS),
        ("recipes/torch.json", TORCH),
        ("recipes/ingot_from_smelting.json", SMELTED),
    ]
}

/// The message without the name of the temporary directory.
fn message<T>(directory: &tempfile::TempDir, result: Result<T, OfficialError>) -> String {
    let message = result.err().expect("an error").to_string();
    message.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn recipes_are_read_as_the_reference_reads_them() {
    let directory = directory(&shop());
    let book = load_book(&directory.path().join("recipes")).unwrap();
    let item = |name| book.item(name).unwrap();
    assert_eq!(book.item("ore"), None, "smelting is not crafting");
    assert_eq!(book.item("coal"), None, "alternatives are not asked for");
    assert_eq!(
        *book.formulas(item("torch"))[0].needs,
        [(Need::Item(item("oak_planks")), 1)]
    );
    assert_eq!(*book.formulas(item("block"))[0].needs, [(Need::Item(item("ingot")), 5)]);
    let [of_block, of_nuggets] = book.formulas(item("ingot")) else {
        panic!("two recipes")
    };
    assert_eq!(
        (of_block.yields, of_nuggets.yields),
        (5, 1),
        "in the order of the files"
    );
    let Need::AnyOf(planks) = of_nuggets.needs[1].0 else {
        panic!("a kind")
    };
    assert_eq!(
        (of_nuggets.needs[1].1, book.tag(planks)),
        (2, ("planks", &[item("oak_planks")][..]))
    );
    assert_eq!(book.need_name(Need::AnyOf(planks)), "tag:planks");
    let depths = ["block", "ingot", "torch", "nugget"].map(|name| book.depth(item(name)));
    assert_eq!(depths, [2, 2, 1, 0], "a circle is gone round once");
}

#[test]
fn tasks_are_played_through_the_tools() {
    let line = r#"{"id": "t.0", "misc": {"target_items": {"block": 1, "torch": 3}, "initial_inventory": {"nugget": 5, "oak_planks": 11}}}"#;
    let files = [(TRAIN_FILE, line), (VAL_FILE, line)];
    let directory = directory(&shop());
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let Minecraft { train, val, book } = load(directory.path(), Options::default()).unwrap();
    assert_eq!((train.len(), val.len(), book.len()), (1, 1, 5));
    assert_eq!((train[0].id(), train[0].difficulty()), ("t.0", Difficulty::Easy));
    let mut root = train[0].root();
    let mut craft = |ingredients: &[(&str, i64)], target: (&str, i64)| {
        let ingredients = ingredients.iter().map(|&(item, count)| (item.into(), count.into()));
        let target = Value::Tuple(vec![target.0.into(), target.1.into()]);
        let arguments = Arguments(vec![
            ("ingredients", Value::Dict(ingredients.collect())),
            ("target", target),
        ]);
        root.call("craft", &arguments)
    };
    craft(&[("oak_planks", 1)], ("torch", 4)).unwrap();
    craft(&[("nugget", 5), ("oak_planks", 10)], ("ingot", 5)).unwrap();
    craft(&[("ingot", 5)], ("block", 1)).unwrap();
    assert!(root.is_done());
    assert!(root.instructions().contains("\"tag:\""));
    let info = root
        .call("get_info", &Arguments(vec![("items", vec!["ingot"].into())]))
        .unwrap();
    assert_eq!(
        info.to_json().unwrap()[0]["recipes"][1]["ingredients"]["tag:planks"],
        serde_json::json!({"count": 2, "use_one_of": ["oak_planks"]})
    );
}

#[test]
fn what_is_wrong_is_named_with_its_file() {
    let book = |name: &str, text: &str| {
        let directory = directory(&[(name, text)]);
        message(&directory, load_book(&directory.path().join("recipes")))
    };
    assert_eq!(book("recipes/x.txt", ""), "recipes: nothing in it");
    assert_eq!(book("recipes/s.json", SMELTED), "recipes: nothing in it");
    assert_eq!(
        book("recipes/t.json", &TORCH.replace("\"#\"]", "\"?\"]")),
        "recipes/t.json: the pattern for torch has '?', which its key does not explain"
    );
    assert_eq!(
        book("recipes/t.json", &TORCH.replace(": 4", ": 0")),
        "recipes/t.json: the recipe for torch makes 0 of it"
    );
    assert_eq!(
        book("recipes/t.json", "{}"),
        "recipes/t.json:1: missing field `type` (column 2)"
    );
    assert!(
        book("recipes/t.json", &INGOT.replace("item", "thing")).starts_with("recipes/t.json:1: data did not match")
    );

    let tasks = |misc: &str| {
        let directory = directory(&shop());
        fs::write(
            directory.path().join("t.jsonl"),
            format!("{{\"id\": \"t.0\", \"misc\": {misc}}}"),
        )
        .unwrap();
        let book = Arc::new(load_book(&directory.path().join("recipes")).unwrap());
        message(
            &directory,
            load_tasks(&directory.path().join("t.jsonl"), &book, Options::default()),
        )
    };
    assert_eq!(
        tasks(r#"{"target_items": {"stone": 1}, "initial_inventory": {}}"#),
        "t.jsonl:1: task t.0: there is no item called stone"
    );
    assert_eq!(
        tasks(r#"{"target_items": {"nugget": 1}, "initial_inventory": {}}"#),
        "t.jsonl:1: task t.0: its target nugget has no recipe"
    );
    assert_eq!(
        tasks(r#"{"target_items": {}, "initial_inventory": {}}"#),
        "t.jsonl:1: task t.0: it has 0 targets, not one"
    );
    assert_eq!(
        tasks(r#"{"target_items": {"block": 0}, "initial_inventory": {}}"#),
        "t.jsonl:1: task t.0: it asks for 0 of block"
    );
    assert_eq!(
        tasks(r#"{"target_items": {"block": 1}, "initial_inventory": {"nugget": 1, "minecraft:nugget": 1}}"#),
        "t.jsonl:1: task t.0: its inventory lists minecraft:nugget twice"
    );
}

#[test]
fn recipes_that_all_need_each_other_are_refused() {
    let names: Vec<String> = (0..12).map(|n| format!("i{n}")).collect();
    let drafts: Vec<Draft> = names
        .iter()
        .map(|item| Draft {
            item: item.clone(),
            yields: 1,
            needs: names
                .iter()
                .filter(|name| *name != item)
                .map(|name| (name.clone(), 1))
                .collect(),
        })
        .collect();
    assert_eq!(
        compile(&drafts).unwrap_err().to_string(),
        "the recipes for i0 go round in too many circles"
    );
    assert!(compile(&drafts[..1]).is_ok());
}

#[test]
fn kinds_are_read_off_names() {
    let of = |tag: &str, items: &[&str]| items.iter().filter(|item| is_of(item, tag)).count();
    assert_eq!(of("planks", &["oak_planks", "planks", "oak_log"]), 1);
    assert_eq!(of("logs", &["oak_log", "log", "warped_stem", "oak_planks"]), 3);
    assert_eq!(
        of("oak_logs", &["oak_log", "dark_oak_log", "oak_stem_x", "oak_wood"]),
        2
    );
    assert_eq!(of("crimson_stems", &["crimson_stem", "warped_stem"]), 1);
    assert_eq!(of("stone_tool_materials", &["stone", "blackstone", "smooth_stone"]), 2);
    assert_eq!(
        of("stone_crafting_materials", &["stone", "blackstone", "smooth_stone"]),
        2
    );
    assert_eq!(of("soul_fire_base_blocks", &["soul_sand", "soul_soil", "sand"]), 2);
    assert_eq!(of("wooden_slabs", &["oak_slab", "planks_slab"]), 1);
    assert_eq!(of("coals", &["coal", "charcoal", "coal_block"]), 2);
    assert_eq!(of("wool", &["red_wool", "wool"]), 1);
    assert_eq!(of("flowers", &["rose"]), 0);
}

/// The published files, where `RAO_MINECRAFT_DIR` names them: a skip that says so elsewhere.
#[test]
fn the_published_files_are_complete() {
    let Some(directory) = std::env::var_os("RAO_MINECRAFT_DIR").map(PathBuf::from) else {
        println!("skipped: name the `data` directory of platoon-textcraft in RAO_MINECRAFT_DIR");
        return;
    };
    let Minecraft { book, train, val } = load(&directory, Options::default()).unwrap();
    let formulas = (0..).map(ItemId).take(book.len()).map(|item| book.formulas(item).len());
    assert_eq!(
        (book.len(), formulas.sum::<usize>(), train.len(), val.len()),
        (662, 635, 1000, 100)
    );
}
