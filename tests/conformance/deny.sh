#!/usr/bin/env bash
# Licences, duplicates and sources of every dependency, and the advisories against them where their database can be had: cargo-deny by
# deny.toml. Without cargo-deny on the path it is built once, without optimisation, and kept beside the target directory.
#
#   deny.sh [--build-allowed]
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.20.2
target="${CARGO_TARGET_DIR:-$PWD/target}"
kept="$target/cargo-deny-$version"

if command -v cargo-deny >/dev/null; then
  deny=cargo-deny
elif [ -x "$kept/bin/cargo-deny" ]; then
  deny="$kept/bin/cargo-deny"
elif [ "${1:-}" = --build-allowed ]; then
  # Two minutes of two cores.
  if ! CARGO_TARGET_DIR="$kept/build" cargo install --quiet --locked --debug --root "$kept" "cargo-deny@$version" ||
    [ ! -x "$kept/bin/cargo-deny" ]; then
    echo "skipped: cargo deny: it cannot be built here"; exit 0
  fi
  rm -rf "$kept/build"
  deny="$kept/bin/cargo-deny"
else
  echo "skipped: cargo deny: it is not installed, and no time is left to build it"; exit 0
fi

"$deny" --locked check licenses bans sources
# The crates that are workspaces of their own: they depend on the core, and on what is in no other crate.
for crate in rao-tree/proof rao-proto/fuzz examples/firmware examples/downstream; do
  "$deny" --log-level error --manifest-path "$crate/Cargo.toml" --config deny.toml check licenses sources
done
if ! "$deny" --locked fetch db >/dev/null 2>&1; then
  echo "skipped: advisories against dependencies: their database cannot be fetched"
else
  "$deny" --locked check --disable-fetch advisories
fi
