//! The numbers of a model: [`Weights`], trainable tensors under their Hugging Face names, from a seed or from a directory.

mod error;
mod number;
mod read;
mod shard;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Var};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::config::{ModelConfig, OtherFields};

pub use error::WeightsError;
pub(in crate::candle) use read::read_var;
pub(in crate::candle) use shard::Shard;
pub(in crate::candle) use write::stage_tensors;

/// File names inside a model directory: the shape, all weights, and the list of shards where there are several files.
const CONFIG_FILE: &str = "config.json";
const WEIGHTS_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
const SUFFIX: &str = ".safetensors";
/// Names of the two matrices that are one where they are tied.
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// Standard deviation of a fresh matrix at width 1024, as GPT-2 and Qwen use; narrower models scale it by sqrt(1024 / width),
/// which keeps the variance of what a layer puts out.
const INIT_STD: f64 = 0.02;
const INIT_WIDTH: f64 = 1024.0;

/// All weights of one model, in the order of [`ModelConfig::tensors`]: matrices of one [type](Self::dtype), gains of norms in f32.
///
/// Every tensor is a `Var`: an optimiser changes it in place, and whoever shares the handle sees the change. Not `Clone`, because a
/// clone would share too; [`copy`](Self::copy) does not.
#[derive(Debug)]
pub struct Weights {
    config: ModelConfig,
    /// What else stood in the `config.json` that was read.
    other: OtherFields,
    names: Vec<String>,
    vars: Vec<Var>,
    index: HashMap<String, usize>,
}

