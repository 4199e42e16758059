//! The token interface as a policy meets it: what is shown, what may be said, and what that does.

use super::*;
use crate::environments::textcraft::vocabulary::{LANGUAGE, VOCAB};
use crate::environments::textcraft::{Difficulty, WorldBuilder};
use std::fmt::Write;

const OPTIONS: AgentOptions = AgentOptions {
    depth_max: 1,
    slots: 8,
    shuffle_slots: false,
    interface: Interface {
        spawn: Spawning::Missing,
        parallel: true,
        amounts: false,
        names: false,
    },
};

/// One axe: 3 planks (4 of a log), 2 sticks (4 of 2 planks) and 2 nails (2 of an ore).
fn axe(inventory: &[(&str, u32)], options: AgentOptions) -> Agent {
    let mut builder = WorldBuilder::new();
    builder.base("log").unwrap();
    builder.base("ore").unwrap();
    builder.recipe("plank", None, 4, [("log", 1)]).unwrap();
    builder.recipe("stick", None, 4, [("plank", 2)]).unwrap();
    builder.recipe("nail", None, 2, [("ore", 1)]).unwrap();
    let parts = [("plank", 3), ("stick", 2), ("nail", 2)];
    builder.recipe("axe", None, 1, parts).unwrap();
    let world = Arc::new(builder.build().unwrap());
    let inventory = inventory.iter().copied();
    let task = Task::from_names(&world, "t", ("axe", 1), inventory, Difficulty::Easy).unwrap();
    Agent::root(&world, &task, options, 1)
}

/// Reads what [`Language::render`](crate::environments::Language::render) writes.
fn tokens(text: &str) -> Vec<Token> {
    let vocabulary: Vec<String> = (0..VOCAB as u32).map(|id| LANGUAGE.render([Token(id)])).collect();
    let token = |word: &str| {
        let id = vocabulary.iter().position(|known| known == word);
        Token(id.unwrap_or_else(|| panic!("{word} is no word")) as u32)
    };
    text.split_whitespace().map(token).collect()
}

/// What is written into an observation, and what else comes of it.
fn seen<T>(write: impl FnOnce(&mut Observation<'_>) -> Result<T, AgentError>) -> (String, T) {
    let mut room = [Token(0); 64];
    let mut out = Observation::new(&mut room);
    let value = write(&mut out).unwrap();
    (LANGUAGE.render(out.tokens().iter().copied()), value)
}

fn prompt(agent: &mut Agent) -> String {
    seen(|out| agent.observe(out)).0
}

/// The words that may follow, or `complete`.
fn allowed(agent: &mut Agent, completion: &str) -> String {
    let mut words = vec![0; Mask::words(VOCAB)];
    let mut mask = Mask::cleared(&mut words);
    match agent.next(&tokens(completion), &mut mask) {
        Next::Complete => "complete".into(),
        Next::Draw => LANGUAGE.render((0..VOCAB as u32).map(Token).filter(|&token| mask.allows(token))),
    }
}

/// What the node sees of an action, whether or not it is allowed.
fn step(agent: &mut Agent, action: &str) -> (String, Outcome) {
    let action = tokens(action);
    seen(|out| agent.step(&action, out))
}

/// What the node sees of an allowed action; the outcome where it does not simply go on.
fn act(agent: &mut Agent, action: &str) -> String {
    let words: Vec<&str> = action.split_whitespace().collect();
    for (place, word) in words.iter().enumerate() {
        let allowed = allowed(agent, &words[..place].join(" "));
        assert!(
            allowed.split(' ').any(|known| known == *word),
            "{action}: {allowed} before {word}"
        );
    }
    assert_eq!(allowed(agent, action), "complete", "{action}");
    match step(agent, action) {
        (shown, Outcome::Continue) => shown,
        (shown, Outcome::Delegate { children }) => format!("{shown}(children: {children})"),
        (shown, Outcome::Finish(success)) => format!("{shown}(success {})", success.value()),
        (_, ended @ (Outcome::Truncate(_) | Outcome::Fail | Outcome::Submit)) => panic!("{ended:?}"),
    }
}

fn ended(success: bool) -> Answer<'static> {
    Answer::Ended {
        status: NodeStatus::Finished,
        success: if success { Success::ONE } else { Success::ZERO },
        value: &[],
    }
}

