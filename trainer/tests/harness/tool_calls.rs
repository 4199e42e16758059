//! Agents that call tools in Qwen3's format: what they may do and what they are told.

use crate::desk::{self, Run};
use rao_trainer::language::{Slip, ToolCalls, Value};
use rao_tree::NodeStatus;

/// Runs a tree. Each line of a turn that begins with `!` is a call: name and arguments.
async fn run(goal: &str) -> Run {
    let say = |turn: &str| {
        let lines = turn.lines().map(|line| match line.strip_prefix('!') {
            Some(call) => {
                let (name, arguments) = call.split_once(' ').unwrap();
                format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>\n")
            }
            None => format!("{line}\n"),
        });
        lines.collect()
    };
    desk::run(goal, ToolCalls::root, |_| 0, say).await
}

#[tokio::test]
async fn calls_of_a_turn_are_carried_out_in_order() {
    let run = run("Look.\n!twice {\"x\": 3}\n!spell {\"text\": \"né\"}\n---\n!finish {\"answer\": [1, null]}").await;
    assert_eq!(run.told(), ["[3,3][\"n\",\"é\"]"]);
    assert_eq!(run.answer(), Value::List(vec![1_i64.into(), Value::None]));
    assert_eq!(run.slips(), []);
}

#[tokio::test]
async fn launches_of_a_turn_work_side_by_side_after_the_other_calls() {
    let child = |answer: &str| {
        format!(r#"!launch_subagent {{"goal": "!finish {{\"answer\": {answer}}}", "context": {{"k": [1.5]}}}}"#)
    };
    let run = run(&format!(
        "{}\n!twice {{\"x\": 0}}\n{}\n---\n!finish {{\"answer\": 1}}",
        child("true"),
        child("\\\"b\\\"")
    ))
    .await;
    assert_eq!(run.told(), ["true[0,0]b"], "in the order of the calls");
    assert_eq!(run.delegations(), [2]);
    assert_eq!(run.rollout.tree.nodes().len(), 3);
    assert_eq!(run.slips(), []);
}

#[tokio::test]
async fn what_is_wrong_with_a_turn_is_told_and_counted() {
    let megabyte = format!("!launch_subagent {{\"goal\": \"{}\"}}", "a".repeat(60_000));
    for (turn, told_in_part, slip) in [
        ("I am done.", "there is no tool call in your message", Slip::NoCall),
        (
            "<tool_call>\n{\"name\": \"twice\"",
            "error: a call is not valid JSON",
            Slip::BadCall,
        ),
        (
            "<tool_call>[]</tool_call>",
            "error: a call is a JSON object with \"name\"",
            Slip::BadCall,
        ),
        (
            "!thrice {}",
            "error: there is no thrice; there is twice, spell, launch_subagent, finish",
            Slip::UnknownTool,
        ),
        (
            "!twice {}",
            "error: x is missing; usage: twice(x: Any)",
            Slip::BadArguments,
        ),
        (
            "!spell {\"text\": 3}",
            "error: text must be str, not int",
            Slip::BadArguments,
        ),
        ("!spell {\"text\": \"\"}", "error: nothing to spell", Slip::Refused),
        (
            "!launch_subagent {\"goal\": \"\"}",
            "error: a goal must say something",
            Slip::Refused,
        ),
        ("!launch_subagent {}", "error: goal is missing", Slip::BadArguments),
        (
            &megabyte,
            "error: the goal has more than 2000 characters",
            Slip::TooLong,
        ),
        (
            "!launch_subagent {\"goal\": \"x\"}\n!finish {}",
            "error: not finished",
            Slip::EarlyFinish,
        ),
        (
            "!launch_subagent {\"goal\": \"x\"}",
            "error: the sub-agent used up all its steps",
            Slip::NoAnswer,
        ),
        (
            &"!twice {\"x\": 0}\n".repeat(20),
            "error: at most 16 calls a message",
            Slip::TooMany,
        ),
    ] {
        let run = run(&format!("{turn}\n---\n!finish {{\"answer\": \"fine\"}}")).await;
        let told = run.told().remove(0);
        assert!(told.contains(told_in_part), "{turn:.100?} was told {told:?}");
        assert!(run.count(slip) >= 1, "{turn:.100?} was counted as {:?}", run.slips());
        assert_eq!(run.answer(), "fine".into(), "the node went on after {turn:.100?}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_judged_is_invalid_and_one_for_a_judge_is_unjudged_without_one() {
    let run = run("!finish {\"answer\": \"unjudged\"}").await;
    assert_eq!(run.status(0), NodeStatus::Invalid);
    assert_eq!(run.rollout.faults, ["the answer could not be judged: nobody knows"]);
    let run = self::run("!finish {\"answer\": \"submit\"}").await;
    assert!(!run.rollout.is_judged());
    let run =
        self::run("!launch_subagent {\"goal\": \"!finish {\\\"answer\\\": \\\"unjudged\\\"}\"}\n---\n!finish {}").await;
    assert_eq!(run.status(1), NodeStatus::Invalid);
    assert_eq!(
        run.told(),
        ["error: the sub-agent broke down: do this part yourself, or launch smaller ones"]
    );
}
