//! Requests that own their buffers.

use super::server::PATIENCE;
use rao_backends::openai::{OpenAi, OpenAiError, OpenAiOptions, Wire};
use rao_tree::{Completion, Constraint, Mask, Next, Policy, Request, SequenceId, Stop, Token};
use std::time::{Duration, Instant};

pub const VOCAB: usize = 70;
pub const WINDOW: usize = 64;
pub const END: Token = Token(9);

/// An action is complete with [`END`].
pub struct Ends(pub Vec<Token>);

impl Constraint for Ends {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if completion.last().is_some_and(|token| self.0.contains(token)) {
            return Next::Complete;
        }
        mask.allow_all();
        Next::Draw
    }

    fn ends(&self) -> Option<&[Token]> {
        Some(&self.0)
    }
}

pub struct Node {
    pub id: u64,
    pub prompt: Vec<Token>,
    pub temperature: f32,
    pub constraint: Option<Box<dyn Constraint>>,
    pub tokens: Vec<Token>,
    pub logprobs: Vec<f32>,
    pub len: usize,
    pub stop: Option<Stop>,
}

impl Node {
    pub fn new(id: u64, room: usize) -> Self {
        Self {
            id,
            prompt: vec![Token(1), Token(2), Token(3)],
            temperature: 1.0,
            constraint: Some(Box::new(Ends(vec![END]))),
            tokens: vec![Token(0); room],
            logprobs: vec![0.0; room],
            len: 0,
            stop: None,
        }
    }

    pub fn request(&mut self) -> Request<'_> {
        Request {
            sequence: SequenceId(self.id),
            prompt: &self.prompt,
            seed: self.id * 77 + 5,
            temperature: self.temperature,
            constraint: match &mut self.constraint {
                Some(constraint) => Some(&mut **constraint),
                None => None,
            },
            completion: Completion::new(&mut self.tokens, &mut self.logprobs, &mut [], 0)
                .unwrap()
                .resumed(self.len),
            stop: self.stop,
        }
    }

    /// Identifiers of what was said.
    pub fn said(&self) -> Vec<u32> {
        self.tokens[..self.len].iter().map(|token| token.0).collect()
    }
}

/// One call.
pub fn call(policy: &mut OpenAi, nodes: &mut [Node]) -> Result<usize, OpenAiError> {
    let mut batch: Vec<Request<'_>> = nodes.iter_mut().map(Node::request).collect();
    let finished = policy.sample(&mut batch)?;
    let ends: Vec<_> = batch
        .iter()
        .map(|request| (request.completion.len(), request.stop))
        .collect();
    for (node, (len, stop)) in nodes.iter_mut().zip(ends) {
        (node.len, node.stop) = (len, stop);
    }
    Ok(finished)
}

/// Calls until everything is finished.
pub fn finish(policy: &mut OpenAi, nodes: &mut [Node]) -> Result<(), OpenAiError> {
    let begun = Instant::now();
    while call(policy, nodes)? < nodes.len() {
        assert!(begun.elapsed() < PATIENCE, "a request never ends");
    }
    Ok(())
}

/// One request from its beginning to its end.
pub fn say(policy: &mut OpenAi, id: u64) -> Result<(Vec<u32>, Option<Stop>), OpenAiError> {
    let mut nodes = [Node::new(id, 4)];
    finish(policy, &mut nodes)?;
    Ok((nodes[0].said(), nodes[0].stop))
}

/// On the wire of tokens, with a model that is named, and pauses that nobody notices.
pub fn options(url: String) -> OpenAiOptions {
    OpenAiOptions {
        model: Some("m".to_owned()),
        backoff: Duration::from_millis(2),
        ..OpenAiOptions::new(
            url,
            Wire::Tokens {
                vocab: VOCAB,
                window: WINDOW,
            },
        )
    }
}
