//! [`Shard`]: one safetensors file, of which only the header is in memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, TensorInfo};

use super::error::WeightsError;
use super::number::{decode, first_broken};
use crate::files;

/// Bytes read at a time. A multiple of every element's size.
const CHUNK: usize = 1 << 20;
/// The length of the header stands before it.
const LENGTH: u64 = 8;
/// Longest header, in bytes; the format's own limit.
const HEADER_MAX: u64 = 100_000_000;

/// One safetensors file. Tensors are read where they lie, one at a time.
pub(in crate::candle) struct Shard {
    pub(super) path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the first tensor begins.
    start: u64,
}

impl Shard {
    /// Reads the header and checks that all that it speaks of is there.
    ///
    /// # Errors
    /// [`WeightsError::Io`], [`WeightsError::Damaged`] or [`WeightsError::Truncated`].
    pub(in crate::candle) fn open(path: PathBuf) -> Result<Self, WeightsError> {
        let (mut file, length) = files::open(&path).map_err(io(&path))?;
        let damaged = |source| WeightsError::Damaged {
            path: path.clone(),
            source,
        };
        if length < LENGTH {
            return Err(damaged(SafeTensorError::HeaderTooSmall));
        }
        let mut header_length = [0; LENGTH as usize];
        file.read_exact(&mut header_length).map_err(io(&path))?;
        let header_length = u64::from_le_bytes(header_length);
        if header_length > HEADER_MAX {
            return Err(damaged(SafeTensorError::HeaderTooLarge));
        }
        let start = LENGTH + header_length;
        if start > length {
            return Err(damaged(SafeTensorError::InvalidHeaderLength));
        }
        // Not longer than the file, so garbage does not ask for memory.
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(io(&path))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|source| damaged(SafeTensorError::InvalidHeaderDeserialization(source)))?;
        // A header may speak of more than there are numbers for.
        let expected = start.saturating_add(metadata.data_len() as u64);
        if length > expected {
            return Err(damaged(SafeTensorError::MetadataIncompleteBuffer));
        }
        if length < expected {
            let cut = |name: &String| {
                let end = metadata.info(name).map_or(0, |info| info.data_offsets.1);
                start.saturating_add(end as u64) > length
            };
            let tensor = metadata.offset_keys().into_iter().find(cut).unwrap_or_default();
            return Err(WeightsError::Truncated {
                path,
                tensor,
                found: length,
                expected,
            });
        }
        Ok(Self {
            path,
            file,
            metadata,
            start,
        })
    }

    /// The tensors' names, in the order in which they lie.
    pub(in crate::candle) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// What else the header says, under this key.
    pub(in crate::candle) fn metadata(&self, key: &str) -> Option<&str> {
        let said = self.metadata.metadata().as_ref()?;
        said.get(key).map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The tensor's numbers, to be asked for piece by piece.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::Shape`].
    pub(in crate::candle) fn pieces<'a>(&'a self, name: &'a str, shape: &[usize]) -> Result<Pieces<'a>, WeightsError> {
        let (path, tensor) = (|| self.path.clone(), || name.to_owned());
        let info = self.metadata.info(name).ok_or_else(|| WeightsError::Missing {
            path: path(),
            tensor: tensor(),
        })?;
        if info.shape != shape {
            return Err(WeightsError::Shape {
                path: path(),
                tensor: tensor(),
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        Ok(Pieces {
            shard: self,
            name,
            info,
            at: info.data_offsets.0,
            read: 0,
            bytes: Vec::new(),
            values: Vec::new(),
        })
    }
}

/// One tensor on its way out of a file.
pub(in crate::candle) struct Pieces<'a> {
    shard: &'a Shard,
    name: &'a str,
    info: &'a TensorInfo,
    /// Next byte, counted from the first tensor's first.
    at: usize,
    /// Numbers handed out so far.
    read: usize,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Pieces<'_> {
    /// The next numbers, as many for every tensor of a type; `None` behind the last.
    ///
    /// # Errors
    /// [`WeightsError::Type`], [`WeightsError::NotFinite`], or the system's.
    pub(in crate::candle) fn next(&mut self) -> Result<Option<&[f32]>, WeightsError> {
        let length = (self.info.data_offsets.1 - self.at).min(CHUNK);
        if length == 0 {
            return Ok(None);
        }
        self.bytes.resize(length, 0);
        let mut file = &self.shard.file;
        file.seek(SeekFrom::Start(self.shard.start + self.at as u64))
            .and_then(|_| file.read_exact(&mut self.bytes))
            .map_err(io(&self.shard.path))?;
        self.values.clear();
        let decoded = decode(self.info.dtype, &self.bytes, &mut self.values);
        decoded.ok_or_else(|| WeightsError::Type {
            path: self.shard.path.clone(),
            tensor: self.name.to_owned(),
            found: self.info.dtype.to_string(),
        })?;
        if let Some(index) = first_broken(self.values.iter().copied()) {
            return Err(WeightsError::NotFinite {
                path: self.shard.path.clone(),
                tensor: self.name.to_owned(),
                index: self.read + index,
                value: self.values[index],
            });
        }
        self.at += length;
        self.read += self.values.len();
        Ok(Some(&self.values))
    }
}

/// Names the file in a system's error.
pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> WeightsError {
    |source| WeightsError::Io {
        path: path.to_owned(),
        source,
    }
}