/// What the node sees of its children's answers.
fn resume(agent: &mut Agent, successes: &[bool]) -> String {
    let answers: Vec<_> = successes.iter().map(|&success| ended(success)).collect();
    seen(|out| agent.resume(&answers, out)).0
}

/// An agent that knows it lacks planks (S1), sticks (S2) and nails (S3).
fn informed(options: AgentOptions) -> Agent {
    let mut root = axe(&[("log", 2), ("ore", 1)], options);
    act(&mut root, "INFO S0");
    root
}

/// Plays the actions and writes down the whole context.
fn transcript(agent: &mut Agent, indent: &str, actions: &[&str], out: &mut String) {
    let prompt = prompt(agent);
    writeln!(out, "{indent}{prompt}").unwrap();
    play(agent, indent, actions, out);
}

fn play(agent: &mut Agent, indent: &str, actions: &[&str], out: &mut String) {
    for action in actions {
        let shown = act(agent, action);
        writeln!(out, "{indent}{action:<25} {shown}").unwrap();
    }
}

/// Lets the children of the delegation under way play, one after the other, and hands their verdicts over.
fn delegate(agent: &mut Agent, scripts: &[&[&str]], out: &mut String) {
    let mut successes = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        let mut child = agent.child(index as u8).unwrap();
        transcript(&mut child, "    ", script, out);
        successes.push(child.workshop().verdict(child.actor));
    }
    writeln!(out, "{:<25} {}", "", resume(agent, &successes)).unwrap();
}

