//! Disks that are full or may not be written to.

use super::*;

/// A shell that may mount what only it sees; `None` where that is not allowed.
fn shell(here: &Path, script: &str) -> Option<String> {
    let script = format!("set -e; mkdir -p disk; mount -t tmpfs -o size=1100k none disk || exit 77; cd disk; {script}");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(here)
        .env("RAO", env!("CARGO_BIN_EXE_rao"))
        .output();
    let output = output.ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if matches!(output.status.code(), Some(77 | 1)) && (said.contains("mount:") || said.contains("unshare:")) {
        eprintln!("skipped: no file system can be mounted here: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn a_full_disk_ends_the_run_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let expected = Result::uninterrupted(home.path(), &[]);
    let here = tempfile::tempdir().unwrap();
    let arguments = arguments(&[]).join("' '");
    let script = format!(
        "if $RAO '{arguments}'; then exit 3; fi; ls -A run/checkpoints; echo made room; mount -o remount,size=64m \"$PWD\"; \
         $RAO train --resume run; cp -r run .."
    );
    let Some(said) = shell(here.path(), &script) else {
        return;
    };
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("`rao train --resume run` goes on with it"), "{said}");
    let (before, _) = said.split_once("made room").unwrap();
    assert!(before.contains("-0000") && !before.contains(".partial"), "{said}");
    Result::of(&here.path().join("run")).check(&expected, "after the disk was full");
}

#[test]
fn a_directory_that_may_not_be_written_to_is_named() {
    let here = tempfile::tempdir().unwrap();
    let arguments = arguments(&[]).join("' '");
    let script = format!(
        "mount -o remount,ro \"$PWD\"; if $RAO '{arguments}'; then exit 3; fi; mount -o remount,rw \"$PWD\"; \
         mkdir run; $RAO train --print-config > run/config.toml; mount -o remount,ro \"$PWD\"; if $RAO train --resume run; then exit 3; fi"
    );
    let Some(said) = shell(here.path(), &script) else {
        return;
    };
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("rao: ")).collect();
    assert_eq!(errors.len(), 2, "{said}");
    assert!(errors[0].contains("run: Read-only file system"), "{said}");
    assert!(errors[1].contains("run/run.lock: Read-only file system"), "{said}");
}
