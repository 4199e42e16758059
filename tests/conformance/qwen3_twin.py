"""The Qwen3 decoder of this project, in PyTorch: the rival of the benches and a second opinion on its numbers.

    python qwen3_twin.py --check                                     cached decoding and packing agree with the plain forward pass
    python qwen3_twin.py --weights model.safetensors --tokens 1,2,3  the logits at every position, as JSON

Qwen3: RMSNorm before attention and before the MLP, RMSNorm per head on queries and keys, rotary embedding in halves
(NEOX), SwiGLU, grouped key and value heads, no biases, tied or untied head. float32, CPU.

Every pass works on flat tokens [n, hidden]; only attention knows where sequences begin. So one forward serves padded
batches, packed batches and cached decoding, and no layer but attention computes on padding in a packed batch.
"""

import argparse
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ff: int
    vocab: int
    rope_theta: float
    tied: bool = False
    eps: float = 1e-6

    @staticmethod
    def read(path: Path) -> "Config":
        """The config.json of a Hugging Face directory."""
        c = json.loads(path.read_text())
        theta = c.get("rope_theta") or c["rope_parameters"]["rope_theta"]
        return Config(c["hidden_size"], c["num_hidden_layers"], c["num_attention_heads"], c["num_key_value_heads"],
                      c["head_dim"], c["intermediate_size"], c["vocab_size"], float(theta),
                      c.get("tie_word_embeddings", False), c.get("rms_norm_eps", 1e-6))


