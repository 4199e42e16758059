//! Reading a Hugging Face directory: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::{self, Formatter};
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Var};
use half::{bf16, f16};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::error::WeightsError;
use super::number::{Number, first_broken, stored_as};
use super::shard::{Shard, io};
use super::{EMBEDDING, HEAD, INDEX_FILE, WEIGHTS_FILE, Weights};
use crate::candle::config::ModelConfig;
use crate::files;

/// Ends the name of a buffer that old checkpoints hold and that the configuration determines.
const ROTARY_BUFFER: &str = "rotary_emb.inv_freq";

/// Longest list of shards that is read, in bytes: half a million tensors.
const INDEX_MAX: u64 = 64 << 20;

/// Reads the weights in `dir`, matrices as `dtype` and gains as f32.
pub(super) fn load(dir: &Path, dtype: DType, device: &Device) -> Result<Weights, WeightsError> {
    stored_as(dtype)?;
    let (config, other) = ModelConfig::load_with_other(dir)?;
    let files = Files::open(dir)?;
    let mut weights = Weights::build(&config, |name, shape| {
        let dtype = if shape.len() == 1 { DType::F32 } else { dtype };
        read_var(files.shard_of(name)?, name, shape, dtype, device)
    })?;
    files.check_rest(&weights)?;
    weights.other = other;
    Ok(weights)
}

/// All files of one directory.
struct Files {
    shards: Vec<Shard>,
    /// Path and content of the list of shards: tensor, and index into `shards`.
    index: Option<(PathBuf, BTreeMap<String, usize>)>,
}

impl Files {
    /// One file if there is one, as transformers looks for it, else what the index lists.
    fn open(dir: &Path) -> Result<Self, WeightsError> {
        let (single, list) = (dir.join(WEIGHTS_FILE), dir.join(INDEX_FILE));
        if single.exists() || !list.exists() {
            return Ok(Self {
                shards: vec![Shard::open(single)?],
                index: None,
            });
        }
        let text = files::read_text(&list, INDEX_MAX).map_err(io(&list))?;
        let Index { weight_map } = serde_json::from_str(&text).map_err(|source| WeightsError::Index {
            path: list.clone(),
            source,
        })?;
        let mut shards = Vec::new();
        let mut opened: HashMap<String, usize> = HashMap::new();
        let mut placed = BTreeMap::new();
        for (tensor, shard) in weight_map.0 {
            let path = list.clone();
            if !is_file_name(&shard) {
                return Err(WeightsError::Outside { path, tensor, shard });
            }
            let number = match opened.get(&shard) {
                Some(number) => *number,
                None => {
                    let path = dir.join(&shard);
                    if !path.exists() {
                        return Err(WeightsError::ShardAbsent { path, tensor });
                    }
                    shards.push(Shard::open(path)?);
                    opened.insert(shard, shards.len() - 1);
                    shards.len() - 1
                }
            };
            if placed.insert(tensor.clone(), number).is_some() {
                let shard = file_name(&shards[number]);
                return Err(WeightsError::ListedTwice { path, tensor, shard });
            }
        }
        let files = Self {
            shards,
            index: Some((list, placed)),
        };
        files.check_places()?;
        Ok(files)
    }

    /// Index and shards say the same of every tensor of which both speak.
    fn check_places(&self) -> Result<(), WeightsError> {
        let Some((_, placed)) = &self.index else {
            return Ok(());
        };
        for (number, shard) in self.shards.iter().enumerate() {
            for tensor in shard.names() {
                match placed.get(&tensor) {
                    Some(listed) if *listed != number => {
                        return Err(WeightsError::Misplaced {
                            path: shard.path.clone(),
                            tensor,
                            listed: file_name(&self.shards[*listed]),
                        });
                    }
                    _ => {}
                }
            }
        }
        for (tensor, number) in placed {
            let shard = &self.shards[*number];
            if !shard.has(tensor) {
                return Err(WeightsError::Missing {
                    path: shard.path.clone(),
                    tensor: tensor.clone(),
                });
            }
        }
        Ok(())
    }

