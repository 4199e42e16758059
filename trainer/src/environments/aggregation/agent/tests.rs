//! The token interface as a policy meets it: what is shown, what may be said, and what that does.

use super::*;
use crate::environments::Difficulty;
use crate::environments::aggregation::vocabulary::{LANGUAGE, VOCAB};
use rao_tree::Limit;

fn value(field: Field, name: &str) -> Filter {
    Filter::find(field, name).unwrap()
}

/// Four records: logins at 1 and 3, an order at 2, a refund at 0.
fn log() -> Arc<[Record]> {
    let record = |time: u32, kind: &str| Record {
        time: TICK * time,
        amount: 1,
        values: [0, value(Field::Kind, kind).value, 2],
    };
    [
        record(1, "login"),
        record(2, "order"),
        record(3, "login"),
        record(0, "refund"),
    ]
    .into()
}

/// An agent that is asked about the log, with room for reading so many records.
fn agent(ask: Ask, depth_max: u8, reach: u32) -> Agent {
    let task = Task {
        id: "t".into(),
        difficulty: Difficulty::Easy,
        log: log(),
        ask,
    };
    let seating = Seating {
        depth_max,
        shuffle: false,
    };
    Agent::root(&task, OVERHEAD + READING * reach, seating)
}

fn login() -> Filter {
    value(Field::Kind, "login")
}

fn order() -> Filter {
    value(Field::Kind, "order")
}

/// What is written into an observation, and what else comes of it.
fn seen<T>(write: impl FnOnce(&mut Observation<'_>) -> Result<T, AgentError>) -> (String, T) {
    let mut room = [Token(0); 64];
    let mut out = Observation::new(&mut room);
    let value = write(&mut out).unwrap();
    (LANGUAGE.render(out.tokens().iter().copied()), value)
}

fn act(agent: &mut Agent, action: &str) -> (String, Outcome) {
    let action = LANGUAGE.parse(action).unwrap();
    seen(|out| agent.step(&action, out))
}

/// What is shown after several actions, and what the last one led to.
fn play(agent: &mut Agent, actions: &[&str]) -> (String, Outcome) {
    let mut last = (String::new(), Outcome::Continue);
    for action in actions {
        last = act(agent, action);
    }
    last
}

/// The words that may follow, or `complete`.
fn allowed(agent: &mut Agent, completion: &str) -> String {
    let mut words = vec![0; Mask::words(VOCAB)];
    let mut mask = Mask::cleared(&mut words);
    match agent.next(&LANGUAGE.parse(completion).unwrap(), &mut mask) {
        Next::Complete => "complete".into(),
        Next::Draw => LANGUAGE.render((0..VOCAB as u32).map(Token).filter(|&token| mask.allows(token))),
    }
}

fn ended(child: &Agent) -> Answer<'_> {
    Answer::Ended {
        status: NodeStatus::Finished,
        success: Success::ONE,
        value: child.answer(),
    }
}

#[test]
fn a_node_reads_labels_adds_up_and_answers() {
    let mut agent = agent(Ask::Count(login()), 0, 4);
    assert_eq!(seen(|out| agent.observe(out)).0, "COUNT login DEEP");
    assert_eq!(allowed(&mut agent, ""), "READ", "it knows nothing yet");
    assert_eq!(act(&mut agent, "READ").0, "ada login cairo @1 login");
    assert_eq!(
        allowed(&mut agent, ""),
        "NONE login",
        "what is on view is labelled first"
    );
    assert_eq!(act(&mut agent, "login").0, "");
    assert_eq!(allowed(&mut agent, ""), "READ SUM");
    play(&mut agent, &["READ", "NONE", "READ", "login"]);
    assert_eq!(act(&mut agent, "READ").0, "ada refund cairo @0 login");
    assert_eq!(act(&mut agent, "NONE").0, "END");
    assert_eq!(act(&mut agent, "SUM").0, "RES T0 U2");
    assert_eq!(allowed(&mut agent, ""), "SUM ANSWER");
    assert_eq!(act(&mut agent, "ANSWER").1, Outcome::Finish(Success::ONE));
    assert_eq!(agent.answer(), [2]);
}

