//! From requests to jobs, and back.

use super::engine::Job;
use super::error::LlamaCppError;
use crate::random::uniform;
use crate::sampling::{SamplerError, begin, consult};
use rao_tree::{Mask, Request, SequenceId};
use std::sync::Arc;

/// Asks the constraints, makes jobs of what is unfinished, and hands out what was drawn. Keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    live: Vec<usize>,
    masks: Vec<u64>,
    jobs: Vec<Job>,
}

impl Gatherer {
    /// What [`rao_tree::Policy::sample`] promises, over a function that draws one token for every job.
    pub(super) fn sample(
        &mut self,
        batch: &mut [Request<'_>],
        client: u64,
        vocab: usize,
        window: usize,
        mut run: impl FnMut(&mut Vec<Job>) -> Result<(), LlamaCppError>,
    ) -> Result<usize, LlamaCppError> {
        let words = Mask::words(vocab);
        self.live.clear();
        let Self { live, masks, .. } = self;
        let mut ended = begin(batch, vocab, window, masks, |index| live.push(index))?;
        self.line_up(batch, client);
        while !self.live.is_empty() {
            self.ask_for(batch, words);
            run(&mut self.jobs)?;
            for (job, &index) in self.jobs.iter_mut().zip(&self.live) {
                let request = &mut batch[index];
                let sequence = request.sequence;
                let (token, logprob) = job.drawn.ok_or(SamplerError::NonFinite { sequence })?;
                let mask = &mut self.masks[index * words..][..words];
                request.completion.push(token, logprob, job.masked.then_some(&*mask));
                // Nobody else has it any more, so that nothing is copied.
                Arc::make_mut(&mut job.context).push(token.0);
                request.stop = consult(request, mask, window, vocab);
                ended += usize::from(request.stop.is_some());
            }
            if ended > 0 {
                break;
            }
        }
        Ok(batch.iter().filter(|request| request.stop.is_some()).count())
    }

    /// One job for every live request, with its context as it is now.
    fn line_up(&mut self, batch: &[Request<'_>], client: u64) {
        self.jobs.truncate(self.live.len());
        self.jobs.resize_with(self.live.len(), || Job {
            key: (client, SequenceId(0)),
            context: Arc::default(),
            mask: Arc::default(),
            masked: false,
            temperature: 0.0,
            uniform: 0.0,
            drawn: None,
        });
        for (job, &index) in self.jobs.iter_mut().zip(&self.live) {
            let request = &batch[index];
            job.key = (client, request.sequence);
            job.temperature = request.temperature;
            job.masked = request.constraint.is_some();
            let context = Arc::make_mut(&mut job.context);
            context.clear();
            let tokens = request.prompt.iter().chain(request.completion.tokens());
            context.extend(tokens.map(|token| token.0));
        }
    }

    /// What the next token of every job may be, and where in its distribution it lies.
    fn ask_for(&mut self, batch: &[Request<'_>], words: usize) {
        for (job, &index) in self.jobs.iter_mut().zip(&self.live) {
            let request = &batch[index];
            if job.masked {
                let mask = Arc::make_mut(&mut job.mask);
                mask.clear();
                mask.extend_from_slice(&self.masks[index * words..][..words]);
            }
            job.uniform = uniform(request.seed, request.completion.len());
            job.drawn = None;
        }
    }
}
