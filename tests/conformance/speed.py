"""Times the PyTorch twin: one JSON line per case on standard output.

    python speed.py [--quick] [--what sample,train] [--case tiny,1m,5m,50m,50m-lora] [--live 1,64,256] [--threads 1,2]
                    [--samplers 1,2]

Sampling: `live` rows decode together from a prompt of 3 tokens to a context of 48 (`--contexts` takes others), sampling
among about 10 allowed tokens per row and keeping the log-probability. `tokens_per_s` counts sampled tokens over the time
of the steps, the prompt excluded; the time of one prompt pass stands beside it. One sampler has the better of the numbers
of threads; two samplers are two processes of one thread that share the `live` rows, added up.

Training: forward, CISPO loss on half of the tokens (with their lists of allowed tokens), backward, clipping by norm,
fused AdamW: one update on 8,192 real tokens (tiny: ragged, 10 to 48, mean about 17; 1m and 5m: 32 x 256) or, for 50m,
8 x 256. `50m-lora` trains LoRA of rank 16 on all projections, over a frozen base in f32. Padding is never counted; `tokens`
and `actions` say what one update holds. Every layout in LAYOUTS and every number of threads is tried; the line gives the
fastest and names it. `peak_mib` is what a process of its own took that did nothing but three updates in that layout,
`idle_mib` what it took before there was a model (Linux).
"""

import argparse
import ctypes
import dataclasses
import itertools
import json
import math
import multiprocessing
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from qwen3_twin import CONFIGS, Config, LowRank, Qwen3, Sampler, causal

CONTEXTS = {"tiny": (3, 48), "1m": (3, 48)}  # case: prompt, context
TRAINED = ("tiny", "1m", "5m", "50m", "50m-lora")
RANK = 16  # of `-lora`
BATCH_TOKENS = 8192
ALLOWED_MAX = 16  # lists of 5 to 15 allowed tokens, 10 on average, padded to this
RATIO_MAX = 5.0  # the clip of CISPO
# Name: how many micro-batches one update is split into, and whether a micro-batch is padded to its longest sequence or
# packed without padding (attention alone sees the sequences). Gradients are summed over micro-batches.
LAYOUTS = {"padded-1": (1, True), "padded-4": (4, True), "padded-8": (8, True),
           "packed-1": (1, False), "packed-4": (4, False), "packed-8": (8, False)}


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--quick", action="store_true", help="one repetition; a span of more than 64 tokens is cut to its middle 32")
    args.add_argument("--what", default="sample,train")
    args.add_argument("--case", help="default: all")
    args.add_argument("--live", default="1,64,256")
    args.add_argument("--threads", default="1,2")
    args.add_argument("--samplers", default="1,2")
    args.add_argument("--contexts", default="", help="prompt and end of sampling for some cases, such as 1m=3:48")
    args.add_argument("--peak", metavar="CASE:LAYOUT", help="three updates with one number of --threads, and the memory they took")
    args = args.parse_args()
    cases = args.case.split(",") if args.case else None
    if unknown := ({*(cases or [])} - {*TRAINED}) | ({*args.what.split(",")} - {"sample", "train"}):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}")
    for given in filter(None, args.contexts.split(",")):
        case, _, bounds = given.partition("=")
        CONTEXTS[case] = tuple(int(n) for n in bounds.split(":"))
    threads = [int(t) for t in args.threads.split(",")]
    keep_freed_memory()
    if args.peak:
        print(json.dumps(peak(*args.peak.split(":"), threads[0])))
        return
    for what in args.what.split(","):
        known = CONTEXTS if what == "sample" else TRAINED
        for case in [case for case in cases or known if case in known]:
            if what == "train":
                emit({"case": case, "what": what, **train(case, threads, args.quick)})
                continue
            for live, samplers in itertools.product(args.live.split(","), args.samplers.split(",")):
                if int(live) < int(samplers):
                    continue
                work = Decoding(case, int(live), *span(case, args.quick), repetitions(case, int(live), args.quick))
                figures = sample_alone(work, threads) if samplers == "1" else sample_together(work, int(samplers))
                emit({"case": case, "what": what, "live": int(live), "samplers": int(samplers),
                      "context": list(CONTEXTS[case]), **figures})


def emit(line: dict) -> None:
    print(json.dumps({"engine": "torch", **line}), flush=True)


