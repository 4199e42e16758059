#!/usr/bin/env bash
# Has TensorBoard (tensorboard on PyPI) read the event files of a short `rao train`: every number of `metrics.jsonl`, with its step, and no other.
# Prints `skipped: ...` and succeeds where the package is not to be had; fails where a number differs.
#
#   tests/conformance/tensorboard.sh RAO      path of the program
#
#   RAO_TENSORBOARD_DIR   where it is installed, in an environment of its own; a cache directory outside the checkout by default
#   PYTHON                the Python to make it with (3.9 or later, with venv and pip); python3 by default
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 RAO"; exit 2; }
rao=$(realpath "$1") here=$(realpath "$(dirname "$0")")

package=tensorboard==2.21.0
cache="${RAO_TENSORBOARD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/rao/tensorboard}"
environment="$cache/${package/==/-}"
skip() { echo "skipped: event files read by $package: $*"; exit 0; }

is_whole() { "$environment/bin/python" -c 'import tensorboard.backend.event_processing.event_accumulator' 2>/dev/null; }

if ! is_whole; then
  # Also one that was interrupted, or whose Python has gone.
  rm -rf "$environment"
  mkdir -p "$cache"
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || skip "no Python 3.9 or later"
  "${PYTHON:-python3}" -m venv "$environment" >/dev/null 2>&1 || skip "this Python makes no environments (Debian: apt-get install python3-venv)"
  "$environment/bin/python" -m pip install --quiet --only-binary=:all: --timeout 10 --retries 1 --disable-pip-version-check "$package" &&
    is_whole || skip "it cannot be installed"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$rao" train --run "$folder/run" --set warmstart.steps=5 --set warmstart.trees=200 --set rao.steps=3 --set rao.tasks=4 --set rao.trees=4 \
  --set 'eval.difficulties=["easy"]' --set eval.easy=2 >/dev/null 2>"$folder/train.log" || { cat "$folder/train.log"; exit 1; }
"$environment/bin/python" "$here/event_files.py" "$folder/run"
