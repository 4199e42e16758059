//! Files of tasks and recipes.

use crate::mutate::mutated;
use crate::{alone, bounded};
use rao_trainer::environments::textcraft::{official, plan};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const FILES: [(&str, &str); 5] = [
    ("recipes/_metadata.json", r#"{"base_items": ["log", "coal"]}"#),
    (
        "recipes/plank.json",
        r#"{"ingredients": [{"item": "synth:log"}, {"item": "synth:log"}],
           "result": {"item": "synth:plank", "count": 4}, "synth_metadata": {"depth": 1}}"#,
    ),
    (
        "recipes/stick.json",
        r#"{"ingredients": [{"item": "synth:plank"}], "result": {"item": "synth:stick", "count": 2},
           "synth_metadata": {"depth": 2}}"#,
    ),
    (
        "textcraft_synth_train.jsonl",
        r#"{"goal": "g", "id": "t.0", "misc": {"target_items": {"plank": 3}, "initial_inventory": {"log": 14, "coal": 1}, "difficulty": "easy"}}
{"goal": "g", "id": "t.1", "misc": {"target_items": {"plank": 9}, "initial_inventory": {"log": 6}, "difficulty": "medium"}}
"#,
    ),
    (
        "textcraft_synth_val.jsonl",
        r#"{"goal": "g", "id": "v.0", "misc": {"target_items": {"stick": 2}, "initial_inventory": {"log": 14}, "difficulty": "hard"}}
"#,
    ),
];

fn write(dir: &Path) {
    fs::create_dir(dir.join("recipes")).unwrap();
    for (name, text) in FILES {
        fs::write(dir.join(name), text).unwrap();
    }
}

/// Reads everything, and plays what is there.
fn read(dir: &Path) -> Result<(), String> {
    let benchmark = official::load(dir).map_err(|error| error.to_string())?;
    let world = Arc::clone(&benchmark.world);
    for task in benchmark.train.iter().chain(&benchmark.val) {
        // A task may be beyond what there is.
        let _ = plan::oracle_nodes(&world, task);
        let _ = plan::base_needs(&world, task.target, task.count);
    }
    official::load_gold(&dir.join("textcraft_synth_val.jsonl"), &world).map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn damaged_tasks_and_recipes_are_refused_or_sound() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    official::load(dir.path()).unwrap();
    let mut refused = 0;
    for (name, text) in FILES {
        let path = dir.path().join(name);
        for case in 0..800 {
            let damaged = mutated(text.as_bytes(), case);
            fs::write(&path, &damaged).unwrap();
            if let Err(error) = bounded(4_096, || read(dir.path())) {
                refused += 1;
                assert!(!error.is_empty());
            }
        }
        fs::write(&path, text).unwrap();
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn a_name_without_measure_is_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let path = dir.path().join("textcraft_synth_val.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("v.0", &"v".repeat(2_000_000))).unwrap();
    let error = official::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("its name takes 2000000 bytes, the limit is 256"),
        "{}",
        &error[..error.len().min(300)]
    );
    assert!(error.len() < 1_000);
}
