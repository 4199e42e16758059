//! What every sampler of logits does around its model: checking requests, asking constraints, drawing.

mod draw;
pub(crate) mod softmax;

pub(crate) use draw::Draw;

use rao_tree::{Mask, Next, Request, SequenceId, Stop, Token};

/// Why a whole batch could not be advanced.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// The model gave a logit that is not a finite number: the weights have diverged.
    #[error("a logit of sequence {} is not finite", sequence.0)]
    NonFinite {
        /// The sequence.
        sequence: SequenceId,
    },
    /// There is nothing to continue.
    #[error("the prompt of sequence {} is empty", sequence.0)]
    EmptyPrompt {
        /// The sequence.
        sequence: SequenceId,
    },
    /// A token that the model does not know.
    #[error("sequence {} holds token {}, the vocabulary ends at {vocab}", sequence.0, token.0)]
    UnknownToken {
        /// The sequence.
        sequence: SequenceId,
        /// The token.
        token: Token,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A temperature that is negative or not finite.
    #[error("sequence {} asks for temperature {temperature}", sequence.0)]
    Temperature {
        /// The sequence.
        sequence: SequenceId,
        /// What was asked.
        temperature: f32,
    },
}

/// Checks a batch before its first token: hands every request that can draw to `live`, by its place in the batch, with what it may draw in its
/// words of `masks`, and ends the others. Returns how many it ended.
pub(crate) fn begin(
    batch: &mut [Request<'_>],
    vocab: usize,
    window: usize,
    masks: &mut Vec<u64>,
    mut live: impl FnMut(usize),
) -> Result<usize, SamplerError> {
    // All of them first: one that no model can answer must not cost the others anything.
    for request in batch.iter().filter(|request| request.stop.is_none()) {
        validate(request, vocab)?;
    }
    let words = Mask::words(vocab);
    masks.resize(batch.len() * words, 0);
    let mut ended = 0;
    for ((index, request), mask) in batch.iter_mut().enumerate().zip(masks.chunks_mut(words)) {
        if request.stop.is_none() {
            request.stop = consult(request, mask, window, vocab);
            match request.stop {
                Some(_) => ended += 1,
                None => live(index),
            }
        }
    }
    Ok(ended)
}

/// Refuses what no model can answer.
fn validate(request: &Request<'_>, vocab: usize) -> Result<(), SamplerError> {
    let sequence = request.sequence;
    if request.prompt.is_empty() {
        return Err(SamplerError::EmptyPrompt { sequence });
    }
    let known = |token: &&Token| token.0 as usize >= vocab;
    if let Some(&token) = request
        .prompt
        .iter()
        .find(known)
        .or_else(|| request.completion.tokens().iter().find(known))
    {
        return Err(SamplerError::UnknownToken { sequence, token, vocab });
    }
    let temperature = request.temperature;
    if !temperature.is_finite() || temperature < 0.0 {
        return Err(SamplerError::Temperature { sequence, temperature });
    }
    Ok(())
}

/// Whether a request can draw once more; if so, `mask` holds what it may draw.
pub(crate) fn consult(request: &mut Request<'_>, mask: &mut [u64], window: usize, vocab: usize) -> Option<Stop> {
    let mut stuck = false;
    if let Some(constraint) = request.constraint.as_deref_mut() {
        if constraint.next(request.completion.tokens(), &mut Mask::cleared(mask)) == Next::Complete {
            return Some(Stop::Complete);
        }
        // Bits beyond the vocabulary name no token.
        if let (Some(last), tail @ 1..) = (mask.last_mut(), vocab % 64) {
            *last &= (1 << tail) - 1;
        }
        stuck = mask.iter().all(|word| *word == 0);
    }
    if request.completion.is_full() {
        Some(Stop::Length)
    } else if request.prompt.len() + request.completion.len() > window {
        Some(Stop::ContextOverflow)
    } else {
        stuck.then_some(Stop::Stuck)
    }
}