impl Weights {
    /// Fresh weights. Norms are 1; matrices are normal with deviation 0.02 x sqrt(1024 / hidden size), those that write
    /// to the residual stream divided by sqrt(2 x layers). The same seed gives the same bits on every device.
    ///
    /// # Errors
    /// [`WeightsError::Config`], or the device is out of memory.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Result<Self, WeightsError> {
        config.validate()?;
        let std = INIT_STD * (INIT_WIDTH / config.hidden_size as f64).sqrt();
        let residual_std = std / (2.0 * config.num_hidden_layers as f64).sqrt();
        let mut seeds = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self::build(config, |name, shape| {
            // One stream per tensor, so that a wider tensor does not change the ones after it.
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seeds.next_u64());
            let count = shape.iter().product();
            let values = if shape.len() == 1 {
                vec![1.0; count]
            } else if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
                normal(&mut rng, count, residual_std)
            } else {
                normal(&mut rng, count, std)
            };
            Ok(Var::from_vec(values, shape, device)?)
        })
    }

    /// Reads a Hugging Face directory as f32, to train all of it: `config.json`, and `model.safetensors` or the shards that
    /// `model.safetensors.index.json` lists, stored as F32, F16 or BF16. Nothing is returned unless every tensor is whole.
    ///
    /// Tensors are read one at a time, so it takes no more memory than the result. Where the output layer is tied, one in the file must
    /// equal the embedding; buffers of the rotary embedding are passed over.
    ///
    /// # Errors
    /// [`WeightsError`] names file and tensor.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, WeightsError> {
        Self::load_as(dir, DType::F32, device)
    }

    /// As [`load`](Self::load), with matrices of this type, F32, F16 or BF16: a base that is not trained itself. The gains of norms are
    /// few and stay f32. Numbers are rounded to the nearest.
    ///
    /// # Errors
    /// [`WeightsError`] names file and tensor, and a number that the type has no room for.
    pub fn load_as(dir: &Path, dtype: DType, device: &Device) -> Result<Self, WeightsError> {
        read::load(dir, dtype, device)
    }

    /// Writes `config.json` and `model.safetensors` into `dir`, every tensor in the type in which it is kept: what is loaded again has
    /// the same bits. See [`save_as`](Self::save_as).
    ///
    /// # Errors
    /// [`WeightsError`] names the file; what was there before is unharmed.
    pub fn save(&self, dir: &Path) -> Result<(), WeightsError> {
        write::save(self, dir, None, None)
    }

    /// Writes a directory that transformers reads, with every tensor as `dtype` (F32, F16 or BF16), into `dir`, which is created. Of a
    /// `config.json` that was read, all fields are kept that say nothing of the shape, `eos_token_id` for instance.
    ///
    /// With `max_shard_bytes`, files hold no more bytes of tensors than this, or a single tensor: `model-00001-of-0000N.safetensors` and
    /// `model.safetensors.index.json`, or `model.safetensors` if one is enough. Weights that were in the directory before, in whatever
    /// files, are replaced.
    ///
    /// Each file appears whole or not at all: all are written beside their places and then renamed, the list of shards last. A failure
    /// while shards are renamed leaves a directory without a list, which is refused. No more than a piece of a tensor is held in memory
    /// beside the weights, or one tensor where they lie on another device.
    ///
    /// # Errors
    /// [`WeightsError`] names the file, and a number that is not finite or that the type has no room for; if writing fails, what was there
    /// before is unharmed.
    pub fn save_as(&self, dir: &Path, dtype: DType, max_shard_bytes: Option<u64>) -> Result<(), WeightsError> {
        write::save(self, dir, Some(dtype), max_shard_bytes)
    }

    /// The shape of the model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// One tensor by its Hugging Face name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.index.get(name).map(|&index| &self.vars[index])
    }

    /// Names and tensors, in the order of [`ModelConfig::tensors`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Var)> {
        self.names.iter().map(String::as_str).zip(&self.vars)
    }

    /// The names alone, in the same order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The tensors alone, in the same order.
    #[must_use]
    pub fn vars(&self) -> &[Var] {
        &self.vars
    }

    /// Where the tensors lie.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.vars[0].device()
    }

    /// The type of the matrices: F32, or what [`load_as`](Self::load_as) was asked for.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.vars[0].dtype()
    }

    /// The same numbers in memory of their own: what is done to one is not seen by the other.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn copy(&self) -> Result<Self, WeightsError> {
        self.map(|_, var| Ok(Var::from_tensor(&var.as_detached_tensor())?))
    }

    /// The same tensors under a second handle, for weights that do not learn: what is done to one is seen by the other.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            config: self.config.clone(),
            other: self.other.clone(),
            names: self.names.clone(),
            vars: self.vars.clone(),
            index: self.index.clone(),
        }
    }

    /// The same model with other numbers: `tensor` makes each from its place in [`ModelConfig::tensors`] and what is there.
    pub(crate) fn map(
        &self,
        mut tensor: impl FnMut(usize, &Var) -> Result<Var, WeightsError>,
    ) -> Result<Self, WeightsError> {
        let mut vars = self.vars.iter().enumerate();
        let mapped = Self::build(&self.config, |_, _| {
            // `build` asks once per tensor, in the same order.
            let Some((place, var)) = vars.next() else {
                unreachable!("as many tensors as before")
            };
            tensor(place, var)
        })?;
        Ok(Self {
            other: self.other.clone(),
            ..mapped
        })
    }

    /// All numbers of all tensors as f32, one after the other, in the order of [`ModelConfig::tensors`].
    ///
    /// # Errors
    /// The device failed.
    pub fn to_vec(&self) -> Result<Vec<f32>, WeightsError> {
        let mut all = Vec::with_capacity(self.config.parameters());
        for var in &self.vars {
            all.extend(var.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(all)
    }

    /// Makes a tensor for each entry of the configuration's list.
    fn build(
        config: &ModelConfig,
        mut tensor: impl FnMut(&str, &[usize]) -> Result<Var, WeightsError>,
    ) -> Result<Self, WeightsError> {
        let mut names = Vec::new();
        let mut vars = Vec::new();
        for (name, shape) in config.tensors() {
            vars.push(tensor(&name, &shape)?);
            names.push(name);
        }
        let index = names
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, name)| (name, index))
            .collect();
        Ok(Self {
            config: config.clone(),
            other: OtherFields::new(),
            names,
            vars,
            index,
        })
    }
}

/// `count` independent normal numbers (Box and Muller's method).
fn normal(rng: &mut Xoshiro256PlusPlus, count: usize, std: f64) -> Vec<f32> {
    // 53 random bits, as many as an f64 keeps; the half step keeps the logarithm away from 0.
    let mut uniform = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = std * (-2.0 * uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    values
}
