//! People, what they are to each other, and the documents that say so.

use crate::environments::{Difficulty, RootTask};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What people are to each other.
pub const RELATIONS: [&str; 6] = ["mentor", "rival", "heir", "partner", "guardian", "neighbour"];

/// The longest chain that is asked for.
pub const HOPS_MAX: usize = 6;

/// Documents, one for every person, that say "The rival of Pemuri is Tosak.": every fact in one document only, that of either person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    /// By relation and person. Everyone is in each relation to one other, and one other to them.
    facts: Vec<Vec<usize>>,
    documents: Vec<Vec<Sentence>>,
    /// In how many sentences a word occurs.
    frequencies: HashMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sentence {
    text: String,
    words: BTreeSet<String>,
}

/// A corpus of too few people for chains without a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a corpus takes {PEOPLE_MIN} to {PEOPLE_MAX} people, not {0}")]
pub struct PeopleError(pub usize);

const PEOPLE_MIN: usize = 2 * (HOPS_MAX + 1);
/// A quarter of the names that there are.
const PEOPLE_MAX: usize = 80_000;

impl Corpus {
    /// That many people, 14 to 80,000, in relations that the seed decides.
    ///
    /// # Errors
    /// [`PeopleError`].
    pub fn generate(seed: u64, people: usize) -> Result<Self, PeopleError> {
        if !(PEOPLE_MIN..=PEOPLE_MAX).contains(&people) {
            return Err(PeopleError(people));
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut by_name = HashMap::new();
        let mut names = Vec::with_capacity(people);
        while names.len() < people {
            let name = name(&mut rng);
            if !by_name.contains_key(&name) {
                by_name.insert(name.clone(), names.len());
                names.push(name);
            }
        }
        let facts: Vec<Vec<usize>> = RELATIONS.iter().map(|_| circle(&mut rng, people)).collect();
        let mut documents = vec![Vec::new(); people];
        for (relation, facts) in RELATIONS.iter().zip(&facts) {
            for (person, &other) in facts.iter().enumerate() {
                let keeper = if rng.random_bool(0.5) { person } else { other };
                let text = format!("The {relation} of {} is {}.", names[person], names[other]);
                let words = words(&text);
                documents[keeper].push(Sentence { text, words });
            }
        }
        documents.iter_mut().for_each(|document| document.shuffle(&mut rng));
        let mut frequencies = HashMap::new();
        for word in documents.iter().flatten().flat_map(|sentence| &sentence.words) {
            *frequencies.entry(word.clone()).or_default() += 1;
        }
        Ok(Self {
            names,
            by_name,
            facts,
            documents,
            frequencies,
        })
    }

    /// How many documents there are; ids run from 0 to one less.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// There are no documents.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The person of this name.
    #[must_use]
    pub fn person(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What the person is called.
    ///
    /// # Panics
    /// When there is no such person, as everywhere here.
    #[must_use]
    pub fn name(&self, person: usize) -> &str {
        &self.names[person]
    }

    /// Whom one meets at the end of the relations, positions in [`RELATIONS`], each taken from whoever the one before led to.
    #[must_use]
    pub fn follow(&self, person: usize, relations: &[usize]) -> usize {
        relations.iter().fold(person, |at, &relation| self.facts[relation][at])
    }

    /// What a document is called, the person's name, and what it says; `None` beyond the last.
    #[must_use]
    pub fn document(&self, id: usize) -> Option<(&str, String)> {
        let sentences = self.documents.get(id)?;
        let text: Vec<&str> = sentences.iter().map(|sentence| sentence.text.as_str()).collect();
        Some((&self.names[id], text.join(" ")))
    }

    /// The ids of up to `most` documents that answer a query best, the best first: by the sentence of a document whose words that the query has, too,
    /// are rarest together. Words beyond the sixteenth are passed over.
    #[must_use]
    pub fn search(&self, query: &str, most: usize) -> Vec<usize> {
        let known = words(query).into_iter().take(QUERY_WORDS_MAX);
        let rarity: Vec<(String, f64)> = known
            .filter_map(|word| {
                let frequency = *self.frequencies.get(&word)?;
                Some((word, 1.0 / f64::from(frequency)))
            })
            .collect();
        let score = |sentence: &Sentence| -> f64 {
            let shared = rarity.iter().filter(|(word, _)| sentence.words.contains(word));
            shared.map(|(_, rarity)| rarity).sum()
        };
        let best = |(id, sentences): (usize, &Vec<Sentence>)| (id, sentences.iter().map(score).fold(0.0, f64::max));
        let mut found: Vec<(usize, f64)> = self.documents.iter().enumerate().map(best).collect();
        found.retain(|&(_, score)| score > 0.0);
        found.sort_by(|(a, one), (b, other)| other.total_cmp(one).then(a.cmp(b)));
        found.into_iter().take(most).map(|(id, _)| id).collect()
    }
}

/// Follow the relations from a person, and name whom one meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name, unique in its corpus and seed.
    pub id: String,
    /// The size class of the chain, see [`hops`].
    pub difficulty: Difficulty,
    /// The documents.
    pub corpus: Arc<Corpus>,
    /// Where the chain begins.
    pub person: usize,
    /// Positions in [`RELATIONS`], in the order in which they are followed.
    pub relations: Vec<usize>,
}

impl RootTask for Task {
    fn id(&self) -> &str {
        &self.id
    }

