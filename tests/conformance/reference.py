"""Numbers of transformers, PyTorch and PEFT for the tests of the Candle model: writes backends/tests/data/reference.

    python reference.py [DIR]

Small random Qwen3ForCausalLM models whose weights, tokens and batches come from `rule.py`: logits, gradients of the CISPO loss by
autograd, weights after torch.optim.AdamW, and the same through a LoRA adapter. All in f32 on the CPU, one thread. README.md describes the
files. Prints, to stderr, by how much the same computation in f64 differs: what the digits are worth.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import Qwen3Config, Qwen3ForCausalLM

import rule

DATA = Path(__file__).resolve().parents[2] / "backends" / "tests" / "data" / "reference"
# The constants of `AdamWConfig::default`, from the code of the RAO authors.
BETAS, EPS, DECAY, CLIP_NORM = (0.9, 0.95), 1e-8, 0.017, 1.0
LEARNING_RATE = 3e-3
# Sequences up to this length keep all logits, longer ones three rows and the log-sum-exp of all.
WHOLE = 8
DEFAULTS = {"max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None}


def model_case(heads, key_value_heads, head_dim, hidden, ff, layers, vocab, tied, theta=10000.0, eps=1e-6):
    return Qwen3Config(
        num_attention_heads=heads, num_key_value_heads=key_value_heads, head_dim=head_dim, hidden_size=hidden,
        intermediate_size=ff, num_hidden_layers=layers, vocab_size=vocab, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": theta}, rms_norm_eps=eps, **DEFAULTS)


# name: model, scale of matrices, lengths of sequences for logits, temperature, masks, bounds of the coefficient, scale of weights
CASES = {
    "plain": (model_case(4, 4, 8, 32, 48, 2, 97, False), 0.5, (1, 7, 130), 1.0, False, (0.8, 1.2), 1.0),
    "grouped-tied": (model_case(4, 2, 16, 40, 56, 3, 131, True, theta=1e6), 0.5, (2, 8, 512), 0.7, True, (0.0, 1.3), 4.0),
    "four-to-one": (model_case(8, 2, 10, 24, 40, 1, 131, False, eps=1e-5), 1.0, (5, 33), 1.3, True, (0.7, 5.0), 0.25),
    "one-key-head": (model_case(4, 1, 20, 48, 30, 2, 97, True, theta=1000.0), 0.5, (3, 17, 257), 1.0, True, (0.9, 1.1), 2.0),
    "wide-heads": (model_case(2, 1, 128, 32, 64, 1, 97, False, theta=1e6), 0.5, (1, 64), 0.5, False, (0.0, 5.0), 1.0),
}
ADAPTERS = {
    "all-linear": ("grouped-tied", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "query-value": ("four-to-one", ["q_proj", "v_proj"]),
}
ADAPTER_SCALE = 0.5
# Lengths of the sequences of a batch, and which of their tokens are actions.
SEQUENCES = ((2, 1), (9, 2), (4, 0), (17, 3), (5, 1), (40, 2), (11, 1))
# One sequence whose weights are all 0: it counts in the mean and teaches nothing.
WEIGHTLESS = 4
# A gradient near AdamW's eps, after clipping, lets rounding decide how far a weight moves; such elements are left out of `moved`.
SMALL = 1e-6
# By so many places the weights of the actions move up from one optimiser step to the next: other gradients, and other norms to clip.
ROTATION = 5


def main() -> None:
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    shutil.rmtree(to, ignore_errors=True)
    torch.set_num_threads(1)
    for name in CASES:
        write(to / f"{name}.json", model_numbers(name))
    for name in ADAPTERS:
        adapter_numbers(name, to / "lora" / name)
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    print(f"{to}: {size} bytes", file=sys.stderr)


def model_numbers(name: str) -> dict:
    config, scale, lengths, *_ = CASES[name]
    model = base(name)
    batch = batch_of(name, model)
    return {
        "config": json.loads(config.to_json_string()),
        "scale": scale,
        "sequences": [sequence_numbers(name, model, length) for length in lengths],
        "batch": batch,
        "training": training_numbers(name, lambda: base(name), batch, steps=3),
    }


def adapter_numbers(name: str, to: Path) -> None:
    case, targets = ADAPTERS[name]
    lengths = CASES[case][2]
    model = adapter(name)
    batch = batch_of(case, model)
    to.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        # Its targets are a set, which PEFT writes in another order every time.
        config = json.loads((Path(saved) / "adapter_config.json").read_text())
        config["target_modules"].sort()
        (to / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        # The tensors themselves where they are few.
        if len(targets) == 2:
            shutil.copyfile(Path(saved) / "adapter_model.safetensors", to / "adapter_model.safetensors")
        with safe_open(Path(saved) / "adapter_model.safetensors", "np") as file:
            tensors = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
            for key in file.keys():
                assert np.array_equal(file.get_tensor(key), rule.weight(key, tuple(tensors[key]), ADAPTER_SCALE)), key
    numbers = {
        "base": case,
        "adapter_scale": ADAPTER_SCALE,
        "tensors": tensors,
        "sequences": [sequence_numbers(case, model, length) for length in lengths],
        "batch": batch,
        "training": training_numbers(name, lambda: adapter(name), batch, steps=1),
    }
    write(to / "numbers.json", numbers)


def base(name: str) -> Qwen3ForCausalLM:
    config, scale, *_ = CASES[name]
    model = Qwen3ForCausalLM(config).eval()
    rule.fill(model.named_parameters(), scale)
    return model


def adapter(name: str):
    case, targets = ADAPTERS[name]
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets, use_rslora=False, task_type="CAUSAL_LM")
    model = get_peft_model(base(case), config).eval()
    lora = [(key, value) for key, value in model.named_parameters() if value.requires_grad]
    rule.fill(lora, ADAPTER_SCALE, rule.adapter_name)
    return model


def logits(model, tokens: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


@torch.no_grad()
def sequence_numbers(name: str, model, length: int) -> dict:
    tokens = rule.tokens(f"{name}:tokens:{length}", length, model.config.vocab_size)
    all_ = logits(model, tokens)
    rows = list(range(length)) if length <= WHOLE else [0, length // 2, length - 1]
    numbers = {"tokens": tokens, "rows": rows, "logits": [[round(x, 6) for x in all_[row].tolist()] for row in rows]}
    if length > WHOLE:
        numbers["log_sum_exp"] = [round(x, 6) for x in all_.logsumexp(-1).tolist()]
    return numbers


def batch_of(name: str, model) -> dict:
    """The fields of a `PackedBatch`. Behaviour log-probabilities are the model's own with noise, so that ratios are cut on both sides."""
    _, _, _, temperature, masked, clip, weight_scale = CASES[name]
    vocab = model.config.vocab_size
    words = -(-vocab // 64) if masked else 0
    batch = {"tokens": [], "cu_seqlens": [0], "actions": [], "behaviour_logprobs": [], "weights": [],
             "mask_words": words, "masks": [], "temperature": temperature, "clip": list(clip)}
    for index, (length, every) in enumerate(SEQUENCES):
        start = batch["cu_seqlens"][-1]
        batch["tokens"] += rule.tokens(f"{name}:batch:{index}", length, vocab)
        batch["cu_seqlens"].append(start + length)
        actions = [start + at for at in range(1, length) if every and at % every == 0]
        batch["actions"] += actions
        weights = rule.uniform(f"{name}:weights:{index}", len(actions), weight_scale)
        batch["weights"] += [0.0 if index == WEIGHTLESS else rule.significant(x) for x in weights]
    if masked:
        masks = rule.stream(f"{name}:masks", len(batch["actions"]) * words).reshape(-1, words)
        for row, action in enumerate(batch["actions"]):
            token = batch["tokens"][action]
            masks[row, token // 64] |= np.uint64(1) << np.uint64(token % 64)
            # Every fifth action was free.
            if row % 5 == 4:
                masks[row] = np.uint64(2**64 - 1)
        batch["masks"] = masks.ravel().tolist()
    with torch.no_grad():
        logprobs = torch.cat(logprobs_of(model, batch)).numpy()
    noise = rule.uniform(f"{name}:behaviour", len(logprobs), 1.0)
    batch["behaviour_logprobs"] = [rule.significant(x) for x in np.minimum(logprobs + noise, 0)]
    ratios = np.exp(logprobs - np.array(batch["behaviour_logprobs"]))
    cut = (ratios < clip[0]).sum(), (ratios > clip[1]).sum()
    print(f"{name}: {len(ratios)} actions, ratios {ratios.min():.3f} to {ratios.max():.3f}, cut below and above: {cut}", file=sys.stderr)
    return batch


def logprobs_of(model, batch: dict) -> list[torch.Tensor]:
    """By sequence, the log-probabilities of its actions. One sequence at a time: nothing is packed on this side."""
    found, words = [], batch["mask_words"]
    for start, end in zip(batch["cu_seqlens"], batch["cu_seqlens"][1:]):
        rows = [row for row, action in enumerate(batch["actions"]) if start <= action < end]
        if not rows:
            continue
        scaled = logits(model, batch["tokens"][start:end]) / batch["temperature"]
        scaled = scaled[[batch["actions"][row] - start - 1 for row in rows]]
        if words:
            masks = torch.tensor([[batch["masks"][row * words + t // 64] >> (t % 64) & 1 for t in range(scaled.shape[-1])]
                                  for row in rows], dtype=torch.bool)
            scaled = scaled.masked_fill(~masks, -torch.inf)
        targets = torch.tensor([batch["tokens"][batch["actions"][row]] for row in rows])
        found.append(scaled.log_softmax(-1).gather(1, targets[:, None])[:, 0])
    return found


def cispo(model, batch: dict) -> torch.Tensor:
    logprobs = torch.cat(logprobs_of(model, batch))
    behaviour = torch.tensor(batch["behaviour_logprobs"], dtype=logprobs.dtype)
    weights = torch.tensor(batch["weights"], dtype=logprobs.dtype)
    coefficient = (logprobs - behaviour).exp().clamp(*batch["clip"]).detach()
    return -(coefficient * weights * logprobs).sum() / len(batch["actions"])


def training_numbers(name: str, make, batch: dict, steps: int) -> dict:
    numbers, tensors, small = train(make(), batch, steps)
    exact, exact_tensors, _ = train(make().double(), batch, steps)
    worst = {}
    for (what, step, key), values in tensors.items():
        other = exact_tensors[what, step, key]
        difference = np.abs(values - other)
        if what == "moved":
            difference[small[step, key]] = 0
        largest = difference.max() / max(np.abs(other).max(), 1e-30)
        worst[f"{what} {step}"] = max(worst.get(f"{what} {step}", 0.0), largest)
        digests = numbers["gradients"] if what == "gradients" else numbers["moved"].setdefault(str(step), {})
        digests[key] = rule.digest(key, values, small[step, key] if what == "moved" else np.zeros(values.shape, bool))
    print(f"{name}: f32 against f64, largest difference over the tensor's largest element: "
          + ", ".join(f"{what} {value:.1e}" for what, value in worst.items())
          + f"; left out {[int(sum(small[step, key].sum() for at, key in small if at == step)) for step in (1, steps)]}"
          + f"; loss {abs(numbers['loss'] - exact['loss']):.1e}, grad_norms {numbers['grad_norms']}", file=sys.stderr)
    return numbers


def train(model, batch: dict, steps: int) -> tuple[dict, dict, dict]:
    """Loss and norms; and by ("gradients" or "moved", step, name) the gradients of the first step, and how far the weights have moved
    after the first and the last; and by (step, name) where a gradient was below `SMALL`, but not 0, in that step or before."""
    trained = [(rule.adapter_name(key), value) for key, value in model.named_parameters() if value.requires_grad]
    start = {key: value.detach().clone() for key, value in trained}
    matrices = [value for _, value in trained if value.dim() > 1]
    gains = [value for _, value in trained if value.dim() == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": gains, "weight_decay": 0.0}]
    optim = torch.optim.AdamW([group for group in groups if group["params"]], lr=LEARNING_RATE, betas=BETAS, eps=EPS)
    numbers = {"lr": LEARNING_RATE, "grad_norms": [], "gradients": {}, "moved": {}}
    tensors, small = {}, {}
    for step in range(1, steps + 1):
        optim.zero_grad()
        shift = ROTATION * (step - 1)
        loss = cispo(model, {**batch, "weights": batch["weights"][shift:] + batch["weights"][:shift]})
        loss.backward()
        if step == 1:
            tensors |= {("gradients", step, key): value.grad.numpy().astype(np.float64) for key, value in trained}
            numbers["loss"] = rule.significant(loss.item())
        norm = torch.nn.utils.clip_grad_norm_([value for _, value in trained], CLIP_NORM)
        numbers["grad_norms"].append(rule.significant(norm.item()))
        for key, value in trained:
            size = value.grad.abs().numpy()
            small[step, key] = small.get((step - 1, key), False) | (size > 0) & (size < SMALL)
        optim.step()
        if step in (1, steps):
            # In f64: the difference of two f32 is exact there.
            tensors |= {("moved", step, key): (value.detach().double() - start[key].double()).numpy() for key, value in trained}
    return numbers, tensors, small


def write(path: Path, numbers: dict) -> None:
    """One line per entry of the outer objects, so that a change can be read as a difference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pretty(numbers) + "\n")


def pretty(value, depth: int = 0) -> str:
    compact = json.dumps(value, separators=(",", ":"))
    if not isinstance(value, (dict, list)) or len(compact) < 160 or isinstance(value, list) and not isinstance(value[0], (dict, list)):
        return compact
    inner = "\n" + " " * (depth + 1)
    if isinstance(value, dict):
        parts = [json.dumps(key) + ":" + pretty(item, depth + 1) for key, item in value.items()]
    else:
        parts = [pretty(item, depth + 1) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + inner + ("," + inner).join(parts) + "\n" + " " * depth + closing


if __name__ == "__main__":
    main()
