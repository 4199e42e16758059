//! [`Qwen3::logits`]: what the output layer says of one sequence, before temperature and masks.

use super::batch::{Micro, PackedBatch};
use super::composite;
use super::fused::Workspace;
use super::model::{Kernels, Qwen3, TrainError};
use super::ops::linear::Store;
use super::ops::projection::{self, Scratch, Size};
use super::parts::with_weights;

impl Qwen3 {
    /// Logits `[tokens, vocab]`, row-major: row `i` is about the token after `tokens[i]`. Empty for no tokens.
    ///
    /// Training never holds them all; this is for comparing, with another implementation or with a sampler.
    ///
    /// # Errors
    /// [`TrainError::Batch`] for a token outside the vocabulary or a sequence beyond the model's positions, or the device failed.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>, TrainError> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let mut batch = PackedBatch::new(0);
        batch.push(tokens, &[])?;
        batch.validate_sequences(self.config())?;
        let n = tokens.len();
        let micro = Micro {
            tokens: batch.tokens,
            positions: (0..n as u32).collect(),
            offsets: batch.cu_seqlens,
            rows: (0..n).collect(),
            ..Micro::default()
        };
        match self.kernels {
            Kernels::Fused => Ok(with_weights(self.weights(), self.adapter(), |weights| {
                let (fused, _) = self.fused(weights, 1);
                let mut space = Workspace::default();
                fused.forward(&micro, &mut space);
                let (inner, vocab) = (self.config().hidden_size, self.config().vocab_size);
                let head = weights.head.unwrap_or(weights.embed);
                let mut logits = vec![0.0; n * vocab];
                let size = Size {
                    n,
                    inner,
                    outer: vocab,
                    stride: vocab,
                };
                let (store, scratch) = (Store::Set, &mut Scratch::default());
                projection::forward(fused.team, &space.hidden, head, size, &mut logits, store, scratch);
                logits
            })?),
            Kernels::Composite => Ok(composite::Decoder::new(self, false).logits(&micro)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ops::check::assert_close;
    use super::super::tests::{batch, model};
    use super::super::{ModelConfig, Objective};
    use super::*;

    #[test]
    fn their_softmax_is_what_log_probabilities_are_made_of() {
        let config = ModelConfig {
            tie_word_embeddings: true,
            ..ModelConfig::tiny(113)
        };
        for kernels in [Kernels::Fused, Kernels::Composite] {
            let model = model(&config, kernels);
            let mut batch = batch(113, &[30], false);
            batch.temperature = 0.6;
            let logits = model.logits(&batch.tokens).unwrap();
            assert_eq!(logits.len(), 30 * 113);
            let logprobs: Vec<f32> = batch
                .actions
                .iter()
                .map(|&action| {
                    let row = logits[(action - 1) * 113..action * 113].iter().map(|z| z / 0.6);
                    let sum: f32 = row.clone().map(f32::exp).sum();
                    row.clone().nth(batch.tokens[action] as usize).unwrap() - sum.ln()
                })
                .collect();
            assert_close(&logprobs, &model.logprobs(&batch).unwrap(), 1e-5);
        }
    }

    #[test]
    fn a_later_token_changes_no_earlier_row_and_training_is_not_disturbed() {
        for kernels in [Kernels::Fused, Kernels::Composite] {
            let model = model(&ModelConfig::tiny(113), kernels);
            let train = batch(113, &[20, 7], false);
            let before = model.logprobs(&train).unwrap();
            let all = model.logits(&train.tokens[..20]).unwrap();
            assert_close(&model.logits(&train.tokens[..9]).unwrap(), &all[..9 * 113], 1e-5);
            assert_eq!(model.logprobs(&train).unwrap(), before);
            assert!(model.gradients(&train, Objective::default()).is_ok());
        }
    }

    #[test]
    fn nothing_gives_nothing_and_a_strange_token_is_refused() {
        let config = ModelConfig {
            max_position_embeddings: 4,
            ..ModelConfig::tiny(113)
        };
        let model = model(&config, Kernels::Fused);
        assert_eq!(model.logits(&[]).unwrap(), [0.0; 0]);
        assert_eq!(
            model.logits(&[1, 113]).unwrap_err().to_string(),
            "token 113 at 1 is outside the vocabulary of 113"
        );
        assert_eq!(
            model.logits(&[1; 5]).unwrap_err().to_string(),
            "sequence 0 has 5 tokens, the model reaches 4"
        );
    }
}
