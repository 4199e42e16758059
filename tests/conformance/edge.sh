#!/usr/bin/env bash
# A policy on its way to a device: trained for a moment with Candle, exported with eight bits, run by examples/edge.rs, which is built without
# Candle; its traces are read by `rao trace`, also that of a run that was killed and that of a run whose trace met its cap.
#
#   tests/conformance/edge.sh RAO EDGE      paths of the two programs
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 RAO EDGE"; exit 2; }
rao=$(realpath "$1") edge=$(realpath "$2")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
fail() { echo "edge: $*"; exit 1; }

"$rao" train --run run --set warmstart.steps=100 --set warmstart.trees=1000 --set rao.steps=10 --set flat.enabled=false \
  --set 'eval.difficulties=["easy"]' --set eval.easy=2 >/dev/null 2>&1 || fail "training failed"
"$rao" export run --quant q8_0 -o policy.gguf >/dev/null

# Whether it succeeds is the policy's business: exit code 0 or 1.
"$edge" policy.gguf medium whole.trace >whole.txt || [ $? = 1 ]
grep '^success ' whole.txt
grep 'peak memory' whole.txt
"$rao" trace whole.trace >traced.txt || fail "the trace of a whole run is not read"
[ "$("$rao" trace whole.trace | grep -c '✓\|✗')" -gt 0 ] || fail "no node has ended"

if "$edge" policy.gguf medium whole.trace >/dev/null 2>refused.txt; then fail "a trace was overwritten"; fi
"$edge" policy.gguf medium capped.trace --bytes 1000 >capped.txt || [ $? = 1 ]
[ "$(wc -c <capped.trace)" -le 1000 ] || fail "the cap was passed"
grep -q 'would pass the cap of 1000' capped.txt || fail "nobody said that the trace ends early"
"$rao" trace capped.trace >/dev/null || fail "a capped trace is not read"

# An extreme task takes many seconds. It is killed once it has written something.
"$edge" policy.gguf extreme killed.trace >/dev/null 2>&1 &
for _ in $(seq 200); do
  [ -f killed.trace ] && [ "$(wc -c <killed.trace)" -gt 5000 ] && break
  sleep 0.05
done
kill -9 $! || fail "it ended before it could be killed"
wait $! 2>/dev/null || true
[ "$(wc -c <killed.trace)" -gt 5000 ] || fail "nothing was written within ten seconds"
"$rao" trace killed.trace >killed.txt 2>&1 || true
[ "$(wc -l <killed.txt)" -gt 5 ] || fail "the trace of a killed run is not read"
echo "edge: a whole trace of $(wc -c <whole.trace) bytes, a capped and a killed one were read"
