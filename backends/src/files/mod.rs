//! Files that are read up to a size, and files that appear whole or not at all.

#[cfg(any(feature = "candle", feature = "text"))]
pub(crate) mod whole;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

/// Longest `config.json` and other file of settings that is read, in bytes: a thousand times what such files take.
pub const SETTINGS_MAX: u64 = 16 << 20;

/// Opens a regular file, and says how long it is. A pipe, where the system would wait for a writer, or a device is refused.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    // Before it is opened: opening a pipe may take for ever.
    regular(&path.metadata()?)?;
    let file = File::open(path)?;
    let there = file.metadata()?;
    regular(&there)?;
    Ok((file, there.len()))
}

fn regular(there: &Metadata) -> io::Result<()> {
    if there.is_file() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// Reads a regular file of at most `most` bytes. One that is longer is refused before anything of it is read.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open(path)?;
    let too_large = |length| {
        let message = format!("it takes {length} bytes, and at most {most} are read");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
    };
    if length > most {
        return too_large(length);
    }
    // It may grow meanwhile.
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        length if length > most => too_large(length),
        _ => Ok(bytes),
    }
}

/// The same as text.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] where it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}
