//! [`Domain`]: what the trainer asks of a kind of work, so that it can train on it.

use super::Difficulty;
use rao_tree::{Environment, Policy, Token};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// A kind of work: tasks, the environment of a node, the language that a policy speaks there, and a teacher for its warm start.
///
/// # For implementers
/// Everything is a function of its arguments: two runs of one seed see the same tasks, in the same order, and the same trees.
pub trait Domain: Sync {
    /// What one tree is asked to do.
    type Task: RootTask + Sync;
    /// The environment of one node.
    type Agent: Environment + Send + 'static;

    /// The compact token language of its agents.
    const LANGUAGE: Language;

    /// Tasks to train on, of every difficulty.
    fn train(&self) -> &[Self::Task];

    /// Tasks to be judged by; none of them is trained on.
    fn val(&self) -> &[Self::Task];

    /// The root of a tree for this task.
    fn root(&self, task: &Self::Task, seating: Seating, seed: u64) -> Self::Agent;

    /// How many windows of an agent the input of such a task fills; `None` where that has no meaning.
    fn windows(&self, difficulty: Difficulty) -> Option<f64> {
        let _ = difficulty;
        None
    }

    /// Tokens of the longest action that its agents may say, at least one.
    fn action_max(&self) -> u32 {
        Self::LANGUAGE.action_max
    }

    /// A policy with these flaws that speaks the language, for a policy of `vocab` tokens.
    fn teacher(&self, flaws: Flaws, vocab: usize) -> impl Policy<Error = Infallible> + Send + 'static + use<Self>;
}

/// What is known of a task without its domain.
pub trait RootTask {
    /// Its name, unique in its domain.
    fn id(&self) -> &str;

    /// The size class that it is reported under.
    fn difficulty(&self) -> Difficulty;
}

/// How the agents of a tree are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seating {
    /// Deepest node: one that cannot spawn, and is told so. 0 is the flat agent.
    pub depth_max: u8,
    /// Draw at random what has no order of its own, so that all of it is trained; otherwise it is as it comes.
    pub shuffle: bool,
}

/// How flawed a teacher is. All are probabilities in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flaws {
    /// It takes care of a part of its task, such as a missing ingredient.
    pub diligence: f64,
    /// It has a child do it, rather than doing it itself.
    pub delegation: f64,
    /// It does something random instead of what it meant to do.
    pub distraction: f64,
    /// It gives up after a failure, rather than looking again.
    pub surrender: f64,
}

/// A compact token language, as those see it who do not speak it: samplers, files, logs.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// Tokens.
    pub vocab: usize,
    /// Tokens of the longest action.
    pub action_max: u32,
    /// After which no tool generates anything more.
    pub stop: Token,
    /// What a token is called; `None` for padding and reserved ones.
    pub word: fn(Token) -> Option<String>,
}

impl Language {
    /// What every token is called in a model of `vocab` tokens, at least [`Language::vocab`](Self): `<unusedN>` for padding and reserved ones;
    /// `[PADN]` for those beyond the language, as exporters of other models name rows without a token.
    pub fn names(self, vocab: usize) -> impl Iterator<Item = String> {
        let named = move |id| (self.word)(Token(id)).unwrap_or_else(|| format!("<unused{id}>"));
        (0..self.vocab as u32)
            .map(named)
            .chain((self.vocab..vocab).map(|id| format!("[PAD{id}]")))
    }

    /// What tells the tokens of this language from others, in a model of `vocab` tokens; exported files hold it.
    #[must_use]
    pub fn fingerprint(self, vocab: usize) -> String {
        rao_backends::fingerprint(self.names(vocab))
    }

    /// Reads what [`render`](Self::render) writes; `None` where something is no word.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<Vec<Token>> {
        let token = |name: &str| {
            let is_it = |&id: &u32| (self.word)(Token(id)).is_some_and(|word| word == name);
            (0..self.vocab as u32).find(is_it).map(Token)
        };
        text.split_whitespace().map(token).collect()
    }

    /// The words of a token sequence, for people.
    #[must_use]
    pub fn render(self, tokens: impl IntoIterator<Item = Token>) -> String {
        let words = tokens
            .into_iter()
            .map(|token| (self.word)(token).unwrap_or_else(|| "?".into()));
        words.collect::<Vec<_>>().join(" ")
    }
}
