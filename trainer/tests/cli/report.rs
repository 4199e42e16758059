//! `rao experiment` and `rao report`, from a grid of two small runs to the page's data.

use crate::common::{rao, refused, stdout};
use rao_trainer::report::tree::read;
use rao_tree::credit::{Credit, Estimator, Forest, Member};
use rao_tree::{Depth, NodeId, NodeStatus, Success};
use serde_json::Value;
use std::path::Path;

/// Two cells that learn next to nothing, quickly.
const GRID: &str = "
seeds = [0]
[common]
warmstart = { steps = 60, trees = 600 }
rao.steps = 3
eval = { easy = 3, medium = 2, hard = 1, extreme = 0, difficulties = [\"easy\", \"medium\", \"hard\"] }
[cells.base]
[cells.bonus]
rao.estimator.lambda = 0.4
flat.enabled = false
";

fn numbers(value: &Value) -> Vec<f64> {
    let column = value.as_array().unwrap();
    column.iter().map(|number| number.as_f64().unwrap()).collect()
}

fn data(here: &Path, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["report", "--json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&stdout(&rao(here, &arguments))).unwrap()
}

#[test]
fn a_grid_runs_once_and_its_page_has_curves_tables_and_trees() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    std::fs::write(here.join("grid.toml"), GRID).unwrap();
    let plan = stdout(&rao(here, &["experiment", "grid.toml", "--dry-run"]));
    assert_eq!(plan.matches("to be run").count(), 2, "{plan}");
    let printed = stdout(&rao(here, &["experiment", "grid.toml"]));
    assert!(printed.contains("bonus") && printed.contains("flat"), "{printed}");

    // What has ended is not run again; what was interrupted is.
    let grid = here.join("runs/grid");
    let metrics = |cell: &str| {
        std::fs::metadata(grid.join(cell).join("metrics.jsonl"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let (base, bonus) = (metrics("base-seed0"), metrics("bonus-seed0"));
    std::fs::remove_file(grid.join("bonus-seed0/summary.json")).unwrap();
    let plan = stdout(&rao(here, &["experiment", "grid.toml", "--dry-run"]));
    assert!(plan.contains("finished") && plan.contains("interrupted"), "{plan}");
    assert_eq!(stdout(&rao(here, &["experiment", "grid.toml"])), printed);
    assert!(metrics("base-seed0") == base && metrics("bonus-seed0") > bonus);
    std::fs::write(here.join("grid.toml"), GRID.replace("steps = 3", "steps = 2")).unwrap();
    let error = refused(here, &["experiment", "grid.toml"]);
    assert!(
        error.contains("another configuration") && error.contains("--dir"),
        "{error}"
    );

    let found = data(here, &["runs/grid"]);
    let arms = found["arms"].as_array().unwrap();
    let names: Vec<&str> = arms.iter().map(|arm| arm["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base, recursive", "base, flat", "bonus, recursive"]);
    assert!(
        arms[2]["settings"]
            .as_array()
            .unwrap()
            .contains(&"rao.estimator.lambda=0.4".into()),
        "{arms:?}"
    );
    let run = &arms[0]["runs"][0];
    assert_eq!(run["steps"]["root_success"].as_array().unwrap().len(), 3);
    let tokens = numbers(&run["steps"]["tokens"]);
    assert!(tokens.is_sorted() && tokens[0] > 0.0, "{tokens:?}");
    assert_eq!(run["scores"].as_array().unwrap().len(), 3);
    assert_eq!(found["paper"].as_array().unwrap().len(), 4);
    assert_eq!(found["notes"], Value::Array(Vec::new()));
    // Three steps of two arms, four of the flat twin's, which are shorter; and a tree of every difficulty of three arms.
    let groups = found["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 3 + 3 + 4 + 3 * 3);
    credit_is_that_of_the_log(groups);

    let said = stdout(&rao(
        here,
        &["report", "runs/grid", "-o", "grid.html", "--title", "a <b> & c"],
    ));
    assert!(said.contains("3 arms"), "{said}");
    let page = std::fs::read_to_string(here.join("grid.html")).unwrap();
    assert!(
        page.contains("<title>a &lt;b&gt; &amp; c</title>") && !page.contains("{{"),
        "{}",
        page.len()
    );
    // For a browser, where somebody has one.
    if let Some(pages) = std::env::var_os("RAO_REPORT_PAGES") {
        std::fs::write(Path::new(&pages).join("small.html"), &page).unwrap();
    }
    let elsewhere = ["http://", "https://", "src=", "@import"].map(|mark| page.matches(mark).count());
    // Names of XML namespaces and the address of the plots' authors, none of which is ever loaded: the browser's test sees to that.
    assert_eq!(elsewhere[2..], [0, 0], "{elsewhere:?}");
    let error = refused(here, &["report", "."]);
    assert!(error.contains("no run"), "{error}");
}

/// Rewards and advantages in the page are those that the published rule gives for the recorded trees, to the bit.
fn credit_is_that_of_the_log(groups: &[Value]) {
    let mut compared = 0;
    for group in groups {
        let trees = group["trees"].as_array().unwrap();
        if trees[0]["reward"].is_null() {
            assert!(group["name"].as_str().unwrap().contains("eval"), "{}", group["name"]);
            continue;
        }
        let lambda = if group["name"].as_str().unwrap().starts_with("bonus") {
            0.4
        } else {
            0.0
        };
        let (mut members, mut ends) = (Vec::new(), Vec::new());
        for tree in trees {
            let column = |name: &str| tree[name].as_array().unwrap();
            for (index, parent) in numbers(&tree["parent"]).into_iter().enumerate() {
                let status = match column("status")[index].as_str().unwrap() {
                    "finished" => NodeStatus::Finished,
                    status if status.starts_with("truncated") => NodeStatus::Failed,
                    status => panic!("{status}"),
                };
                let parent = (parent >= 0.0).then_some(NodeId(parent as u32));
                let depth = Depth(column("depth")[index].as_u64().unwrap() as u8);
                members.push(Member {
                    success: Success::new(column("success")[index].as_f64().unwrap() as f32).unwrap(),
                    ..Member::new(parent, depth, Some(status))
                });
            }
            ends.push(members.len());
        }
        let mut credits = vec![Credit::default(); members.len()];
        let group = [trees.len()];
        let forest = Forest::new(&members, &ends, &group).unwrap();
        let estimator = Estimator {
            lambda,
            ..Estimator::default()
        };
        estimator.assign(&forest, &mut credits).unwrap();
        let shown = |name: &str| trees.iter().flat_map(|tree| numbers(&tree[name])).collect::<Vec<f64>>();
        let (rewards, advantages) = (shown("reward"), shown("advantage"));
        for (index, credit) in credits.iter().enumerate() {
            assert_eq!(
                (rewards[index] as f32, advantages[index] as f32),
                (credit.reward, credit.advantage)
            );
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn a_damaged_log_costs_what_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let short = [
        "--set",
        "warmstart.steps=60",
        "--set",
        "warmstart.trees=600",
        "--set",
        "rao.steps=1",
    ];
    let eval = [
        "--set",
        "flat.enabled=false",
        "--set",
        "eval.difficulties=[\"easy\"]",
        "--set",
        "eval.easy=1",
    ];
    let train: Vec<&str> = ["train", "--run", "run"]
        .iter()
        .chain(&short)
        .chain(&eval)
        .copied()
        .collect();
    stdout(&rao(here, &train));
    let log = here.join("run/traces/recursive-step-0000.rao");
    let mut bytes = std::fs::read(&log).unwrap();
    let (whole, losses) = read(&bytes, usize::MAX);
    assert_eq!((whole.len(), losses.damaged), (8, 0));
    for tree in &whole {
        let nodes = tree.parent.len();
        assert!(tree.critical[0], "the root is always on the critical path");
        assert!(tree.end_us.iter().zip(&tree.begin_us).all(|(end, begin)| end >= begin));
        let sampled: u64 = (0..nodes)
            .filter(|&node| tree.critical[node])
            .map(|node| u64::from(tree.sampled[node]))
            .sum();
        assert_eq!(
            sampled, tree.critical_path,
            "what was drawn one after the other is what the marked nodes drew"
        );
        for node in 0..nodes {
            let waits = &tree.waits[node];
            assert!(waits.is_sorted() && waits.len() % 2 == 0, "{waits:?}");
            let said = tree.turns[node].iter().filter(|(kind, _)| *kind == "said").count();
            assert!(said > 0, "every node acts");
        }
    }
    let (small, losses) = read(&bytes, 1);
    let single = whole.iter().filter(|tree| tree.parent.len() == 1).count();
    assert_eq!((small.len(), losses.too_large), (single, 8 - single));

    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let found = data(here, &["run"]);
    let notes = found["notes"].to_string();
    assert!(notes.contains("damaged"), "{notes}");
    let groups = found["groups"].as_array().unwrap();
    let group = groups
        .iter()
        .find(|group| group["name"].as_str().unwrap().contains("step-0000"))
        .unwrap();
    assert!(group["trees"].as_array().unwrap().len() >= 7);
    // Credit is by position: none is better than that of another tree.
    assert!(group["trees"][0]["reward"].is_null());
}
