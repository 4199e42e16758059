//! The numbers of a model: [`Weights`], trainable tensors under their Hugging Face names, from a seed or from a directory.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Var};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::config::{ConfigError, ModelConfig};
use super::file::write_whole;

/// File name of the weights inside a model directory.
const WEIGHTS_FILE: &str = "model.safetensors";
/// Standard deviation of a fresh matrix at width 1024, as GPT-2 and Qwen use; narrower models scale it by sqrt(1024 / width),
/// which keeps the variance of what a layer puts out.
const INIT_STD: f64 = 0.02;
const INIT_WIDTH: f64 = 1024.0;

/// Why weights cannot be made, read or written. Each names the file, and the tensor where one is at fault.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a whole safetensors file: cut short, or its header is damaged.
    #[error("{path}: truncated or damaged: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: safetensors::SafeTensorError,
    },
    /// The configuration asks for a tensor that the file has not.
    #[error("{path}: tensor `{tensor}` is missing")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The file has a tensor that the configuration does not know.
    #[error("{path}: tensor `{tensor}` is not part of this model")]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of another shape than the configuration says.
    #[error("{path}: tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// A tensor of another type than f32.
    #[error("{path}: tensor `{tensor}` is {found}, expected F32")]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Type in the file.
        found: String,
    },
    /// A tensor with a number that is infinite or no number.
    #[error("{path}: tensor `{tensor}` holds {value} at element {index}")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in row-major order.
        index: usize,
        /// The number.
        value: f32,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// All weights of one model, f32, in the order of [`ModelConfig::tensors`].
///
/// Every tensor is a `Var`: an optimiser changes it in place, and whoever shares the handle sees the change. Not `Clone`, because a
/// clone would share too; [`copy`](Self::copy) does not.
#[derive(Debug)]
pub struct Weights {
    config: ModelConfig,
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

