"""Reads what the project wrote with transformers and PEFT, and writes what they write for the project to read.

    python roundtrip.py DIR... [--adapter DIR] [--logits FILE.json] [--expect-dtype f32|bf16|f16]
    python roundtrip.py --write DIR

Every DIR is a Hugging Face directory of one Qwen3 model. Prints a line per check and exits with 1 where one fails. FILE.json holds
{"sequences": [{"tokens": [..], "logits": [[..], ..]}]}, one row of logits per token; "rows": [..] beside them says which tokens' rows these
are where it is not all. They are compared with the model as loaded, under the adapter where there is one, computed in f32.

--write makes DIR/model (bf16, tied, in several shards), DIR/adapter, and the logits of both: DIR/logits.json without the adapter and
DIR/adapter_logits.json with it, of the weights as saved, computed in f32.
"""

import argparse
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# What they would only warn about, of missing and of stray tensors, is checked below.
warnings.simplefilter("ignore")

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import reference
import rule

DTYPES = {"f32": ("F32", "float32"), "bf16": ("BF16", "bfloat16"), "f16": ("F16", "float16")}
TOLERANCE = 1e-4
CASE, ADAPTER = "grouped-tied", "all-linear"
failed = False


def main() -> int:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("dirs", nargs="*", type=Path, metavar="DIR")
    args.add_argument("--adapter", type=Path, metavar="DIR")
    args.add_argument("--logits", type=Path, metavar="FILE.json")
    args.add_argument("--expect-dtype", choices=DTYPES, help="of the tensors in the files and of config.json")
    args.add_argument("--write", type=Path, metavar="DIR")
    options = args.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    if not (options.dirs or options.write):
        args.error("a directory to read, or --write")
    if options.write:
        write(options.write)
    for dir_ in options.dirs:
        try:
            read(dir_, options)
        except Exception as error:  # of theirs, whatever they raise: it is what is wrong with the directory
            check(False, f"{dir_}", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return int(failed)


def check(holds: bool, what: str, says: str) -> None:
    global failed
    failed |= not holds
    print(f"{'ok  ' if holds else 'FAIL'} {what}: {says}")


def read(dir_: Path, options: argparse.Namespace) -> None:
    check_files(dir_, options.expect_dtype)
    model, info = AutoModelForCausalLM.from_pretrained(
        dir_, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    model.eval()
    flaws = {key: value for key, value in info.items() if value}
    check(not flaws, f"{dir_}", f"{type(model).__name__}, {model.num_parameters()} parameters, {flaws or 'every tensor in its place'}")
    config = model.config
    tied = config.tie_word_embeddings
    shared = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    check(tied == shared, f"{dir_}", f"tie_word_embeddings {tied}, output layer {'shared' if shared else 'of its own'}")
    if options.adapter:
        model = read_adapter(model, options.adapter)
    if options.logits:
        check_logits(model, options.logits, f"{dir_}" + (f" with {options.adapter}" if options.adapter else ""))


def check_files(dir_: Path, dtype: str | None) -> None:
    found, size = {}, 0
    for path in sorted(dir_.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():
                found.setdefault(key, []).append((path.name, file.get_slice(key).get_dtype()))
                size += file.get_tensor(key).nbytes
    files = {name for places in found.values() for name, _ in places}
    doubles = [key for key, places in found.items() if len(places) > 1]
    check(bool(found) and not doubles, f"{dir_}", f"{len(found)} tensors in {len(files)} files, {doubles or 'each once'}")
    index = dir_ / "model.safetensors.index.json"
    if index.exists() or len(files) > 1:
        text = json.loads(index.read_text()) if index.exists() else {}
        places = {key: places[0][0] for key, places in found.items()}
        check(text.get("weight_map") == places, f"{index}", "weight_map against the files")
        total = text.get("metadata", {}).get("total_size")
        check(total == size, f"{index}", f"total_size {total}, tensors of {size} bytes")
    if dtype:
        stored, name = DTYPES[dtype]
        others = sorted({of for places in found.values() for _, of in places} - {stored})
        check(not others, f"{dir_}", f"tensors are {stored}" + (f", but also {others}" if others else ""))
        config = json.loads((dir_ / "config.json").read_text())
        says = config.get("dtype", config.get("torch_dtype"))
        check(says == name, f"{dir_ / 'config.json'}", f"dtype {says}")


def read_adapter(model, dir_: Path):
    model = PeftModel.from_pretrained(model, dir_).eval()
    with safe_open(dir_ / "adapter_model.safetensors", "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}
    loaded = get_peft_model_state_dict(model)
    strays = sorted(stored.keys() ^ loaded.keys())
    check(not strays, f"{dir_}", f"{len(stored)} tensors, {strays or 'every one in its place'}")
    # PEFT leaves out of place what it does not recognise, with no more than a warning; what it has loaded must be what was stored.
    different = [key for key in stored.keys() & loaded.keys() if not torch.equal(stored[key].float(), loaded[key].float())]
    check(not different, f"{dir_}", f"values as stored, but not {different}" if different else "values as stored")
    config = model.peft_config["default"]
    check(True, f"{dir_}", f"r {config.r}, alpha {config.lora_alpha}, {', '.join(sorted(config.target_modules))}")
    return model


@torch.no_grad()
def check_logits(model, path: Path, what: str) -> None:
    for number, sequence in enumerate(json.loads(path.read_text())["sequences"]):
        tokens = sequence["tokens"]
        all_ = reference.logits(model, tokens)
        expected = all_[sequence.get("rows", list(range(len(tokens))))]
        found = torch.tensor(sequence["logits"])
        name = f"{what}: sequence {number} of {len(tokens)} tokens"
        if found.shape != expected.shape:
            check(False, name, f"logits of shape {list(found.shape)}, expected {list(expected.shape)}")
            continue
        worst = (found - expected).abs().max().item()
        check(worst <= TOLERANCE, name, f"logits differ by at most {worst:.1e}, of up to {expected.abs().max().item():.1f}")


def write(dir_: Path) -> None:
    model, adapter = dir_ / "model", dir_ / "adapter"
    for old in (model, adapter):
        shutil.rmtree(old, ignore_errors=True)
    reference.base(CASE).to(torch.bfloat16).save_pretrained(model, max_shard_size="20KB")
    adapted = reference.adapter(ADAPTER)
    # What PEFT writes for a base that was read from a directory. A path relative to here would mean nothing elsewhere.
    adapted.peft_config["default"].base_model_name_or_path = "model"
    adapted.save_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(model, local_files_only=True, dtype=torch.float32).eval()
    write_logits(base, dir_ / "logits.json")
    write_logits(PeftModel.from_pretrained(base, adapter).eval(), dir_ / "adapter_logits.json")


@torch.no_grad()
def write_logits(model, path: Path) -> None:
    sequences = []
    for length in (1, 9, 40):
        tokens = rule.tokens(f"roundtrip:{length}", length, model.config.vocab_size)
        rows = [[round(x, 6) for x in row] for row in reference.logits(model, tokens).tolist()]
        sequences.append({"tokens": tokens, "logits": rows})
    path.write_text(json.dumps({"sequences": sequences}, separators=(",", ":")) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
