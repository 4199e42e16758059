//! The flawed teacher of the warm start: it reads and labels, or delegates, until nothing is left, adds up and answers; and it stops early.

use super::vocabulary::Word;
use super::world::Filter;
use crate::environments::Flaws;
use crate::environments::rest::PARTS_MAX;
use rand::RngExt;
use rand_xoshiro::SplitMix64;
use rao_backends::scripted::Scripted;
use rao_tree::{Policy, Request};
use std::convert::Infallible;

/// A teacher with these flaws, for a policy of `vocab` tokens. `diligence` is for every record and every delegation: without it the node makes do with
/// what it knows. What it reads it reads well.
#[must_use]
pub fn teacher(flaws: Flaws, vocab: usize) -> impl Policy<Error = Infallible> + Send + 'static {
    Scripted::new(vocab, move |request: &Request<'_>, rng: &mut SplitMix64| {
        if rng.random_bool(flaws.distraction) {
            return Vec::new();
        }
        let words: Vec<Word> = request.prompt.iter().filter_map(|&token| Word::parse(token)).collect();
        plan(&words, &flaws, rng).into_iter().map(Word::token).collect()
    })
}

fn plan(context: &[Word], flaws: &Flaws, rng: &mut SplitMix64) -> Vec<Word> {
    let has = |word| context.contains(&word);
    let last = |word| context.iter().rposition(|&said| said == word);
    let asked: Vec<Filter> = context.iter().skip(1).map_while(|&word| value(word)).collect();
    let (read, result) = (last(Word::Read), last(Word::Res));
    if let Some(record) = read.map(|read| &context[read + 1..])
        && record.len() == 4 + asked.len()
    {
        return vec![label(&asked, record)];
    }
    if result.is_some_and(|result| read.max(last(Word::Spawn)) < Some(result)) {
        return vec![Word::Answer];
    }
    let gives_up = has(Word::Fail) && rng.random_bool(flaws.surrender) || !rng.random_bool(flaws.diligence);
    let knows = has(Word::Read) || has(Word::Ok);
    if has(Word::End) || gives_up && knows {
        return conclude(context);
    }
    if has(Word::Long) && !has(Word::Deep) && rng.random_bool(flaws.delegation) {
        return vec![Word::Spawn, Word::Parts(rng.random_range(2..=PARTS_MAX))];
    }
    vec![Word::Read]
}

fn value(word: Word) -> Option<Filter> {
    match word {
        Word::Value(value) => Some(value),
        _ => None,
    }
}

/// The value of a record that is asked about.
fn label(asked: &[Filter], record: &[Word]) -> Word {
    let mut values = record.iter().take(3).filter_map(|&word| value(word));
    values
        .find(|value| asked.contains(value))
        .map_or(Word::None, Word::Value)
}

/// The tool for the question.
fn conclude(context: &[Word]) -> Vec<Word> {
    match context.first() {
        Some(Word::Count | Word::Both) => vec![Word::Sum],
        Some(Word::More) => vec![Word::Compare],
        Some(Word::First) => vec![Word::Least],
        Some(Word::Last) => vec![Word::Greatest],
        _ => Vec::new(),
    }
}