#[test]
fn a_tree_that_succeeds() {
    let mut out = String::new();
    let mut root = axe(&[("log", 2), ("ore", 1)], OPTIONS);
    transcript(&mut root, "", &["INFO S0", "SPAWN S1 AND S2 AND S3"], &mut out);
    let direct: &[&str] = &["INFO S0", "CRAFT S0", "FINISH"];
    delegate(&mut root, &[direct, direct, direct], &mut out);
    play(&mut root, "", &["CRAFT S0", "INFO S0", "SPAWN S1 GO"], &mut out);
    delegate(&mut root, &[direct], &mut out);
    play(&mut root, "", &["INFO S0", "CRAFT S0", "FINISH"], &mut out);
    insta::assert_snapshot!(out, @r"
    GOAL S0 #1
    INFO S0                   RES S1 #3 S2 #2 S3 #2
    SPAWN S1 AND S2 AND S3    (children: 3)
        GOAL S0 #3 DEEP
        INFO S0                   RES
        CRAFT S0                  OK
        FINISH                    (success 1)
        GOAL S0 #2 DEEP
        INFO S0                   RES
        CRAFT S0                  OK
        FINISH                    (success 1)
        GOAL S0 #2 DEEP
        INFO S0                   RES
        CRAFT S0                  OK
        FINISH                    (success 1)
                              OK OK OK
    CRAFT S0                  ERR
    INFO S0                   RES S1 #1
    SPAWN S1 GO               (children: 1)
        GOAL S0 #1 DEEP
        INFO S0                   RES
        CRAFT S0                  OK
        FINISH                    (success 1)
                              OK
    INFO S0                   RES
    CRAFT S0                  OK
    FINISH                    (success 1)
    ");
}

#[test]
fn a_tree_that_fails() {
    let mut out = String::new();
    let mut root = axe(&[("log", 1)], OPTIONS);
    transcript(&mut root, "", &["INFO S0", "INFO S3", "INFO S4", "CRAFT S4"], &mut out);
    play(&mut root, "", &["SPAWN S3 AND S2 GO"], &mut out);
    let without_ore: &[&str] = &["INFO S0", "INFO S1", "CRAFT S0", "FINISH"];
    let stick: &[&str] = &["INFO S0", "INFO S1", "CRAFT S1", "CRAFT S0", "FINISH"];
    delegate(&mut root, &[without_ore, stick], &mut out);
    play(&mut root, "", &["INFO S0", "CRAFT S0", "FINISH"], &mut out);
    insta::assert_snapshot!(out, @r"
    GOAL S0 #1
    INFO S0                   RES S1 #3 S2 #2 S3 #2
    INFO S3                   RES S4 #1
    INFO S4                   RES BASE
    CRAFT S4                  ERR
    SPAWN S3 AND S2 GO        (children: 2)
        GOAL S0 #2 DEEP
        INFO S0                   RES S1 #1
        INFO S1                   RES BASE
        CRAFT S0                  ERR
        FINISH                    (success 0)
        GOAL S0 #2 DEEP
        INFO S0                   RES S1 #2
        INFO S1                   RES
        CRAFT S1                  OK
        CRAFT S0                  OK
        FINISH                    (success 1)
                              FAIL OK
    INFO S0                   RES S1 #1 S3 #2
    CRAFT S0                  ERR
    FINISH                    (success 0)
    ");
}

#[test]
fn an_action_begins_with_what_can_be_done() {
    let mut root = axe(&[("log", 2), ("ore", 1)], OPTIONS);
    assert_eq!(
        allowed(&mut root, ""),
        "INFO CRAFT FINISH",
        "nothing is known to be missing"
    );
    act(&mut root, "INFO S0");
    assert_eq!(allowed(&mut root, ""), "INFO CRAFT SPAWN FINISH");

    let mut deep = informed(AgentOptions {
        depth_max: 0,
        ..OPTIONS
    });
    assert_eq!(prompt(&mut deep), "GOAL S0 #1 DEEP");
    assert_eq!(allowed(&mut deep, ""), "INFO CRAFT FINISH");

    let parts = [("plank", 3), ("stick", 2), ("nail", 2)];
    let mut provided = axe(&parts, OPTIONS);
    assert_eq!(act(&mut provided, "INFO S0"), "RES");
    assert_eq!(allowed(&mut provided, ""), "INFO CRAFT FINISH");
    assert_eq!(act(&mut provided, "CRAFT S0"), "OK");
}

#[test]
fn only_items_that_were_shown_can_be_named() {
    let mut root = axe(&[("log", 2), ("ore", 1)], OPTIONS);
    assert_eq!(allowed(&mut root, "INFO"), "S0");
    assert_eq!(allowed(&mut root, "CRAFT"), "S0");
    act(&mut root, "INFO S0");
    assert_eq!(allowed(&mut root, "INFO"), "S0 S1 S2 S3");
    assert_eq!(allowed(&mut root, "CRAFT"), "S0 S1 S2 S3");
}

#[test]
fn what_was_made_is_not_made_again_until_it_is_missing_again() {
    let mut agent = axe(&[("log", 9), ("ore", 9)], OPTIONS);
    prompt(&mut agent);
    assert_eq!(allowed(&mut agent, "CRAFT"), "S0", "the goal is wanted from the start");
    assert_eq!(act(&mut agent, "INFO S0"), "RES S1 #3 S2 #2 S3 #2");
    assert_eq!(act(&mut agent, "CRAFT S1"), "OK");
    assert_eq!(allowed(&mut agent, "CRAFT"), "S0 S2 S3");
    assert_eq!(
        step(&mut agent, "CRAFT S1").0,
        "ERR",
        "nor is it when it is not allowed"
    );
    // Sticks take two of the four planks: the goal says so, and planks are wanted again.
    assert_eq!(act(&mut agent, "CRAFT S2"), "OK");
    assert_eq!(act(&mut agent, "CRAFT S3"), "OK");
    assert_eq!(act(&mut agent, "CRAFT S0"), "ERR");
    assert_eq!(act(&mut agent, "INFO S0"), "RES S1 #1");
    assert_eq!(act(&mut agent, "CRAFT S1"), "OK");
    assert_eq!(act(&mut agent, "CRAFT S0"), "OK");
    assert_eq!(allowed(&mut agent, ""), "INFO FINISH");
    assert_eq!(act(&mut agent, "FINISH"), "(success 1)");
}

#[test]
fn a_delegation_names_up_to_three_missing_items_once_each() {
    let mut root = informed(OPTIONS);
    for (completion, expected) in [
        ("SPAWN", "S1 S2 S3"),
        ("SPAWN S2", "AND GO"),
        ("SPAWN S2 AND", "S1 S3"),
        ("SPAWN S2 AND S3", "AND GO"),
        ("SPAWN S2 AND S3 AND", "S1"),
        ("SPAWN S2 AND S3 AND S1", "complete"),
        ("SPAWN S2 GO", "complete"),
        ("SPAWN S2 AND S3 GO", "complete"),
        ("INFO S0", "complete"),
        ("CRAFT S3", "complete"),
        ("FINISH", "complete"),
    ] {
        assert_eq!(allowed(&mut root, completion), expected, "after {completion:?}");
    }
    act(&mut root, "SPAWN S1 AND S2 GO");
    assert_eq!(resume(&mut root, &[true, false]), "OK FAIL");
    assert_eq!(
        allowed(&mut root, "SPAWN"),
        "S2 S3",
        "what was delivered is not asked for again"
    );
    act(&mut root, "SPAWN S2 AND S3 GO");
    assert_eq!(resume(&mut root, &[true, false]), "OK FAIL");
    assert_eq!(allowed(&mut root, "SPAWN S3"), "GO", "nothing else is missing");
}

#[test]
fn what_the_goal_lacks_is_known_from_its_own_info() {
    // One plank is missing for the axe, none for the sticks.
    let mut root = axe(&[("plank", 2), ("ore", 1)], OPTIONS);
    assert_eq!(act(&mut root, "INFO S0"), "RES S1 #1 S2 #2 S3 #2");
    assert_eq!(act(&mut root, "INFO S2"), "RES");
    assert_eq!(
        allowed(&mut root, "SPAWN"),
        "S1 S2 S3",
        "an INFO of the sticks says nothing of the axe"
    );

    // A child says that it delivered, and the stock says otherwise.
    act(&mut root, "SPAWN S1 GO");
    resume(&mut root, &[true]);
    act(&mut root, "INFO S2");
    assert_eq!(allowed(&mut root, "SPAWN"), "S2 S3");
    act(&mut root, "INFO S0");
    assert_eq!(allowed(&mut root, "SPAWN"), "S1 S2 S3");

    // The sticks use the planks up.
    act(&mut root, "CRAFT S2");
    assert_eq!(act(&mut root, "INFO S0"), "RES S1 #3 S3 #2");
    assert_eq!(
        allowed(&mut root, "SPAWN"),
        "S1 S3",
        "nothing of the sticks is missing any more"
    );
}

#[test]
fn the_info_of_another_item_asks_for_what_it_shows() {
    let mut root = axe(&[("plank", 3), ("ore", 1)], OPTIONS);
    assert_eq!(act(&mut root, "INFO S0"), "RES S1 #2 S2 #2", "sticks and nails");
    act(&mut root, "CRAFT S1");
    assert_eq!(
        act(&mut root, "INFO S0"),
        "RES S3 #2 S2 #2",
        "the planks are gone, and seen last"
    );
    act(&mut root, "SPAWN S3 GO");
    resume(&mut root, &[true]);
    assert_eq!(
        act(&mut root, "INFO S1"),
        "RES",
        "no stick is missing, so nothing is for them"
    );
    assert_eq!(allowed(&mut root, "SPAWN"), "S2");
    assert_eq!(act(&mut root, "INFO S3"), "RES S4 #1", "planks take a log");
    assert_eq!(allowed(&mut root, "SPAWN"), "S2 S4");
}

#[test]
fn a_malformed_action_is_an_error_and_nothing_else() {
    let mut root = informed(OPTIONS);
    let before = format!("{root:?}");
    for action in [
        "",
        "?",
        "S1",
        "GO",
        "OK",
        "GOAL S0 #1",
        "INFO",
        "INFO S4",
        "INFO #1",
        "INFO S0 S1",
        "CRAFT",
        "CRAFT S4",
        "FINISH FINISH",
        "SPAWN",
        "SPAWN GO",
        "SPAWN S0 GO",
        "SPAWN S4 GO",
        "SPAWN S1",
        "SPAWN S1 AND",
        "SPAWN S1 AND GO",
        "SPAWN S1 S2 GO",
        "SPAWN S1 GO GO",
        "SPAWN S1 AND S1 GO",
        "SPAWN S1 AND S2",
        "SPAWN S1 AND S2 AND",
        "SPAWN S1 AND S2 AND S3 GO",
    ] {
        assert_eq!(step(&mut root, action), ("ERR".into(), Outcome::Continue), "{action}");
        assert_eq!(format!("{root:?}"), before, "{action}");
    }
    let mut deep = informed(AgentOptions {
        depth_max: 0,
        ..OPTIONS
    });
    assert_eq!(step(&mut deep, "SPAWN S1 GO"), ("ERR".into(), Outcome::Continue));
}

#[test]
fn shuffled_slots_change_the_numbers_and_nothing_else() {
    let shuffled = AgentOptions {
        slots: SLOTS,
        shuffle_slots: true,
        ..OPTIONS
    };
    let mut root = axe(&[("log", 2), ("ore", 1)], shuffled);
    let slots = |agent: &Agent| {
        (0..agent.seen.len())
            .map(|at| agent.slot(at).to_string())
            .collect::<Vec<_>>()
    };
    let goal = root.slot(0);
    assert_eq!(prompt(&mut root), format!("GOAL {goal} #1"));
    let shown = act(&mut root, &format!("INFO {goal}"));
    let [_, plank, stick, nail] = slots(&root).try_into().unwrap();
    assert_eq!(shown, format!("RES {plank} #3 {stick} #2 {nail} #2"));

    assert_eq!(act(&mut root, &format!("SPAWN {nail} AND {plank} GO")), "(children: 2)");
    let children = [0, 1].map(|index| root.child(index).unwrap());
    let names = children.each_ref().map(|child| child.world.name(child.goal).to_owned());
    assert_eq!(names, ["nail", "plank"]);
    let namings: Vec<&[u8]> = [&root, &children[0], &children[1]].map(|agent| &*agent.naming).to_vec();
    for (place, naming) in namings.iter().enumerate() {
        let mut sorted = naming.to_vec();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..SLOTS as u8), "every slot once");
        assert!(!namings[..place].contains(naming), "each node has its own numbering");
    }
    for mut child in children {
        let goal = child.slot(0);
        act(&mut child, &format!("CRAFT {goal}"));
        assert_eq!(act(&mut child, "FINISH"), "(success 1)");
    }
    assert_eq!(resume(&mut root, &[true, true]), "OK OK");
    assert_eq!(act(&mut root, &format!("INFO {goal}")), format!("RES {stick} #2"));
}

