use super::*;
use crate::environments::Difficulty;
use crate::environments::multi_hop::world::generate;

fn tasks(difficulty: Difficulty, count: usize) -> Vec<Task> {
    generate(2, &Arc::new(Corpus::generate(6, 120).unwrap()), difficulty, count)
}

fn call(agent: &mut Seeker, tool: &str, name: &'static str, value: impl Into<Value>) -> Result<Value, ToolError> {
    agent.call(tool, &Arguments(vec![(name, value.into())]))
}

fn launch(person: &str, relations: &[&str]) -> Launch {
    Launch {
        goal: String::new(),
        context: None,
        arguments: Arguments(vec![
            ("person", person.into()),
            ("relations", relations.to_vec().into()),
        ]),
    }
}

fn score(agent: &mut Seeker, answer: &Value) -> f32 {
    match agent.judge(answer) {
        Verdict::Score(success) => success.value(),
        other => panic!("{other:?}"),
    }
}

/// The person and the relations of a goal, the first to be followed first.
fn read(goal: &str) -> (String, Vec<String>) {
    let chain = goal
        .strip_prefix("Who is ")
        .and_then(|rest| rest.split_once('?'))
        .unwrap()
        .0;
    let mut parts: Vec<&str> = chain.split(" of ").collect();
    let person = parts.pop().unwrap().to_owned();
    let relations = parts
        .iter()
        .rev()
        .map(|part| part.strip_prefix("the ").unwrap().to_owned());
    (person, relations.collect())
}

/// One hop by the tools alone.
fn hop(agent: &mut Seeker, person: &str, relation: &str) -> String {
    let found = call(agent, "search", "query", format!("{relation} of {person}"))
        .unwrap()
        .to_json()
        .unwrap();
    for hit in found.as_array().unwrap() {
        let text = call(agent, "open", "id", hit["id"].as_i64().unwrap()).unwrap();
        let fact = format!("The {relation} of {person} is ");
        let rest = text.as_str().unwrap().split_once(&fact).map(|(_, rest)| rest);
        if let Some((name, _)) = rest.and_then(|rest| rest.split_once('.')) {
            return name.to_owned();
        }
    }
    panic!("the {relation} of {person} is not among {found}")
}

#[test]
fn an_oracle_that_searches_solves_every_task() {
    for difficulty in Difficulty::ALL {
        for task in tasks(difficulty, 30) {
            let mut root = task.root();
            let (mut person, relations) = read(&root.brief().goal);
            assert_eq!(relations.len(), task.relations.len());
            for relation in relations {
                person = hop(&mut root, &person, &relation);
            }
            assert_eq!(score(&mut root, &person.into()), 1.0, "{}", task.id);
        }
    }
}

#[test]
fn an_oracle_that_hands_on_the_rest_solves_every_task_one_agent_after_the_other() {
    for task in tasks(Difficulty::Extreme, 20) {
        let mut agents = vec![task.root()];
        let answer = loop {
            let agent = agents.last_mut().unwrap();
            let (person, relations) = read(&agent.brief().goal);
            let next = hop(agent, &person, &relations[0]);
            if relations.len() == 1 {
                break Value::from(next);
            }
            let rest: Vec<&str> = relations[1..].iter().map(String::as_str).collect();
            let launch = launch(&next, &rest);
            agent.check(&launch).unwrap();
            let child = agent.child(&launch).unwrap();
            agents.push(child);
        };
        assert_eq!(agents.len(), HOPS_MAX);
        assert!(
            agents.iter_mut().all(|agent| score(agent, &answer) == 1.0),
            "{}",
            task.id
        );
    }
}

#[test]
fn only_the_name_is_right() {
    let task = &tasks(Difficulty::Easy, 1)[0];
    let mut root = task.root();
    let right = task
        .corpus
        .name(task.corpus.follow(task.person, &task.relations))
        .to_owned();
    for answer in [right.clone(), format!(" {}.", right.to_lowercase())] {
        assert_eq!(score(&mut root, &answer.into()), 1.0);
    }
    for answer in [
        Value::None,
        "".into(),
        task.corpus.name(task.person).into(),
        format!("It is {right}").into(),
    ] {
        assert_eq!(score(&mut root, &answer), 0.0, "{answer:?}");
    }
}

#[test]
fn no_search_shows_a_fact() {
    let task = &tasks(Difficulty::Easy, 1)[0];
    let mut root = task.root();
    for person in 0..task.corpus.len() {
        let found = call(&mut root, "search", "query", task.corpus.name(person)).unwrap();
        assert!((1..=HITS).contains(&found.as_list().unwrap().len()));
        for hit in found.to_json().unwrap().as_array().unwrap() {
            assert!(!hit["snippet"].as_str().unwrap().contains(" is "), "{hit}");
        }
    }
}

#[test]
fn clumsy_calls_are_told_what_is_wrong() {
    let task = &tasks(Difficulty::Easy, 1)[0];
    let mut root = task.root();
    let name = task.corpus.name(0);
    let error = |result: Result<Value, ToolError>| result.unwrap_err().0;
    assert_eq!(
        error(root.call("browse", &Arguments::default())),
        "there is no tool called browse: there are search and open"
    );
    assert_eq!(error(root.call("search", &Arguments::default())), "query is missing");
    assert_eq!(call(&mut root, "search", "query", "?!"), Ok(Value::List(Vec::new())));
    for id in [-1, 120] {
        assert_eq!(
            error(call(&mut root, "open", "id", id)),
            format!("there is no document {id}: ids are what search gives")
        );
    }
    let refuse = |person: &str, relations: &[&str]| root.check(&launch(person, relations)).unwrap_err().0;
    assert_eq!(refuse("Nobody", &["heir"]), "nobody is called Nobody");
    assert_eq!(refuse(name, &[]), "relations must name 1 to 6 relations");
    assert_eq!(refuse(name, &["heir"; 7]), "relations must name 1 to 6 relations");
    assert_eq!(
        refuse(name, &["heir", "cook"]),
        "there is no relation called cook: mentor, rival, heir, partner, guardian, neighbour"
    );
}
