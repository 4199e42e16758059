#!/bin/sh
# Builds and tests this crate as a stranger's: in a workspace of its own, with the dependency versions of the repository. A change of the
# protocol's bytes fails its snapshots; they are compared here, never written.
set -eu

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/downstream"
export INSTA_UPDATE=no

# The versions that the workspace uses; cargo drops what this crate does not need.
cp "$root/Cargo.lock" Cargo.lock

cargo fmt --check
cargo clippy --quiet --all-targets -- -D warnings
cargo test --quiet