#[test]
fn items_beyond_the_last_slot_stay_unseen() {
    let mut root = axe(&[("log", 2), ("ore", 1)], AgentOptions { slots: 2, ..OPTIONS });
    assert_eq!(act(&mut root, "INFO S0"), "RES S1 #3");
    assert_eq!(act(&mut root, "INFO S1"), "RES");
    assert_eq!(allowed(&mut root, "INFO"), "S0 S1");
    assert_eq!(allowed(&mut root, "SPAWN"), "S1");
    assert_eq!(
        act(&mut root, "CRAFT S0"),
        "ERR",
        "sticks and nails are missing all the same"
    );
}

#[test]
fn siblings_share_the_stock_and_are_judged_one_by_one() {
    let mut root = informed(OPTIONS);
    act(&mut root, "SPAWN S1 AND S2 GO");
    let [mut planks, mut sticks] = [0, 1].map(|index| root.child(index).unwrap());
    assert_eq!(act(&mut sticks, "INFO S0"), "RES S1 #2");
    assert_eq!(act(&mut planks, "CRAFT S0"), "OK");
    assert_eq!(
        act(&mut sticks, "INFO S0"),
        "RES",
        "the sibling's planks are there for all"
    );
    assert_eq!(act(&mut sticks, "CRAFT S0"), "OK");
    assert_eq!(
        act(&mut planks, "FINISH"),
        "(success 1)",
        "using planks up is the sibling's doing"
    );
    assert_eq!(act(&mut sticks, "FINISH"), "(success 1)");
    assert_eq!(resume(&mut root, &[true, true]), "OK OK");
    assert_eq!(act(&mut root, "INFO S0"), "RES S1 #1 S3 #2");

    act(&mut root, "SPAWN S1 AND S3 GO");
    let [mut planks, mut idle] = [0, 1].map(|index| root.child(index).unwrap());
    assert_eq!(act(&mut planks, "CRAFT S0"), "OK");
    assert_eq!(act(&mut idle, "FINISH"), "(success 0)");
    assert_eq!(act(&mut planks, "FINISH"), "(success 1)");
    assert_eq!(resume(&mut root, &[true, false]), "OK FAIL");
    assert_eq!(act(&mut root, "FINISH"), "(success 0)", "the axe is not made");
}

