//! A backend of one's own: a bigram model, counted from what a teacher said, as a [`Policy`].
//!
//! Shows what a stranger has to write to plug in another inference engine: one method that advances a batch of requests by a token or
//! more, keeps to their constraints, and says how likely each token was. Everything else (trees, limits, credit, event logs) comes with
//! the trait.
//!
//! ```text
//! cargo run --release --example own_backend
//! ```

use rao_trainer::config::Config;
use rao_trainer::environments::textcraft::agent::{Agent, AgentOptions};
use rao_trainer::environments::textcraft::teacher::teacher;
use rao_trainer::environments::textcraft::vocabulary::{ACTION_MAX, Interface, VOCAB};
use rao_trainer::environments::textcraft::{Difficulty, official};
use rao_trainer::evaluate::select;
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{Job, Progress, Rollout, Settings, Worker};
use rao_tree::{Mask, Next, Policy, Request, Stop, Token, WeightsVersion};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

/// How often each token followed each other one, with one more for everything, so that nothing is impossible.
struct Bigram {
    counts: Vec<[f32; VOCAB]>,
    mask: [u64; Mask::words(VOCAB)],
}

impl Bigram {
    /// Counts what was said in answer to what.
    fn count(rollouts: &[Rollout]) -> Self {
        let mut counts = vec![[1.0; VOCAB]; VOCAB];
        for transcript in rollouts.iter().flat_map(|rollout| &rollout.transcripts) {
            for position in transcript.action_positions() {
                let [before, said] = [position - 1, position].map(|at| transcript.tokens[at as usize].0 as usize);
                counts[before][said] += 1.0;
            }
        }
        Self {
            counts,
            mask: [0; Mask::words(VOCAB)],
        }
    }

    /// Draws one token for a request, or says why it has ended.
    fn draw(&mut self, request: &mut Request<'_>) -> Option<Stop> {
        let mut mask = Mask::cleared(&mut self.mask);
        if let Some(constraint) = &mut request.constraint
            && constraint.next(request.completion.tokens(), &mut mask) == Next::Complete
        {
            return Some(Stop::Complete);
        }
        if request.completion.is_full() {
            return Some(Stop::Length);
        }
        let last = request.completion.tokens().last().or(request.prompt.last());
        let row = &self.counts[last.map_or(0, |token| token.0 as usize)];
        let free = request.constraint.is_none();
        let allowed = (0..VOCAB as u32).map(Token).filter(|&token| free || mask.allows(token));
        let heat = if request.temperature > 0.0 {
            request.temperature
        } else {
            1.0
        };
        let weights: Vec<(Token, f32)> = allowed
            .map(|token| (token, row[token.0 as usize].powf(1.0 / heat)))
            .collect();
        let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
        let &(mut token, mut weight) = weights.first()?;
        if request.temperature > 0.0 {
            // Randomness comes from the request's seed and the position alone: the batch around it changes nothing.
            let seed = rao_trainer::seed::derive(request.seed, &[request.completion.len() as u64]);
            let mut rest = (seed >> 40) as f32 / (1 << 24) as f32 * total;
            for &(next, share) in &weights {
                (token, weight) = (next, share);
                rest -= share;
                if rest < 0.0 {
                    break;
                }
            }
        } else {
            for &(next, share) in &weights {
                if share > weight {
                    (token, weight) = (next, share);
                }
            }
        }
        request
            .completion
            .push(token, (weight / total).ln(), Some(mask.as_words()));
        None
    }
}

impl Policy for Bigram {
    type Error = Infallible;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Infallible> {
        let mut finished = 0;
        for request in batch {
            if request.stop.is_none() {
                request.stop = self.draw(request);
            }
            finished += usize::from(request.stop.is_some());
        }
        Ok(finished)
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(0)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let benchmark = official::embedded()?;
    let config = Config::default();
    let options = AgentOptions {
        depth_max: 4,
        slots: config.agent.slots,
        shuffle_slots: false,
        interface: Interface::default(),
    };
    let settings = Settings {
        temperature: 1.0,
        vocab: VOCAB,
        keep_transcripts: true,
        keep_log: false,
        trees_in_flight: 32,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let jobs = |tasks| {
        let tasks: Vec<_> = select(tasks, Difficulty::Easy, 400).collect();
        let jobs = tasks.into_iter().zip(0_u64..).map(|(task, seed)| Job {
            root: Agent::root(&benchmark.world, task, options, seed),
            task: task.id.clone(),
            seed,
            limits: config.limits.at_depth(options.depth_max, ACTION_MAX),
        });
        jobs.enumerate()
    };
    let mean = |rollouts: &[Rollout]| rollouts.iter().map(Rollout::success).sum::<f32>() / rollouts.len() as f32;

    let mut lessons = jobs(&benchmark.train);
    let taught = Worker::new(teacher(config.warmstart.teacher, Interface::default(), VOCAB))
        .rollout(|| lessons.next(), &settings)?;
    let mut untaught = jobs(&benchmark.val);
    let before = Worker::new(Bigram::count(&[])).rollout(|| untaught.next(), &settings)?;
    let mut exam = jobs(&benchmark.val);
    let after = Worker::new(Bigram::count(&taught)).rollout(|| exam.next(), &settings)?;
    println!("teacher {:.2}", mean(&taught));
    println!("bigrams, uncounted {:.2}", mean(&before));
    println!("bigrams, counted   {:.2}", mean(&after));
    assert!(mean(&after) > mean(&before), "counting has taught it something");
    Ok(())
}
