//! Plays TextCraft through its text tools as JSON lines say: what other implementations are compared with
//! (`tests/conformance/textcraft.sh`), and a way to play by hand.
//!
//! ```text
//! crafts synth             TextCraft-Synth, which is embedded
//! crafts minecraft DIR     original TextCraft; DIR is the `data` directory of platoon-textcraft
//! ```
//!
//! | a line in | the line out |
//! |---|---|
//! | `{"targets": {item: count}, "inventory": {item: count}}`: a new game | `{"goal": ..}` |
//! | `{"task": id}`: a new game, of the benchmark | `{"goal": ..}` |
//! | `{"tool": name, "arguments": {name: value}}` | `{"value": ..}` or `{"error": ..}`, with `stock` after it: `{item: count}` |
//! | `{"finish": message}` | `{"score": ..}` |

use rao_trainer::environments::TextTask;
use rao_trainer::environments::textcraft::text::{Crafter, Options, Task};
use rao_trainer::environments::textcraft::{Book, Difficulty, ItemId, minecraft, official};
use rao_trainer::language::{Arguments, TextEnvironment, Value, Verdict};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (book, tasks) = match args[..] {
        ["synth"] => {
            let benchmark = official::embedded()?;
            let book = Arc::new(Book::from(&*benchmark.world));
            let tasks = benchmark.train.iter().chain(&benchmark.val);
            let tasks = tasks.map(|task| Task::synth(&book, task, Options::default())).collect();
            (book, tasks)
        }
        ["minecraft", directory] => {
            let original = minecraft::load(Path::new(directory), Options::default())?;
            (original.book, [original.train, original.val].concat())
        }
        _ => return Err("crafts synth | crafts minecraft DIR".into()),
    };
    let mut game = Game {
        book,
        tasks,
        agent: None,
    };
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let answer = game.answer(&serde_json::from_str(&line?)?)?;
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

struct Game {
    book: Arc<Book>,
    tasks: Vec<Task>,
    agent: Option<Crafter>,
}

impl Game {
    fn answer(&mut self, line: &Json) -> Result<Json, Box<dyn Error>> {
        if let Some(tool) = line["tool"].as_str() {
            return self.call(tool, &line["arguments"]);
        }
        if line["finish"].is_string() {
            let agent = self.agent.as_mut().ok_or("no game has begun")?;
            return Ok(match agent.judge(&Value::from(&line["finish"])) {
                Verdict::Score(success) => json!({"score": success.value()}),
                other => return Err(format!("this game judges every answer, and said {other:?}").into()),
            });
        }
        let task = match line["task"].as_str() {
            Some(id) => self
                .tasks
                .iter()
                .find(|task| task.id == id)
                .ok_or("no such task")?
                .clone(),
            None => Task {
                id: String::new(),
                difficulty: Difficulty::Easy,
                book: Arc::clone(&self.book),
                targets: self.counts(&line["targets"])?,
                inventory: self.counts(&line["inventory"])?,
                options: Options::default(),
            },
        };
        let agent = self.agent.insert(task.root());
        Ok(json!({"goal": agent.brief().goal}))
    }

    /// The arguments that the tool knows, checked by nobody: the tool has to stand it.
    fn call(&mut self, tool: &str, given: &Json) -> Result<Json, Box<dyn Error>> {
        let agent = self.agent.as_mut().ok_or("no game has begun")?;
        let known = agent.tools().iter().find(|known| known.name == tool);
        let parameters = known.map_or(&[][..], |known| &known.parameters);
        let arguments = parameters
            .iter()
            .filter_map(|parameter| Some((parameter.name, Value::from(given.get(parameter.name)?))))
            .collect();
        let (key, answer) = match agent.call(tool, &Arguments(arguments)) {
            Ok(value) => ("value", value.to_json()?),
            Err(error) => ("error", error.0.into()),
        };
        let stock = agent.call("view_inventory", &Arguments::default())?.to_json()?;
        Ok(json!({key: answer, "stock": stock}))
    }

    fn counts(&self, counts: &Json) -> Result<Vec<(ItemId, u32)>, Box<dyn Error>> {
        let counts = counts.as_object().ok_or("targets and inventory are objects")?.iter();
        let count = |(item, count): (&String, &Json)| {
            let item = self
                .book
                .item(item)
                .ok_or_else(|| format!("no item is called {item}"))?;
            let count = count.as_u64().and_then(|count| u32::try_from(count).ok());
            Ok((item, count.ok_or("no count")?))
        };
        counts.map(count).collect()
    }
}