#[test]
fn a_child_that_did_not_finish_has_delivered_nothing() {
    let mut root = informed(OPTIONS);
    act(&mut root, "SPAWN S1 AND S2 GO");
    let cut = Answer::Ended {
        status: NodeStatus::Truncated(rao_tree::Limit::Tokens),
        success: Success::ONE,
        value: &[],
    };
    let answers = [cut, Answer::Refused(rao_tree::Limit::Nodes)];
    assert_eq!(seen(|out| root.resume(&answers, out)).0, "FAIL FAIL");
    assert_eq!(allowed(&mut root, "SPAWN"), "S1 S2 S3");
}

#[test]
fn a_child_that_nobody_asked_for_is_an_error() {
    let mut root = informed(OPTIONS);
    assert!(root.child(0).is_err());
    act(&mut root, "SPAWN S3 GO");
    assert!(root.child(0).is_ok());
    let error = root.child(1).unwrap_err().to_string();
    assert_eq!(error, "no launch 1 in the delegation under way");
}

fn speaking(interface: Interface) -> AgentOptions {
    AgentOptions { interface, ..OPTIONS }
}

#[test]
fn free_spawning_hands_on_whatever_was_seen() {
    let mut root = informed(speaking(Interface {
        spawn: Spawning::Free,
        ..Interface::default()
    }));
    assert_eq!(allowed(&mut root, "SPAWN"), "S0 S1 S2 S3", "its own goal too");
    assert_eq!(act(&mut root, "SPAWN S0 AND S1 GO"), "(children: 2)");
    let mut router = root.child(0).unwrap();
    assert_eq!(router.goal(), root.goal());
    assert_eq!(resume(&mut root, &[false, true]), "FAIL OK");
    assert_eq!(
        allowed(&mut root, "SPAWN"),
        "S0 S1 S2 S3",
        "what was delivered may be asked for again"
    );
    assert_eq!(allowed(&mut root, "SPAWN S1"), "AND GO");
    assert_eq!(allowed(&mut router, ""), "INFO CRAFT FINISH", "the deepest may not");
}

