//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes beside `path`, then renames: readers see the old file or the new one, never a part.
///
/// # Errors
/// What `write` says, or the system; what was there before is unharmed.
pub(crate) fn write_whole<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = || {
        let mut file = BufWriter::new(File::create(&temporary)?);
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(std::fs::rename(&temporary, path)?)
    };
    written().inspect_err(|_| {
        // Best effort: the error that matters is the one being reported.
        let _ = std::fs::remove_file(&temporary);
    })
}
