//! The command `rao`, as tests call it.

use std::path::Path;
use std::process::{Command, Output};

/// What the command does there.
pub fn rao(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rao"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap()
}

/// What it printed; it must have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Why it would not; it must have failed.
pub fn refused(directory: &Path, arguments: &[&str]) -> String {
    let output = rao(directory, arguments);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr).unwrap()
}