#[test]
fn every_question_has_its_tools_and_its_score() {
    let labels = |ask: Ask, labels: [&str; 4]| {
        let mut agent = agent(ask, 0, 4);
        for label in labels {
            play(&mut agent, &["READ", label]);
        }
        agent
    };
    let times = ["login", "NONE", "login", "NONE"];
    let both = ["login", "order", "login", "NONE"];
    let score = |agent: &mut Agent, tool: &str| {
        let said = act(agent, tool).0;
        let Outcome::Finish(success) = act(agent, "ANSWER").1 else {
            panic!("no answer")
        };
        (said, success.value())
    };
    let table = [
        (Ask::First(login()), times, "LEAST", "RES @1", 1.0),
        (Ask::First(login()), times, "GREATEST", "RES @3", 0.0),
        (Ask::Last(login()), times, "GREATEST", "RES @3", 1.0),
        (Ask::First(login()), ["NONE"; 4], "LEAST", "RES NONE", 0.0),
        (
            Ask::Last(value(Field::Kind, "transfer")),
            ["NONE"; 4],
            "GREATEST",
            "RES NONE",
            1.0,
        ),
        (Ask::Count(login()), ["login"; 4], "SUM", "RES T0 U4", 0.5625),
        (Ask::Both(login(), order()), both, "SUM", "RES T0 U2 T0 U1", 1.0),
        (
            Ask::Both(login(), order()),
            ["login", "NONE", "login", "NONE"],
            "SUM",
            "RES T0 U2 T0 U0",
            0.875,
        ),
        (Ask::Both(login(), order()), both, "COMPARE", "RES login", 0.0),
        (Ask::More(login(), order()), both, "COMPARE", "RES login", 1.0),
        (Ask::More(order(), login()), both, "COMPARE", "RES login", 1.0),
        (Ask::More(login(), order()), both, "SUM", "RES T0 U2 T0 U1", 0.0),
        (Ask::More(login(), order()), ["NONE"; 4], "COMPARE", "RES SAME", 0.0),
        (
            Ask::More(order(), value(Field::Kind, "refund")),
            ["NONE"; 4],
            "COMPARE",
            "RES SAME",
            1.0,
        ),
    ];
    for (ask, given, tool, said, worth) in table {
        assert_eq!(
            score(&mut labels(ask, given), tool),
            (said.to_owned(), worth),
            "{ask:?} {tool}"
        );
    }
}

#[test]
fn long_is_what_does_not_fit_and_the_rest_does() {
    let ask = Ask::Both(login(), order());
    assert_eq!(seen(|out| agent(ask, 1, 3).observe(out)).0, "BOTH login order LONG");
    assert_eq!(seen(|out| agent(ask, 1, 4).observe(out)).0, "BOTH login order");
    // The longest prompt, all records that are said to fit, and the longest result.
    let mut agent = agent(ask, 0, 4);
    let mut room = [Token(0); (OVERHEAD + 4 * READING) as usize];
    let mut context = 1 + seen(|out| agent.observe(out)).0.split(' ').count();
    for action in [
        "READ", "NONE", "READ", "NONE", "READ", "NONE", "READ", "NONE", "SUM", "ANSWER",
    ] {
        let action = LANGUAGE.parse(action).unwrap();
        context += action.len();
        let mut out = Observation::after(&mut room, context);
        agent.step(&action, &mut out).unwrap();
        assert!(!out.overflowed());
        context += out.tokens().len();
    }
    assert_eq!(context, room.len());
}

