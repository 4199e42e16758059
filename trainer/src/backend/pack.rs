//! From transcripts to what the learner takes.

use super::{BackendError, Sequence};
use rao_backends::candle::{Action, PackedBatch};
use rao_tree::Mask;
use std::ops::Range;

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
        let turns = transcript.actions.iter().zip(weights);
        let each = turns.flat_map(|(span, &weight)| (0..span.len).map(move |_| (weight, span.masked)));
        let mut masks = transcript.masks.chunks(words);
        let mut drawn = transcript
            .action_positions()
            .zip(each)
            .zip(&transcript.logprobs)
            .peekable();
        // A context that began anew is a sequence of its own: nothing in it saw what was before.
        for Range { start, end } in transcript.contexts() {
            tokens.clear();
            tokens.extend(
                transcript.tokens[start as usize..end as usize]
                    .iter()
                    .map(|token| token.0),
            );
            actions.clear();
            while let Some(((position, (weight, masked)), &logprob)) = drawn.next_if(|((at, _), _)| *at < end) {
                actions.push(Action {
                    index: (position - start) as usize,
                    behaviour_logprob: logprob,
                    weight,
                    mask: if masked { masks.next().unwrap_or(&[]) } else { &[] },
                });
            }
            if !actions.is_empty() {
                batch.push(&tokens, &actions)?;
            }
        }
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
        let span = |start, len| crate::rollout::Span {
            start,
            len,
            masked: true,
        };
        let transcript = Transcript {
            tokens: [1, 2, 3, 4, 5].map(Token).to_vec(),
            starts: Vec::new(),
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
    #[test]
    fn free_text_has_no_masks() {
        let words = Mask::words(VOCAB);
        let span = |start, masked| crate::rollout::Span { start, len: 1, masked };
        let transcript = Transcript {
            tokens: [1, 2, 3].map(Token).to_vec(),
            starts: Vec::new(),
            actions: vec![span(0, false), span(1, true), span(2, false)],
            logprobs: vec![-0.5; 3],
            masks: vec![7; words],
        };
        let weights = vec![1.0; 3];
        let transcript = &transcript;
        let packed = pack(&[Sequence { transcript, weights }], VOCAB, 1.0).unwrap();
        let (free, masked) = (vec![u64::MAX; words], vec![7; words]);
        assert_eq!(packed.masks, [free.clone(), masked, free].concat());
    }

    #[test]
    fn a_context_that_began_anew_is_a_sequence_of_its_own() {
        let span = |start, len| crate::rollout::Span {
            start,
            len,
            masked: true,
        };
        let words = Mask::words(VOCAB);
        let transcript = Transcript {
            tokens: (0..9).map(Token).collect(),
            // The second holds no action: what was seen in it was replaced at once.
            starts: vec![4, 6],
            actions: vec![span(1, 2), span(7, 2)],
            logprobs: vec![-0.1, -0.2, -0.3, -0.4],
            masks: vec![u64::MAX; 4 * words],
        };
        let contexts: Vec<_> = transcript.contexts().collect();
        assert_eq!(contexts, [0..4, 4..6, 6..9]);
        assert_eq!(transcript.context(), [6, 7, 8].map(Token));
        let weights = vec![0.25, 0.5];
        let transcript = &transcript;
        let packed = pack(&[Sequence { transcript, weights }], VOCAB, 1.0).unwrap();

        let mut expected = PackedBatch::new(words);
        let mask = vec![u64::MAX; words];
        let action = |index, behaviour_logprob, weight| Action {
            index,
            behaviour_logprob,
            weight,
            mask: &mask,
        };
        let first = [action(1, -0.1, 0.25), action(2, -0.2, 0.25)];
        expected.push(&[0, 1, 2, 3], &first).unwrap();
        let second = [action(1, -0.3, 0.5), action(2, -0.4, 0.5)];
        expected.push(&[6, 7, 8], &second).unwrap();
        assert_eq!(packed, expected);
    }
}
