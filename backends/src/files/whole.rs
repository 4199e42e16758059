//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes beside `path`, then renames: readers see the old file or the new one, never a part.
///
/// # Errors
/// What `write` says, or the system; what was there before is unharmed.
pub(crate) fn write_whole<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    Ok(Staged::write(path, write)?.publish()?)
}

/// A file that is whole, on the disk, and not yet in its place. Dropped before it is [published](Self::publish), it leaves nothing.
pub(crate) struct Staged {
    temporary: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// Writes beside `path`.
    ///
    /// # Errors
    /// What `write` says, or the system.
    pub(crate) fn write<E: From<io::Error>>(
        path: &Path,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let staged = Self {
            temporary: path.with_file_name(name),
            path: path.to_owned(),
        };
        let mut file = BufWriter::new(File::create(&staged.temporary)?);
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(staged)
    }

    /// Where it will be.
    #[cfg(feature = "candle")]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// The system's; what was there before is unharmed.
    pub(crate) fn publish(self) -> io::Result<()> {
        std::fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Best effort, and after a rename there is nothing to remove: the error that matters is the one being reported.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