#[test]
fn without_side_by_side_a_delegation_is_one_child() {
    let mut root = informed(speaking(Interface {
        parallel: false,
        ..Interface::default()
    }));
    assert_eq!(allowed(&mut root, "SPAWN S2"), "complete");
    assert_eq!(act(&mut root, "SPAWN S2"), "(children: 1)");
    assert_eq!(resume(&mut root, &[true]), "OK");
    for malformed in ["SPAWN S1 GO", "SPAWN S1 AND S3"] {
        assert_eq!(step(&mut root, malformed).0, "ERR", "{malformed}");
    }
}

#[test]
fn written_amounts_are_what_is_made_and_asked_for() {
    let mut root = informed(speaking(Interface {
        amounts: true,
        ..Interface::default()
    }));
    let amounts = (1..=AMOUNT_MAX).map(|n| format!("#{n}")).collect::<Vec<_>>().join(" ");
    for (completion, expected) in [
        ("CRAFT S1", amounts.as_str()),
        ("CRAFT S1 #3", "complete"),
        ("SPAWN", "S1 S2 S3"),
        ("SPAWN S2", &amounts),
        ("SPAWN S2 #2", "AND GO"),
        ("SPAWN S2 #2 AND", "S1 S3"),
        ("SPAWN S2 #2 AND S1 #9 AND S3 #2", "complete"),
        ("SPAWN S2 #2 GO", "complete"),
    ] {
        assert_eq!(allowed(&mut root, completion), expected, "after {completion:?}");
    }
    for malformed in [
        "CRAFT S1",
        "CRAFT S1 #0",
        "SPAWN S2 GO",
        "SPAWN S2 #2",
        "SPAWN S2 #2 AND S2 #1 GO",
        "CRAFT S1 #1 #1",
    ] {
        assert_eq!(step(&mut root, malformed).0, "ERR", "{malformed}");
    }
    assert_eq!(act(&mut root, "SPAWN S2 #1 AND S3 #2 GO"), "(children: 2)");
    assert_eq!(
        root.child(0).unwrap().goal().1,
        1,
        "what was asked for, not what is missing"
    );
    assert_eq!(resume(&mut root, &[true, true]), "OK OK");
    assert_eq!(
        allowed(&mut root, "SPAWN"),
        "S1 S2",
        "one stick of two is not all of them"
    );
    // Planks come in fours; one log makes them.
    assert_eq!(act(&mut root, "CRAFT S1 #4"), "OK");
    assert_eq!(act(&mut root, "INFO S0"), "RES S2 #2 S3 #2");
}

