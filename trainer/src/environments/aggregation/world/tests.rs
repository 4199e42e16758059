use super::*;
use proptest::prelude::*;

fn spec(window: u32, times: u32) -> Spec {
    let [window, times, read_max] = [window, times, 20].map(|number| NonZeroU32::new(number).unwrap());
    Spec {
        window,
        times,
        read_max,
    }
}

fn filter(field: Field, value: &str) -> Filter {
    Filter::find(field, value).unwrap()
}

/// Three orders in Oslo (one of Ada, two of Ben), a refund in Lima.
fn records() -> Vec<Record> {
    let record = |time, amount, values| Record { time, amount, values };
    vec![
        record(3 * DAY + 61, 10, [1, 0, 0]),
        record(0, 20, [0, 0, 0]),
        record(30 * DAY - 1, 30, [1, 0, 0]),
        record(DAY, 40, [2, 1, 1]),
    ]
}

#[test]
fn questions_are_answered() {
    let of = |question| answer(&records(), question);
    let [order, refund] = ["order", "refund"].map(|value| filter(Field::Kind, value));
    let login = filter(Field::Kind, "login");
    assert_eq!(of(Question::Count(order, 0)), Answer::Number(3));
    assert_eq!(of(Question::Count(order, 20)), Answer::Number(1), "above is above");
    assert_eq!(
        of(Question::Tally(Field::Kind)),
        Answer::Tally(Field::Kind, vec![3, 1, 0, 0, 0])
    );
    assert_eq!(of(Question::Compare(refund, order)), Answer::AnyOf(vec!["order"]));
    assert_eq!(
        of(Question::Compare(login, filter(Field::Kind, "transfer"))),
        Answer::AnyOf(vec!["same"])
    );
    assert_eq!(of(Question::MostCommon(Field::User)), Answer::AnyOf(vec!["ben"]));
    assert_eq!(
        answer(&records()[1..3], Question::MostCommon(Field::User)),
        Answer::AnyOf(vec!["ada", "ben"])
    );
    assert_eq!(of(Question::Earliest(order)), Answer::Time(Some(0)));
    assert_eq!(of(Question::Latest(order)), Answer::Time(Some(30 * DAY - 1)));
    assert_eq!(of(Question::Latest(login)), Answer::Time(None));
    assert_eq!(line(7, &records()[0]), "7: day 04 01:01, ben, order, amount 10, oslo");
    assert_eq!(clock(30 * DAY - 1), "day 30 23:59");
}

#[test]
fn numbers_are_worth_less_the_further_they_are_off_and_words_are_right_or_wrong() {
    let number = |reply| Answer::Number(5).score(&reply).value();
    assert_eq!([4, 5, 7].map(|given| number(Reply::Number(given))), [0.75, 1.0, 0.5625]);
    assert_eq!(number(Reply::Number(i64::MIN)), 0.0);
    assert_eq!(number(Reply::Text(" 6 ")), 0.75);
    assert_eq!([number(Reply::Text("five")), number(Reply::Tally(vec![]))], [0.0, 0.0]);

    let words = |reply| Answer::AnyOf(vec!["ada", "ben"]).score(&Reply::Text(reply)).value();
    assert_eq!([" Ada", "ben", "ada, ben", ""].map(words), [1.0, 1.0, 0.0, 0.0]);
    let time = |time, reply| Answer::Time(time).score(&Reply::Text(reply)).value();
    assert_eq!(
        [
            time(Some(DAY), "Day 02 00:00"),
            time(Some(DAY), "day 2"),
            time(None, "None")
        ],
        [1.0, 0.0, 1.0]
    );

    let tally = |given: &[(&'static str, i64)]| {
        let right = Answer::Tally(Field::Kind, vec![3, 1, 0, 0, 0]);
        right.score(&Reply::Tally(given.to_vec())).value()
    };
    assert_eq!(tally(&[("refund", 1), ("order", 3)]), 1.0);
    assert_eq!(tally(&[("refund", 1), ("order", 3), ("login", 1)]), 0.95);
    assert_eq!(tally(&[("refund", 1), ("order", 3), ("sale", 0)]), 5.0 / 6.0);
}

#[test]
fn logs_fill_the_window_as_often_as_asked_for_and_tasks_are_of_their_seed() {
    for times in [1, 2, 4, 8, 16] {
        let spec = spec(2_000, times);
        let tasks = generate(5, &spec, 12);
        for task in &tasks {
            let length: usize = task
                .log
                .iter()
                .enumerate()
                .map(|(n, record)| line(n, record).len() + 1)
                .sum();
            let asked = 2_000 * times as usize;
            assert!((asked..asked + 60).contains(&length), "{length}");
            assert!(
                task.log
                    .iter()
                    .all(|record| record.time < 30 * DAY && (1..=99).contains(&record.amount))
            );
            assert_eq!(task.difficulty, spec.difficulty());
        }
        assert_eq!(tasks, generate(5, &spec, 12));
        assert_eq!(tasks[..6], generate(5, &spec, 6));
        assert_ne!(tasks, generate(6, &spec, 12));
    }
    let kinds: std::collections::HashSet<_> = generate(5, &spec(100, 1), 6)
        .iter()
        .map(|task| std::mem::discriminant(&task.question))
        .collect();
    assert_eq!(kinds.len(), 5, "two of the six are counts");
    assert_eq!([1, 2, 8, 16].map(|times| spec(9, times).difficulty()), Difficulty::ALL);
}

proptest! {
    /// Whatever is answered, what it is worth is a success, and what is right is worth 1.
    #[test]
    fn credit_lies_in_0_to_1(right in 0..2_000_u32, given in any::<i64>(), counts in prop::collection::vec((0..12_usize, any::<i64>()), 0..12)) {
        let score = Answer::Number(right).score(&Reply::Number(given)).value();
        prop_assert!((0.0..=1.0).contains(&score));
        prop_assert_eq!(score == 1.0, i64::from(right) == given);
        let names: Vec<&str> = Field::User.values().iter().copied().chain(["x", "y", "z", "ADA"]).collect();
        let tally = Answer::Tally(Field::User, vec![right; 8]);
        let given = counts.iter().map(|&(name, count)| (names[name], count)).collect();
        prop_assert!((0.0..=1.0).contains(&tally.score(&Reply::Tally(given)).value()));
        let exact = Field::User.values().iter().map(|&name| (name, i64::from(right))).collect();
        prop_assert_eq!(tally.score(&Reply::Tally(exact)).value(), 1.0);
    }
}
