//! The file of an optimiser's memory: safetensors, with the names that PyTorch gives its moments.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::{AdamW, Moments};
use crate::candle::weights::{Shard, WeightsError, read_var, stage_tensors};
use candle_core::{DType, Device, Tensor};

/// Names of the moments, before that of the tensor that they belong to.
const FIRST: &str = "exp_avg.";
const SECOND: &str = "exp_avg_sq.";
/// Under which the header says how many steps were done.
const STEPS: &str = "steps";
/// Numbers that are turned into bytes at a time.
const CHUNK: usize = 64 * 1024;

impl AdamW {
    /// Writes moments and steps, in f32: enough for [`load`](Self::load) to go on exactly where it stopped. The file appears whole or not at all,
    /// and takes no memory beside what there is.
    ///
    /// # Errors
    /// [`WeightsError`]; a file that was there is as it was.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let mut infos = Vec::with_capacity(2 * self.tensors.len());
        let mut end = 0;
        for prefix in [FIRST, SECOND] {
            for (name, shape) in &self.tensors {
                let start = end;
                end += shape.iter().product::<usize>() * size_of::<f32>();
                let info = TensorInfo {
                    dtype: Dtype::F32,
                    shape: shape.clone(),
                    data_offsets: (start, end),
                };
                infos.push((format!("{prefix}{name}"), info));
            }
        }
        let metadata = HashMap::from([(STEPS.to_owned(), self.steps.to_string())]);
        let staged = stage_tensors(path, metadata, infos, |file| {
            let mut bytes = Vec::with_capacity(CHUNK * size_of::<f32>());
            let mut write = |values: &[f32]| -> std::io::Result<()> {
                for chunk in values.chunks(CHUNK) {
                    bytes.clear();
                    bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
                    file.write_all(&bytes)?;
                }
                Ok(())
            };
            match &self.moments {
                // The tensors lie in them one behind the other, as in the file.
                Moments::Flat { first, second } => {
                    write(first)?;
                    write(second)?;
                }
                Moments::Tensors(tensors) => {
                    for which in [0, 1] {
                        for moments in tensors {
                            write(&moments[which].flatten_all()?.to_vec1::<f32>()?)?;
                        }
                    }
                }
            }
            Ok(())
        })?;
        staged.publish().map_err(|source| WeightsError::Io {
            path: path.to_owned(),
            source,
        })
    }

    /// Goes on from what [`save`](Self::save) wrote for a model with the same tensors.
    ///
    /// # Errors
    /// [`WeightsError`] names the file, and the tensor that is at fault; the optimiser is as before.
    pub fn load(&mut self, path: &Path) -> Result<(), WeightsError> {
        let file = Shard::open(path.to_owned())?;
        let known = |name: &String| {
            let module = name.strip_prefix(FIRST).or_else(|| name.strip_prefix(SECOND));
            module.is_some_and(|module| self.tensors.iter().any(|(tensor, _)| tensor == module))
        };
        if let Some(tensor) = file.names().into_iter().find(|name| !known(name)) {
            let path = path.to_owned();
            return Err(WeightsError::Unexpected { path, tensor });
        }
        let steps = file.metadata(STEPS).and_then(|steps| steps.parse().ok());
        let steps = steps.ok_or_else(|| WeightsError::Unsaid {
            path: path.to_owned(),
            key: STEPS,
        })?;
        let moments = match &self.moments {
            Moments::Flat { .. } => {
                let flat = |prefix: &str| {
                    let count = self
                        .tensors
                        .iter()
                        .map(|(_, shape)| shape.iter().product::<usize>())
                        .sum();
                    let mut all = Vec::with_capacity(count);
                    for (name, shape) in &self.tensors {
                        let name = format!("{prefix}{name}");
                        let mut pieces = file.pieces(&name, shape)?;
                        while let Some(values) = pieces.next()? {
                            all.extend_from_slice(values);
                        }
                    }
                    Ok::<_, WeightsError>(all)
                };
                Moments::Flat {
                    first: flat(FIRST)?,
                    second: flat(SECOND)?,
                }
            }
            Moments::Tensors(tensors) => {
                let read = |prefix: &str, (name, shape): &(String, Vec<usize>), device: &Device| {
                    let name = format!("{prefix}{name}");
                    Ok::<Tensor, WeightsError>(read_var(&file, &name, shape, DType::F32, device)?.into_inner())
                };
                let moved = self.tensors.iter().zip(tensors).map(|(tensor, old)| {
                    let device = old[0].device();
                    Ok([read(FIRST, tensor, device)?, read(SECOND, tensor, device)?])
                });
                Moments::Tensors(moved.collect::<Result<_, WeightsError>>()?)
            }
        };
        (self.moments, self.steps) = (moments, steps);
        Ok(())
    }
}
