"""What TensorBoard finds in the event files of a run, compared with metrics.jsonl: the same numbers in single precision, of the same steps.

    python tests/conformance/event_files.py RUN      with tensorboard installed; tensorboard.sh does it all
"""

import json
import pathlib
import sys

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# All events of a file, not a sample of them.
EVERYTHING = {"scalars": 0}


def numbers(name, value):
    """Every number in a value of metrics.jsonl, by the name that it has in TensorBoard."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(f"{name}/{key}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(f"{name}/{index}", inner)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, float(numpy.float32(value))


def measured(run):
    """(phase, metric, step): value, as metrics.jsonl has it."""
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        step = json.loads(line)
        for key, value in step.items():
            if key != "step":
                found |= {(step["phase"], name, step["step"]): number for name, number in numbers(key, value)}
    return found


def shown(run):
    """The same, as TensorBoard reads it. A checksum that is wrong ends the file for its reader, and numbers are missing."""
    found = {}
    for phase in sorted((run / "tensorboard").iterdir()):
        events = EventAccumulator(str(phase), size_guidance=EVERYTHING).Reload()
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                assert event.wall_time > 1.7e9, f"{phase.name}, {tag}: written at {event.wall_time}"
                found[phase.name, tag, event.step] = event.value
    return found


def main():
    run = pathlib.Path(sys.argv[1])
    wanted, there = measured(run), shown(run)
    differ = [key for key in sorted(wanted.keys() | there.keys()) if wanted.get(key) != there.get(key)]
    for key in differ[:20]:
        print("differs:", *key, "metrics.jsonl:", wanted.get(key), "TensorBoard:", there.get(key))
    phases = {phase for phase, _, _ in wanted}
    assert {"warmstart", "recursive"} <= phases, phases
    if differ:
        sys.exit(f"{len(differ)} of {len(wanted)} numbers differ")
    metrics = {name for _, name, _ in wanted}
    print(f"ok   TensorBoard reads {len(wanted)} numbers of {len(metrics)} metrics in {', '.join(sorted(phases))}")


if __name__ == "__main__":
    main()
