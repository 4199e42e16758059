use super::*;
use crate::environments::aggregation::world::{Answer, Spec, generate};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

fn tasks(times: u32, count: usize) -> Vec<Task> {
    let [window, times, read_max] = [1_500, times, 10].map(|number| NonZeroU32::new(number).unwrap());
    let spec = Spec {
        window,
        times,
        read_max,
    };
    generate(11, &spec, count)
}

fn arguments(start: i64, count: i64, more: &[(&'static str, &str)]) -> Arguments {
    let more = more.iter().map(|&(name, value)| (name, value.into()));
    Arguments(
        [("start", start.into()), ("count", count.into())]
            .into_iter()
            .chain(more)
            .collect(),
    )
}

fn launch(arguments: Arguments) -> Launch {
    Launch {
        goal: String::new(),
        context: None,
        arguments,
    }
}

fn score(agent: &mut Analyst, answer: &Value) -> f32 {
    match agent.judge(answer) {
        Verdict::Score(success) => success.value(),
        other => panic!("{other:?}"),
    }
}

/// The lines of all of an agent's records, cut into fields, by its tools alone.
fn read(agent: &mut Analyst) -> Vec<[String; 5]> {
    let handle = agent.call("records", &Arguments::default()).unwrap();
    let [(_, Value::Int(start)), (_, Value::Int(count))] = handle.as_dict().unwrap() else {
        panic!("{handle:?}")
    };
    let (mut at, end) = (*start, start + count);
    let mut lines = Vec::new();
    while at < end {
        let some = (end - at).min(10);
        let answer = agent.call("read", &arguments(at, some, &[])).unwrap();
        for line in answer.as_list().unwrap() {
            let (number, rest) = line.as_str().unwrap().split_once(": ").unwrap();
            assert_eq!(number.parse(), Ok(lines.len() as i64 + start));
            let fields: Vec<String> = rest.split(", ").map(str::to_owned).collect();
            lines.push(fields.try_into().unwrap());
        }
        at += some;
    }
    lines
}

/// How many lines have each value of a field.
fn tally(lines: &[[String; 5]], field: Field) -> BTreeMap<String, i64> {
    let place = [1, 2, 4][field as usize];
    let mut tally: BTreeMap<String, i64> = BTreeMap::new();
    lines
        .iter()
        .for_each(|line| *tally.entry(line[place].clone()).or_default() += 1);
    tally
}

/// What is asked of a part such that the whole follows from the parts.
fn part_of(question: Question) -> Vec<(&'static str, &'static str)> {
    match question {
        Question::Compare(Filter { field, .. }, _) | Question::MostCommon(field) => {
            vec![("question", "tally"), ("field", field.name())]
        }
        _ => Vec::new(),
    }
}

/// Answers from the lines alone, knowing what to do with them.
fn solve(lines: &[[String; 5]], question: Question) -> Value {
    let is = |filter: Filter| {
        let place = [1, 2, 4][filter.field as usize];
        move |line: &&[String; 5]| line[place] == filter.name()
    };
    let amount = |line: &[String; 5]| line[3].strip_prefix("amount ").unwrap().parse::<u32>().unwrap();
    match question {
        Question::Count(filter, above) => Value::Int(
            lines
                .iter()
                .filter(is(filter))
                .filter(|line| amount(line) > above)
                .count() as i64,
        ),
        Question::Tally(field) => Value::Dict(
            tally(lines, field)
                .into_iter()
                .map(|(name, n)| (name.into(), n.into()))
                .collect(),
        ),
        Question::Earliest(filter) => lines
            .iter()
            .filter(is(filter))
            .map(|line| &line[0])
            .min()
            .map_or(world::NONE, |time| time)
            .into(),
        Question::Latest(filter) => lines
            .iter()
            .filter(is(filter))
            .map(|line| &line[0])
            .max()
            .map_or(world::NONE, |time| time)
            .into(),
        Question::Compare(Filter { field, .. }, _) | Question::MostCommon(field) => {
            combine(&[solve(lines, Question::Tally(field))], question)
        }
    }
}

/// The answer for the whole out of the answers for its parts.
fn combine(parts: &[Value], question: Question) -> Value {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, count) in parts.iter().filter_map(Value::as_dict).flatten() {
        *sums.entry(name.as_str().unwrap()).or_default() += count.as_int().unwrap();
    }
    let sum = |filter: Filter| sums.get(filter.name()).copied().unwrap_or(0);
    let times = || {
        parts
            .iter()
            .filter_map(Value::as_str)
            .filter(|time| *time != world::NONE)
    };
    match question {
        Question::Count(..) => Value::Int(parts.iter().filter_map(Value::as_int).sum()),
        Question::Earliest(_) => times().min().unwrap_or(world::NONE).into(),
        Question::Latest(_) => times().max().unwrap_or(world::NONE).into(),
        Question::MostCommon(_) => (*sums.iter().max_by_key(|(_, count)| **count).unwrap().0).into(),
        Question::Compare(one, other) if sum(one) == sum(other) => world::SAME.into(),
        Question::Compare(one, other) => if sum(one) > sum(other) {
            one.name()
        } else {
            other.name()
        }
        .into(),
        Question::Tally(_) => Value::Dict(
            sums.into_iter()
                .map(|(name, count)| (name.into(), count.into()))
                .collect(),
        ),
    }
}

#[test]
fn an_oracle_that_reads_everything_solves_every_task() {
    for times in [1, 4] {
        for task in tasks(times, 36) {
            let mut root = task.root();
            let lines = read(&mut root);
            assert_eq!(lines.len(), task.log.len());
            let answer = solve(&lines, task.question);
            assert_eq!(
                score(&mut root, &answer),
                1.0,
                "{}: {} {answer:?}",
                task.id,
                task.question
            );
        }
    }
}

#[test]
fn an_oracle_that_hands_out_chunks_solves_every_task_and_so_does_each_of_its_children() {
    for times in [2, 8, 16] {
        for task in tasks(times, 18) {
            let mut root = task.root();
            let mut parts = Vec::new();
            for start in (0..task.log.len()).step_by(30) {
                let count = 30.min(task.log.len() - start);
                let launch = launch(arguments(start as i64, count as i64, &part_of(task.question)));
                root.check(&launch).unwrap();
                let mut child = root.child(&launch).unwrap();
                let answer = solve(&read(&mut child), child.question);
                assert_eq!(score(&mut child, &answer), 1.0, "{}", child.brief().goal);
                parts.push(answer);
            }
            let answer = combine(&parts, task.question);
            assert_eq!(
                score(&mut root, &answer),
                1.0,
                "{}: {} {answer:?}",
                task.id,
                task.question
            );
        }
    }
}

#[test]
fn wrong_answers_are_worth_what_they_should_be() {
    let task = &tasks(1, 6)[0];
    let mut root = task.root();
    let Answer::Number(right) = task.answer(0..task.log.len(), task.question) else {
        panic!("the first is a count")
    };
    let right = i64::from(right);
    assert_eq!(
        [right, right - 1, right + 2].map(|answer| score(&mut root, &answer.into())),
        [1.0, 0.75, 0.5625]
    );
    assert_eq!(score(&mut root, &format!("{right}").into()), 1.0);
    for nothing in [
        Value::None,
        Value::Dict(Vec::new()),
        "many".into(),
        Value::Float(right as f64),
    ] {
        assert_eq!(score(&mut root, &nothing), 0.0);
    }
}

#[test]
fn an_agent_is_handed_numbers_not_text() {
    let task = &tasks(1, 1)[0];
    let mut root = task.root();
    let last = task.log.len() - 1;
    assert!(
        root.brief()
            .goal
            .starts_with(&format!("About records 0 to {last}: How many records have ")),
        "{}",
        root.brief().goal
    );
    assert_eq!(root.brief().context, Some(handle(&(0..task.log.len()))));
    let more = [
        ("question", "compare"),
        ("field", "kind"),
        ("value", "order"),
        ("other", "refund"),
    ];
    let mut asked = launch(arguments(5, 10, &more));
    asked.goal = "Be exact.".into();
    let mut child = root.child(&asked).unwrap();
    let goal = "About records 5 to 14: Do more records have kind order or kind refund? Answer with order, refund or same. Be exact.";
    assert_eq!(child.brief().goal, goal);
    assert_eq!(child.call("records", &Arguments::default()), Ok(handle(&(5..15))));
    assert_eq!(
        child.call("read", &arguments(4, 2, &[])).unwrap_err().0,
        "your records are 5 to 14"
    );
    asked.context = Some("x".into());
    assert_eq!(root.child(&asked).unwrap().brief().context, Some("x".into()));
}

#[test]
fn clumsy_calls_are_told_what_is_wrong() {
    let task = &tasks(1, 1)[0];
    let mut root = task.root();
    let mut refuse = |tool: &str, arguments: Arguments| root.call(tool, &arguments).unwrap_err().0;
    assert_eq!(
        refuse("grep", Arguments::default()),
        "there is no tool called grep: there are records and read"
    );
    assert_eq!(
        refuse("read", arguments(0, 11, &[])),
        "at most 10 records can be read at once, not 11"
    );
    assert_eq!(refuse("read", arguments(0, 0, &[])), "count must be at least 1, not 0");
    let own = format!("your records are 0 to {}", task.log.len() - 1);
    for (start, count) in [(-1, 2), (0, i64::MAX), (i64::MAX, 1), (task.log.len() as i64, 1)] {
        assert_eq!(refuse("read", arguments(start, count, &[])), own);
    }
    let check = |more: &[(&'static str, &str)]| root.check(&launch(arguments(0, 5, more))).unwrap_err().0;
    assert_eq!(
        check(&[("question", "sum")]),
        format!("there is no question called sum: {QUESTIONS}")
    );
    assert_eq!(check(&[("question", "tally")]), "field is missing");
    assert_eq!(
        check(&[("question", "tally"), ("field", "time")]),
        "there is no field called time: user, kind or place"
    );
    assert_eq!(
        check(&[("question", "count"), ("field", "kind"), ("value", "sale")]),
        "there is no kind called sale: order, refund, login, transfer, complaint"
    );
    let mut above = launch(arguments(
        0,
        5,
        &[("question", "count"), ("field", "kind"), ("value", "order")],
    ));
    above.arguments.0.push(("above", Value::Int(-1)));
    assert_eq!(root.check(&above).unwrap_err().0, "above must be at least 0, not -1");
    assert_eq!(
        root.check(&launch(arguments(0, 5, &[]))),
        Ok(()),
        "without a question it is the same"
    );
}
