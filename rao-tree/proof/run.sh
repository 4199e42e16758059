#!/bin/sh
# Proves that rao-proto and rao-tree need neither std nor an allocator: a program without either links, runs and gets the right results, and
# its symbol table holds no allocator. Then builds both crates for a Cortex-M4 and for a Cortex-M0, which has no atomic read-modify-write,
# where these targets are to be had. examples/firmware runs the same program on the Cortex-M4.
set -eu

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/proof"
binary=$CARGO_TARGET_DIR/release/rao-tree-proof
say() { printf 'proof: %s\n' "$*"; }
fail() {
    say "FAILED: $*"
    exit 1
}

# The versions that the workspace uses; cargo drops what the proof does not need.
cp "$root/Cargo.lock" Cargo.lock

cargo build --release --quiet
output=$CARGO_TARGET_DIR/output.txt
"$binary" >"$output" || {
    status=$?
    tail -n 3 "$output"
    fail "the program exits with $status"
}
# All but the bytes of the traces.
grep -v '^|' "$output"

symbols=$(nm "$binary")
printf '%s\n' "$symbols" | grep -q ' T main$' || fail "nm shows no main: is the symbol table gone?"
if printf '%s\n' "$symbols" | grep -E '__(rust|rg|rdl)_(alloc|dealloc|realloc)|\b(malloc|calloc|realloc|free)\b'; then
    fail "the program holds an allocator"
fi
say "no allocator in $(printf '%s\n' "$symbols" | wc -l) symbols"
size "$binary"

log=$CARGO_TARGET_DIR/negative-control.log
if cargo build --release --quiet --features negative-control 2>"$log"; then
    fail "a program with a Vec links: something provides an allocator"
fi
grep -q 'no global memory allocator found' "$log" || {
    cat "$log"
    fail "the negative control fails for another reason"
}
say "with a Vec it does not link, as it should: no global memory allocator found"

for target in thumbv7em-none-eabihf thumbv6m-none-eabi; do
    if command -v rustup >/dev/null; then
        rustup target add "$target" >/dev/null 2>&1 || true
    fi
    if [ -d "$(rustc --print target-libdir --target "$target")" ]; then
        (cd "$root" && cargo build --release --quiet --locked -p rao-proto -p rao-tree --target "$target")
        say "rao-proto and rao-tree build for $target"
    else
        say "skipped: the target $target is not to be had"
    fi
done
