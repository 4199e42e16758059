//! Low-rank adaptation: what it is ([`LoraConfig`]), and its numbers ([`Adapter`]), in memory and as PEFT writes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use candle_core::{DType, Device, Tensor, Var};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::config::ModelConfig;
use super::weights::{Weights, WeightsError};

mod peft;

/// One of the seven projections of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// What leaves attention.
    Output,
    /// The gate of SwiGLU.
    Gate,
    /// The other input of SwiGLU.
    Up,
    /// What leaves SwiGLU.
    Down,
}

impl Target {
    /// All of them, in the order of a block.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The module's name, as Hugging Face and PEFT have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = AdapterError;

    fn from_str(name: &str) -> Result<Self, AdapterError> {
        let found = Self::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| AdapterError::Target { name: name.to_owned() })
    }
}

/// Which projections learn, through how narrow a passage. LoRA: Hu et al., arXiv 2106.09685, eq. 3. Without dropout.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Width of the passage, at least 1.
    pub rank: usize,
    /// What is added is scaled by alpha / rank; finite and above 0.
    pub alpha: f64,
    /// The projections that learn, in every block; at least one.
    pub targets: Vec<Target>,
}

impl LoraConfig {
    /// All projections, alpha twice the rank.
    #[must_use]
    pub fn new(rank: usize) -> Self {
        Self {
            rank,
            alpha: 2.0 * rank as f64,
            targets: Target::ALL.to_vec(),
        }
    }

    /// alpha / rank.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Checks every setting against a model.
    ///
    /// # Errors
    /// [`AdapterError::Setting`] or [`AdapterError::Rank`] names the first that is outside its range.
    pub fn validate(&self, model: &ModelConfig) -> Result<(), AdapterError> {
        let setting = |what, range| Err(AdapterError::Setting { what, range });
        if self.rank == 0 {
            return setting("the rank", "at least 1");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return setting("alpha", "finite and above 0");
        }
        if self.targets.is_empty() {
            return setting("the list of target modules", "not empty");
        }
        let shapes = model.tensors();
        let narrow = shapes
            .iter()
            .filter(|(name, _)| self.adapts(name))
            .flat_map(|(name, shape)| shape.iter().map(move |width| (name, *width)))
            .find(|(_, width)| self.rank > *width);
        match narrow {
            Some((tensor, width)) => Err(AdapterError::Rank {
                rank: self.rank,
                tensor: tensor.clone(),
                width,
            }),
            None => Ok(()),
        }
    }

    /// How many numbers an adapter of a model holds.
    #[must_use]
    pub fn parameters(&self, model: &ModelConfig) -> usize {
        let shapes = model.tensors();
        let adapted = shapes.iter().filter(|(name, _)| self.adapts(name));
        adapted.map(|(_, shape)| self.rank * shape.iter().sum::<usize>()).sum()
    }

    /// Whether the tensor of this name is a target.
    fn adapts(&self, tensor: &str) -> bool {
        let module = tensor.strip_suffix(".weight").and_then(|path| path.rsplit('.').next());
        module.is_some_and(|module| self.targets.iter().any(|target| target.name() == module))
    }
}

/// Why an adapter cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A setting outside its range.
    #[error("LoRA: {what} must be {range}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// A passage wider than what it joins.
    #[error("LoRA: rank {rank} is more than the width {width} of `{tensor}`: take a smaller one, or train all weights")]
    Rank {
        /// What was asked for.
        rank: usize,
        /// A tensor that is too narrow.
        tensor: String,
        /// Its width.
        width: usize,
    },
    /// A module that is no projection.
    #[error(
        "LoRA: no target module `{name}`: there are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj"
    )]
    Target {
        /// What was asked for.
        name: String,
    },
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not JSON, or a field is missing or of another type.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// An adapter that would compute something else than this code does.
    #[error("{path}: `{field}` = {value} is not supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What the file says.
        value: String,
    },
    /// The tensors are at fault.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// The factors of every adapted projection, f32, in the order of [`ModelConfig::tensors`]: `A [rank, in]`, then `B [out, rank]`.
///
/// They are `Var`s as [`Weights`] are: an optimiser changes them in place.
#[derive(Debug)]
pub struct Adapter {
    config: LoraConfig,
    /// PEFT's names of the factors.
    names: Vec<String>,
    vars: Vec<Var>,
    /// By tensor of the model: where its `A` stands in `vars`.
    places: Vec<Option<usize>>,
}

