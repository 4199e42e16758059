//! [`Parts`]: the weights by role, whatever stands for a weight: a slice, a gradient, a tensor.

use candle_core::{CpuStorage, Layout, Storage};

use super::adapter::Adapter;
use super::config::ModelConfig;
use super::ops::projection::{Gradient, LowRank, Stored, Weight};
use super::weights::Weights;

/// One thing per weight tensor (a slice, a gradient, a tensor), by role instead of by name.
pub(crate) struct Parts<T> {
    pub embed: T,
    pub layers: Vec<LayerParts<T>>,
    pub norm: T,
    /// Absent when the output layer is the embedding.
    pub head: Option<T>,
}

/// The part of [`Parts`] that belongs to one block.
pub(crate) struct LayerParts<T> {
    pub input_norm: T,
    pub q: T,
    pub k: T,
    pub v: T,
    pub q_norm: T,
    pub k_norm: T,
    pub o: T,
    pub post_norm: T,
    pub gate: T,
    pub up: T,
    pub down: T,
}

impl<T> Parts<T> {
    /// Sorts a list in the order of [`ModelConfig::tensors`] by role.
    ///
    /// # Panics
    /// The list is not as long as the configuration's.
    pub(crate) fn from_ordered(config: &ModelConfig, list: impl IntoIterator<Item = T>) -> Self {
        let mut list = list.into_iter();
        let mut next = || list.next().expect("one entry per tensor of the configuration");
        let embed = next();
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerParts {
                input_norm: next(),
                q: next(),
                k: next(),
                v: next(),
                q_norm: next(),
                k_norm: next(),
                o: next(),
                post_norm: next(),
                gate: next(),
                up: next(),
                down: next(),
            })
            .collect();
        let norm = next();
        let head = (!config.tie_word_embeddings).then(next);
        Self {
            embed,
            layers,
            norm,
            head,
        }
    }
}

impl<'a> Parts<Gradient<'a>> {
    /// Cuts one flat buffer into the gradients of what learns: all tensors in the order of [`ModelConfig::tensors`], or those of the
    /// adapter in its own.
    pub(crate) fn from_flat(config: &ModelConfig, adapter: Option<&Adapter>, mut flat: &'a mut [f32]) -> Self {
        let mut take = |count| {
            let (slice, rest) = std::mem::take(&mut flat).split_at_mut(count);
            flat = rest;
            slice
        };
        let count = |shape: &[usize]| shape.iter().product();
        let gradients: Vec<_> = config
            .tensors()
            .iter()
            .enumerate()
            .map(
                |(tensor, (_, shape))| match adapter.map(|adapter| adapter.factors(tensor)) {
                    None => Gradient::Full(take(count(shape))),
                    Some(Some([a, b])) => Gradient::LowRank {
                        a: take(a.elem_count()),
                        b: take(b.elem_count()),
                    },
                    Some(None) => Gradient::Frozen,
                },
            )
            .collect();
        Self::from_ordered(config, gradients)
    }
}

/// Calls `read` with every tensor's numbers where they lie. Only for tensors in main memory.
pub(crate) fn with_weights<R>(
    weights: &Weights,
    adapter: Option<&Adapter>,
    read: impl FnOnce(&Parts<Weight<'_>>) -> R,
) -> Result<R, candle_core::Error> {
    let guards: Vec<_> = weights.vars().iter().map(|var| var.storage_and_layout()).collect();
    let factors: Vec<_> = (0..guards.len())
        .map(|tensor| {
            let pair = adapter.and_then(|adapter| adapter.factors(tensor));
            pair.map(|pair| pair.map(|var| var.storage_and_layout()))
        })
        .collect();
    let mut list = Vec::with_capacity(guards.len());
    for (guard, factors) in guards.iter().zip(&factors) {
        let low_rank = match (factors, adapter) {
            (Some([a, b]), Some(adapter)) => Some(LowRank {
                a: stored(&a.0, a.1)?.gains(),
                b: stored(&b.0, b.1)?.gains(),
                rank: adapter.config().rank,
                scale: adapter.config().scale() as f32,
            }),
            _ => None,
        };
        let stored = stored(&guard.0, guard.1)?;
        list.push(Weight { stored, low_rank });
    }
    Ok(read(&Parts::from_ordered(weights.config(), list)))
}

fn stored<'a>(storage: &'a Storage, layout: &Layout) -> Result<Stored<'a>, candle_core::Error> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(Stored::F32(&values[start..end])),
        (Storage::Cpu(CpuStorage::BF16(values)), Some((start, end))) => Ok(Stored::Bf16(&values[start..end])),
        (Storage::Cpu(CpuStorage::F16(values)), Some((start, end))) => Ok(Stored::F16(&values[start..end])),
        _ => candle_core::bail!("weights are not contiguous floating-point numbers in main memory"),
    }
}
