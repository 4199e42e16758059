//! Agents that act by Python cells: what they may do, what they may not, and what they are told.

use crate::desk::{self, Run};
use rao_trainer::language::{CodeCells, Sandbox, Slip, Value};
use rao_tree::{Limit, NodeStatus};
use std::time::Duration;

fn sandbox() -> Sandbox {
    Sandbox {
        time: Duration::from_millis(500),
        memory: 64 << 20,
        state: 256 << 10,
        ..Sandbox::default()
    }
}

/// Runs a tree. Turn `n` of a node is cell `n` of what its goal says, divided by lines of dashes.
async fn run(goal: &str) -> Run {
    run_in(goal, sandbox()).await
}

async fn run_in(goal: &str, sandbox: Sandbox) -> Run {
    let cells = |cell: &str| format!("```python\n{cell}\n```");
    desk::run(
        goal,
        |desk, setup| CodeCells::root(desk, setup, sandbox),
        CodeCells::state_bytes,
        cells,
    )
    .await
}

/// Runs a tree whose turns are not only cells.
async fn run_raw(goal: &str) -> Run {
    desk::run(
        goal,
        |desk, setup| CodeCells::root(desk, setup, sandbox()),
        CodeCells::state_bytes,
        str::to_owned,
    )
    .await
}

#[tokio::test]
async fn variables_stay_output_is_shown_and_finish_ends() {
    let run = run("x = twice(3)\nprint('hi')\nx\n---\nfinish(x + (1,))").await;
    assert_eq!(run.told(), ["hi\n(3, 3)"]);
    assert_eq!(
        run.answer(),
        Value::Tuple(vec![3_i64.into(), 3_i64.into(), 1_i64.into()])
    );
    assert_eq!(run.status(0), NodeStatus::Finished);
    assert_eq!(run.slips(), []);
}

#[tokio::test]
async fn children_work_side_by_side_and_values_keep_their_types() {
    let run = run("\
a, b = await asyncio.gather(
    launch_subagent('finish((context, {1, 2}, b\"x\", 2**70, 0.1))', context={'k': (1, [None, True])}),
    launch_subagent(goal='finish(context)'),
)
finish([a, b, type(a[1]).__name__, a[0]['k'][1][1] is True, a[3] == 2**70])")
    .await;
    assert_eq!(run.slips(), []);
    assert_eq!(
        run.answer().to_string(),
        "[({'k': (1, [None, True])}, {1, 2}, b'x', 1180591620717411303424, 0.1), None, 'set', True, True]"
    );
    assert_eq!(run.rollout.tree.nodes().len(), 3);
    let delegations = run.delegations();
    assert_eq!(delegations, [2], "one delegation of two");
}

