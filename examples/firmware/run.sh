#!/bin/sh
# Runs the firmware in an emulator of a Cortex-M4, compares what it prints with what the same program prints on the host, byte by byte, and
# says how much flash, RAM and stack it takes. Says what it skips where the target or the emulator is not to be had.
set -eu

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
base=${CARGO_TARGET_DIR:-$root/target}
target=thumbv7em-none-eabihf
firmware=$base/firmware/$target/release/rao-firmware
device=$base/firmware/device.txt
board=$base/firmware/board.txt
host=$base/firmware/host.txt
say() { printf 'firmware: %s\n' "$*"; }
fail() {
    say "FAILED: $*"
    exit 1
}

if command -v rustup >/dev/null; then
    rustup target add "$target" >/dev/null 2>&1 || true
fi
if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
    say "skipped: the target $target is not to be had"
    exit 0
fi

# The versions that the workspace uses; cargo adds those of the device and drops what is not needed.
cp "$root/Cargo.lock" Cargo.lock
CARGO_TARGET_DIR=$base/firmware cargo build --release --quiet
symbols=$(nm "$firmware")
printf '%s\n' "$symbols" | grep -q ' main$' || fail "nm shows no main: is the symbol table gone?"
if printf '%s\n' "$symbols" | grep -E '__(rust|rg|rdl)_(alloc|dealloc|realloc)|\b(malloc|calloc|realloc|free)\b'; then
    fail "the firmware holds an allocator"
fi
sections=$(size -A "$firmware")
printf '%s\n' "$sections" | awk '
    $1 ~ /^\.(vector_table|text|rodata|data|gnu\.sgstubs)$/ { flash += $2 }
    $1 ~ /^\.(data|bss|uninit)$/ { ram += $2 }
    END { printf "firmware: flash %d bytes, RAM %d bytes without the stack\n", flash, ram }'

if ! command -v qemu-system-arm >/dev/null; then
    say "skipped: it is built but not run, there is no qemu-system-arm (Debian: apt-get install qemu-system-arm)"
    exit 0
fi

cp "$root/Cargo.lock" "$root/rao-tree/proof/Cargo.lock"
(cd "$root/rao-tree/proof" && CARGO_TARGET_DIR=$base/proof cargo build --release --quiet)
"$base/proof/release/rao-tree-proof" >"$host" || {
    status=$?
    tail -n 3 "$host"
    fail "the program exits with $status on the host"
}

# The runner in .cargo/config.toml starts the emulator. The firmware takes well under a second; one that hangs is stopped.
status=0
CARGO_TARGET_DIR=$base/firmware timeout 60 cargo run --release --quiet >"$device" 2>"$board" </dev/null || status=$?
if [ "$status" != 0 ]; then
    tail -n 3 "$device"
    tail -n 20 "$board"
    [ "$status" != 124 ] || fail "it does not end within a minute"
    fail "it exits with $status"
fi
cmp "$host" "$device" || {
    diff "$host" "$device" | head -n 10
    fail "the device prints something else than the host"
}
grep -v '^|' "$device"
say "$(cat "$board")"
say "$(wc -c <"$device") bytes of output, the same on the host: $(qemu-system-arm --version | head -n 1)"
