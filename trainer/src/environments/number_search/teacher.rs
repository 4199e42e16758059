//! The flawed teacher of the warm start: it looks or delegates until nothing is left, and gives up early.

use super::vocabulary::Word;
use crate::environments::Flaws;
use crate::environments::rest::PARTS_MAX;
use rand::RngExt;
use rand_xoshiro::SplitMix64;
use rao_backends::scripted::Scripted;
use rao_tree::{Policy, Request};
use std::convert::Infallible;

/// A teacher with these flaws, for a policy of `vocab` tokens. `diligence` is for every look and every delegation: without it the node says that
/// there is nothing.
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
    let found = context.windows(3).find_map(Word::read);
    if let Some(number) = found {
        let [hundreds, tens, units] = Word::number(number);
        return vec![Word::Answer, hundreds, tens, units];
    }
    let has = |word| context.contains(&word);
    let gives_up = has(Word::Fail) && rng.random_bool(flaws.surrender) || !rng.random_bool(flaws.diligence);
    if has(Word::End) || gives_up {
        return vec![Word::Answer, Word::None];
    }
    if has(Word::Long) && !has(Word::Deep) && rng.random_bool(flaws.delegation) {
        return vec![Word::Spawn, Word::Parts(rng.random_range(2..=PARTS_MAX))];
    }
    vec![Word::Probe]
}
