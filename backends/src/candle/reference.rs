//! Numbers of transformers, PyTorch and PEFT for tests: their files (`backends/tests/data/reference`, written and described by
//! `tests/conformance`), the rule by which both sides fill tensors, and what is compared of a tensor.
//!
//! The rule: the numbers of a name are SplitMix64 from its FNV-1a hash, and every fraction is the top 24 bits of one of them, which f32
//! holds exactly. So no file of weights is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::batch::PackedBatch;
use super::config::ModelConfig;
use super::loss::Objective;
use super::weights::Weights;

/// Models: `NAME.json` holds a [`ModelCase`].
pub(crate) const MODELS: [&str; 5] = ["plain", "grouped-tied", "four-to-one", "one-key-head", "wide-heads"];
/// Adapters: `lora/NAME/numbers.json` holds an [`AdapterCase`], beside the files of PEFT.
pub(crate) const ADAPTERS: [&str; 2] = ["all-linear", "query-value"];

/// Where a file or folder of the directory lies.
pub(crate) fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/reference")
        .join(file)
}

/// A JSON file in the directory.
pub(crate) fn load<T: DeserializeOwned>(file: &str) -> T {
    let bytes = std::fs::read(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What transformers and PyTorch say of one model.
#[derive(Deserialize)]
pub(crate) struct ModelCase {
    /// `config.json` as transformers writes it.
    config: serde_json::Value,
    /// Scale of matrices for [`weight`].
    scale: f32,
    pub sequences: Vec<Sequence>,
    pub batch: Batch,
    pub training: Training,
}

/// The same of a model under an adapter, all of whose tensors are trained and none of the base's.
#[derive(Deserialize)]
pub(crate) struct AdapterCase {
    /// Which of [`MODELS`] is adapted.
    pub base: String,
    /// Scale of the adapter's matrices for [`weight`], A and B alike.
    pub adapter_scale: f32,
    /// Names and shapes of the tensors in `adapter_model.safetensors`. A is `[r, in]`, B `[out, r]`.
    pub tensors: BTreeMap<String, Vec<usize>>,
    pub sequences: Vec<Sequence>,
    pub batch: Batch,
    /// Digests by the same names.
    pub training: Training,
}

/// Logits of one sequence.
#[derive(Deserialize)]
pub(crate) struct Sequence {
    pub tokens: Vec<u32>,
    /// Which rows `logits` holds.
    rows: Vec<usize>,
    /// `[rows, vocab]`, to six decimals.
    logits: Vec<Vec<f32>>,
    /// `[tokens]`: logarithm of the sum of e^logit, of a sequence whose logits are not all there.
    #[serde(default)]
    log_sum_exp: Vec<f32>,
}

/// A batch, and the objective it is trained with.
#[derive(Deserialize)]
pub(crate) struct Batch {
    tokens: Vec<u32>,
    cu_seqlens: Vec<usize>,
    actions: Vec<usize>,
    behaviour_logprobs: Vec<f32>,
    weights: Vec<f32>,
    mask_words: usize,
    masks: Vec<u64>,
    temperature: f32,
    /// Bounds of the coefficient.
    clip: [f32; 2],
}

/// What training on the batch does. The optimiser is `AdamWConfig::default`.
#[derive(Deserialize)]
pub(crate) struct Training {
    pub lr: f64,
    /// At the first step.
    pub loss: f64,
    /// By step, before clipping.
    pub grad_norms: Vec<f64>,
    /// By tensor, at the first step, before clipping.
    pub gradients: BTreeMap<String, Digest>,
    /// By number of steps ("1" and the last) and tensor: weights after them less weights before the first.
    pub moved: BTreeMap<String, BTreeMap<String, Digest>>,
}

/// By so many places the weights of the actions move up from one step to the next ([`Batch::at_step`]).
const ROTATION: usize = 5;

impl ModelCase {
    pub(crate) fn load(name: &str) -> Self {
        load(&format!("{name}.json"))
    }

    pub(crate) fn config(&self) -> ModelConfig {
        ModelConfig::from_json(&self.config.to_string()).unwrap()
    }

    /// The weights before training.
    pub(crate) fn weights(&self) -> Weights {
        let weights = Weights::new(&self.config(), 0, &Device::Cpu).unwrap();
        for (name, var) in weights.iter() {
            let values = weight(name, var.dims(), self.scale);
            var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap())
                .unwrap();
        }
        weights
    }
}

impl AdapterCase {
    pub(crate) fn load(name: &str) -> Self {
        load(&format!("lora/{name}/numbers.json"))
    }

    /// One tensor of the adapter before training.
    pub(crate) fn tensor(&self, name: &str) -> Vec<f32> {
        weight(name, &self.tensors[name], self.adapter_scale)
    }
}

impl Sequence {
    /// Largest difference from logits `[tokens, vocab]`.
    pub(crate) fn difference(&self, logits: &[f32]) -> f32 {
        let rows: Vec<&[f32]> = logits.chunks_exact(logits.len() / self.tokens.len()).collect();
        let of_rows = self.rows.iter().zip(&self.logits).map(|(&row, expected)| {
            assert_eq!(rows[row].len(), expected.len());
            let differences = rows[row].iter().zip(expected).map(|(a, b)| (a - b).abs());
            differences.fold(0.0, largest)
        });
        let of_sums = self.log_sum_exp.iter().zip(&rows).map(|(expected, row)| {
            let sum: f64 = row.iter().map(|z| f64::from(*z).exp()).sum();
            (sum.ln() as f32 - expected).abs()
        });
        of_rows.chain(of_sums).fold(0.0, largest)
    }
}

impl Batch {
    pub(crate) fn objective(&self) -> Objective {
        let [clip_low, clip_high] = self.clip;
        Objective::Cispo { clip_low, clip_high }
    }

    /// What the step of this number, from 0, is made on: the weights move on, so that gradients and their norms do.
    pub(crate) fn at_step(&self, step: usize) -> PackedBatch {
        let mut weights = self.weights.clone();
        weights.rotate_left(ROTATION * step);
        PackedBatch {
            tokens: self.tokens.clone(),
            cu_seqlens: self.cu_seqlens.clone(),
            actions: self.actions.clone(),
            behaviour_logprobs: self.behaviour_logprobs.clone(),
            weights,
            mask_words: self.mask_words,
            masks: self.masks.clone(),
            temperature: self.temperature,
        }
    }
}

/// What is kept of a tensor: any element that is wrong shows in the norm, any that is out of place in the product with a pattern.
#[derive(Debug, Deserialize)]
pub(crate) struct Digest {
    /// Root of the sum of squares.
    norm: f64,
    /// Product with a pattern of +1 and -1: the top bit of [`stream`] `"signs:NAME"`, where 1 is minus.
    dot: f64,
    /// The first six of those at [`stream`] `"elements:NAME"` modulo the size that are not left out.
    elements: Vec<f64>,
    /// What counts as 0: where a gradient is near the eps of AdamW, rounding decides how far a weight moves.
    #[serde(default)]
    left_out: Vec<usize>,
}

impl Digest {
    pub(crate) fn of(name: &str, values: &[f64], left_out: &[usize]) -> Self {
        let mut values = values.to_vec();
        left_out.iter().for_each(|&place| values[place] = 0.0);
        let signs = stream(&format!("signs:{name}")).map(|bits| 1.0 - 2.0 * (bits >> 63) as f64);
        let places = stream(&format!("elements:{name}")).map(|bits| (bits % values.len() as u64) as usize);
        let places = places.filter(|place| !left_out.contains(place));
        Self {
            norm: values.iter().map(|x| x * x).sum::<f64>().sqrt(),
            dot: values.iter().zip(signs).map(|(x, sign)| x * sign).sum(),
            elements: places.take(6).map(|place| values[place]).collect(),
            left_out: left_out.to_vec(),
        }
    }

    /// Largest relative difference between this and the digest of `values`, the tensor `name`: norm and product over the norm, elements
    /// over the larger of themselves and the root of the mean square.
    pub(crate) fn difference(&self, name: &str, values: &[f64]) -> f64 {
        let other = Self::of(name, values, &self.left_out);
        let mean = self.norm / (values.len() as f64).sqrt();
        let elements = self.elements.iter().zip(&other.elements);
        [(self.norm, other.norm), (self.dot, other.dot)]
            .into_iter()
            .map(|(expected, found)| (found - expected).abs() / self.norm)
            .chain(elements.map(|(expected, found)| (found - expected).abs() / expected.abs().max(mean)))
            .fold(0.0, largest)
    }
}

/// The larger one, and NaN where one is.
pub(crate) fn largest<T: PartialOrd>(a: T, b: T) -> T {
    if a > b || a.partial_cmp(&a).is_none() { a } else { b }
}

/// The numbers of a name.
pub(crate) fn stream(name: &str) -> impl Iterator<Item = u64> + use<> {
    let fnv1a = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    split_mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv1a))
}

/// SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
fn split_mix(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A tensor: a matrix in `scale` times -1/2 to 1/2, a gain (one dimension) in 3/4 to 5/4.
pub(crate) fn weight(name: &str, shape: &[usize], scale: f32) -> Vec<f32> {
    let fraction = |bits: u64| (bits >> 40) as f32 / (1u32 << 24) as f32 - 0.5;
    let fractions = stream(name).map(fraction).take(shape.iter().product());
    if shape.len() > 1 {
        fractions.map(|x| x * scale).collect()
    } else {
        fractions.map(|x| 1.0 + x * 0.5).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_published_functions() {
        // FNV-1a of "a" from its authors' test vectors, SplitMix64 of 0 from the reference implementation.
        assert_eq!(split_mix(0).next(), Some(0xe220_a839_7b1d_cdaf));
        assert_eq!(stream("a").next(), split_mix(0xaf63_dc4c_8601_ec8c).next());
    }

    #[test]
    fn a_digest_sees_a_wrong_element_and_two_that_changed_places() {
        let values: Vec<f64> = weight("t", &[40, 25], 1.0).into_iter().map(f64::from).collect();
        let digest = Digest::of("t", &values, &[3]);
        assert_eq!(digest.difference("t", &values), 0.0);
        let mut wrong = values.clone();
        wrong[500] = 0.5;
        assert!(digest.difference("t", &wrong) > 1e-3);
        let mut swapped = values.clone();
        swapped.rotate_left(1);
        assert!(digest.difference("t", &swapped) > 1e-3);
        wrong[500] = values[500];
        wrong[3] = 9.0;
        assert_eq!(digest.difference("t", &wrong), 0.0);
        wrong[500] = f64::NAN;
        assert!(digest.difference("t", &wrong).is_nan());
    }
}
