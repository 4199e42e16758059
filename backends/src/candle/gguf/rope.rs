//! RoPE scaling in llama.cpp's terms.

use super::metadata::Metadata;
use super::{ARCHITECTURE, GgufError};
use crate::candle::config::{ModelConfig, RopeScaling, Yarn};
use crate::candle::frequencies::{attention_factor, ramp};

/// The keys that say how rotary embeddings are stretched; none if they are not.
///
/// # Errors
/// [`GgufError::RopeScaling`] for what llama.cpp's `qwen3` reads no key of, [`GgufError::TooLarge`].
pub(super) fn describe(config: &ModelConfig, metadata: &mut Metadata) -> Result<(), GgufError> {
    let refuse = |reason| Err(GgufError::RopeScaling { reason });
    let key = |name: &str| format!("{ARCHITECTURE}.rope.scaling.{name}");
    match &config.rope_scaling {
        None => Ok(()),
        Some(RopeScaling::Linear { factor }) => {
            metadata.string(&key("type"), "linear");
            metadata.f32(&key("factor"), *factor as f32);
            Ok(())
        }
        Some(RopeScaling::Llama3 { .. }) => refuse("its `qwen3` has no factors per frequency, which `llama3` needs"),
        Some(RopeScaling::Yarn(yarn)) => {
            let paper = Yarn::new(yarn.factor, yarn.original_max_position_embeddings);
            if (yarn.beta_fast, yarn.beta_slow) != (paper.beta_fast, paper.beta_slow) {
                return refuse("its `qwen3` takes no `beta_fast` and `beta_slow` but 32 and 1");
            }
            let (low, high) = ramp(yarn, config.head_dim, config.rope_theta);
            if !yarn.truncate && (low.fract(), high.fract()) != (0.0, 0.0) {
                return refuse("its ramp begins and ends at whole frequencies, and `truncate` is false");
            }
            if low > high {
                return refuse("`original_max_position_embeddings` is too short for a ramp");
            }
            metadata.string(&key("type"), "yarn");
            metadata.f32(&key("factor"), yarn.factor as f32);
            let (name, value) = (key("original_context_length"), yarn.original_max_position_embeddings);
            match u32::try_from(value) {
                Ok(value) => metadata.u32(&name, value),
                Err(_) => return Err(GgufError::TooLarge { key: name, value }),
            }
            // llama.cpp multiplies the paper's scale by this, whatever the configuration says.
            let (scale, usual) = (attention_factor(yarn), attention_factor(&paper));
            if scale != usual {
                metadata.f32(&key("attn_factor"), (scale / usual) as f32);
            }
            Ok(())
        }
    }
}