#[tokio::test]
async fn one_await_after_another_is_one_delegation_after_another() {
    let run = run("\
total = 0
for part in [1, 2, 3]:
    total += await launch_subagent('finish(context * 10)', context=part)
finish(total)")
    .await;
    assert_eq!(run.answer(), Value::Int(60));
    assert_eq!(run.delegations(), [1, 1, 1]);
}

#[tokio::test]
async fn children_have_children() {
    let run = run("finish(await launch_subagent('finish(1 + await launch_subagent(\"finish(1)\"))'))").await;
    assert_eq!(run.answer(), Value::Int(2));
    assert_eq!(run.rollout.tree.nodes().len(), 3);
}

#[tokio::test]
async fn a_child_without_an_answer_is_none_and_its_siblings_are_not_lost() {
    let run = run("\
answers = await asyncio.gather(launch_subagent('x = 1'), launch_subagent('finish(7)'))
answers
---
finish(answers[1])")
    .await;
    let told = run.told().remove(0);
    assert!(
        told.starts_with("launch 1 gave None: the sub-agent used up all its steps"),
        "{told}"
    );
    assert!(told.ends_with("\n[None, 7]"), "{told}");
    assert_eq!(run.answer(), Value::Int(7));
    assert_eq!(run.count(Slip::NoAnswer), 1);
    assert_eq!(run.status(1), NodeStatus::Truncated(Limit::Steps));
}

#[tokio::test]
async fn a_launch_beyond_a_limit_is_told() {
    // Three levels are allowed; the third has no such function.
    let deepest = "try:\n    launch_subagent('x')\nexcept Exception as e:\n    finish(str(e))";
    let goal =
        format!("finish(await launch_subagent('''finish(await launch_subagent(context))''', context={deepest:?}))");
    let deep = run(&goal).await;
    assert_eq!(
        deep.answer(),
        "there is no launch_subagent; there is twice, spell, finish".into()
    );

    let many = run("\
answers = []
for i in range(3):
    answers += await asyncio.gather(*[launch_subagent('finish(1)') for j in range(4)])
answers
---
finish(answers.count(1))")
    .await;
    // The tree is allowed ten nodes.
    assert_eq!(many.answer(), Value::Int(9));
    assert!(many.told()[0].contains("no more sub-agents are left to the whole team: do this part yourself"));
    assert_eq!(many.count(Slip::LaunchRefused), 3);
}

#[tokio::test]
async fn a_forgotten_await_launches_nothing_and_is_told() {
    let run = run("x = launch_subagent('finish(1)')\n1\n---\nfinish(2)").await;
    let told = run.told().remove(0);
    assert!(
        told.starts_with("1\nlaunch_subagent was called and never awaited"),
        "{told}"
    );
    assert_eq!(run.rollout.tree.nodes().len(), 1);
    assert_eq!(run.slips(), [(Slip::NeverAwaited, 1)]);
    assert_eq!(run.answer(), Value::Int(2));
}

#[tokio::test]
async fn what_is_wrong_with_a_cell_is_short_and_useful() {
    for (cell, told_in_part, slip) in [
        ("x = (1", "SyntaxError", Slip::Syntax),
        ("x = 1\n1 / 0", "line 2", Slip::Exception),
        ("y", "NameError: name 'y' is not defined", Slip::Exception),
        ("twice()", "x is missing; usage: twice(x: Any)", Slip::BadArguments),
        (
            "twice(z=1)",
            "there is no argument z; usage: twice(x: Any)",
            Slip::BadArguments,
        ),
        ("spell(3)", "text must be str, not int", Slip::BadArguments),
        ("spell('')", "RuntimeError: nothing to spell", Slip::Refused),
        (
            "twice(twice)",
            "the function twice cannot be handed over",
            Slip::Exception,
        ),
        ("while True: pass", "time limit exceeded", Slip::Time),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError", Slip::Recursion),
        ("x = 'a' * 10**10", "memory limit exceeded", Slip::Memory),
        ("x = 2 ** 10**9", "memory limit exceeded", Slip::Memory),
        (
            "x = []\nwhile True: x.append('a' * 90_000)",
            "memory limit exceeded",
            Slip::Memory,
        ),
        ("x = [0]\nwhile True: x = x + x", "memory limit exceeded", Slip::Memory),
        (
            "while True: twice(1)",
            "too many calls: more than 1000",
            Slip::Suspensions,
        ),
        ("for i in range(10**9): print('a' * 100)", "MemoryError", Slip::Memory),
        (
            "x = ['a' * 90_000 + str(i) for i in range(5)]",
            "your variables take",
            Slip::State,
        ),
        ("x = launch_subagent('y')\nfinish(1)", "not finished", Slip::EarlyFinish),
        (
            "finish(launch_subagent('y'))",
            "a launch that was not awaited cannot be",
            Slip::NeverAwaited,
        ),
        (
            "launch_subagent('a' * 5000)",
            "the goal has more than 2000 characters",
            Slip::TooLong,
        ),
        (
            "launch_subagent('a', context='b' * 100_000)",
            "at most 65536 can be handed over",
            Slip::TooLong,
        ),
        (
            "finish('b' * 100_000)",
            "at most 65536 can be handed over",
            Slip::TooLong,
        ),
        (
            "x = []\nfor i in range(50): x = [x]\nfinish(x)",
            "nested more than",
            Slip::TooLong,
        ),
        (
            "x = []\nx.append(x)\nfinish(x)",
            "cannot be handed over",
            Slip::Exception,
        ),
        ("await twice(1)", "TypeError", Slip::Exception),
    ] {
        let run = run(&format!("{cell}\n---\nfinish('fine')")).await;
        let told = run.told().remove(0);
        assert!(told.contains(told_in_part), "{cell:?} was told {told:?}");
        assert!(told.len() < 7_000, "{cell:?} was told {} bytes", told.len());
        assert!(run.count(slip) >= 1, "{cell:?} was counted as {:?}", run.slips());
        assert_eq!(run.answer(), "fine".into(), "the node went on after {cell:?}");
    }
}

#[tokio::test]
async fn a_failed_cell_keeps_what_it_did_and_the_next_has_its_own_limits() {
    let run = run("x = 1\nwhile True: x += 1\n---\nwhile True: x += 1\n---\nfinish(x > 1)").await;
    assert_eq!(run.answer(), Value::Bool(true));
    assert_eq!(run.count(Slip::Time), 2);
}

#[tokio::test]
async fn a_cell_cannot_outlast_its_time_by_catching_it() {
    let run =
        run("while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass\n---\nfinish(1)")
            .await;
    assert_eq!(run.count(Slip::Time), 1);
    assert_eq!(run.answer(), Value::Int(1));
}

#[tokio::test]
async fn deep_source_and_deep_data_do_not_break_the_process() {
    for cell in [
        format!("x = {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("x = {}1", "-".repeat(5_000)),
        format!("x = {}", "[".repeat(5_000)),
        format!("x = 1{}", " + 1".repeat(5_000)),
        format!("x = f{}", ".a".repeat(5_000)),
        (0..300)
            .map(|depth| format!("{}if True:\n", " ".repeat(depth)))
            .collect::<String>()
            + &" ".repeat(300)
            + "pass",
        "x = []\nfor i in range(100_000): x = [x]\nprint(x)\nx".to_owned(),
        "x = []\nfor i in range(100_000): x = (x,)\nx == x\nhash(x)".to_owned(),
        "class A:\n    def __repr__(self): return repr(self)\nA()".to_owned(),
        "sorted([3, 2, 1], key=lambda x: sorted([2, 1], key=lambda y: 1 / 0))".to_owned(),
    ] {
        let run = run(&format!("{cell}\n---\nfinish('fine')")).await;
        let head: String = cell.chars().take(40).collect();
        assert_eq!(run.answer(), "fine".into(), "the node went on after {head:?}");
    }
}

#[tokio::test]
async fn processes_files_environment_clock_and_network_are_out_of_reach() {
    std::env::temp_dir()
        .join("rao-escape")
        .exists()
        .then(|| panic!("left by an earlier run"));
    let path = std::env::temp_dir().join("rao-escape").display().to_string();
    for cell in [
        "open('/etc/passwd').read()",
        &format!("open({path:?}, 'w').write('x')"),
        "import os\nos.environ['PATH']",
        "import os\nos.getenv('PATH') + 'x'",
        "import os\nos.system('true')",
        "import os\nos.listdir('/')",
        "import subprocess\nsubprocess.run(['true'])",
        "import socket\nsocket.socket()",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
        &format!("from pathlib import Path\nPath({path:?}).write_text('x')"),
        "from pathlib import Path\nlist(Path('/').iterdir())",
        "import datetime\ndatetime.datetime.now().year",
        "import time\ntime.time() + 0",
        "import ctypes",
        "import sys\nsys.modules['os']",
        "__import__('os').system('true')",
        "eval('1 + 1')",
        "exec('x = 1')",
        "().__class__.__base__.__subclasses__()",
        "(lambda: 0).__globals__['x']",
        "import importlib\nimportlib.import_module('os')",
        "breakpoint()",
        "input()",
    ] {
        let run = run(&format!("{cell}\n'reached'\n---\nfinish('fine')")).await;
        let told = run.told().remove(0);
        assert!(
            !told.contains("'reached'") && told.contains("Error"),
            "{cell:?} was told {told:?}"
        );
        assert_eq!(run.answer(), "fine".into());
    }
    assert!(!std::path::Path::new(&path).exists(), "a cell wrote a file");
}

#[tokio::test]
async fn a_turn_without_code_or_cut_off_is_told() {
    let run = run_raw("no code\n---\n```json\n{}\n```\n---\n```python\nfinish(1)\n```").await;
    assert!(run.told()[0].contains("there is no code in your message"));
    assert_eq!(run.count(Slip::NoCall), 2);
    assert_eq!(run.answer(), Value::Int(1));

    let long = format!("```python\nx = 1 {}", "+ 1 ".repeat(20_000));
    let run = run_raw(&format!("{long}\n---\n```python\nfinish(1)\n```")).await;
    assert!(run.told()[0].contains("cut off"), "{:?}", run.told());
    assert_eq!(run.count(Slip::CutOff), 1);
}

/// While a parent waits it is bytes: a few hundred of its own, and what its variables take.
#[tokio::test]
async fn a_waiting_parent_is_small() {
    let run = run("x = 1\nfinish(await launch_subagent('finish(1)'))").await;
    let bytes = run.largest_wait();
    assert!((1..8_192).contains(&bytes), "{bytes} bytes");
    let run = run_in(
        "x = 'a' * 50_000\nfinish(await launch_subagent('finish(1)'))",
        sandbox(),
    )
    .await;
    let more = run.largest_wait();
    assert!((bytes + 50_000..bytes + 52_000).contains(&more), "{more} bytes");
}