    /// The file that holds a tensor of the configuration.
    fn shard_of(&self, name: &str) -> Result<&Shard, WeightsError> {
        let Some((path, placed)) = &self.index else {
            return Ok(&self.shards[0]);
        };
        let number = placed.get(name).ok_or_else(|| WeightsError::Missing {
            path: path.clone(),
            tensor: name.to_owned(),
        })?;
        Ok(&self.shards[*number])
    }

    /// Whatever else lies in the files must not matter.
    fn check_rest(&self, weights: &Weights) -> Result<(), WeightsError> {
        for shard in &self.shards {
            for tensor in shard.names() {
                if weights.index.contains_key(&tensor) || tensor.ends_with(ROTARY_BUFFER) {
                    continue;
                }
                if tensor != HEAD {
                    let path = shard.path.clone();
                    return Err(WeightsError::Unexpected { path, tensor });
                }
                // Tied, or the configuration would have asked for it: transformers 4 and others write the embedding a second time.
                self.check_tied(shard, weights.config())?;
            }
        }
        Ok(())
    }

    /// Compares the output layer in `shard` with the embedding, number by number.
    fn check_tied(&self, shard: &Shard, config: &ModelConfig) -> Result<(), WeightsError> {
        let shape = [config.vocab_size, config.hidden_size];
        let mut embedding = self.shard_of(EMBEDDING)?.pieces(EMBEDDING, &shape)?;
        let mut head = shard.pieces(HEAD, &shape)?;
        // Two types differ in how many numbers come at a time.
        let mut ahead = VecDeque::new();
        let mut index = 0;
        while let Some(values) = head.next()? {
            for value in values {
                if ahead.is_empty() {
                    ahead.extend(embedding.next()?.unwrap_or_default());
                }
                if ahead.pop_front() != Some(*value) {
                    return Err(WeightsError::NotTied {
                        path: shard.path.clone(),
                        tensor: HEAD.to_owned(),
                        index,
                    });
                }
                index += 1;
            }
        }
        Ok(())
    }
}

/// Reads one tensor and moves it to its device.
pub(in crate::candle) fn read_var(
    shard: &Shard,
    name: &str,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<Var, WeightsError> {
    match dtype {
        DType::F16 => read_as::<f16>(shard, name, shape, device),
        DType::BF16 => read_as::<bf16>(shard, name, shape, device),
        _ => read_as::<f32>(shard, name, shape, device),
    }
}

fn read_as<T: Number>(shard: &Shard, name: &str, shape: &[usize], device: &Device) -> Result<Var, WeightsError> {
    // Finds the tensor first: a size that only the configuration speaks of asks for no memory.
    let mut pieces = shard.pieces(name, shape)?;
    let mut all: Vec<T> = Vec::with_capacity(shape.iter().product());
    while let Some(values) = pieces.next()? {
        let before = all.len();
        all.extend(values.iter().map(|value| T::nearest(*value)));
        if let Some(index) = first_broken(all[before..].iter().map(|value| value.widened())) {
            return Err(WeightsError::Range {
                path: shard.path.clone(),
                tensor: name.to_owned(),
                index: before + index,
                value: values[index],
                dtype: T::DTYPE,
            });
        }
    }
    Ok(Var::from_vec(all, shape, device)?)
}

/// The part of the list of shards that says where the tensors are.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: Places,
}

/// Pairs of tensor and shard as they stand in the file: a map would hide what is there twice.
struct Places(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Places;

            fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of tensors to files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Places, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Places(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// Whether this names a file of the directory itself, and nothing above or below it.
fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(only)) if only == name) && components.next().is_none()
}

fn file_name(shard: &Shard) -> String {
    let name = shard.path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