    /// Reads `config.json` and `model.safetensors` in `dir`. Nothing is returned unless every tensor is whole.
    ///
    /// # Errors
    /// [`WeightsError`] names file and tensor.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, WeightsError> {
        let config = ModelConfig::load(dir)?;
        let path = dir.join(WEIGHTS_FILE);
        let bytes = std::fs::read(&path).map_err(|source| WeightsError::Io {
            path: path.clone(),
            source,
        })?;
        let file = SafeTensors::deserialize(&bytes).map_err(|source| WeightsError::Damaged {
            path: path.clone(),
            source,
        })?;
        let weights = Self::build(&config, |name, shape| {
            let view = file.tensor(name).map_err(|_| WeightsError::Missing {
                path: path.clone(),
                tensor: name.to_owned(),
            })?;
            let values = parse_tensor(&path, name, shape, &view)?;
            Ok(Var::from_vec(values, shape, device)?)
        })?;
        match file.names().into_iter().find(|name| !weights.index.contains_key(*name)) {
            Some(name) => Err(WeightsError::Unexpected {
                path,
                tensor: name.to_owned(),
            }),
            None => Ok(weights),
        }
    }

    /// Writes `config.json` and `model.safetensors` into `dir`, which is created. Each file appears whole or not at all: it is
    /// written beside its place and then renamed.
    ///
    /// # Errors
    /// [`WeightsError::Io`] names the file; what was there before is unharmed.
    pub fn save(&self, dir: &Path) -> Result<(), WeightsError> {
        std::fs::create_dir_all(dir).map_err(|source| WeightsError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let mut tensors = Vec::with_capacity(self.vars.len());
        for (name, var) in self.iter() {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((name.to_owned(), var.dims().to_vec(), bytes));
        }
        let path = dir.join(WEIGHTS_FILE);
        let damaged = |source| WeightsError::Damaged {
            path: path.clone(),
            source,
        };
        let mut views = Vec::with_capacity(tensors.len());
        for (name, shape, bytes) in &tensors {
            views.push((
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(damaged)?,
            ));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(damaged)?;
        write_bytes(&path, &bytes)?;
        write_bytes(&dir.join("config.json"), self.config.to_json()?.as_bytes())
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

    /// The same numbers in memory of their own: what is done to one is not seen by the other.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn copy(&self) -> Result<Self, WeightsError> {
        let mut vars = self.vars.iter();
        Self::build(&self.config, |_, _| {
            // `build` asks once per tensor, in the same order.
            let Some(var) = vars.next() else {
                unreachable!("as many tensors as before")
            };
            Ok(Var::from_tensor(&var.as_detached_tensor())?)
        })
    }

    /// All numbers of all tensors, one after the other, in the order of [`ModelConfig::tensors`].
    ///
    /// # Errors
    /// The device failed.
    pub fn to_vec(&self) -> Result<Vec<f32>, WeightsError> {
        let mut all = Vec::with_capacity(self.config.parameters());
        for var in &self.vars {
            all.extend(var.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(all)
    }

    /// Makes a tensor for each entry of the configuration's list.
    pub(crate) fn build(
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

/// Checks one tensor of a file against the configuration and converts it.
fn parse_tensor(path: &Path, name: &str, shape: &[usize], view: &TensorView<'_>) -> Result<Vec<f32>, WeightsError> {
    let (path, tensor) = (path.to_owned(), name.to_owned());
    if view.dtype() != Dtype::F32 {
        return Err(WeightsError::Type {
            path,
            tensor,
            found: format!("{:?}", view.dtype()),
        });
    }
    if view.shape() != shape {
        return Err(WeightsError::Shape {
            path,
            tensor,
            found: view.shape().to_vec(),
            expected: shape.to_vec(),
        });
    }
    let (chunks, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(WeightsError::NotFinite {
            path,
            tensor,
            index,
            value: values[index],
        }),
        None => Ok(values),
    }
}

/// [`write_whole`], with the file's name in the error.
fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    write_whole(path, |file| file.write_all(bytes)).map_err(|source| WeightsError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Weights {
        Weights::new(&ModelConfig::tiny(13), 7, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_seed_decides_every_bit() {
        let (a, b) = (tiny().to_vec().unwrap(), tiny().to_vec().unwrap());
        assert_eq!(a, b);
        let other = Weights::new(&ModelConfig::tiny(13), 8, &Device::Cpu)
            .unwrap()
            .to_vec()
            .unwrap();
        assert_ne!(a, other);
        let q = tiny()
            .get("model.layers.0.self_attn.q_proj.weight")
            .unwrap()
            .flatten_all()
            .unwrap();
        let q = q.to_vec1::<f32>().unwrap();
        let std = (q.iter().map(|x| x * x).sum::<f32>() / q.len() as f32).sqrt();
        assert!((std - 0.08).abs() < 0.004, "{std}");
    }

    #[test]
    fn a_directory_round_trips() {
        for tied in [false, true] {
            let config = ModelConfig {
                tie_word_embeddings: tied,
                ..ModelConfig::tiny(13)
            };
            let weights = Weights::new(&config, 3, &Device::Cpu).unwrap();
            let dir = tempfile::tempdir().unwrap();
            weights.save(dir.path()).unwrap();
            let loaded = Weights::load(dir.path(), &Device::Cpu).unwrap();
            assert_eq!(loaded.config(), &config);
            assert_eq!(loaded.to_vec().unwrap(), weights.to_vec().unwrap());
            assert_eq!(loaded.get("lm_head.weight").is_none(), tied);
            let files: Vec<_> = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|f| f.unwrap().file_name())
                .collect();
            assert_eq!(files.len(), 2, "{files:?}");
        }
    }

    #[test]
    fn a_copy_does_not_share() {
        let weights = tiny();
        let copy = weights.copy().unwrap();
        let norm = weights.get("model.norm.weight").unwrap();
        norm.set(&norm.zeros_like().unwrap()).unwrap();
        assert_eq!(copy.to_vec().unwrap(), tiny().to_vec().unwrap());
    }

    /// Saves a file with one tensor replaced (`None`: left out) and returns what loading says.
    fn load_with(name: &str, tensor: Option<(Dtype, Vec<usize>, Vec<u8>)>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let weights = tiny();
        weights.save(dir.path()).unwrap();
        let path = dir.path().join(WEIGHTS_FILE);
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut views: Vec<_> = file.tensors().into_iter().filter(|(other, _)| other != name).collect();
        if let Some((dtype, shape, data)) = &tensor {
            views.push((name.to_owned(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        }
        let changed = safetensors::serialize(views, None).unwrap();
        std::fs::write(&path, changed).unwrap();
        Weights::load(dir.path(), &Device::Cpu).unwrap_err().to_string()
    }

    #[test]
    fn bad_files_are_refused_by_file_and_tensor() {
        let norm = "model.norm.weight";
        let check = |message: String, parts: [&str; 2]| {
            assert!(
                message.contains(WEIGHTS_FILE) && parts.iter().all(|part| message.contains(part)),
                "{message}"
            );
        };
        check(load_with(norm, None), [norm, "missing"]);
        check(
            load_with("extra", Some((Dtype::F32, vec![1], vec![0; 4]))),
            ["extra", "not part"],
        );
        check(
            load_with(norm, Some((Dtype::F32, vec![65], vec![0; 260]))),
            [norm, "shape [65], expected [64]"],
        );
        check(
            load_with(norm, Some((Dtype::BF16, vec![64], vec![0; 128]))),
            [norm, "BF16"],
        );
        check(
            load_with(norm, Some((Dtype::F32, vec![64], vec![255; 256]))),
            [norm, "NaN"],
        );
    }

    #[test]
    fn a_truncated_file_is_refused_at_every_cut() {
        let dir = tempfile::tempdir().unwrap();
        tiny().save(dir.path()).unwrap();
        let path = dir.path().join(WEIGHTS_FILE);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = Weights::load(dir.path(), &Device::Cpu).unwrap_err();
            assert!(matches!(error, WeightsError::Damaged { .. }), "{length}: {error}");
            assert!(error.to_string().contains(WEIGHTS_FILE));
        }
    }
}
