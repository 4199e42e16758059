#!/usr/bin/env bash
# Builds llama.cpp's `llama-server` once, and prints where it is: the last line of the output. For the tests that speak to a real server:
#
#   RAO_LLAMA_SERVER=$(tests/conformance/llama_server.sh) cargo test -p rao-backends --features openai --test llama_server
#
#   tests/conformance/llama_server.sh [DIR]      where it is kept; RAO_LLAMA_SERVER_DIR or a cache directory by default
#   LLAMA_SERVER_JOBS                            compilers side by side; as many as there are cores by default
#   PYTHON                                       a Python with pip, which downloads the sources; python3 by default
#
# The crate that llama.cpp comes with for feature `llama-cpp` leaves the server's sources out, so they are those of the package
# llama-cpp-python on PyPI, a version of the same weeks. It says `skipped: ...` on the error stream and fails where it cannot build.
set -euo pipefail

version=0.3.36
digest=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
cache="${1:-${RAO_LLAMA_SERVER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/rao/llama-server}}"
server="$cache/llama-server-$version"
archive="$cache/llama_cpp_python-$version.tar.gz"
skip() { echo "skipped: llama-server: $*" >&2; exit 1; }

if [ ! -x "$server" ]; then
  for tool in cmake c++ tar sha256sum; do
    command -v "$tool" >/dev/null || skip "there is no $tool"
  done
  mkdir -p "$cache"
  if [ ! -f "$archive" ]; then
    "${PYTHON:-python3}" -m pip download "llama-cpp-python==$version" --quiet --no-deps --no-binary=:all: --dest "$cache" \
      --timeout 30 --retries 1 --disable-pip-version-check >&2 || skip "its sources cannot be downloaded"
  fi
  echo "$digest  $archive" | sha256sum --check --quiet >&2 || skip "$archive is not what is expected"
  # Unpacked and built beside its place: a build that was interrupted is begun anew, and never taken for a whole one.
  work=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  tar -xzf "$archive" -C "$work" --strip-components=1 "llama_cpp_python-$version/vendor/llama.cpp"
  # Without its page, TLS and libraries to install; the batched kernels are off as in `.cargo/config.toml`, so that log-probabilities
  # are comparable to the last digits.
  cmake -S "$work/vendor/llama.cpp" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
    -DGGML_LLAMAFILE=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF >"$cache/build.log" 2>&1 || skip "cmake failed; see $cache/build.log"
  cmake --build "$work/build" --target llama-server -j "${LLAMA_SERVER_JOBS:-$(nproc)}" >>"$cache/build.log" 2>&1 ||
    skip "it does not build; see $cache/build.log"
  mv "$work/build/bin/llama-server" "$server"
fi
"$server" --version >/dev/null 2>&1 || skip "$server does not run"
echo "$server"
