//! From transcripts to what the learner takes.

use super::{BackendError, Sequence};
use rao_backends::candle::{Action, PackedBatch};
use rao_tree::Mask;

/// Sequences as the learner takes them: tokens one after the other, one choice per action token. `vocab` is the policy's; masks have its width.
pub(super) fn pack(sequences: &[Sequence<'_>], vocab: usize, temperature: f32) -> Result<PackedBatch, BackendError> {
    let words = Mask::words(vocab);
    let mut batch = PackedBatch::new(words);
    batch.temperature = temperature;
    let mut tokens = Vec::new();
    let mut actions = Vec::new();
    for (sequence, Sequence { transcript, weights }) in sequences.iter().enumerate() {
        if transcript.actions.len() != weights.len() {
            return Err(BackendError::Unpaired {
                sequence,
                actions: transcript.actions.len(),
                weights: weights.len(),
            });
        }
        tokens.clear();
        tokens.extend(transcript.tokens.iter().map(|token| token.0));
        actions.clear();
        let turns = transcript.actions.iter().zip(weights);
        let weights = turns.flat_map(|(span, &weight)| (0..span.len).map(move |_| weight));
        let drawn = transcript
            .action_positions()
            .zip(weights)
            .zip(&transcript.logprobs)
            .zip(transcript.masks.chunks(words));
        actions.extend(drawn.map(|(((position, weight), &logprob), mask)| Action {
            index: position as usize,
            behaviour_logprob: logprob,
            weight,
            mask,
        }));
        batch.push(&tokens, &actions)?;
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environments::textcraft::vocabulary::VOCAB;
    use crate::rollout::Transcript;
    use rao_tree::Token;

    #[test]
    fn every_token_of_an_action_weighs_what_its_action_does() {
        let span = |start, len| crate::rollout::Span { start, len };
        let transcript = Transcript {
            tokens: [1, 2, 3, 4, 5].map(Token).to_vec(),
            actions: vec![span(1, 1), span(3, 2)],
            logprobs: vec![-0.5; 3],
            masks: vec![u64::MAX; 3 * Mask::words(VOCAB)],
        };
        let packed = |weights: &[f32]| {
            let weights = weights.to_vec();
            let transcript = &transcript;
            pack(&[Sequence { transcript, weights }], VOCAB, 1.0)
        };
        assert_eq!(packed(&[0.25, 0.5]).unwrap().weights, [0.25, 0.5, 0.5]);
        let error = packed(&[0.25]).unwrap_err().to_string();
        assert_eq!(error, "sequence 0 has 2 actions and 1 weights");
    }
}
