//! Writing a Hugging Face directory, tensor by tensor.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::error::WeightsError;
use super::number::{Number, encode, stored_as, torch_name};
use super::shard::io;
use super::{CONFIG_FILE, INDEX_FILE, SUFFIX, WEIGHTS_FILE, Weights};
use crate::candle::config::ConfigError;
use crate::files::whole::Staged;

/// Numbers that are turned into bytes at a time.
const CHUNK: usize = 64 * 1024;
/// The header is filled with spaces up to a multiple of this.
const ALIGNMENT: usize = 8;
/// Begins the name of one file of several.
const SHARD_PREFIX: &str = "model-";

/// Writes `weights` into `dir`: every tensor as `dtype`, or as it is kept, in files of at most `max_shard_bytes` of tensors.
pub(super) fn save(
    weights: &Weights,
    dir: &Path,
    dtype: Option<DType>,
    max_shard_bytes: Option<u64>,
) -> Result<(), WeightsError> {
    let config_type = torch_name(dtype.unwrap_or(weights.dtype()));
    let shards = plan(weights, dtype, max_shard_bytes.unwrap_or(u64::MAX))?;
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    let names: Vec<String> = match shards.len() {
        1 => vec![WEIGHTS_FILE.to_owned()],
        count => (1..=count)
            .map(|number| format!("{SHARD_PREFIX}{number:05}-of-{count:05}{SUFFIX}"))
            .collect(),
    };
    let mut staged = Vec::with_capacity(shards.len() + 1);
    let config = weights.config.to_json_over(&weights.other, config_type)?;
    staged.push(stage_bytes(&dir.join(CONFIG_FILE), config.as_bytes())?);
    for (entries, name) in shards.iter().zip(&names) {
        staged.push(write_shard(&dir.join(name), entries)?);
    }
    let several = shards.len() > 1;
    if several {
        let index = index(&shards, &names)?;
        staged.push(stage_bytes(&dir.join(INDEX_FILE), index.as_bytes())?);
        // All of it is on the disk now. While some of several files are in their places, nothing there may read as a whole.
        remove(&dir.join(WEIGHTS_FILE))?;
        remove(&dir.join(INDEX_FILE))?;
    }
    for file in staged {
        let path = file.path().to_owned();
        file.publish().map_err(io(&path))?;
    }
    if !several {
        remove(&dir.join(INDEX_FILE))?;
    }
    remove_other_shards(dir, &names)
}

/// Cuts the model into files, in its own order: a file takes tensors until the next one is too many.
fn plan(weights: &Weights, dtype: Option<DType>, max: u64) -> Result<Vec<Vec<Entry<'_>>>, WeightsError> {
    let mut shards = vec![Vec::new()];
    let mut total = 0_u64;
    for (name, var) in weights.iter() {
        let dtype = dtype.unwrap_or(var.dtype());
        let entry = Entry {
            name,
            tensor: var.as_tensor(),
            dtype,
            stored: stored_as(dtype)?,
        };
        total = total.saturating_add(entry.bytes());
        match shards.last_mut() {
            Some(shard) if shard.is_empty() || total <= max => shard.push(entry),
            _ => {
                total = entry.bytes();
                shards.push(vec![entry]);
            }
        }
    }
    for shard in &mut shards {
        // As safetensors has it: what is wider first, so that every number lies at a multiple of its size.
        shard.sort_by(|a, b| b.stored.cmp(&a.stored).then(a.name.cmp(b.name)));
    }
    Ok(shards)
}

/// One tensor on its way into a file.
struct Entry<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    dtype: DType,
    stored: Dtype,
}