CONFIGS = {
    "tiny": Config(hidden=64, layers=2, heads=4, kv_heads=4, head_dim=16, ff=128, vocab=113, rope_theta=1000.0),
    "1m": Config(hidden=128, layers=4, heads=4, kv_heads=4, head_dim=32, ff=384, vocab=512, rope_theta=10000.0),
    "5m": Config(hidden=256, layers=6, heads=4, kv_heads=2, head_dim=64, ff=768, vocab=512, rope_theta=10000.0),
    "50m": Config(hidden=768, layers=7, heads=12, kv_heads=6, head_dim=64, ff=2304, vocab=512, rope_theta=10000.0),
}


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension. F.rms_norm is a chain of slower operations on the CPU, as is its gradient."""
    if torch.is_grad_enabled():
        return RmsNorm.apply(x, weight, eps)
    return x * inverse_rms(x, eps) * weight


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(constant(eps, x.dtype), norm, norm, value=1 / x.shape[-1]).rsqrt_()


@cache
def constant(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype)


class RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = inverse_rms(x, eps)
        normal = x * inverse
        ctx.save_for_backward(normal, inverse, weight)
        return normal * weight

    @staticmethod
    def backward(ctx, grad: Tensor):
        normal, inverse, weight = ctx.saved_tensors
        learns = ctx.needs_input_grad[1]
        grad_weight = (grad * normal).view(-1, *weight.shape).sum(0) if learns else None
        grad = grad * weight
        along = torch.linalg.vecdot(grad, normal).unsqueeze(-1).mul_(1 / normal.shape[-1])
        return torch.addcmul(grad, normal, along, value=-1).mul_(inverse), grad_weight, None


class LowRank(nn.Module):
    """LoRA on matrices that lie one above the other in one frozen product.

    Factors for each of them, as PEFT has it, but one product for all A.
    """

    def __init__(self, inner: int, outer: list[int], rank: int, alpha: float):
        super().__init__()
        self.base = nn.Linear(inner, sum(outer), bias=False).requires_grad_(False)
        bound = inner ** -0.5
        self.a = nn.Parameter(torch.empty(rank * len(outer), inner).uniform_(-bound, bound))
        self.b = nn.ParameterList(torch.zeros(width, rank) for width in outer)
        self.rank, self.outer, self.scale = rank, outer, alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        y, low = self.base(x).split(self.outer, -1), F.linear(x, self.a).split(self.rank, -1)
        parts = [torch.addmm(y, low, b.t(), alpha=self.scale) for y, low, b in zip(y, low, self.b)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def merged(self) -> Tensor:
        added = [b @ a for a, b in zip(self.a.split(self.rank), self.b)]
        return self.base.weight + self.scale * torch.cat(added)


def is_factor(name: str) -> bool:
    """Whether a parameter of this name is A or B of an adapter: `...qkv.a`, `...qkv.b.0`."""
    return name.endswith(".a") or ".b." in name


class Block(nn.Module):
    """One layer. Query, key and value are one product, gate and up another: fewer calls, the same numbers."""

    def __init__(self, c: Config, rank: int = 0):
        super().__init__()
        self.c = c
        q, k = c.heads * c.head_dim, c.kv_heads * c.head_dim

        def linear(inner: int, *outer: int) -> nn.Module:
            return LowRank(inner, list(outer), rank, 2.0 * rank) if rank else nn.Linear(inner, sum(outer), bias=False)

        self.input_norm = nn.Parameter(torch.ones(c.hidden))
        self.qkv = linear(c.hidden, q, k, k)
        self.q_norm = nn.Parameter(torch.ones(c.head_dim))
        self.k_norm = nn.Parameter(torch.ones(c.head_dim))
        self.o = linear(q, c.hidden)
        self.post_norm = nn.Parameter(torch.ones(c.hidden))
        self.gate_up = linear(c.hidden, c.ff, c.ff)
        self.down = linear(c.ff, c.hidden)

    def qk_norm(self) -> Tensor:
        c = self.c
        return torch.cat((self.q_norm.expand(c.heads, -1), self.k_norm.expand(c.kv_heads, -1)))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], qk_norm: Tensor, attend) -> Tensor:
        c = self.c
        qkv = self.qkv(rms_norm(x, self.input_norm, c.eps)).view(-1, c.heads + 2 * c.kv_heads, c.head_dim)
        qk, v = qkv.split((c.heads + c.kv_heads, c.kv_heads), 1)
        qk = rms_norm(qk, qk_norm, c.eps)
        cos, sin = rope
        # The sign of the rotation is in `sin`, so that a roll by half replaces a negated concatenation.
        qk = torch.addcmul(qk * cos, qk.roll(c.head_dim // 2, -1), sin)
        q, k = qk.split((c.heads, c.kv_heads), 1)
        x = x + self.o(attend(q, k, v))
        gate, up = self.gate_up(rms_norm(x, self.post_norm, c.eps)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Qwen3(nn.Module):
    """`rank`: LoRA on all projections, alpha twice the rank; nothing else learns then."""

    def __init__(self, c: Config, context: int = 512, rank: int = 0):
        super().__init__()
        self.c = c
        self.embed = nn.Embedding(c.vocab, c.hidden)
        self.blocks = nn.ModuleList(Block(c, rank) for _ in range(c.layers))
        self.norm = nn.Parameter(torch.ones(c.hidden))
        self.head = nn.Linear(c.hidden, c.vocab, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2 and not is_factor(name):
                nn.init.normal_(p, std=0.02)
            if rank:
                p.requires_grad_(is_factor(name))
        if c.tied:
            self.head.weight = self.embed.weight
        half = c.head_dim // 2
        angle = torch.outer(torch.arange(context).float(), c.rope_theta ** (-torch.arange(half).float() / half))
        cos, sin = angle.cos(), angle.sin()
        self.register_buffer("cos", torch.cat((cos, cos), -1)[:, None], persistent=False)
        self.register_buffer("sin", torch.cat((-sin, sin), -1)[:, None], persistent=False)

    def forward(self, tokens: Tensor, positions: Tensor, attend, qk_norms=None) -> Tensor:
        """Hidden states [n, hidden] before the last norm. `attend(layer, q, k, v)`: [n, heads, head_dim] each -> [n, heads * head_dim]."""
        x = self.embed(tokens)
        rope = self.cos[positions], self.sin[positions]
        for i, block in enumerate(self.blocks):
            qk_norm = block.qk_norm() if qk_norms is None else qk_norms[i]
            x = block(x, rope, qk_norm, lambda q, k, v: attend(i, q, k, v))
        return x

    def logits(self, x: Tensor) -> Tensor:
        return self.head(rms_norm(x, self.norm, self.c.eps))

    def load(self, path: Path) -> "Qwen3":
        """Weights under their Hugging Face names; every tensor of the file must be used and every parameter set."""
        with safe_open(path, "pt") as f:
            w = {name: f.get_tensor(name).float() for name in f.keys()}
        state = {"embed.weight": w.pop("model.embed_tokens.weight"), "norm": w.pop("model.norm.weight")}
        head = w.pop("lm_head.weight", None)
        state["head.weight"] = state["embed.weight"] if self.c.tied else head
        for i in range(self.c.layers):
            def take(name):
                return w.pop(f"model.layers.{i}.{name}.weight")
            state |= {f"blocks.{i}.{name}": value for name, value in {
                "input_norm": take("input_layernorm"),
                "qkv.weight": torch.cat([take(f"self_attn.{p}_proj") for p in "qkv"]),
                "q_norm": take("self_attn.q_norm"),
                "k_norm": take("self_attn.k_norm"),
                "o.weight": take("self_attn.o_proj"),
                "post_norm": take("post_attention_layernorm"),
                "gate_up.weight": torch.cat([take(f"mlp.{p}_proj") for p in ("gate", "up")]),
                "down.weight": take("mlp.down_proj"),
            }.items()}
        if w:
            raise ValueError(f"{path}: tensors of no known place: {', '.join(sorted(w))}")
        self.load_state_dict(state)
        return self


def causal(groups: list[tuple[int, int]], heads: int, kv_heads: int):
    """Attention within sequences that lie one after the other: groups of (sequences, length), no padding between.

    Sequences sorted by length make each group a view of the flat tokens; sequences padded to one length are one group.
    """
    sizes = [count * length for count, length in groups]

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = []
        for (count, length), q, k, v in zip(groups, q.split(sizes), k.split(sizes), v.split(sizes)):
            q, k, v = (t.unflatten(0, (count, length)).transpose(1, 2) for t in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
            out.append(y.transpose(1, 2).flatten(2).flatten(0, 1))
        return out[0] if len(out) == 1 else torch.cat(out)

    return attend


class Sampler:
    """Decodes `rows` sequences of different lengths together. The cache is allocated once and written in place.

    Attention is two batched products over the longest row, with a bias of -inf past each row's end: for one query per
    row that took half the time of scaled_dot_product_attention on this CPU, which is a loop over (row, head) there.
    """

    def __init__(self, model: Qwen3, rows: int, context: int):
        c = model.c
        self.model, self.rows, self.context = model, rows, context
        self.keys = torch.zeros(c.layers, rows * c.kv_heads, context, c.head_dim)
        self.values = torch.zeros_like(self.keys)
        self.bias = torch.full((rows * c.kv_heads, 1, context), -math.inf)
        self.slots = torch.arange(rows * c.kv_heads) * context  # where each (row, head) writes next
        self.lengths = torch.zeros(rows, dtype=torch.long)
        self.longest = 0
        self.qk_norms = [b.qk_norm().detach() for b in model.blocks]
        self.scale = c.head_dim ** -0.5

    @torch.inference_mode()
    def prefill(self, prompts: list[list[int]]) -> None:
        """Forgets everything and reads one prompt per row (an empty one is allowed); samples nothing."""
        c, lengths = self.model.c, [len(p) for p in prompts]
        width = max(lengths)
        self.bias.fill_(-math.inf)
        self.lengths.copy_(torch.tensor(lengths))
        self.slots.copy_(torch.arange(len(self.slots)) * self.context + self.lengths.repeat_interleave(c.kv_heads))
        self.longest = width
        if width == 0:
            return
        # Padding is on the right: causal attention never shows it to a real token, and the bias hides its cache entries.
        tokens = torch.tensor([p + [0] * (width - len(p)) for p in prompts])
        attend = causal([(self.rows, width)], c.heads, c.kv_heads)

        def write(layer, q, k, v):
            for old, new in ((self.keys, k), (self.values, v)):
                old[layer].view(self.rows, c.kv_heads, self.context, c.head_dim)[:, :, :width] = \
                    new.unflatten(0, (self.rows, width)).transpose(1, 2)
            return attend(layer, q, k, v)

        self.model(tokens.flatten(), torch.arange(width).repeat(self.rows), write, self.qk_norms)
        open_ = torch.arange(self.context) < self.lengths.repeat_interleave(c.kv_heads)[:, None]
        self.bias.masked_fill_(open_[:, None], 0.0)

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        """Feeds one token [rows] to each row and gives the logits [rows, vocab] of the next."""
        c = self.model.c
        self.longest += 1
        span = self.longest
        self.bias.view(-1).index_fill_(0, self.slots, 0.0)
        bias = self.bias[:, :, :span]

        def attend(layer, q, k, v):
            keys, values = self.keys[layer], self.values[layer]
            keys.view(-1, c.head_dim).index_copy_(0, self.slots, k.reshape(-1, c.head_dim))
            values.view(-1, c.head_dim).index_copy_(0, self.slots, v.reshape(-1, c.head_dim))
            q = q.reshape(self.rows * c.kv_heads, -1, c.head_dim)
            score = torch.baddbmm(bias, q, keys[:, :span].transpose(1, 2), alpha=self.scale)
            return torch.bmm(score.softmax(-1), values[:, :span]).view(self.rows, -1)

        x = self.model(tokens, self.lengths, attend, self.qk_norms)
        self.lengths += 1
        self.slots += 1
        return self.model.logits(x)

    @torch.inference_mode()
    def step(self, tokens: Tensor, allowed: Tensor, allowed_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Feeds one token to each row, samples the next among `allowed` [rows, width]; gives it and its log-probability.

        Shorter lists are padded: `allowed_bias` is 0 where an entry counts and -inf where it does not. The sample is by
        inverse distribution function, which has the law of torch.multinomial at a fraction of its time.
        """
        logp = (self.logits(tokens).gather(1, allowed) + allowed_bias).log_softmax(-1)
        sums = logp.exp().cumsum(-1)
        # Just under the total: rounding must not pick an entry past the last one that counts.
        at = torch.rand(self.rows, 1) * (sums[:, -1:] * (1 - 1e-6))
        pick = torch.searchsorted(sums, at, right=True)
        return allowed.gather(1, pick).squeeze(1), logp.gather(1, pick).squeeze(1)


