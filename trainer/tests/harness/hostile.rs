//! What a policy says, at its worst: any words, any arguments. It costs steps of the node that says it, and nothing else.

use crate::desk;
use rao_trainer::language::ToolCalls;
use rao_tree::NodeStatus;

#[path = "../../../tests/support/mutate.rs"]
mod mutate;

use mutate::{Seeded, mutated};

/// Turns that are right, out of which wrong ones are made.
const TURNS: [&str; 8] = [
    "<tool_call>\n{\"name\": \"twice\", \"arguments\": {\"x\": 3}}\n</tool_call>",
    "<tool_call>\n{\"name\": \"spell\", \"arguments\": {\"text\": \"n\u{e9}\"}}\n</tool_call>",
    "<tool_call>\n{\"name\": \"launch_subagent\", \"arguments\": {\"goal\": \"go\", \"context\": {\"k\": [1.5, {\"a\": null}]}}}\n</tool_call>",
    "<tool_call>\n{\"name\": \"finish\", \"arguments\": {\"answer\": [1, null]}}\n</tool_call>",
    "<think>hm</think> Done.",
    "```python\nprint(twice(3))\n```",
    "```python\nx = await launch_subagent('go', {'k': [1, 2]})\nfinish(x)\n```",
    "```python\nimport asyncio\nawait asyncio.gather(*[launch_subagent('a', {}) for _ in range(3)])\n```",
];

/// What is said in a turn of this seed: several of the turns above, damaged, or one thing very often.
fn words(seed: u64) -> String {
    let mut seeded = Seeded::new(seed);
    if seeded.below(10) == 0 {
        let often = [
            "[",
            "{\"a\":",
            "<tool_call>",
            "((",
            "9",
            "\\u0000",
            "```python\n",
            "<think>",
        ][seeded.below(8)];
        return format!(
            "<tool_call>\n{{\"name\": \"twice\", \"arguments\": {}",
            often.repeat(5_000)
        );
    }
    let turns = (0..=seeded.below(3)).map(|_| TURNS[seeded.below(TURNS.len())]);
    let turns: String = turns.collect::<Vec<_>>().join("\n");
    String::from_utf8_lossy(&mutated(turns.as_bytes(), seed)).into_owned()
}

/// A goal in whose place every node says something else in every turn: the parts of the goal are seeds.
fn goal(seed: u64) -> String {
    (0..4)
        .map(|turn| (4 * seed + turn).to_string())
        .collect::<Vec<_>>()
        .join("\n---\n")
}

fn say(turn: &str) -> String {
    turn.parse().map(words).unwrap_or_default()
}

fn assert_sound(run: &desk::Run, seed: u64) {
    assert!(run.rollout.faults.is_empty(), "{seed}: {:?}", run.rollout.faults);
    for node in run.rollout.tree.nodes() {
        assert!(
            node.status.is_some_and(|status| status != NodeStatus::Invalid),
            "{seed}: {:?}",
            node.status
        );
    }
}

#[tokio::test]
async fn any_words_of_an_agent_that_calls_tools() {
    for seed in 0..400 {
        let run = desk::run(&goal(seed), ToolCalls::root, |_| 0, say).await;
        assert_sound(&run, seed);
    }
}

#[cfg(feature = "code")]
#[tokio::test]
async fn any_words_of_an_agent_that_writes_code() {
    use rao_trainer::language::{CodeCells, Sandbox};
    for seed in 0..200 {
        let root = |desk, setup| CodeCells::root(desk, setup, Sandbox::default());
        let run = desk::run(&goal(seed), root, CodeCells::state_bytes, say).await;
        assert_sound(&run, seed);
    }
}
