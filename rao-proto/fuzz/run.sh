#!/bin/sh
# Runs every fuzz target for so many seconds (10 if nothing is said) on mutations of the seed corpus. Needs no special toolchain; with
# cargo-fuzz and a nightly one, `cargo fuzz run TARGET` in the directory above does the same with coverage.
set -eu

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/fuzz"

# The versions that the workspace uses; cargo drops what the targets do not need.
cp "$root/Cargo.lock" Cargo.lock

cargo build --release --quiet --no-default-features
"$CARGO_TARGET_DIR/release/hunt" --seconds "${1:-10}"
