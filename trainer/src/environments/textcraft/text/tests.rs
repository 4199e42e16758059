use super::*;
use crate::environments::textcraft::{Difficulty, WorldBuilder, official};

/// log -> 4 planks; 2 planks -> 4 sticks; 3 planks + 2 sticks -> axe. Make an axe and 2 sticks of two logs.
fn task(options: Options) -> Task {
    let mut builder = WorldBuilder::new();
    builder.base("log").unwrap();
    builder.recipe("plank", None, 4, [("log", 1)]).unwrap();
    builder.recipe("stick", None, 4, [("plank", 2)]).unwrap();
    builder.recipe("axe", None, 1, [("plank", 3), ("stick", 2)]).unwrap();
    let book = Arc::new(Book::from(&builder.build().unwrap()));
    let item = |name| book.item(name).unwrap();
    Task {
        id: "t".into(),
        difficulty: Difficulty::Easy,
        targets: vec![(item("axe"), 1), (item("stick"), 2)],
        inventory: vec![(item("log"), 2)],
        book: Arc::clone(&book),
        options,
    }
}

fn counts(counts: &[(&str, i64)]) -> Value {
    Value::Dict(
        counts
            .iter()
            .map(|&(item, count)| (item.into(), count.into()))
            .collect(),
    )
}

fn craft(agent: &mut Crafter, ingredients: &[(&str, i64)], (item, total): (&str, i64)) -> Result<Value, ToolError> {
    let target = Value::List(vec![item.into(), total.into()]);
    let arguments = Arguments(vec![("ingredients", counts(ingredients)), ("target", target)]);
    agent.call("craft", &arguments)
}

fn launch(goal: &str, targets: &[(&str, i64)]) -> Launch {
    Launch {
        goal: goal.into(),
        context: Some("hurry".into()),
        arguments: Arguments(vec![("targets", counts(targets))]),
    }
}

fn info(agent: &mut Crafter, item: &str) -> serde_json::Value {
    let answer = agent.call("get_info", &Arguments(vec![("items", vec![item].into())]));
    answer.unwrap().to_json().unwrap()[0].clone()
}

