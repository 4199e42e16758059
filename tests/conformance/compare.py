"""Runs the project's benches and the PyTorch twin in turn (A B A B ...) and prints one table.

    python compare.py [--rounds 3] [--quick] [--what sample,train] [--rao-sample CMD] [--rao-train CMD] [--torch CMD]

A command prints JSON lines among whatever else; lines with "case" and "tokens_per_s" count, but not those with
"masked": false, which the twin has no equal of. `live` is the number of nodes on the whole machine; lines that differ only
in how these are spread over threads and samplers are one case, and the fastest stands for it. Where both sides name their
"context" and differ, or their "tokens", "actions", "parameters" or "trained" (how many learn) and differ by more than
1 %, there is no ratio. Figures are medians over the rounds, with the smallest and largest. A machine that does other work
changes both sides within a round, so the ratio of a round is steadier than either figure: the columns after the figures
give its median and range. The last two are the peak memory of either side's process, where it says "peak_mib".
"""

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

Key = tuple[str, str, int]  # what, case, live (0 for training)
contexts: dict[Key, dict[str, list]] = {}
SIZES = ("tokens", "actions", "parameters", "trained")
sizes: dict[tuple[Key, str], dict[str, float]] = {}  # key, one of SIZES: by engine
SIZE_TOLERANCE = 0.01
peaks: dict[tuple[Key, str], list[float]] = {}  # key, engine: MiB by round
Figures = dict[str, dict[Key, dict[int, tuple[float, str]]]]  # engine, key, round: tokens/s and how


def main() -> int:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--rounds", type=int, help="default 3, or 1 with --quick")
    args.add_argument("--quick", action="store_true", help="passed on to the twin")
    args.add_argument("--what", default="sample,train")
    args.add_argument("--case", help="only these cases, such as tiny,1m")
    args.add_argument("--rao-sample", default="cargo bench -p rao-backends --bench sample")
    args.add_argument("--rao-train", default="cargo bench -p rao-backends --bench train")
    args.add_argument("--torch", default=shlex.join([sys.executable, str(HERE / "speed.py")]))
    args.add_argument("--timeout-s", type=float, default=1800.0, help="for one command")
    args.add_argument("--cpu", action="store_true", help="compare tokens per second of processor time, for a machine that is "
                      "shared: with one thread on either side (RAYON_NUM_THREADS=1, --threads 1), because waiting ones spin")
    args.add_argument("--json", action="store_true", help="the table as JSON lines")
    args = args.parse_args()
    rounds = args.rounds or (1 if args.quick else 3)
    torch = args.torch + (" --quick" if args.quick else "") + (f" --case {args.case}" if args.case else "")
    # The project's bench of training takes cases too: the large ones take a while.
    rao_train = args.rao_train + (f" -- {args.case.replace(',', ' ')}" if args.case else "")
    commands = []
    for what in args.what.split(","):
        commands.append(("rao", what, {"sample": args.rao_sample, "train": rao_train}[what]))
        commands.append(("torch", what, f"{torch} --what {what}"))

    figures: Figures = {"rao": {}, "torch": {}}
    failed = False
    for number in range(rounds):
        for engine, what, command in commands:
            start = time.monotonic()
            lines, error = run(command, args.timeout_s)
            if args.cpu:
                lines = [line | {"tokens_per_s": line["tokens_per_cpu_s"]} for line in lines if line.get("tokens_per_cpu_s")]
            found = best_of_threads(lines, engine, what)
            if args.case:
                found = {key: value for key, value in found.items() if key[1] in args.case.split(",")}
            note(f"round {number + 1}/{rounds}  {engine:5} {what:6} {len(found)} cases  {time.monotonic() - start:.0f} s")
            if error or not found:
                note(f"  {error or 'no JSON line with a figure'}: {command}")
                failed = True
            for key, figure in found.items():
                figures[engine].setdefault(key, {})[number] = figure
    show(figures, args.json)
    return int(failed)


