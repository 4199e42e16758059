//! An environment of one's own: adding up a list by halving it, one agent per half.
//!
//! Shows what a stranger has to write: an [`Environment`] (what an agent sees, may say, and what its words do), and nothing about
//! trees, budgets or batches. Here a scripted policy acts; a trained one takes its place without a change to the environment.
//!
//! ```text
//! cargo run --release --example own_environment
//! ```

use rao_backends::scripted::Scripted;
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{Job, Progress, Settings, Worker};
use rao_tree::{
    Answer, Constraint, Environment, Limits, Mask, Next, NodeStatus, Observation, Outcome, Request, Success, Token,
};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The vocabulary: two actions; tokens from `LENGTH` on say how many numbers an agent was handed.
const ADD: Token = Token(0);
const SPLIT: Token = Token(1);
const LENGTH: u32 = 2;
const VOCAB: usize = 64;

/// An agent adds up at most this many numbers by itself: the window that recursion goes beyond.
const WINDOW: usize = 2;

/// One agent's share of the list.
struct Sum {
    numbers: Vec<i64>,
    /// What it hands to its parent, as eight bytes.
    answer: Vec<u8>,
}

impl Sum {
    fn new(numbers: Vec<i64>) -> Self {
        Self {
            numbers,
            answer: Vec::new(),
        }
    }

    /// Finishes with a total; right only if it is that of the whole share.
    fn finish(&mut self, total: i64) -> Outcome {
        self.answer = total.to_le_bytes().to_vec();
        let right = total == self.numbers.iter().sum::<i64>();
        Outcome::Finish(if right { Success::ONE } else { Success::ZERO })
    }
}

impl Environment for Sum {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        let length = (self.numbers.len() as u32).min(VOCAB as u32 - LENGTH - 1);
        out.push(Token(LENGTH + length));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, action: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        if action == [SPLIT] {
            return Ok(Outcome::Delegate { children: 2 });
        }
        let seen = self.numbers.iter().take(WINDOW).sum();
        Ok(self.finish(seen))
    }

    fn child(&mut self, index: u8) -> Result<Self, Infallible> {
        let (left, right) = self.numbers.split_at(self.numbers.len() / 2);
        Ok(Self::new(if index == 0 { left } else { right }.to_vec()))
    }

    fn resume(&mut self, answers: &[Answer<'_>], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        let total = answers.iter().map(|answer| match answer {
            Answer::Ended {
                status: NodeStatus::Finished,
                value,
                ..
            } => value.as_array().map_or(0, |bytes| i64::from_le_bytes(*bytes)),
            // A child that was refused or broke contributes nothing, and the total will be wrong.
            _ => 0,
        });
        let total = total.sum();
        Ok(self.finish(total))
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "sum of {} numbers", self.numbers.len())
    }

    fn answer(&self) -> &[u8] {
        &self.answer
    }
}

impl Constraint for Sum {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        if !completion.is_empty() {
            return Next::Complete;
        }
        mask.allow(ADD);
        if self.numbers.len() > 1 {
            mask.allow(SPLIT);
        }
        Next::Draw
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // Split while there is more than one can add up alone.
    let policy = Scripted::new(VOCAB, |request: &Request<'_>, _: &mut _| {
        let length = request.prompt[0].0 - LENGTH;
        vec![if length as usize > WINDOW { SPLIT } else { ADD }]
    });
    let limits = Limits {
        depth_max: 8,
        nodes_max: 64,
        children_max: 2,
        steps_max: 1,
        tokens_max: 64,
        action_max: 1,
        context_max: 8,
        concurrent_max: 8,
        deadline_us: Some(10_000_000),
    };
    let numbers: Vec<i64> = (1..=20).collect();
    let mut jobs = std::iter::once((
        0,
        Job {
            root: Sum::new(numbers),
            task: "sum.20".into(),
            seed: 0,
            limits,
        },
    ));
    let settings = Settings {
        temperature: 1.0,
        vocab: VOCAB,
        keep_transcripts: false,
        keep_log: false,
        trees_in_flight: 1,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let rollouts = Worker::new(policy).rollout(|| jobs.next(), &settings)?;
    let rollout = &rollouts[0];
    let depth = rollout.tree.nodes().iter().map(|node| node.depth.0).max().unwrap_or(0);
    println!(
        "success {}, {} nodes, {depth} levels below the root",
        rollout.success(),
        rollout.tree.nodes().len()
    );
    println!(
        "{} tokens sampled, {} one after the other",
        rollout.sampled(),
        rollout.critical_path()
    );
    assert_eq!((rollout.success(), rollout.tree.nodes().len()), (1.0, 23));
    Ok(())
}
