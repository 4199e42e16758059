//! The token interface as a policy meets it: what is shown, what may be said, and what that does.

use super::*;
use crate::environments::Difficulty;
use crate::environments::number_search::vocabulary::{LANGUAGE, VOCAB};
use std::num::NonZeroU32;

/// Numbers 100 to 103 with 102 hidden, in a window of which looks take `2 * reach` tokens.
fn agent(depth_max: u8, reach: u32) -> Agent {
    let task = Task {
        id: "t".into(),
        difficulty: Difficulty::Easy,
        range: 100..=103,
        width: NonZeroU32::MIN,
        hidden: 102,
    };
    let seating = Seating {
        depth_max,
        shuffle: false,
    };
    Agent::root(&task, OVERHEAD + LOOK * reach, seating)
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

/// The words that may follow, or `complete`.
fn allowed(agent: &mut Agent, completion: &str) -> String {
    let mut words = vec![0; Mask::words(VOCAB)];
    let mut mask = Mask::cleared(&mut words);
    match agent.next(&LANGUAGE.parse(completion).unwrap(), &mut mask) {
        Next::Complete => "complete".into(),
        Next::Draw => LANGUAGE.render((0..VOCAB as u32).map(Token).filter(|&token| mask.allows(token))),
    }
}

fn ended<'a>(child: &'a Agent, outcome: Outcome) -> Answer<'a> {
    let Outcome::Finish(success) = outcome else {
        panic!("{outcome:?}")
    };
    Answer::Ended {
        status: NodeStatus::Finished,
        success,
        value: child.answer(),
    }
}

#[test]
fn a_node_looks_until_it_hits_or_nothing_is_left() {
    let mut agent = agent(0, 4);
    assert_eq!(seen(|out| agent.observe(out)).0, "FIND DEEP");
    let looks = [0; 4].map(|_| act(&mut agent, "PROBE").0);
    assert_eq!(looks, ["MISS", "MISS", "HIT H1 T0 U2", "MISS END"]);
    assert_eq!(allowed(&mut agent, ""), "ANSWER", "nothing is left to look at");
    assert_eq!(act(&mut agent, "ANSWER H1 T0 U2").1, Outcome::Finish(Success::ONE));
    assert_eq!(agent.answer(), 102_i64.to_le_bytes());
}

#[test]
fn long_is_what_does_not_fit() {
    for (reach, depth_max, prompt) in [(4, 1, "FIND"), (3, 1, "FIND LONG"), (3, 0, "FIND LONG DEEP")] {
        assert_eq!(seen(|out| agent(depth_max, reach).observe(out)).0, prompt);
    }
    // All looks that are said to fit do, with the longest prompt and answer.
    let mut agent = agent(0, 4);
    let mut room = [Token(0); (OVERHEAD + 4 * LOOK) as usize];
    let mut context = 1 + seen(|out| agent.observe(out)).0.split(' ').count();
    for action in ["PROBE", "PROBE", "PROBE", "PROBE", "ANSWER H1 T0 U2"] {
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
fn children_share_what_is_left_and_are_judged_by_their_own_part() {
    let mut root = agent(1, 1);
    assert_eq!(act(&mut root, "PROBE"), ("MISS".into(), Outcome::Continue));
    assert_eq!(allowed(&mut root, "SPAWN"), "#2 #3");
    assert_eq!(act(&mut root, "SPAWN #2").1, Outcome::Delegate { children: 2 });
    let [mut one, mut other] = [0, 1].map(|index| root.child(index).unwrap());
    assert!(root.child(2).is_err());
    let mut text = String::new();
    one.describe(&mut text).unwrap();
    assert_eq!(text, "search 2 of 100 to 103");
    assert_eq!(seen(|out| one.observe(out)).0, "FIND LONG DEEP");
    // 101 and 102 went to the first, 103 to the second.
    assert_eq!(act(&mut one, "ANSWER NONE").1, Outcome::Finish(Success::ZERO));
    let done = act(&mut other, "ANSWER NONE").1;
    assert_eq!(done, Outcome::Finish(Success::ONE), "it is not there, whoever looks");
    let found = act(&mut one, "ANSWER H1 T0 U2").1;
    assert_eq!(found, Outcome::Finish(Success::ONE));
    let answers = [ended(&one, found), ended(&other, done)];
    assert_eq!(seen(|out| root.resume(&answers, out)).0, "OK H1 T0 U2 OK NONE END");
    assert_eq!(act(&mut root, "ANSWER NONE").1, Outcome::Finish(Success::ZERO));
}

#[test]
fn what_no_child_answered_is_left_again() {
    let mut root = agent(1, 1);
    act(&mut root, "SPAWN #3");
    let mut second = root.child(1).unwrap();
    let done = act(&mut second, "ANSWER NONE").1;
    let truncated = Answer::Ended {
        status: NodeStatus::Truncated(rao_tree::Limit::Context),
        success: Success::ZERO,
        value: &[],
    };
    let answers = [truncated, ended(&second, done), Answer::Refused(rao_tree::Limit::Nodes)];
    assert_eq!(seen(|out| root.resume(&answers, out)).0, "FAIL OK NONE FAIL");
    assert_eq!(allowed(&mut root, "SPAWN"), "#2 #3", "100, 101 and 103 are left");
}

#[test]
fn the_grammar_leads_to_whole_actions_only() {
    let mut agent = agent(1, 3);
    assert_eq!(allowed(&mut agent, ""), "PROBE SPAWN ANSWER");
    assert_eq!(allowed(&mut agent, "SPAWN"), "#2 #3 #4");
    assert!(allowed(&mut agent, "ANSWER").starts_with("NONE H0 H1"));
    assert!(allowed(&mut agent, "ANSWER H1").starts_with("T0 T1"));
    for action in ["PROBE", "SPAWN #2", "ANSWER NONE", "ANSWER H1 T0 U2"] {
        assert_eq!(allowed(&mut agent, action), "complete", "{action}");
    }
    for cut in [
        "",
        "SPAWN",
        "ANSWER",
        "ANSWER H1",
        "ANSWER H1 T0",
        "ANSWER T1 H0 U2",
        "#2",
    ] {
        assert_eq!(act(&mut agent, cut), ("ERR".into(), Outcome::Continue), "{cut}");
    }
    assert_eq!(agent.rest.len(), 4, "which changed nothing");
}

#[test]
fn a_deep_node_cannot_spawn_and_nobody_hands_on_what_fits() {
    for mut agent in [agent(0, 1), agent(1, 4)] {
        assert_eq!(allowed(&mut agent, ""), "PROBE ANSWER");
        assert_eq!(act(&mut agent, "SPAWN #2").0, "ERR");
    }
}
