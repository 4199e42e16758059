//! [`Quant`]: how numbers are stored.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use candle_core::quantized::GgmlDType;

/// Largest number of an f16; the scale of a block is one, too.
const F16_MAX: f32 = 65_504.0;

/// How the matrices of a file are stored, under llama.cpp's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quant {
    /// 32 bits: the weights as they are.
    #[default]
    F32,
    /// 16 bits: rounded to 11 significant bits.
    F16,
    /// 8.5 bits: blocks of 32 integers in -127..=127 and an f16 scale.
    Q8_0,
    /// 4.5 bits: blocks of 32 integers in -8..=7 and an f16 scale.
    Q4_0,
}

/// A name that no [`Quant`] has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no quantisation {name:?}: there are {}", Quant::ALL.map(|quant| quant.to_string()).join(", "))]
pub struct UnknownQuant {
    /// What was asked for.
    pub name: String,
}

impl Quant {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8_0, Self::Q4_0];

    /// How one tensor is stored in a file of this kind.
    pub(super) fn for_tensor(self, tensor: &Tensor) -> Self {
        match *tensor.dims() {
            [_] => Self::F32,
            [.., row] if row.is_multiple_of(self.block()) => self,
            _ => Self::F16,
        }
    }

    /// Numbers of a block.
    pub(super) fn block(self) -> usize {
        self.dtype().block_size()
    }

    pub(super) fn dtype(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4_0 => GgmlDType::Q4_0,
        }
    }

    /// `ggml_type`: how a tensor is stored.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
            Self::Q4_0 => 2,
        }
    }

    /// `llama_ftype`: how most tensors of a file are stored.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Q4_0 => 2,
        }
    }

    /// Largest magnitude that does not become infinite: a block's scale is its largest magnitude over its largest integer.
    pub(super) fn magnitude_max(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => F16_MAX,
            Self::Q8_0 => 127.0 * F16_MAX,
            Self::Q4_0 => 8.0 * F16_MAX,
        }
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        })
    }
}

impl FromStr for Quant {
    type Err = UnknownQuant;

    fn from_str(name: &str) -> Result<Self, UnknownQuant> {
        let found = Self::ALL.into_iter().find(|quant| quant.to_string() == name);
        found.ok_or_else(|| UnknownQuant { name: name.to_owned() })
    }
}