@dataclass
class Decoding:
    case: str
    live: int
    prompt: int
    context: int
    repetitions: int

    def speeds(self, threads: list[int], wait=lambda: None) -> tuple[dict[int, list[float]], float]:
        """Tokens per second of each repetition by number of threads, and the seconds of the fastest prompt pass."""
        torch.manual_seed(0)
        config = CONFIGS[self.case]
        sampler = Sampler(Qwen3(config, self.context), self.live, self.context)
        draw = random.Random(0)
        prompts = [[draw.randrange(config.vocab) for _ in range(self.prompt)] for _ in range(self.live)]
        last = torch.tensor([p[-1] for p in prompts])
        lists = [allowed_lists(config, self.live) for _ in range(self.context - self.prompt)]
        speeds: dict[int, list[float]] = {}
        warm: dict[int, float] = {}
        prompt_s = math.inf
        for repetition in range(self.repetitions + 1):
            if repetition == 1:
                threads = contenders(warm)
                speeds = {t: [] for t in threads}
            for t in threads:  # interleaved, so that a disturbance hits both
                torch.set_num_threads(t)
                wait()
                start = time.perf_counter()
                sampler.prefill([p[:-1] for p in prompts])
                between = time.perf_counter()
                tokens = last
                steps = lists[:8] if repetition == 0 else lists  # the first round only warms up
                for allowed, bias in steps:
                    tokens, _logp = sampler.step(tokens, allowed, bias)
                speed = self.live * len(steps) / (time.perf_counter() - between)
                if repetition == 0:
                    warm[t] = speed
                    continue
                prompt_s = min(prompt_s, between - start)
                speeds[t].append(speed)
        return speeds, prompt_s


def contenders(probes: dict[int, float]) -> list[int]:
    """The numbers of threads worth measuring: on a busy machine two can be thirty times slower than one."""
    return [t for t, speed in probes.items() if speed >= max(probes.values()) / 2]


def span(case: str, quick: bool) -> tuple[int, int]:
    prompt, context = CONTEXTS[case]
    if not quick or context - prompt <= 64:
        return prompt, context
    middle = (prompt + context) // 2
    return middle - 16, middle + 16


def repetitions(case: str, live: int, quick: bool) -> int:
    # One tiny row is over in 20 ms and needs more of them for the same trust.
    return (1 if quick else 3) * (8 if live == 1 and case == "tiny" else 1)


def sample_alone(work: Decoding, threads: list[int]) -> dict:
    speeds, prompt_s = work.speeds(threads)
    best = max(speeds, key=lambda t: statistics.median(speeds[t]))
    return {"threads": best, **summary(speeds[best]), "prompt_s": round(prompt_s, 5),
            "by_threads": {t: round(statistics.median(s)) for t, s in speeds.items()}}