#[test]
fn written_names_are_those_of_items_wherever_they_are_met() {
    let interface = Interface {
        names: true,
        ..Interface::default()
    };
    let mut root = axe(&[("log", 2), ("ore", 1)], speaking(interface));
    let item = |name| root.world.item(name).unwrap().0;
    let called = |name| vocabulary::name(item(name)).map(|word| word.to_string()).join(" ");
    let [first, second] = vocabulary::name(item("stick")).map(|word| word.to_string());
    let [log, plank, stick, nail, axe] = ["log", "plank", "stick", "nail", "axe"].map(called);
    assert_eq!(prompt(&mut root), format!("GOAL {axe} #1"));
    assert_eq!(
        act(&mut root, &format!("INFO {axe}")),
        format!("RES {plank} #3 {stick} #2 {nail} #2")
    );
    let any = (0..SLOTS).map(|n| format!("S{n}")).collect::<Vec<_>>().join(" ");
    for (completion, expected) in [
        ("INFO".to_owned(), any.as_str()),
        (format!("INFO {first}"), &any),
        (format!("INFO {first} {second}"), "complete"),
        (format!("CRAFT {first} {second}"), "complete"),
        (format!("SPAWN {first}"), &any),
        (format!("SPAWN {first} {second}"), "AND GO"),
        (format!("SPAWN {first} {second} AND"), &any),
        (format!("SPAWN {first} {second} AND S1 S2 AND S1 S3"), "complete"),
    ] {
        assert_eq!(allowed(&mut root, &completion), expected, "after {completion:?}");
    }
    for refused in [
        format!("INFO {log}"),
        format!("CRAFT {log}"),
        format!("CRAFT {first}"),
        format!("SPAWN {axe} GO"),
        format!("SPAWN {stick} AND {stick} GO"),
    ] {
        assert_eq!(step(&mut root, &refused).0, "ERR", "{refused}");
    }
    assert_eq!(act(&mut root, &format!("SPAWN {stick} AND {nail} GO")), "(children: 2)");
    let mut child = root.child(0).unwrap();
    assert_eq!(
        prompt(&mut child),
        format!("GOAL {stick} #2 DEEP"),
        "called the same there"
    );
    assert_eq!(resume(&mut root, &[true, false]), "OK FAIL");
    assert_eq!(act(&mut root, &format!("CRAFT {plank}")), "OK");
}