impl Adapter {
    /// A fresh adapter, which changes nothing yet: `A` is uniform in +-1/sqrt(in) as PEFT makes it, `B` is 0. The same seed gives the same
    /// bits on every device.
    ///
    /// # Errors
    /// [`AdapterError`] names the setting that does not fit, or the device is out of memory.
    pub fn new(model: &ModelConfig, config: LoraConfig, seed: u64, device: &Device) -> Result<Self, AdapterError> {
        let mut seeds = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self::build(model, config, |_, shape, factor| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seeds.next_u64());
            let bound = 1.0 / (shape[1] as f64).sqrt();
            let mut uniform = || ((rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * bound;
            let count = shape[0] * shape[1];
            let values: Vec<f32> = match factor {
                Factor::A => (0..count).map(|_| uniform() as f32).collect(),
                Factor::B => vec![0.0; count],
            };
            Ok(Var::from_vec(values, shape, device)?)
        })
    }

    fn build(
        model: &ModelConfig,
        config: LoraConfig,
        mut tensor: impl FnMut(&str, &[usize], Factor) -> Result<Var, AdapterError>,
    ) -> Result<Self, AdapterError> {
        config.validate(model)?;
        let (mut names, mut vars, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (name, shape) in model.tensors() {
            let adapted = config.adapts(&name).then_some(vars.len());
            places.push(adapted);
            if adapted.is_some() {
                let module = name.strip_suffix(".weight").unwrap_or(&name);
                for (factor, shape) in [
                    (Factor::A, [config.rank, shape[1]]),
                    (Factor::B, [shape[0], config.rank]),
                ] {
                    let name = peft::tensor_name(module, factor);
                    vars.push(tensor(&name, &shape, factor)?);
                    names.push(name);
                }
            }
        }
        Ok(Self {
            config,
            names,
            vars,
            places,
        })
    }

    /// What it is.
    #[must_use]
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// PEFT's names and the factors.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Var)> {
        self.names.iter().map(String::as_str).zip(&self.vars)
    }

    /// Module of the model, `A [rank, in]` and `B [out, rank]` of every adapted projection.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &Var, &Var)> {
        let names = self.names.chunks_exact(2).map(|pair| peft::module_name(&pair[0]));
        names
            .zip(self.vars.chunks_exact(2))
            .map(|(module, pair)| (module, &pair[0], &pair[1]))
    }

    /// PEFT's names of the factors.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The factors.
    pub(crate) fn vars(&self) -> &[Var] {
        &self.vars
    }

    /// The factors of a tensor of the model, by its place in [`ModelConfig::tensors`].
    pub(crate) fn factors(&self, tensor: usize) -> Option<[&Var; 2]> {
        let place = self.places.get(tensor).copied().flatten()?;
        Some([&self.vars[place], &self.vars[place + 1]])
    }

    /// The same numbers in memory of their own.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn copy(&self) -> Result<Self, AdapterError> {
        let vars = self.vars.iter().map(|var| Var::from_tensor(&var.as_detached_tensor()));
        Ok(Self {
            config: self.config.clone(),
            names: self.names.clone(),
            vars: vars.collect::<Result<_, _>>()?,
            places: self.places.clone(),
        })
    }

    /// What a model computes with this adapter, as weights of its own in f32: `W + scale B A`.
    ///
    /// # Errors
    /// The device failed.
    pub fn merge(&self, weights: &Weights) -> Result<Weights, AdapterError> {
        Ok(weights.map(|place, base| {
            let base = base.as_detached_tensor().to_dtype(DType::F32)?;
            Ok(Var::from_tensor(&self.applied(place, &base)?)?)
        })?)
    }

    /// A tensor of the model with what is added to it, by its place in [`ModelConfig::tensors`].
    pub(crate) fn applied(&self, place: usize, base: &Tensor) -> candle_core::Result<Tensor> {
        match self.factors(place) {
            Some([a, b]) => base + (b.as_detached_tensor().matmul(&a.as_detached_tensor())? * self.config.scale())?,
            None => Ok(base.clone()),
        }
    }

    /// Whether there is an adapter in a directory.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join(peft::CONFIG_FILE).is_file()
    }
}

/// Which of the two factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factor {
    A,
    B,
}
