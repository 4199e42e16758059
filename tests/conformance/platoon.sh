#!/usr/bin/env bash
# Compares the credit of rao-tree with the functions of the paper's authors (platoon 0.4.0 on PyPI), and times both on the same batch.
# Prints `skipped: ...` and succeeds where Python 3.12 or the package is not to be had; fails where a figure differs.
#
#   RAO_PLATOON_DIR   where the wheel is kept; a cache directory outside the checkout by default
#   PYTHON            the Python to run it with; the first of version 3.12 or later by default
#
# Arguments are passed on to platoon_credit.py. With --no-speed nothing is timed, and the development build will do.
set -euo pipefail
cd "$(dirname "$0")/../.."

package=platoon==0.4.0
cache="${RAO_PLATOON_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/rao/platoon}"
wheel="$cache/platoon-0.4.0-py3-none-any.whl"
skip() { echo "skipped: comparison with $package: $*"; exit 0; }
is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; }

python=
candidates=(${PYTHON:+"$PYTHON"} python3.12 python3.13 python3.14 python3)
if command -v pyenv >/dev/null; then
  for version in 3.12 3.13; do
    prefix="$(pyenv prefix "$(pyenv latest "$version" 2>/dev/null)" 2>/dev/null)" && candidates+=("$prefix/bin/python3")
  done
fi
for candidate in "${candidates[@]}"; do
  if is_recent "$candidate"; then python="$candidate"; break; fi
done
[ -n "$python" ] || skip "no Python 3.12 or later"

if [ ! -f "$wheel" ]; then
  mkdir -p "$cache"
  download=(download "$package" --quiet --no-deps --only-binary=:all: --python-version 3.12 --dest "$cache"
    --timeout 10 --retries 1 --disable-pip-version-check)
  "$python" -m pip "${download[@]}" || pip3 "${download[@]}" || skip "it cannot be downloaded"
fi

profile=release directory=release
case " $* " in *" --no-speed "*) profile=dev directory=debug ;; esac
cargo build --locked --quiet --profile "$profile" -p rao-tree --example forests
forests="${CARGO_TARGET_DIR:-target}/$directory/examples/forests"
exec "$python" tests/conformance/platoon_credit.py --wheel "$wheel" --forests "$forests" "$@"
