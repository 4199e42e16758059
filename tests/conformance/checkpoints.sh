#!/usr/bin/env bash
# A checkpoint that transformers wrote (bf16, shards) is trained with LoRA, and everything that `rao export` makes of it is read back by its own
# ecosystem: transformers, PEFT, and llama.cpp where RAO was built with it.
#
#   tests/conformance/checkpoints.sh RAO LOGITS PYTHON     paths of the two programs (LOGITS: backends/examples/logits.rs), and of a Python with
#                                                         tests/conformance/requirements.txt
set -euo pipefail
[ $# = 3 ] || { echo "usage: $0 RAO LOGITS PYTHON"; exit 2; }
rao=$(realpath "$1") logits=$(realpath "$2") python=$3 here=$(realpath "$(dirname "$0")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
read_back() { "$python" "$here/roundtrip.py" "$@"; }

"$python" "$here/roundtrip.py" --write theirs
"$rao" train --run run --set model.path=theirs/model --set lora.rank=8 --dtype bf16 --set warmstart.steps=30 --set warmstart.trees=300 \
  --set rao.steps=3 --set 'eval.difficulties=["easy"]' --set eval.easy=5 >/dev/null 2>train.log || { cat train.log; exit 1; }

"$rao" export run --format safetensors -o merged >/dev/null
"$rao" export run --format safetensors --dtype bf16 --max-shard 0.00003 -o halves >/dev/null
"$rao" export run --format adapter -o adapter >/dev/null
"$logits" merged >merged.json
"$logits" theirs/model adapter >adapted.json
read_back merged --logits merged.json --expect-dtype f32
read_back halves --expect-dtype bf16
read_back theirs/model --adapter adapter --logits adapted.json
# The other way round: an adapter that PEFT wrote.
"$logits" theirs/model theirs/adapter >theirs.json
read_back theirs/model --adapter theirs/adapter --logits theirs.json

for quant in f32 f16 q8_0 q4_0; do "$rao" export run --quant $quant -o $quant.gguf >/dev/null; done
"$rao" export run --format gguf-adapter --quant f16 -o adapter.gguf >/dev/null
if "$rao" eval --policy f32.gguf --tasks easy --limit 5 >eval.txt 2>&1; then
  for quant in f16 q8_0 q4_0; do "$rao" eval --policy $quant.gguf --tasks easy --limit 5 >/dev/null; done
  for quant in q6_k q5_k_m q4_k_m; do
    "$rao" export run --quant $quant -o $quant.gguf >/dev/null
    "$rao" eval --policy $quant.gguf --tasks easy --limit 5 >/dev/null
  done
  # The base quantised, and the adapter swapped onto it after every update.
  "$rao" train --run quantised --set model.path=theirs/model --set lora.rank=8 --set rollout.backend=llama-cpp --set rollout.quant=q8_0 \
    --set warmstart.steps=30 --set warmstart.trees=300 --set rao.steps=3 --set rao.tasks=2 --set rao.trees=4 --set flat.enabled=false \
    --set 'eval.difficulties=["easy"]' --set eval.easy=2 >/dev/null 2>train.log || { cat train.log; exit 1; }
  "$python" - <<'PYTHON'
import json
steps = [json.loads(line) for line in open("quantised/metrics.jsonl")]
gaps = [step["mismatch"] for step in steps if step["phase"] == "recursive" and step["mismatch"] is not None]
assert gaps and max(gaps) < 0.1, gaps
print(f"ok   adapter on a q8_0 base: sampler and learner differ by {max(gaps):.4f} nats on average at most")
PYTHON
  echo "ok   llama.cpp: f32, f16, q8_0, q4_0, q6_k, q5_k_m, q4_k_m"
else
  grep -q 'built without `llama-cpp`' eval.txt || { cat eval.txt; exit 1; }
  echo "skipped: GGUF files: this rao was built without llama-cpp"
fi
