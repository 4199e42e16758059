#!/bin/sh
# Runs every fuzz target for so many seconds (10 if nothing is said) on mutations of the seed corpus, on any toolchain. What can also run is
# libFuzzer, which follows coverage: `cargo fuzz run TARGET` in the directory above, with cargo-fuzz and a nightly toolchain, or with a stable
# one and RUSTC_BOOTSTRAP=1.
set -eu

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/fuzz"

# The versions that the workspace uses; cargo drops what the targets do not need.
cp "$root/Cargo.lock" Cargo.lock

cargo build --release --quiet --no-default-features --examples
"$CARGO_TARGET_DIR/release/examples/hunt" --seconds "${1:-10}"
