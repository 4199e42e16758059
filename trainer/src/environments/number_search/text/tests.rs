use super::*;
use crate::environments::Difficulty;
use crate::environments::number_search::world::{self, widths};
use std::num::NonZeroU32;

fn generate(seed: u64, difficulty: Difficulty, width: u32, count: usize) -> Vec<Task> {
    world::generate(seed, difficulty, NonZeroU32::new(width).unwrap(), count)
}

fn bounds(low: i64, high: i64) -> Arguments {
    Arguments(vec![("low", low.into()), ("high", high.into())])
}

fn launch(goal: &str, low: i64, high: i64) -> Launch {
    Launch {
        goal: goal.into(),
        context: None,
        arguments: bounds(low, high),
    }
}

fn score(search: &mut Search, answer: impl Into<Value>) -> f32 {
    match search.judge(&answer.into()) {
        Verdict::Score(success) => success.value(),
        other => panic!("{other:?}"),
    }
}

fn probe(search: &mut Search, low: i64, high: i64) -> bool {
    search.call("probe", &bounds(low, high)) == Ok(Value::Bool(true))
}

/// Searches up to four widths with probes of its own, and has children search the halves of more. Its answer, and its own probes.
fn play(search: &mut Search, most: &mut u32) -> Value {
    let (mut low, mut high) = (*search.part.start(), *search.part.end());
    let width = i64::from(search.task.width.get());
    let mut probes = 0;
    if high - low + 1 > 4 * width {
        let middle = low + (high - low) / 2;
        for launch in [launch("", low, middle), launch("", middle + 1, high)] {
            search.check(&launch).unwrap();
            let mut child = search.child(&launch).unwrap();
            let answer = play(&mut child, most);
            assert_eq!(score(&mut child, answer.clone()), 1.0);
            if answer != NOT_HERE.into() {
                return answer;
            }
        }
        return NOT_HERE.into();
    }
    let Some(hit) = (low..=high).step_by(width as usize).find(|&at| {
        probes += 1;
        probe(search, at, (at + width - 1).min(high))
    }) else {
        return NOT_HERE.into();
    };
    (low, high) = (hit, (hit + width - 1).min(high));
    while low < high {
        let middle = low + (high - low) / 2;
        probes += 1;
        if probe(search, low, middle) {
            high = middle
        } else {
            low = middle + 1
        }
    }
    *most = probes.max(*most);
    low.into()
}

#[test]
fn an_oracle_that_delegates_halves_solves_every_task_within_few_steps() {
    let mut most = 0;
    for difficulty in Difficulty::ALL {
        for task in generate(3, difficulty, 16, 40) {
            let mut root = task.root();
            let answer = play(&mut root, &mut most);
            assert_eq!(answer, Value::Int(task.hidden), "{}", task.id);
            assert_eq!(score(&mut root, answer), 1.0);
        }
    }
    assert_eq!(most, 8, "four widths and the bits of one");
    assert!(widths(Difficulty::Hard) > 25, "one agent cannot do it");
}

#[test]
fn answers_are_right_only_when_they_are_true() {
    let [task] = &generate(1, Difficulty::Easy, 8, 1)[..] else {
        panic!("one task")
    };
    let (low, high) = (*task.range.start(), *task.range.end());
    let mut root = task.root();
    for right in [Value::Int(task.hidden), format!(" {} ", task.hidden).into()] {
        assert_eq!(score(&mut root, right), 1.0);
    }
    for wrong in [
        Value::None,
        NOT_HERE.into(),
        Value::Int(task.hidden + 1),
        Value::Float(task.hidden as f64),
    ] {
        assert_eq!(score(&mut root, wrong), 0.0);
    }
    let (low, high) = if task.hidden == low {
        (low + 1, high)
    } else {
        (low, task.hidden - 1)
    };
    let mut child = root.child(&launch("", low, high)).unwrap();
    assert_eq!(
        [
            score(&mut child, "Not here"),
            score(&mut child, task.hidden),
            score(&mut child, Value::None)
        ],
        [1.0, 0.0, 0.0]
    );
}

#[test]
fn a_child_searches_its_part_and_no_more() {
    let [task] = &generate(1, Difficulty::Easy, 8, 1)[..] else {
        panic!("one task")
    };
    let low = *task.range.start();
    let mut root = task.root();
    assert_eq!(
        root.brief().goal,
        format!("Find the hidden number between {low} and {}.", low + 31)
    );
    let mut child = root.child(&launch("Hurry.", low + 8, low + 15)).unwrap();
    assert_eq!(
        child.brief().goal,
        format!("Find the hidden number between {} and {}. Hurry.", low + 8, low + 15)
    );
    let stay = format!("your range is {} to {}: stay within it", low + 8, low + 15);
    assert_eq!(child.call("probe", &bounds(low, low + 8)).unwrap_err().0, stay);
    assert_eq!(child.check(&launch("", low + 8, low + 16)).unwrap_err().0, stay);
    assert!(child.call("probe", &bounds(low + 8, low + 15)).is_ok());
}

#[test]
fn clumsy_calls_are_told_what_is_wrong() {
    let [task] = &generate(1, Difficulty::Easy, 8, 1)[..] else {
        panic!("one task")
    };
    let (low, high) = (*task.range.start(), *task.range.end());
    let mut root = task.root();
    let mut refuse = |tool: &str, arguments: Arguments| root.call(tool, &arguments).unwrap_err().0;
    assert_eq!(
        refuse("dig", bounds(low, high)),
        "there is no tool called dig: there is probe"
    );
    assert_eq!(refuse("probe", Arguments::default()), "low is missing");
    assert_eq!(refuse("probe", bounds(low + 1, low)), "low must not be above high");
    assert_eq!(
        refuse("probe", bounds(low, high)),
        "a probe covers at most 8 numbers, not 32"
    );
    assert_eq!(
        refuse("probe", bounds(i64::MIN, i64::MAX)),
        format!("your range is {low} to {high}: stay within it")
    );
    assert_eq!(
        root.check(&launch("", low, high + 1)).unwrap_err().0,
        format!("your range is {low} to {high}: stay within it")
    );
    assert_eq!(root.launch_parameters().len(), 2);
    assert!(root.instructions().contains("at most 8 numbers"));
}