def run(command: str, timeout_s: float) -> tuple[list[dict], str]:
    """The JSON objects on the command's standard output, and what went wrong or nothing."""
    try:
        # A session of its own, so that what cargo started ends with it.
        process = subprocess.Popen(shlex.split(command), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, errors="replace", start_new_session=True)
    except OSError as error:
        return [], str(error)
    late = False
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        late = True
        out, err = process.communicate()
    lines = []
    for line in out.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "case" in value and isinstance(value.get("tokens_per_s"), (int, float)):
            lines.append(value)
    if process.returncode == 0:
        return lines, ""
    last = err.strip().splitlines()[-1:] or [""]
    return lines, f"over {timeout_s:.0f} s" if late else f"exit status {process.returncode}: {last[0]}"


def best_of_threads(lines: list[dict], engine: str, what: str) -> dict[Key, tuple[float, str]]:
    speeds: dict[tuple[Key, str], list[float]] = {}
    for line in lines:
        if line.get("masked") is False:
            continue
        key = (line.get("what", what), str(line["case"]), int(line.get("live", 0)))
        if "context" in line:
            contexts.setdefault(key, {})[engine] = line["context"]
        for size in SIZES:
            if size in line:
                sizes.setdefault((key, size), {})[engine] = line[size]
        if line.get("peak_mib"):
            peaks.setdefault((key, engine), []).append(float(line["peak_mib"]))
        note = f"{line['threads']}t" if "threads" in line else ""
        note += f" {line['layout']}" if "layout" in line else ""
        note += f" {line['samplers']}p" if line.get("samplers", 1) > 1 else ""
        speeds.setdefault((key, note.strip()), []).append(float(line["tokens_per_s"]))
    best: dict[Key, tuple[float, str]] = {}
    for (key, how), values in speeds.items():
        best[key] = max(best.get(key, (0.0, "")), (statistics.median(values), how))
    return best


def show(figures: Figures, as_json: bool) -> None:
    rows = [("case", "rao tokens/s", "min-max", "how", "torch tokens/s", "min-max", "how", "ratio", "min-max", "rao MiB",
             "torch MiB")]
    for key in sorted({*figures["rao"], *figures["torch"]}):
        what, case, live = key
        row = [f"{what} {case}" + (f" live {live}" if live else "")]
        line = {"what": what, "case": case} | ({"live": live} if live else {})
        sides = [figures[engine].get(key, {}) for engine in ("rao", "torch")]
        for engine, side in zip(("rao", "torch"), sides):
            speeds = [speed for speed, _ in side.values()]
            hows = [how for _, how in side.values()]
            how = max(hows, key=hows.count, default="")
            row += [*spread(speeds, "{:,.0f}"), how]
            line[engine] = stats(speeds) | {"how": how}
        ratios = [sides[0][n][0] / sides[1][n][0] for n in sides[0] if n in sides[1]]
        if len({json.dumps(context) for context in contexts.get(key, {}).values()}) > 1:
            note(f"{row[0]}: the contexts differ: {contexts[key]}")
            ratios = []
        for size in SIZES:
            found = sizes.get((key, size), {}).values()
            if found and max(found) - min(found) > SIZE_TOLERANCE * max(found):
                note(f"{row[0]}: the {size} differ: {sizes[key, size]}")
                ratios = []
        memory = {engine: peaks.get((key, engine), []) for engine in ("rao", "torch")}
        row += [*spread(ratios, "{:.2f}"), *(spread(taken, "{:,.0f}")[0] for taken in memory.values())]
        line |= {"ratio": stats(ratios), "peak_mib": {engine: stats(taken) for engine, taken in memory.items()}}
        rows.append(tuple(row))
        if as_json:
            print(json.dumps(line))
    if as_json:
        return
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(w) if i in (0, 3, 6) else cell.rjust(w)
                        for i, (cell, w) in enumerate(zip(row, widths))).rstrip())


def spread(values: list[float], form: str) -> list[str]:
    if not values:
        return ["-", "-"]
    return [form.format(statistics.median(values)), f"{form.format(min(values))}-{form.format(max(values))}"]


def stats(values: list[float]) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else {}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
