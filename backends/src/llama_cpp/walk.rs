//! The header of a GGUF file, walked before llama.cpp reads it: over some of what may stand there, it ends the process.

use std::io::{BufReader, Read, Seek};

/// Most dimensions of a tensor.
const DIMENSIONS_MAX: u32 = 4;
/// Fewest bytes of a key and its value: the length of the key, one letter, the type, and the value.
const KEY_MIN: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of what is said of a tensor: the length of the name, the dimensions' number, the type, the place.
const TENSOR_MIN: u64 = 8 + 4 + 4 + 8;
/// Types of values: text, and many of another type.
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Goes through the header of a file of so many bytes, from behind its magic letters: all lengths are within the file, no key is empty, and
/// every type is known. What it says is not looked at, nor kept.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn walk(file: impl Read + Seek, left: u64) -> Result<(), String> {
    let mut header = Walk {
        file: BufReader::new(file),
        left,
    };
    // Of other versions llama.cpp says so itself, before it reads on.
    if !(2..=3).contains(&header.u32()?) {
        return Ok(());
    }
    let (tensors, keys) = (header.u64()?, header.u64()?);
    header.room_for(tensors, TENSOR_MIN, "tensors")?;
    header.room_for(keys, KEY_MIN, "keys")?;
    for _ in 0..keys {
        if header.text()? == 0 {
            return Err("it has a key without a name".to_owned());
        }
        let kind = header.u32()?;
        header.value(kind)?;
    }
    for _ in 0..tensors {
        header.text()?;
        let dimensions = header.u32()?;
        if dimensions > DIMENSIONS_MAX {
            return Err(format!("it has a tensor of {dimensions} dimensions"));
        }
        // Each of the dimensions, the type, and where it lies.
        header.skip(8 * u64::from(dimensions) + 4 + 8)?;
    }
    Ok(())
}

struct Walk<R> {
    file: BufReader<R>,
    /// Bytes of the file that are ahead.
    left: u64,
}

impl<R: Read + Seek> Walk<R> {
    fn room_for(&self, count: u64, bytes: u64, what: &str) -> Result<(), String> {
        if count > self.left / bytes {
            return Err(format!("it speaks of {count} {what}, and {} bytes are left", self.left));
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        if bytes > self.left {
            return Err(format!("it speaks of {bytes} bytes where {} are left", self.left));
        }
        self.left -= bytes;
        // Within what is buffered without a call of the system, as most of it is.
        let ahead = i64::try_from(bytes).map_err(|error| error.to_string())?;
        self.file.seek_relative(ahead).map_err(|error| error.to_string())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        if N as u64 > self.left {
            return Err("its header is cut off".to_owned());
        }
        self.left -= N as u64;
        self.file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// The length of the text that is passed.
    fn text(&mut self) -> Result<u64, String> {
        let length = self.u64()?;
        self.skip(length)?;
        Ok(length)
    }

    fn value(&mut self, kind: u32) -> Result<(), String> {
        match (kind, size(kind)) {
            (TEXT, _) => self.text().map(drop),
            (ARRAY, _) => {
                let (kind, count) = (self.u32()?, self.u64()?);
                match (kind, size(kind)) {
                    (TEXT, _) => {
                        self.room_for(count, 8, "texts")?;
                        (0..count).try_for_each(|_| self.text().map(drop))
                    }
                    (_, Some(bytes)) => {
                        self.room_for(count, bytes, "numbers")?;
                        self.skip(count * bytes)
                    }
                    (kind, None) => Err(format!("it has an array of type {kind}")),
                }
            }
            (_, Some(bytes)) => self.skip(bytes),
            (kind, None) => Err(format!("it has a value of type {kind}")),
        }
    }
}

/// What a number of that type takes.
fn size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
