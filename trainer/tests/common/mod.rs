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

/// The whole run took as much memory as was predicted, within 15 %; where the system tells.
pub fn memory_is_as_predicted(summary: &serde_json::Value) {
    if let Some(peak) = summary["memory_peak"].as_f64() {
        let ratio = summary["memory_predicted"].as_f64().unwrap() / peak;
        assert!((0.85..=1.15).contains(&ratio), "predicted to measured: {ratio}");
    }
}
