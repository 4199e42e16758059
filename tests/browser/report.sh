#!/usr/bin/env bash
# The report page in a real browser: report.sh SMALL.html BIG.html OUTDIR. Chromium and its driver are installed where that is possible
# (Debian, as root); where there is no browser to be had, it says so and is no failure.
set -euo pipefail
[ $# = 3 ] || { echo "usage: $0 SMALL.html BIG.html OUTDIR" >&2; exit 2; }
skip() { echo "skipped: tests of the report in a browser: $1"; exit 0; }

has_browser() { command -v "${CHROMEDRIVER:-chromedriver}" && command -v "${CHROMIUM:-chromium}"; } >/dev/null
if ! has_browser && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium chromium-driver fonts-dejavu-core; } >/dev/null 2>&1 || true
fi
has_browser || skip "chromium and chromedriver are missing (Debian: apt-get install chromium chromium-driver)"
command -v python3 >/dev/null || skip "python3 is missing"

script="$(dirname "$0")/report.py"
python3 "$script" "$1" "$3"
python3 "$script" --big "$2" "$3"