def check() -> None:
    """Cached ragged decoding, padded and packed passes against one sequence at a time; panics where they differ."""
    torch.manual_seed(0)
    x, w = (torch.randn(n, 8, dtype=torch.double, requires_grad=True) for n in (3, 1))
    torch.autograd.gradcheck(lambda x, w: rms_norm(x, w[0], 1e-6), (x, w))
    grouped = Config(64, 2, 4, 2, 16, 128, 113, 1000.0, tied=True)
    check_low_rank(grouped)
    # Not the large ones: at this scale of the weights they have no digits left.
    for name, c in {"tiny": CONFIGS["tiny"], "1m": CONFIGS["1m"], "grouped": grouped}.items():
        model = Qwen3(c)
        for p in model.parameters():
            nn.init.normal_(p, std=0.3)  # large enough that attention and norms matter
        sequences = [torch.randint(c.vocab, (n,)).tolist() for n in (5, 9, 9, 17)]
        plain = []
        for s in sequences:
            attend = causal([(1, len(s))], c.heads, c.kv_heads)
            plain.append(model.logits(model(torch.tensor(s), torch.arange(len(s)), attend)).detach())
        flat = torch.tensor(sum(sequences, []))
        positions = torch.cat([torch.arange(len(s)) for s in sequences])
        packed = model.logits(model(flat, positions, causal([(1, 5), (2, 9), (1, 17)], c.heads, c.kv_heads))).detach()
        torch.testing.assert_close(packed, torch.cat(plain), rtol=1e-4, atol=1e-4)
        sampler = Sampler(model, len(sequences), 24)
        sampler.prefill([s[:-2] for s in sequences])
        for back in (-2, -1):
            got = sampler.logits(torch.tensor([s[back] for s in sequences]))
            torch.testing.assert_close(got, torch.stack([p[back] for p in plain]), rtol=1e-4, atol=1e-4)
        allowed = torch.tensor([[7, 3, 11, 0]] * 4)
        bias = torch.tensor([[0.0, 0.0, 0.0, -math.inf]] * 4)
        sampler.prefill([s[:-1] for s in sequences])
        token, logp = sampler.step(torch.tensor([s[-1] for s in sequences]), allowed, bias)
        masked = torch.full((4, c.vocab), -math.inf).index_fill_(1, torch.tensor([7, 3, 11]), 0.0)
        want = (torch.stack([p[-1] for p in plain]) + masked).log_softmax(-1)
        torch.testing.assert_close(logp, want.gather(1, token[:, None])[:, 0], rtol=1e-4, atol=1e-4)
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, all passes agree")


