//! Configurations and grids.

use crate::mutate::mutated;
use crate::{alone, bounded};
use rao_trainer::config::{Config, ConfigError};
use rao_trainer::experiment::Experiment;

fn resolve(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    bounded(text.len(), || Config::resolve(Some(&path), &[]))
}

fn default() -> String {
    toml::to_string(&Config::default()).unwrap()
}

#[test]
fn damaged_configurations_are_refused_or_sound() {
    let _alone = alone();
    let whole = default();
    let mut sound = 0;
    for case in 0..3_000 {
        let damaged = String::from_utf8_lossy(&mutated(whole.as_bytes(), case)).into_owned();
        match resolve(&damaged) {
            // What was taken is taken again, to the same end.
            Ok(config) => {
                sound += 1;
                let again = resolve(&toml::to_string(&config).unwrap()).unwrap();
                assert!(again == config);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(sound > 0);
}

#[test]
fn settings_of_any_kind_are_refused_or_sound() {
    let _alone = alone();
    let lines: Vec<String> = [
        "rao.steps=3",
        "eval.difficulties=[\"easy\"]",
        "world.source=\"official\"",
        "lora.alpha=1.5",
    ]
    .map(str::to_owned)
    .into();
    for case in 0..3_000 {
        let line = lines[case as usize % lines.len()].as_bytes();
        let setting = String::from_utf8_lossy(&mutated(line, case)).into_owned();
        let _ = bounded(setting.len(), || Config::resolve(None, &[setting]));
    }
    for deep in ["[".repeat(100_000), "{a=".repeat(100_000), "a.".repeat(100_000)] {
        for text in [format!("rao.steps={deep}"), format!("{deep}=1"), deep] {
            assert!(Config::resolve(None, std::slice::from_ref(&text)).is_err());
            assert!(resolve(&text).is_err());
        }
    }
}

#[test]
fn numbers_at_the_edges_are_refused_or_sound() {
    let _alone = alone();
    let table: toml::Table = default().parse().unwrap();
    let mut keys = Vec::new();
    let mut open: Vec<(String, &toml::Table)> = vec![(String::new(), &table)];
    while let Some((path, table)) = open.pop() {
        for (key, value) in table {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            match value {
                toml::Value::Table(table) => open.push((path, table)),
                _ => keys.push(path),
            }
        }
    }
    assert!(keys.len() > 50, "{keys:?}");
    for key in &keys {
        for edge in [
            "-1",
            "0",
            "1",
            "65536",
            "4294967296",
            "9223372036854775807",
            "-9223372036854775808",
            "1e308",
            "-1e308",
            "1e-308",
            "nan",
            "inf",
            "-inf",
            "true",
            "\"\"",
            "\"../../up\"",
            "[]",
            "{}",
            "\"\\u0000\"",
        ] {
            let setting = format!("{key}={edge}");
            if let Err(error) = bounded(0, || Config::resolve(None, std::slice::from_ref(&setting))) {
                let error = error.to_string();
                let last = key.rsplit('.').next().unwrap_or_default();
                assert!(error.contains(last), "{setting}: {error}");
            }
        }
    }
}

const GRID: &str = "seeds = [0, 1]\n[common]\nrao.steps = 3\n[cells.base]\n[cells.wide]\nmodel.hidden = 32\n";

#[test]
fn damaged_grids_are_refused_or_sound_and_name_no_directory_elsewhere() {
    let _alone = alone();
    let names_are_plain = |grid: &Experiment| {
        for run in &grid.runs {
            let plain = run
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.+=".contains(c));
            assert!(plain && !run.name.starts_with('.'), "{}", run.name);
        }
    };
    assert_eq!(Experiment::parse(GRID, "grid").unwrap().runs.len(), 4);
    for case in 0..1_500 {
        let damaged = String::from_utf8_lossy(&mutated(GRID.as_bytes(), case)).into_owned();
        if let Ok(grid) = bounded(damaged.len(), || Experiment::parse(&damaged, "grid")) {
            names_are_plain(&grid);
        }
    }
    for name in [
        "../up",
        "/root",
        "a/b",
        "..",
        ".",
        ".hidden",
        "",
        "a\\b",
        "\u{0}",
        "C:",
        "ä",
        &"a".repeat(300),
    ] {
        let name = serde_json::to_string(name).unwrap();
        let grid = format!("[cells.{name}]\n");
        assert!(Experiment::parse(&grid, "grid").is_err(), "{grid}");
    }
}

#[test]
fn a_grid_without_measure_is_refused() {
    let _alone = alone();
    let seeds: Vec<String> = (0..30_000).map(|seed| seed.to_string()).collect();
    let cells: String = (0..30_000).map(|cell| format!("[cells.c{cell}]\n")).collect();
    let grid = format!("seeds = [{}]\n{cells}", seeds.join(","));
    let error = bounded(grid.len(), || Experiment::parse(&grid, "grid").map(drop));
    assert!(error.unwrap_err().to_string().contains("are more than 10000 runs"));
}
