//! [`Parts`]: the weights by role, whatever stands for a weight: a slice, a gradient, a tensor.

use super::config::ModelConfig;

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

impl<'a> Parts<&'a mut [f32]> {
    /// Cuts one flat buffer (in the order of [`ModelConfig::tensors`]) into tensors.
    pub(crate) fn from_flat(config: &ModelConfig, mut flat: &'a mut [f32]) -> Self {
        let slices: Vec<_> = config
            .tensors()
            .iter()
            .map(|(_, shape)| {
                let (slice, rest) = std::mem::take(&mut flat).split_at_mut(shape.iter().product());
                flat = rest;
                slice
            })
            .collect();
        Self::from_ordered(config, slices)
    }
}
