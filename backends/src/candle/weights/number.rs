//! The three types that weights are stored and kept in.

use candle_core::{DType, WithDType};
use half::{bf16, f16};
use safetensors::Dtype;

use super::error::WeightsError;

/// A type that weights are kept in.
pub(super) trait Number: WithDType {
    /// The nearest number, ties to even; infinity beyond the largest.
    fn nearest(value: f32) -> Self;
    fn widened(self) -> f32;
}

impl Number for f32 {
    fn nearest(value: f32) -> Self {
        value
    }

    fn widened(self) -> f32 {
        self
    }
}

impl Number for f16 {
    fn nearest(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn widened(self) -> f32 {
        self.to_f32()
    }
}

impl Number for bf16 {
    fn nearest(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn widened(self) -> f32 {
        self.to_f32()
    }
}

/// The format's name for a type of tensors.
///
/// # Errors
/// [`WeightsError::Precision`]: weights are of no other type.
pub(super) fn stored_as(dtype: DType) -> Result<Dtype, WeightsError> {
    match dtype {
        DType::F32 => Ok(Dtype::F32),
        DType::F16 => Ok(Dtype::F16),
        DType::BF16 => Ok(Dtype::BF16),
        _ => Err(WeightsError::Precision { dtype }),
    }
}

/// What transformers calls a type.
pub(super) fn torch_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    }
}

/// Appends a file's numbers; `None` for a type that is not read.
pub(super) fn decode(stored: Dtype, bytes: &[u8], values: &mut Vec<f32>) -> Option<()> {
    let (halves, words) = (bytes.as_chunks::<2>().0, bytes.as_chunks::<4>().0);
    match stored {
        Dtype::F32 => values.extend(words.iter().map(|bytes| f32::from_le_bytes(*bytes))),
        Dtype::F16 => values.extend(halves.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32())),
        Dtype::BF16 => values.extend(halves.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32())),
        _ => return None,
    }
    Some(())
}

/// Appends numbers as a file has them. The position of the first that is not finite there, whatever it was before.
pub(super) fn encode(dtype: DType, values: &[f32], bytes: &mut Vec<u8>) -> Option<usize> {
    match dtype {
        DType::F16 => {
            bytes.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
            first_broken(values.iter().map(|value| f16::from_f32(*value).to_f32()))
        }
        DType::BF16 => {
            bytes.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()));
            first_broken(values.iter().map(|value| bf16::from_f32(*value).to_f32()))
        }
        _ => {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            first_broken(values.iter().copied())
        }
    }
}

/// Position of the first number that is infinite or none.
pub(super) fn first_broken(mut values: impl Iterator<Item = f32>) -> Option<usize> {
    values.position(|value| !value.is_finite())
}
