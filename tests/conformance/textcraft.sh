#!/usr/bin/env bash
# Compares the text tools of TextCraft with the game of the paper's authors (platoon-textcraft 0.3.0 on PyPI): every published solution, and
# random actions. Prints `skipped: ...` and succeeds where the package is not to be had; fails where an outcome differs.
#
#   RAO_TEXTCRAFT_WHEEL_DIR   where the wheel is kept; a cache directory outside the checkout by default
#   PYTHON                    the Python to run it with (3.9 or later, nothing installed in it); python3 by default
#
# Arguments are passed on to textcraft.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

package=platoon-textcraft==0.3.0
cache="${RAO_TEXTCRAFT_WHEEL_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/rao/platoon}"
wheel="$cache/platoon_textcraft-0.3.0-py3-none-any.whl"
python="${PYTHON:-python3}"
skip() { echo "skipped: comparison with $package: $*"; exit 0; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || skip "no Python 3.9 or later"

if [ ! -f "$wheel" ]; then
  mkdir -p "$cache"
  "$python" -m pip download "$package" --quiet --no-deps --only-binary=:all: --python-version 3.12 --dest "$cache" \
    --timeout 10 --retries 1 --disable-pip-version-check || skip "it cannot be downloaded"
fi

cargo build --locked --quiet -p rao-trainer --no-default-features --example crafts
exec "$python" tests/conformance/textcraft.py --wheel "$wheel" --crafts "${CARGO_TARGET_DIR:-target}/debug/examples/crafts" "$@"