#[test]
fn children_answer_for_their_parts() {
    let mut root = agent(Ask::More(login(), order()), 1, 1);
    assert_eq!(seen(|out| root.observe(out)).0, "MORE login order LONG");
    assert_eq!(act(&mut root, "SPAWN #2").1, Outcome::Delegate { children: 2 });
    let [mut one, mut other] = [0, 1].map(|index| root.child(index).unwrap());
    assert!(root.child(2).is_err());
    assert_eq!(
        seen(|out| one.observe(out)).0,
        "BOTH login order LONG DEEP",
        "which is more frequent in a part says little"
    );
    let mut text = String::new();
    one.describe(&mut text).unwrap();
    assert_eq!(text, "count login and order in 2 records");
    let done = play(&mut one, &["READ", "login", "READ", "order", "SUM", "ANSWER"]).1;
    assert_eq!(done, Outcome::Finish(Success::ONE));
    play(&mut other, &["READ", "login", "READ", "NONE", "SUM", "ANSWER"]);
    let answers = [ended(&one), ended(&other)];
    let shown = seen(|out| root.resume(&answers, out)).0;
    assert_eq!(shown, "OK T0 U1 T0 U1 OK T0 U1 T0 U0 END");
    assert_eq!(act(&mut root, "COMPARE").0, "RES login");
    assert_eq!(act(&mut root, "ANSWER").1, Outcome::Finish(Success::ONE));
}

#[test]
fn times_pass_between_agents() {
    let mut root = agent(Ask::Last(login()), 1, 1);
    act(&mut root, "SPAWN #4");
    let mut children = [0, 1].map(|index| root.child(index).unwrap());
    play(&mut children[0], &["READ", "login", "GREATEST", "ANSWER"]);
    play(&mut children[1], &["READ", "NONE", "GREATEST", "ANSWER"]);
    let truncated = Answer::Ended {
        status: NodeStatus::Truncated(Limit::Context),
        success: Success::ZERO,
        value: &[],
    };
    let answers = [
        ended(&children[0]),
        ended(&children[1]),
        truncated,
        Answer::Refused(Limit::Nodes),
    ];
    assert_eq!(seen(|out| root.resume(&answers, out)).0, "OK @1 OK NONE FAIL FAIL");
    assert_eq!(
        act(&mut root, "READ").0,
        "ada login cairo @3 login",
        "what nobody answered for is left again"
    );
}

#[test]
fn a_child_that_answers_another_question_brings_nothing_back() {
    let mut root = agent(Ask::More(login(), order()), 1, 1);
    act(&mut root, "SPAWN #2");
    let mut child = root.child(0).unwrap();
    play(&mut child, &["READ", "login", "COMPARE", "ANSWER"]);
    let answers = [ended(&child), Answer::Refused(Limit::Nodes)];
    assert_eq!(seen(|out| root.resume(&answers, out)).0, "FAIL FAIL");
    assert_eq!(root.rest.len(), 4);
}

#[test]
fn only_what_does_not_fit_is_handed_on() {
    assert_eq!(allowed(&mut agent(Ask::Count(login()), 1, 3), ""), "READ SPAWN");
    assert_eq!(allowed(&mut agent(Ask::Count(login()), 1, 3), "SPAWN"), "#2 #3 #4");
    assert_eq!(allowed(&mut agent(Ask::Count(login()), 1, 4), ""), "READ");
    assert_eq!(allowed(&mut agent(Ask::Count(login()), 0, 3), ""), "READ");
    let mut fits = agent(Ask::Count(login()), 1, 4);
    assert_eq!(act(&mut fits, "SPAWN #2"), ("ERR".into(), Outcome::Continue));
}

#[test]
fn a_malformed_action_is_an_error_and_nothing_else() {
    let mut agent = agent(Ask::Count(login()), 1, 1);
    for cut in [
        "",
        "SPAWN",
        "SPAWN #2 #2",
        "#2",
        "ANSWER",
        "login",
        "LEAST",
        "SUM",
        "READ READ",
    ] {
        assert_eq!(act(&mut agent, cut), ("ERR".into(), Outcome::Continue), "{cut}");
    }
    act(&mut agent, "READ");
    for wrong in ["order", "READ", "@1", "SPAWN #2"] {
        assert_eq!(act(&mut agent, wrong).0, "ERR", "{wrong}");
    }
    assert_eq!((agent.rest.len(), agent.findings.len()), (3, 0));
}