fn score(agent: &mut Crafter) -> f32 {
    match agent.judge(&Value::None) {
        Verdict::Score(success) => success.value(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tools_show_and_change_one_inventory() {
    let mut root = task(Options::default()).root();
    assert_eq!(root.brief().goal, "Craft these items: 1x axe, 2x stick.");
    assert_eq!(
        info(&mut root, "plank"),
        serde_json::json!({
            "item": "plank", "can_craft": true, "is_base": false, "in_inventory": 0, "crafting_depth": 1,
            "recipes": [{"ingredients": {"log": 1}, "result_count": 4}],
        })
    );
    let nothing = info(&mut root, "stone");
    assert_eq!(
        (&nothing["can_craft"], &nothing["is_base"]),
        (&false.into(), &false.into())
    );
    assert_eq!(info(&mut root, "log")["is_base"], true);
    assert_eq!(
        craft(&mut root, &[("log", 2)], ("plank", 8)),
        Ok("Crafted 8 plank; the inventory now holds 8.".into())
    );
    let inventory = root.call("view_inventory", &Arguments::default());
    assert_eq!(inventory, Ok(counts(&[("plank", 8)])));
}

#[test]
fn a_root_is_done_when_every_target_is_made_and_kept() {
    let mut root = task(Options::default()).root();
    craft(&mut root, &[("log", 2)], ("plank", 8)).unwrap();
    craft(&mut root, &[("plank", 2)], ("stick", 4)).unwrap();
    assert_eq!(score(&mut root), 0.0, "sticks alone are not enough");
    craft(&mut root, &[("plank", 3), ("stick", 2)], ("axe", 1)).unwrap();
    assert_eq!(score(&mut root), 1.0);
    craft(&mut root, &[("plank", 3), ("stick", 2)], ("axe", 1)).unwrap();
    assert_eq!(score(&mut root), 0.0, "the sticks went into a second axe");
}

#[test]
fn what_was_there_before_does_not_count() {
    let mut task = task(Options::default());
    let [axe, stick] = [0, 1].map(|target: usize| task.targets[target].0);
    task.inventory.extend([(axe, 3), (stick, 9)]);
    assert_eq!(score(&mut task.root()), 0.0);
}

#[test]
fn clumsy_calls_are_told_what_is_wrong_and_change_nothing() {
    let mut root = task(Options::default()).root();
    let mut refuse = |tool: &str, arguments| {
        let error = root.call(tool, &Arguments(arguments)).unwrap_err().0;
        let inventory = root.call("view_inventory", &Arguments::default());
        assert_eq!(inventory, Ok(counts(&[("log", 2)])), "{error}");
        error
    };
    assert_eq!(refuse("dance", vec![]), "there is no tool called dance");
    assert_eq!(refuse("get_info", vec![]), "items is missing");
    assert_eq!(
        refuse("get_info", vec![("items", vec!["log"; 65].into())]),
        "at most 64 items at once"
    );
    let target = |target: Value| vec![("ingredients", counts(&[("log", 1)])), ("target", target)];
    let expected = "target must be an item and the total of it, such as [\"stick\", 4]";
    assert_eq!(refuse("craft", target(vec!["plank"].into())), expected);
    let swapped = Value::List(vec![Value::Int(4), "plank".into()]);
    assert_eq!(refuse("craft", target(swapped)), expected);
    assert_eq!(
        refuse("craft", target("plank".into())),
        "target must be a list, not str"
    );
    assert_eq!(
        refuse(
            "craft",
            vec![("ingredients", vec!["log"].into()), ("target", Value::None)]
        ),
        "ingredients must be a dict, not list"
    );
    let plank = Value::Tuple(vec!["plank".into(), Value::Int(8)]);
    assert_eq!(
        refuse("craft", target(plank)),
        "plank was not crafted. Its recipe: it needs 2 of log, not 1"
    );
}

#[test]
fn a_launch_is_checked_before_it_is_made() {
    let root = task(Options::default()).root();
    assert_eq!(root.check(&launch("", &[("stick", 2)])), Ok(()));
    let refuse = |targets: &[(&str, i64)]| root.check(&launch("", targets)).unwrap_err().0;
    assert_eq!(refuse(&[]), "targets must name 1 to 32 items");
    assert_eq!(refuse(&[("stone", 1)]), "targets: there is no item called stone");
    assert_eq!(
        refuse(&[("log", 1)]),
        "targets: log is a base material and cannot be crafted"
    );
    assert_eq!(refuse(&[("stick", 0)]), "targets: 0 of stick cannot be asked for");
    assert_eq!(
        refuse(&[("stick", 1 << 40)]),
        "targets: 1099511627776 of stick cannot be asked for"
    );
    assert_eq!(refuse(&[("stick", 1), ("stick", 2)]), "targets: stick is there twice");
    assert_eq!(
        root.check(&Launch {
            goal: "sticks".into(),
            context: None,
            arguments: Arguments::default()
        })
        .unwrap_err()
        .0,
        "targets is missing"
    );
}

#[test]
fn a_child_shares_the_inventory_and_is_graded_by_its_own_account() {
    let mut root = task(Options::default()).root();
    let mut child = root.child(&launch(" soon, please ", &[("plank", 4)])).unwrap();
    let mut idle = root.child(&launch("", &[("plank", 4)])).unwrap();
    assert_eq!(
        child.brief(),
        &Brief {
            goal: "Craft these items: 4x plank.\nWords of the agent that asks for them: soon, please".into(),
            context: Some("hurry".into()),
            ancestors: vec!["Craft these items: 1x axe, 2x stick.".into()],
        }
    );
    craft(&mut child, &[("log", 2)], ("plank", 8)).unwrap();
    craft(&mut root, &[("plank", 2)], ("stick", 4)).unwrap();
    assert_eq!((score(&mut child), score(&mut idle)), (1.0, 0.0));
    let mut grandchild = child.child(&launch("", &[("axe", 1)])).unwrap();
    craft(&mut grandchild, &[("plank", 3), ("stick", 2)], ("axe", 1)).unwrap();
    assert_eq!(
        [&mut root, &mut grandchild, &mut child].map(score),
        [1.0; 3],
        "8 planks less 3 are enough"
    );
    assert_eq!(grandchild.brief().ancestors.len(), 2);
}

#[test]
fn copies_and_fresh_worlds_give_nothing_back() {
    for (fork, planks) in [(Fork::Copy, 3), (Fork::Fresh, 2)] {
        let mut root = task(Options { fork, depth_max: None }).root();
        craft(&mut root, &[("log", 1)], ("plank", 4)).unwrap();
        let mut child = root.child(&launch("", &[("plank", 4)])).unwrap();
        let log = child.task.book.item("log").unwrap();
        assert_eq!(
            i64::from(child.stock(log)),
            planks - if fork == Fork::Copy { 2 } else { 0 }
        );
        craft(&mut child, &[("log", 1)], ("plank", 4)).unwrap();
        assert_eq!(score(&mut child), 1.0);
        assert_eq!(root.stock(log), 1, "{fork:?}");
        assert!(root.instructions().contains("get nothing that it makes"));
    }
}

#[test]
fn agents_know_what_is_left_of_the_depth() {
    let options = Options {
        depth_max: Some(2),
        ..Options::default()
    };
    let mut agent = task(options).root();
    for expected in [
        "there may be 2 levels of agents",
        "cannot launch others",
        "You cannot launch agents",
    ] {
        let instructions = agent.instructions().into_owned();
        assert!(instructions.contains(expected), "{instructions}");
        agent = agent.child(&launch("", &[("stick", 2)])).unwrap();
    }
    let refused = agent.check(&launch("", &[("plank", 1)])).unwrap_err();
    assert_eq!(refused.0, "no agents can be launched at this depth: craft it yourself");
    assert!(!agent.instructions().contains("You may launch"));
}

#[test]
fn two_roots_of_a_task_share_nothing() {
    let task = task(Options::default());
    let [mut one, mut other] = [task.root(), task.root()];
    craft(&mut one, &[("log", 2)], ("plank", 8)).unwrap();
    assert_eq!(
        other.call("view_inventory", &Arguments::default()),
        Ok(counts(&[("log", 2)]))
    );
}

/// Plain recursion through the tools alone: looks up the recipe, has children make what is missing, crafts.
fn play(agent: &mut Crafter) {
    for (target, wanted) in agent.goals() {
        let name = agent.task.book.name(target).to_owned();
        let recipe = info(agent, &name)["recipes"][0].clone();
        let yields = recipe["result_count"].as_u64().unwrap();
        let batches = u64::from(wanted).div_ceil(yields);
        let mut needs: Vec<(String, u64)> = recipe["ingredients"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(item, count)| (item.clone(), count.as_u64().unwrap() * batches))
            .collect();
        // The deepest first: what it takes cannot be what has been fetched already.
        needs.sort_by_key(|(item, _)| std::cmp::Reverse(info(agent, item)["crafting_depth"].as_u64()));
        for (item, needed) in &needs {
            let short = *needed as i64 - info(agent, item)["in_inventory"].as_i64().unwrap();
            if short > 0 {
                let launch = launch("", &[(item, short)]);
                agent.check(&launch).unwrap();
                let mut child = agent.child(&launch).unwrap();
                play(&mut child);
                assert_eq!(score(&mut child), 1.0);
            }
        }
        let needs: Vec<(&str, i64)> = needs
            .iter()
            .map(|(item, count)| (item.as_str(), *count as i64))
            .collect();
        craft(agent, &needs, (&name, (batches * yields) as i64)).unwrap();
    }
}

#[test]
fn plain_recursion_through_the_tools_solves_held_out_tasks() {
    let benchmark = official::embedded().unwrap();
    let book = Arc::new(Book::from(&*benchmark.world));
    for difficulty in [Difficulty::Easy, Difficulty::Medium, Difficulty::Hard] {
        let tasks = benchmark.val.iter().filter(|task| task.difficulty == difficulty);
        for task in tasks.take(40) {
            let mut root = Task::synth(&book, task, Options::default()).root();
            play(&mut root);
            assert_eq!(score(&mut root), 1.0, "{}", task.id);
        }
    }
}
