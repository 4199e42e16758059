"""Expected texts and token ids for `backends/tests/text`, by the libraries that models are published with.

    python chat_template.py            compares what lies in backends/tests/data/text with what transformers and tokenizers say now
    python chat_template.py --write    writes it, the tokenizer included

transformers renders every conversation of `conversations.py` with every template of the directory; tokenizers trains a small vocabulary
of Qwen's layout and encodes texts with it. PyTorch is not needed.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

import conversations

DATA = Path(__file__).resolve().parents[2] / "backends/tests/data/text"
# Of Qwen2 and its successors.
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
# Qwen3's, as far as text needs them, in its order. The second half is added but not special.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"]
ADDED = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<tool_response>",
         "</tool_response>", "<think>", "</think>"]
VOCAB_SIZE = 520
# What `strftime_now` tells: seconds after the beginning of 1970, read in UTC.
NOW = 1_764_090_005


class FrozenTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc)


def train() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(conversations.CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ADDED])
    return tokenizer


def config(eos: str, bos: str | None, **more) -> dict:
    return {"add_bos_token": False, "add_prefix_space": False, "bos_token": bos, "clean_up_tokenization_spaces": False,
            "eos_token": eos, "errors": "replace", "model_max_length": 131072, "pad_token": "<|endoftext|>",
            "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None, **more}


def load(name: str) -> PreTrainedTokenizerFast:
    """A directory as transformers reads it; the tokenizer itself is always Qwen's."""
    folder = DATA / name
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("tokenizer_class")
    for key, value in settings.items():
        if isinstance(value, dict) and value.pop("__type", None) == "AddedToken":
            settings[key] = AddedToken(**value)
    template = folder / "chat_template.jinja"
    if template.exists():
        settings["chat_template"] = template.read_text()
    return PreTrainedTokenizerFast(tokenizer_file=str(DATA / "qwen/tokenizer.json"), **settings)


def render(tokenizer: PreTrainedTokenizerFast, case: dict) -> str | None:
    """None where transformers raises."""
    try:
        return tokenizer.apply_chat_template(
            case["messages"], tools=case.get("tools"), tokenize=False,
            add_generation_prompt=case.get("add_generation_prompt", False), **case.get("options", {}))
    except Exception as error:  # The template's own, Jinja2's and Python's: all of them mean that there is no text.
        print(f"  {case['name']}: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def renders() -> dict:
    cases = {"qwen": conversations.QWEN, "plain": conversations.PLAIN, "constructs": conversations.CONSTRUCTS}
    return {name: [{**case, "expected": render(load(name), case)} for case in cases[name]] for name in cases}


def tokens() -> list[dict]:
    tokenizer = Tokenizer.from_file(str(DATA / "qwen/tokenizer.json"))
    found = []
    for text in conversations.TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        found.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                      "decoded_without_special": tokenizer.decode(ids, skip_special_tokens=True)})
    return found


def dump(path: Path, value, write: bool, flat: bool = False) -> bool:
    """Writes the file, or says whether it holds the value already. `flat`: one line for each element of the list."""
    if flat:
        text = "[\n" + ",\n".join(json.dumps(element, ensure_ascii=False) for element in value) + "\n]\n"
    else:
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    if write:
        path.write_text(text)
        return True
    return path.exists() and path.read_text() == text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    write = parser.parse_args().write
    chat_template_utils.datetime = FrozenTime
    print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
    qwen, plain, constructs = (DATA / name for name in ("qwen", "plain", "constructs"))
    same = [
        dump(qwen / "tokenizer.json", json.loads(train().to_str()), write),
        dump(qwen / "tokenizer_config.json", config("<|im_end|>", None), write),
        dump(qwen / "generation_config.json", {"bos_token_id": VOCAB_SIZE, "eos_token_id": [VOCAB_SIZE + 2, VOCAB_SIZE],
                                               "pad_token_id": VOCAB_SIZE}, write),
        dump(plain / "tokenizer_config.json",
             config("<|im_end|>", {"__type": "AddedToken", "content": "<|im_start|>", "lstrip": False,
                                   "normalized": False, "rstrip": False, "single_word": False, "special": True},
                    chat_template=[{"name": "default", "template": conversations.PLAIN_TEMPLATE},
                                   {"name": "tool_use", "template": conversations.PLAIN_TOOL_TEMPLATE}]), write),
        dump(constructs / "tokenizer_config.json", config("<|im_end|>", "<|im_start|>"), write),
        dump(DATA / "renders.json", renders(), write),
        dump(DATA / "tokens.json", tokens(), write, flat=True),
    ]
    print("written" if write else "the same" if all(same) else "different: run with --write and look at the difference")
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