impl Entry<'_> {
    fn bytes(&self) -> u64 {
        (self.tensor.elem_count() * self.dtype.size_in_bytes()) as u64
    }

    /// Writes the tensor's numbers, of which no more than a piece is converted at a time.
    fn write(&self, path: &Path, out: &mut impl Write) -> Result<(), Fault> {
        // The handle itself if it is there already.
        let tensor = self.tensor.to_device(&Device::Cpu)?.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let range = layout.start_offset()..layout.start_offset() + tensor.elem_count();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => self.write_values(path, &values[range], out),
            Storage::Cpu(CpuStorage::F16(values)) => self.write_values(path, &values[range], out),
            Storage::Cpu(CpuStorage::BF16(values)) => self.write_values(path, &values[range], out),
            _ => Err(WeightsError::Precision { dtype: tensor.dtype() }.into()),
        }
    }

    fn write_values<T: Number>(&self, path: &Path, values: &[T], out: &mut impl Write) -> Result<(), Fault> {
        let (mut wide, mut bytes) = (Vec::new(), Vec::new());
        for (chunk, values) in values.chunks(CHUNK).enumerate() {
            wide.clear();
            wide.extend(values.iter().map(|value| value.widened()));
            bytes.clear();
            if let Some(at) = encode(self.dtype, &wide, &mut bytes) {
                return Err(self.broken(path, chunk * CHUNK + at, wide[at]).into());
            }
            out.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Nothing is written that a reader must refuse.
    fn broken(&self, path: &Path, index: usize, value: f32) -> WeightsError {
        let (path, tensor) = (path.to_owned(), self.name.to_owned());
        if value.is_finite() {
            WeightsError::Range {
                path,
                tensor,
                index,
                value,
                dtype: self.dtype,
            }
        } else {
            WeightsError::NotFinite {
                path,
                tensor,
                index,
                value,
            }
        }
    }
}

/// Writes one safetensors file beside its place.
fn write_shard(path: &Path, entries: &[Entry<'_>]) -> Result<Staged, WeightsError> {
    let mut infos = Vec::with_capacity(entries.len());
    let mut end = 0;
    for entry in entries {
        let start = end;
        end += entry.bytes() as usize;
        let info = TensorInfo {
            dtype: entry.stored,
            shape: entry.tensor.dims().to_vec(),
            data_offsets: (start, end),
        };
        infos.push((entry.name.to_owned(), info));
    }
    // Without it transformers 4 refuses the file.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    stage_tensors(path, format, infos, |file| {
        entries.iter().try_for_each(|entry| entry.write(path, file))
    })
}

/// Writes one safetensors file beside its place: the header, and then what `write` writes, which is the bytes of `infos` in their order.
pub(in crate::candle) fn stage_tensors(
    path: &Path,
    said: HashMap<String, String>,
    infos: Vec<(String, TensorInfo)>,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Fault>,
) -> Result<Staged, WeightsError> {
    let damaged = |source| WeightsError::Damaged {
        path: path.to_owned(),
        source,
    };
    let metadata = Metadata::new(Some(said), infos).map_err(damaged)?;
    let mut header = serde_json::to_vec(&metadata).map_err(|source| damaged(source.into()))?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    stage(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        write(file)
    })
}

/// The list of shards.
fn index(shards: &[Vec<Entry<'_>>], names: &[String]) -> Result<String, WeightsError> {
    let entries = || shards.iter().flatten();
    let placed = shards
        .iter()
        .zip(names)
        .flat_map(|(shard, name)| shard.iter().map(move |entry| (entry.name, name)));
    let json = serde_json::json!({
        "metadata": { "total_size": entries().map(Entry::bytes).sum::<u64>() },
        "weight_map": placed.collect::<BTreeMap<_, _>>(),
    });
    Ok(serde_json::to_string_pretty(&json).map_err(ConfigError::from)?)
}

/// What fails while a file is written, whose name is added where it is known.
pub(in crate::candle) enum Fault {
    System(io::Error),
    Other(WeightsError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<WeightsError> for Fault {
    fn from(error: WeightsError) -> Self {
        Self::Other(error)
    }
}

impl From<candle_core::Error> for Fault {
    fn from(error: candle_core::Error) -> Self {
        Self::Other(error.into())
    }
}

/// Writes a file beside its place.
fn stage(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Fault>) -> Result<Staged, WeightsError> {
    Staged::write(path, write).map_err(|fault| match fault {
        Fault::System(source) => io(path)(source),
        Fault::Other(error) => error,
    })
}

fn stage_bytes(path: &Path, bytes: &[u8]) -> Result<Staged, WeightsError> {
    stage(path, |file| Ok(file.write_all(bytes)?))
}

/// Removes a file, which need not be there.
fn remove(path: &Path) -> Result<(), WeightsError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

/// Removes the shards of what was there before: programs that read a directory without its list would mix them in.
fn remove_other_shards(dir: &Path, names: &[String]) -> Result<(), WeightsError> {
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_shard_name(&name) && !names.iter().any(|kept| *kept == name) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Whether a file is called `model-00001-of-00002.safetensors`, with any numbers.
fn is_shard_name(name: &str) -> bool {
    let numbers = name
        .strip_prefix(SHARD_PREFIX)
        .and_then(|name| name.strip_suffix(SUFFIX));
    let number = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once("-of-"))
        .is_some_and(|(one, of)| number(one) && number(of))
}
