//! The benchmark as compact tables of tab-separated text, as embedded in the binary.
//!
//! Recipes: `name`, and for what can be made `tier`, `yield`, `ingredient*count ...`. Tasks: `id`, `difficulty`, `target*count`,
//! `item*count ...`. Lists are separated by spaces.

use super::Difficulty;
use super::builder::WorldBuilder;
use super::official::OfficialError;
use super::tasks::{Task, TaskError};
use super::world::World;
use std::str::FromStr;

/// Reads a table of recipes; `path` is what errors call it.
pub(super) fn parse_world(path: &str, text: &str) -> Result<World, OfficialError> {
    let mut builder = WorldBuilder::new();
    let world_error = |fault| OfficialError::World {
        path: path.into(),
        fault,
    };
    for (index, line) in text.lines().enumerate() {
        let broken = |message: &str| broken(path, index, message);
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            [name] => builder.base(name).map_err(world_error)?,
            [name, tier, yields, ingredients] => {
                let tier = number(tier).ok_or_else(|| broken("the tier is no number"))?;
                let yields = number(yields).ok_or_else(|| broken("the yield is no number"))?;
                let ingredients = pairs(ingredients).ok_or_else(|| broken("the ingredients are no list"))?;
                builder
                    .recipe(name, Some(tier), yields, ingredients)
                    .map_err(world_error)?;
            }
            _ => return Err(broken("neither one field nor four")),
        }
    }
    builder.build().map_err(world_error)
}

/// Reads a table of tasks; `path` is what errors call it.
pub(super) fn parse_tasks(path: &str, text: &str, world: &World) -> Result<Vec<Task>, OfficialError> {
    let mut tasks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let broken = |message: &str| broken(path, index, message);
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, difficulty, target, inventory] = fields[..] else {
            return Err(broken("not four fields"));
        };
        let task_error = |fault| OfficialError::Task {
            path: path.into(),
            line: index + 1,
            fault,
        };
        let difficulty: Difficulty = difficulty
            .parse()
            .map_err(|fault| task_error(TaskError::Difficulty { id: id.into(), fault }))?;
        let target = pair(target).ok_or_else(|| broken("the target is no item and count"))?;
        let inventory = pairs(inventory).ok_or_else(|| broken("the inventory is no list"))?;
        tasks.push(Task::from_names(world, id, target, inventory, difficulty).map_err(task_error)?);
    }
    Ok(tasks)
}

fn broken(path: &str, index: usize, message: &str) -> OfficialError {
    OfficialError::Syntax {
        path: path.into(),
        line: index + 1,
        message: message.into(),
    }
}

fn pairs(list: &str) -> Option<Vec<(&str, u32)>> {
    list.split_terminator(' ').map(pair).collect()
}

fn pair(text: &str) -> Option<(&str, u32)> {
    let (name, count) = text.rsplit_once('*')?;
    Some((name, number(count)?))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

#[cfg(test)]
pub(super) mod write {
    //! The other direction, for the test that keeps the tables equal to the official files.

    use super::super::{ItemId, Task, World};
    use std::fmt::Write;

    pub(in super::super) fn world(world: &World) -> String {
        let mut text = String::new();
        for item in world.items() {
            text.push_str(world.name(item));
            if let Some(recipe) = world.recipe(item) {
                let ingredients = list(world, &recipe.ingredients);
                write!(text, "\t{}\t{}\t{ingredients}", world.tier(item), recipe.yields).unwrap();
            }
            text.push('\n');
        }
        text
    }

    pub(in super::super) fn tasks(world: &World, tasks: &[Task]) -> String {
        let mut text = String::new();
        for task in tasks {
            let (target, inventory) = (list(world, &[(task.target, task.count)]), list(world, &task.inventory));
            writeln!(text, "{}\t{}\t{target}\t{inventory}", task.id, task.difficulty).unwrap();
        }
        text
    }

    fn list(world: &World, entries: &[(ItemId, u32)]) -> String {
        let entries = entries
            .iter()
            .map(|&(item, count)| format!("{}*{count}", world.name(item)));
        entries.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_read_back_what_was_written() {
        let text = "log\nplank\t2\t4\tlog*2\nstick\t3\t4\tplank*1 log*1\n";
        let world = parse_world("w.tsv", text).unwrap();
        assert_eq!(write::world(&world), text);
        let text = "t.0\teasy\tstick*3\tlog*4 plank*1\nt.1\thard\tplank*1\t\n";
        let tasks = parse_tasks("t.tsv", text, &world).unwrap();
        assert_eq!(write::tasks(&world, &tasks), text);
    }

    #[test]
    fn broken_tables_are_refused_with_their_line() {
        let world = |text| parse_world("w.tsv", text).unwrap_err().to_string();
        assert_eq!(world("log\nplank\t1\t4"), "w.tsv:2: neither one field nor four");
        assert_eq!(world("plank\t1\tx\tlog*1"), "w.tsv:1: the yield is no number");
        assert_eq!(world("log\nplank\t1\t1\tlog"), "w.tsv:2: the ingredients are no list");
        assert_eq!(world("plank\t1\t0\tlog*1"), "w.tsv: the recipe for plank makes 0 of it");

        let log = parse_world("w.tsv", "log\nplank\t1\t4\tlog*1").unwrap();
        let tasks = |text| parse_tasks("t.tsv", text, &log).unwrap_err().to_string();
        assert_eq!(
            tasks("t.0\teasy\tplank\tlog*1"),
            "t.tsv:1: the target is no item and count"
        );
        assert_eq!(
            tasks("t.0\teasy\tlog*1\tlog*1"),
            "t.tsv:1: task t.0: its target log has no recipe"
        );
    }
}