def check_low_rank(c: Config) -> None:
    """An adapted model against a plain one with the sums as its weights: logits, and gradients by the chain rule."""
    model, plain, rank = Qwen3(c, rank=4), Qwen3(c), 4
    for p in model.parameters():
        nn.init.normal_(p, std=0.2)
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, LowRank)}
    state = {name: p for name, p in model.state_dict().items() if not is_factor(name) and ".base." not in name}
    plain.load_state_dict(state | {f"{name}.weight": module.merged().detach() for name, module in adapted.items()})
    tokens, positions, attend = torch.arange(9), torch.arange(9), causal([(1, 9)], c.heads, c.kv_heads)
    logits, expected = (m.logits(m(tokens, positions, attend)) for m in (model, plain))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    slope = torch.randn_like(logits)
    (logits * slope).sum().backward()
    (expected * slope).sum().backward()
    weights = dict(plain.named_parameters())
    for name, module in adapted.items():
        whole = weights[f"{name}.weight"].grad.split(module.outer)
        for grad, a, b, da in zip(whole, module.a.split(rank), module.b, module.a.grad.split(rank)):
            for found, want in ((da, module.scale * b.t() @ grad), (b.grad, module.scale * grad @ a.t())):
                torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-4 * want.abs().max().item())
    for name, p in model.named_parameters():
        assert (p.grad is not None) == is_factor(name), name
    print("low rank: logits and gradients of a merged model")


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--check", action="store_true")
    args.add_argument("--weights", type=Path, help="a safetensors file; a config.json beside it wins over --config")
    args.add_argument("--config", choices=CONFIGS, default="tiny")
    args.add_argument("--tokens", help="comma-separated token numbers")
    args = args.parse_args()
    if args.check:
        check()
    if args.tokens:
        config = CONFIGS[args.config]
        if args.weights and (beside := args.weights.parent / "config.json").exists():
            config = Config.read(beside)
        tokens = torch.tensor([int(t) for t in args.tokens.split(",")])
        model = Qwen3(config, context=max(512, len(tokens)))
        if args.weights:
            model.load(args.weights)
        with torch.inference_mode():
            attend = causal([(1, len(tokens))], config.heads, config.kv_heads)
            print(json.dumps(model.logits(model(tokens, torch.arange(len(tokens)), attend)).tolist()))


if __name__ == "__main__":
    main()