def sample_together(work: Decoding, samplers: int) -> dict:
    work = dataclasses.replace(work, live=work.live // samplers)
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(samplers), spawn.SimpleQueue()
    processes = [spawn.Process(target=sampler_process, args=(work, barrier, results)) for _ in range(samplers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit(f"a sampler's process ended with {process.exitcode}")
    together = zip(*(results.get() for _ in processes))
    return {"threads": samplers, **summary([sum(speeds) for speeds in together])}


def sampler_process(work: Decoding, barrier, results) -> None:
    keep_freed_memory()
    results.put(work.speeds([1], lambda: barrier.wait(timeout=600))[0][1])


def lengths_of(case: str) -> list[int]:
    return ragged_lengths() if case == "tiny" else [256] * (8 if case.startswith("50m") else 32)


def learner(case: str) -> tuple[Qwen3, torch.optim.Optimizer]:
    size, _, lora = case.partition("-")
    torch.manual_seed(0)
    model = Qwen3(CONFIGS[size], rank=RANK if lora else 0)
    return model, torch.optim.AdamW(trained(model), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.017, fused=True)


def trained(model: Qwen3) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def peak(case: str, layout: str, threads: int) -> dict:
    torch.set_num_threads(threads)
    batch = micro_batches(CONFIGS[case.split("-")[0]], lengths_of(case), *LAYOUTS[layout])
    idle = memory_mib("VmRSS")
    model, optimizer = learner(case)
    for _ in range(3):
        update(model, optimizer, batch)
    return {"idle_mib": idle, "peak_mib": memory_mib("VmHWM")}


def memory_mib(line: str) -> float | None:
    """A line of the process's status: `VmRSS` now, `VmHWM` at its peak. Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next(int(each.split()[1]) / 1024 for each in status.read_text().splitlines() if each.startswith(line + ":"))


def peak_of_its_own(case: str, layout: str, threads: int) -> dict:
    command = [sys.executable, __file__, "--peak", f"{case}:{layout}", "--threads", str(threads)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def train(case: str, threads: list[int], quick: bool) -> dict:
    lengths = lengths_of(case)
    model, optimizer = learner(case)
    config = model.c
    layouts = {name: rule for name, rule in LAYOUTS.items() if case == "tiny" or not rule[1]}  # 32 x 256 has no padding
    batches = {name: micro_batches(config, lengths, *rule) for name, rule in layouts.items()}

    def speed(layout: str, t: int) -> float:
        torch.set_num_threads(t)
        start, busy = time.perf_counter(), time.process_time()
        update(model, optimizer, batches[layout])
        cpu_speeds.setdefault((layout, t), []).append(sum(lengths) / (time.process_time() - busy))
        return sum(lengths) / (time.perf_counter() - start)

    cpu_speeds: dict[tuple[str, int], list[float]] = {}  # of a second that one thread computes or spins

    speed(next(iter(layouts)), threads[-1])
    probes = {(layout, t): max(speed(layout, t) for _ in range(2)) for layout in layouts for t in threads}
    layout, _ = max(probes, key=probes.get)
    speeds: dict[int, list[float]] = {t: [] for t in contenders({t: probes[layout, t] for t in threads})}
    for _ in range(3 if quick else 7):
        for t in speeds:
            speeds[t].append(speed(layout, t))
    best = max(speeds, key=lambda t: statistics.median(speeds[t]))
    counts = {"parameters": parameters(model), "trained": sum(p.numel() for p in trained(model))}
    return {"threads": best, "layout": layout, **summary(speeds[best]), **counts, **peak_of_its_own(case, layout, best),
            "tokens_per_cpu_s": round(statistics.median(cpu_speeds[layout, best])),
            "tokens": sum(lengths), "actions": sum(len(b.actions) for b in batches[layout]),
            "by_threads": {t: round(statistics.median(s)) for t, s in speeds.items()},
            "by_layout": {name: round(max(probes[name, t] for t in threads)) for name in layouts}}


@dataclass
class MicroBatch:
    tokens: Tensor  # [n], positions likewise
    positions: Tensor
    groups: list[tuple[int, int]]
    actions: Tensor  # [m]: where in the flat tokens a sampled token is predicted
    targets: Tensor  # [m, 1]: its place in `allowed`
    allowed: Tensor  # [m, ALLOWED_MAX], `allowed_bias` likewise
    allowed_bias: Tensor
    behaviour_logp: Tensor  # [m]
    advantages: Tensor  # [m], divided by the number of action tokens of the whole update


def update(model: Qwen3, optimizer: torch.optim.Optimizer, batch: list[MicroBatch]) -> float:
    """One optimiser step on the token mean of -stop_gradient(min(ratio, RATIO_MAX)) * advantage * logp."""
    c, total = model.c, 0.0
    for b in batch:
        x = model(b.tokens, b.positions, causal(b.groups, c.heads, c.kv_heads))
        logits = model.logits(x.index_select(0, b.actions))  # the head only where something was sampled
        logp = (logits.gather(1, b.allowed) + b.allowed_bias).log_softmax(-1).gather(1, b.targets).squeeze(1)
        ratio = (logp.detach() - b.behaviour_logp).exp().clamp(max=RATIO_MAX)
        loss = -(ratio * b.advantages * logp).sum()
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(trained(model), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total


def parameters(model: Qwen3) -> int:
    """Of the model alone, without an adapter."""
    added = sum(p.numel() for p in trained(model)) if any(isinstance(m, LowRank) for m in model.modules()) else 0
    return sum(p.numel() for p in model.parameters()) - added


def micro_batches(config: Config, lengths: list[int], parts: int, padded: bool) -> list[MicroBatch]:
    """The batch sorted by length and cut into parts of about as many tokens each; made before the clock starts."""
    lengths, batch, share = sorted(lengths), [], sum(lengths) / parts
    chunks: list[list[int]] = [[]]
    for n in lengths:
        if sum(chunks[-1]) + n / 2 > share and len(chunks) < parts:
            chunks.append([])
        chunks[-1].append(n)
    actions_total = sum(lengths) // 2
    for chunk in chunks:
        widths = [max(chunk)] * len(chunk) if padded else chunk
        positions, actions, at = [], [], 0
        for n, width in zip(chunk, widths):
            positions += range(width)
            actions += range(at + n % 2, at + n - 1 + n % 2, 2)  # every second real token
            at += width
        m = len(actions)
        allowed, bias = allowed_lists(config, m)
        batch.append(MicroBatch(
            torch.randint(config.vocab, (at,)), torch.tensor(positions),
            [(widths.count(w), w) for w in sorted(set(widths))], torch.tensor(actions),
            torch.randint(5, (m, 1)), allowed, bias,
            torch.full((m,), -math.log(10)), torch.randn(m) / actions_total))
    return batch


def ragged_lengths() -> list[int]:
    """Nodes of a small tree search: 10 tokens at least, 48 at most, mean about 17, BATCH_TOKENS together."""
    draw, lengths = random.Random(0), []
    while (left := BATCH_TOKENS - sum(lengths)) >= 20:
        lengths.append(min(48, left - 10 if left < 58 else 48, 10 + int(draw.expovariate(1 / 7.5))))
    return lengths + [left]


def allowed_lists(config: Config, rows: int) -> tuple[Tensor, Tensor]:
    allowed = torch.rand(rows, config.vocab).topk(ALLOWED_MAX, -1).indices
    counts = torch.randint(5, 16, (rows, 1))
    return allowed, torch.where(torch.arange(ALLOWED_MAX) < counts, 0.0, -math.inf)


def summary(speeds: list[float]) -> dict:
    return {"tokens_per_s": round(statistics.median(speeds)), "min": round(min(speeds)), "max": round(max(speeds)),
            "repetitions": len(speeds)}


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed: PyTorch's large blocks otherwise go back to the system at every operation."""
    if sys.platform == "linux":
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD
            mallopt(option, value)


if __name__ == "__main__":
    main()