    fn difficulty(&self) -> Difficulty {
        self.difficulty
    }
}

/// How many relations a task chains: 2, 3, 4 and 5 in turn, or 6.
#[must_use]
pub const fn hops(difficulty: Difficulty, index: usize) -> usize {
    match difficulty {
        Difficulty::Easy => 2,
        Difficulty::Medium => 3,
        Difficulty::Hard => 4 + index % 2,
        Difficulty::Extreme => HOPS_MAX,
    }
}

/// The tasks of a seed over a corpus. No chain meets anyone twice.
#[must_use]
pub fn generate(seed: u64, corpus: &Arc<Corpus>, difficulty: Difficulty, count: usize) -> Vec<Task> {
    let task = |index| {
        let seed = crate::seed::derive(seed, &[difficulty as u64, index as u64]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let person = rng.random_range(0..corpus.len());
        Task {
            id: format!("multi-hop.{difficulty}.{index}"),
            difficulty,
            corpus: Arc::clone(corpus),
            person,
            relations: chain(&mut rng, corpus, person, hops(difficulty, index)),
        }
    };
    (0..count).map(task).collect()
}

/// Relations from one to another that was not met before. When all lead back, any will do.
fn chain(rng: &mut impl Rng, corpus: &Corpus, person: usize, hops: usize) -> Vec<usize> {
    let mut met = vec![person];
    let mut relations = Vec::with_capacity(hops);
    for _ in 0..hops {
        let at = met[met.len() - 1];
        let mut order: Vec<usize> = (0..RELATIONS.len()).collect();
        order.shuffle(rng);
        let new = order
            .iter()
            .find(|&&relation| !met.contains(&corpus.follow(at, &[relation])));
        let relation = new.copied().unwrap_or(order[0]);
        met.push(corpus.follow(at, &[relation]));
        relations.push(relation);
    }
    relations
}

const QUERY_WORDS_MAX: usize = 16;

/// Words in lower case.
fn words(text: &str) -> BTreeSet<String> {
    let words = text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// One of 343,000 names of six letters.
fn name(rng: &mut impl Rng) -> String {
    let letter = |letters: &[u8], rng: &mut dyn Rng| char::from(letters[rng.random_range(0..letters.len())]);
    let mut name = String::with_capacity(6);
    for _ in 0..3 {
        name.push(letter(b"bdfgklmnprstvz", rng));
        name.push(letter(b"aeiou", rng));
    }
    name[..1].to_uppercase() + &name[1..]
}

/// For everyone the next in one circle of all of them in random order: nobody is their own.
fn circle(rng: &mut impl Rng, people: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..people).collect();
    order.shuffle(rng);
    let mut next = vec![0; people];
    for (place, &person) in order.iter().enumerate() {
        next[person] = order[(place + 1) % people];
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn corpus() -> Arc<Corpus> {
        Arc::new(Corpus::generate(4, 200).unwrap())
    }

    #[test]
    fn every_fact_is_in_one_document_of_the_two_people_it_is_about() {
        let corpus = corpus();
        assert_eq!((corpus.len(), corpus.is_empty()), (200, false));
        for (relation, name) in RELATIONS.iter().enumerate() {
            let mut met = HashSet::new();
            for person in 0..corpus.len() {
                let other = corpus.follow(person, &[relation]);
                assert!(other != person && met.insert(other));
                let fact = format!("The {name} of {} is {}.", corpus.name(person), corpus.name(other));
                let says = |id: usize| corpus.document(id).unwrap().1.contains(&fact);
                assert_eq!(
                    [person, other].map(says).iter().filter(|said| **said).count(),
                    1,
                    "{fact}"
                );
                assert_eq!(corpus.person(corpus.name(person)), Some(person));
            }
        }
        assert_eq!(corpus.document(200), None);
    }

    #[test]
    fn a_search_for_a_fact_finds_its_document() {
        let corpus = corpus();
        for person in 0..corpus.len() {
            let [name, other] = [person, corpus.follow(person, &[1])].map(|person| corpus.name(person));
            let found = corpus.search(&format!("who is the RIVAL of {name}?"), 2);
            let says = |id: &usize| {
                corpus
                    .document(*id)
                    .unwrap()
                    .1
                    .contains(&format!("The rival of {name} is {other}."))
            };
            assert!(found.iter().any(says), "{name}: {found:?}");
        }
        assert!(corpus.search("nothing known", 5).is_empty());
        assert!(corpus.search("", 5).is_empty());
        let long = format!("{} {}", "aaaa bbbb ".repeat(1_000), "the");
        assert_eq!(
            corpus.search(&long, 5),
            [0, 1, 2, 3, 4],
            "as rare everywhere: in the order of ids"
        );
    }

    #[test]
    fn chains_have_their_length_and_meet_nobody_twice() {
        let corpus = corpus();
        for difficulty in Difficulty::ALL {
            let tasks = generate(9, &corpus, difficulty, 40);
            for (index, task) in tasks.iter().enumerate() {
                assert_eq!(task.relations.len(), hops(difficulty, index));
                let met: HashSet<usize> = (0..=task.relations.len())
                    .map(|hops| corpus.follow(task.person, &task.relations[..hops]))
                    .collect();
                assert_eq!(met.len(), task.relations.len() + 1);
            }
            assert_eq!(tasks, generate(9, &corpus, difficulty, 40));
            assert_eq!(tasks[..9], generate(9, &corpus, difficulty, 9));
            assert_ne!(tasks, generate(10, &corpus, difficulty, 40));
        }
        let lengths: BTreeSet<usize> = Difficulty::ALL
            .iter()
            .flat_map(|&of| [hops(of, 0), hops(of, 1)])
            .collect();
        assert!(lengths.into_iter().eq(2..=6));
    }

    #[test]
    fn corpora_are_of_their_seed_and_of_some_size() {
        assert_eq!(Corpus::generate(1, 14), Corpus::generate(1, 14));
        assert_ne!(Corpus::generate(1, 14), Corpus::generate(2, 14));
        assert_eq!(
            Corpus::generate(1, 3).unwrap_err().to_string(),
            "a corpus takes 14 to 80000 people, not 3"
        );
        assert_eq!(Corpus::generate(1, 80_001), Err(PeopleError(80_001)));
    }
}
