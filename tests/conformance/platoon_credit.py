"""Compares the credit of `rao_tree` with the functions of the paper's authors, from the wheel `platoon==0.4.0`, unmodified.

    platoon_credit.py --wheel platoon-0.4.0-py3-none-any.whl --forests target/release/examples/forests [--count 2000] [--torch auto] [--no-speed]

The authors': `add_direct_subagent_delegation_rewards` and `propagate_root_success`; `group_baselines`; the methods `compute_baselines`
and `assign_advantages` of `GroupRolloutWorkflow`; `DepthLevelWeightingTransform` and `DepthLevelDiscountTransform`; the status helpers.
Ours: this file, which makes their objects from the batches that `forests` prints and calls them in the order of their trainer, and
`platoon_torch.py`, which stands in for PyTorch (with --torch auto: where it is not installed) and always for tinker. README.md lists
where the two sides differ on purpose; each of these places is marked "Differs" below.
"""

import __future__
import argparse
import ast
import gc
import hashlib
import json
import statistics
import subprocess
import sys
import time
import types
import zipfile
from collections import Counter

import platoon_torch

WHEEL_SHA256 = "dab1dbe30721f54928b443967bac2a25b0d87806c56a078aebe91b8da85c50c5"
WORKFLOW = "platoon/train/tinker/workflows/group_rollout_workflow.py"
TRANSFORMS = "platoon/train/tinker/batch_transforms.py"
# Of the larger of 1 and the value. Ours is computed in f32, theirs in f64 and, from the datums on, in f32.
TOLERANCE = 1e-5
# The markers of `platoon.utils.trajectory_status`, by our status.
FORCED_ZERO = ("failed", "truncated")
INTERRUPTED = {"timed-out": "trajectory_timed_out", "cancelled": "trajectory_cancelled", "invalid": "trajectory_invalid"}


class Mismatch(Exception):
    pass


def main() -> int:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--wheel", required=True, help="platoon-0.4.0-py3-none-any.whl")
    args.add_argument("--forests", required=True, help="the example `forests` of rao-tree, built with --release")
    args.add_argument("--count", type=int, default=2000, help="batches to compare")
    args.add_argument("--torch", choices=("auto", "standin", "both"), default="auto",
                      help="both: compares with PyTorch and with the stand-in, and these two with each other")
    args.add_argument("--no-speed", action="store_true", help="compares only")
    args = args.parse_args()
    with open(args.wheel, "rb") as wheel:
        if hashlib.file_digest(wheel, "sha256").hexdigest() != WHEEL_SHA256:
            print(f"{args.wheel} is not the published wheel")
            return 1
    authors = [Authors(args.wheel, torch) for torch in torches(args.torch)]
    batches = [json.loads(line) for line in forests(args.forests, "batches", str(args.count)).splitlines()]
    try:
        for side in authors:
            golden(side)
        print(f"golden numbers: the authors' functions give them, with {' and '.join(side.name for side in authors)}")
        results = [compare(side, batches) for side in authors]
    except Mismatch as error:
        print(f"MISMATCH: {error}")
        return 1
    if len(results) == 2:
        worst = max(relative(a, b) for a, b in zip(*results, strict=True))
        print(f"PyTorch and the stand-in: {len(results[0])} weighted advantages differ by at most {worst:.1e}")
        if worst > 1e-6:
            return 1
    for side in [] if args.no_speed else authors:
        speed(side, args.forests)
    return 0


def torches(which: str) -> list[types.ModuleType]:
    if which == "standin":
        return [platoon_torch.torch()]
    try:
        import torch
    except ImportError:
        if which == "both":
            raise
        return [platoon_torch.torch()]
    torch.set_num_threads(1)
    return [torch] if which == "auto" else [torch, platoon_torch.torch()]


def forests(program: str, *args: str) -> str:
    return subprocess.run([program, *args], check=True, stdout=subprocess.PIPE, text=True).stdout


class Authors:
    """The authors' functions out of the wheel."""

    def __init__(self, wheel: str, torch: types.ModuleType) -> None:
        self.torch, self.tinker = torch, platoon_torch.tinker()
        self.name = "the stand-in" if torch is platoon_torch else f"PyTorch {torch.__version__}"
        if wheel not in sys.path:
            sys.path.insert(0, wheel)
        from platoon.utils import subagent_rewards, trajectory_status

        self.rewards, self.status = subagent_rewards, trajectory_status
        with zipfile.ZipFile(wheel) as archive:
            self._load_workflow(archive.read(WORKFLOW).decode())
            self._load_transforms(archive.read(TRANSFORMS).decode())

    def _load_workflow(self, source: str) -> None:
        """One function and two methods: the module as a whole imports the trainer."""
        tree = ast.parse(source)
        wanted = [node for node in tree.body if getattr(node, "name", "") == "group_baselines"]
        workflow = next(node for node in tree.body if getattr(node, "name", "") == "GroupRolloutWorkflow")
        wanted += [node for node in workflow.body if getattr(node, "name", "") in ("compute_baselines", "assign_advantages")]
        names = {"torch": self.torch, "TensorData": self.tinker.TensorData}
        # Annotations name types of the trainer: they are kept as text.
        flags = __future__.annotations.compiler_flag
        exec(compile(ast.Module(wanted, []), WORKFLOW, "exec", flags=flags), names)
        self.group_baselines = names["group_baselines"]
        methods = {name: names[name] for name in ("compute_baselines", "assign_advantages")}
        nowhere = types.SimpleNamespace(scalar=lambda **_: None)
        self.workflow = type("Workflow", (), methods | {"_group_stats": lambda _: nowhere})()

    def _load_transforms(self, source: str) -> None:
        """The whole module, with what it imports put in place for as long as it loads."""
        module = types.ModuleType("platoon_batch_transforms")
        held = {name: sys.modules.get(name) for name in ("torch", "tinker", module.__name__)}
        sys.modules |= {"torch": self.torch, "tinker": self.tinker, module.__name__: module}
        try:
            exec(compile(source, TRANSFORMS, "exec"), module.__dict__)
        finally:
            for name, before in held.items():
                if before is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = before
        self.transforms = module

    def transform(self, estimator: dict):
        match estimator["depth_weights"]:
            case "inverse":
                return self.transforms.DepthLevelWeightingTransform()
            case "discount":
                return self.transforms.DepthLevelDiscountTransform(estimator["depth_gamma"])

    def vector(self, values: list) -> platoon_torch.TensorData:
        return self.tinker.TensorData.from_torch(self.torch.tensor(values, dtype=self.torch.float32))

    def datum(self, reward: float, tokens: int, depth: int, starts: bool):
        """A training sequence as their converter makes it: the reward at each action token. Without any, one token that is no action."""
        integer = self.torch.tensor([depth], dtype=self.torch.long)
        return self.tinker.Datum(loss_fn_inputs={
            "advantages": self.vector([reward] * tokens or [0.0]),
            "mask": self.vector([1.0] * tokens or [0.0]),
            "traj_depth": self.tinker.TensorData.from_torch(integer),
            "traj_start": self.vector([1.0 if starts else 0.0]),
        })


class Node:
    """One row of `forests`, the authors' trajectory made of it, and what their functions said about it."""

    def __init__(self, row: list) -> None:
        self.parent, self.depth, self.status, self.success, self.tokens, self.datum_count = row[:6]
        self.found = row[6:]  # reward, advantage, weighted
        self.trajectory: dict = {}
        self.reward = 0.0
        self.datums: list = []

    def set_trajectory(self, is_root: bool, marked: bool) -> None:
        misc = {}
        failed = self.status in FORCED_ZERO
        if failed and marked:
            misc["trajectory_forced_zero_reward"] = True
        if self.status in INTERRUPTED:
            misc[INTERRUPTED[self.status]] = True
            # Differs: theirs counts an interrupted child in its parent's mean unless it is also excluded.
            if not is_root:
                misc["exclude_from_training"] = True
        # A forced zero keeps the score that it would have had; any other failure is recorded as zero.
        success = 0.0 if failed and not marked else self.success
        parent = None if is_root else {"id": str(self.parent)}
        step = {"misc": {"reward_misc": {"reward/success": success}}}
        self.trajectory = {"reward": success, "parent_info": parent, "misc": misc, "steps": [step]}


def score(authors: Authors, tree: list[Node], estimator: dict, marked: bool, seen: Counter) -> None:
    """Sets `reward` of every node: success and delegation bonus."""
    sparse = estimator["rule"] == "sparse"
    for index, node in enumerate(tree):
        # Differs: under the sparse signal theirs leaves a forced zero at zero; ours pays every node that counts with the root's success.
        node.set_trajectory(index == 0, marked and not (sparse and index > 0))
    collection = {"trajectories": {str(index): node.trajectory for index, node in enumerate(tree)}}
    if sparse:
        authors.rewards.propagate_root_success(collection)
    authors.rewards.add_direct_subagent_delegation_rewards(collection, estimator["lambda"])
    for node in tree:
        record = node.trajectory["misc"].get(authors.rewards.SUBAGENT_DELEGATION_REWARD_MISC_KEY)
        bonus = record["bonus"] if record else 0.0
        if record and authors.status.trajectory_has_forced_zero_reward(node.trajectory):
            # Differs: theirs pays no bonus to a forced zero; ours pays every node for its children.
            bonus = record["coefficient"] * record["success_rate"]
            seen["bonuses put back"] += bonus > 0
        node.reward = authors.rewards._get_base_success(node.trajectory) + bonus


def build_datums(authors: Authors, node: Node, mass: str) -> None:
    """What the weights preserve the mass of is their number of action tokens: one for each node or datum where it is to be these."""
    match mass:
        case "nodes":
            tokens = [1]
        case "datums":
            tokens = [1] * node.datum_count
        case _:
            count = node.datum_count if node.tokens else 1
            tokens = [node.tokens // count + (index < node.tokens % count) for index in range(count)]
    # Differs: theirs counts no trajectory without action tokens, ours every node that ended by its own doing.
    node.datums = [authors.datum(node.reward, n, node.depth, index == 0) for index, n in enumerate(tokens)]


def credit(authors: Authors, groups: list[list[list[Node]]], estimator: dict, marked: bool, seen: Counter) -> None:
    """The whole chain over a batch. Leaves datums only with nodes that are trained."""
    authors.workflow.config = types.SimpleNamespace(leave_one_out_baseline=estimator["baseline"] == "leave-one-out")
    transform, teaching = authors.transform(estimator), []
    for group in groups:
        results = []
        for tree in group:
            score(authors, tree, estimator, marked, seen)
            interrupted = [authors.status.trajectory_was_interrupted(node.trajectory) for node in tree]
            # Differs: under the sparse signal theirs pays the children of an interrupted root with its partial score; ours trains none.
            lost = estimator["rule"] == "sparse" and interrupted[0]
            seen["sparse trees without a root"] += lost
            for node, dropped in zip(tree, interrupted):
                if not (dropped or lost):
                    build_datums(authors, node, estimator["depth_mass"])
            datums = [datum for node in tree for datum in node.datums]
            results.append(types.SimpleNamespace(
                datums=datums, task_reward=tree[0].reward, task_reward_valid=not interrupted[0]
            ))
        teaches = any(result.task_reward_valid for result in results)
        if teaches:
            seen["groups with one valid root"] += sum(result.task_reward_valid for result in results) == 1
            baselines = authors.workflow.compute_baselines(results)
            authors.workflow.assign_advantages(results)
            teaches = any(
                advantage(authors, node, baseline) != 0
                for tree, baseline in zip(group, baselines)
                for node in tree if node.datums
            )
            seen["uniform groups"] += not teaches
        else:
            seen["groups without a valid root"] += 1
        if teaches:
            teaching.append([datum for result in results for datum in result.datums])
        else:
            # Differs: theirs leaves the datums of a uniform group in the depth counts; ours leaves it out.
            for node in (node for tree in group for node in tree):
                node.datums = []
    node_advantages(groups)
    scopes = [sum(teaching, [])] if estimator["depth_scope"] == "batch" else teaching
    for datums in scopes if transform else []:
        transform(datums, None)


def advantage(authors: Authors, node: Node, baseline: float) -> float:
    value = action(node)
    # Differs: theirs has no advantage where there is no action token.
    return authors.torch.tensor(node.reward - baseline, dtype=authors.torch.float32).item() if value is None else value


def action(node: Node) -> float | None:
    """What the node's action tokens carry, or nothing where there are none. All carry the same."""
    values = {
        value
        for datum in node.datums
        for value, mask in zip(*(datum.loss_fn_inputs[name].to_torch().tolist() for name in ("advantages", "mask")))
        if mask > 0
    }
    if len(values) > 1:
        raise Mismatch(f"the tokens of one node carry {values}")
    return next(iter(values), None)


def node_advantages(groups: list[list[list[Node]]]) -> None:
    """Keeps the advantages, which the depth transforms overwrite."""
    for node in (node for group in groups for tree in group for node in tree):
        node.advantage = action(node)


def compare(authors: Authors, batches: list[dict]) -> list[float]:
    seen, weighted_all, worst = Counter(), [], 0.0
    for batch in batches:
        estimator, seed = batch["estimator"], batch["seed"]
        groups = [[[Node(row) for row in tree] for tree in group] for group in batch["groups"]]
        credit(authors, groups, estimator, seed % 2 == 1, seen)
        seen[f"rule {estimator['rule']}, weights {estimator['depth_weights']}"] += 1
        for at in ((g, t, n) for g, group in enumerate(groups) for t, tree in enumerate(group) for n in range(len(tree))):
            node, root = groups[at[0]][at[1]][at[2]], groups[at[0]][at[1]][0]
            lost = root.status in INTERRUPTED and estimator["rule"] == "sparse"
            expected: list[float | None] = [None if node.status in INTERRUPTED or lost else node.reward, node.advantage, action(node)]
            if not node.datums:
                expected[1:] = [0.0, 0.0]
            for what, found, wanted in zip(("reward", "advantage", "weighted"), node.found, expected):
                if wanted is None:
                    continue
                seen["figures"] += 1
                worst = max(worst, relative(found, wanted))
                if relative(found, wanted) > TOLERANCE:
                    raise Mismatch(f"batch {seed}, group, tree, node {at}: {what} {found}, theirs {wanted} ({authors.name})\n{estimator}")
            seen["nodes"] += 1
            weighted_all.append(expected[2] or 0.0)
        if estimator["rule"] == "sparse":
            forced_zeros_under_sparse(authors, groups, estimator, seen)
    rules = {key: seen.pop(key) for key in sorted(seen) if key.startswith("rule ")}
    nodes, figures = seen.pop("nodes"), seen.pop("figures")
    print(f"{len(batches)} batches, {nodes} nodes, {figures} figures: the same within {worst:.1e} (allowed {TOLERANCE}), with {authors.name}")
    print("  " + "; ".join(f"{key}: {count}" for key, count in rules.items()))
    print("  met on the way: " + ", ".join(f"{count} {key}" for key, count in sorted(seen.items())))
    # What was compared is worth comparing.
    met = ("bonuses put back", "sparse trees without a root", "groups with one valid root", "uniform groups",
           "groups without a valid root", "forced zeros under sparse")
    missing = [key for key in met if not seen[key]]
    if len(batches) >= 1000 and (missing or len(rules) < 6):
        raise Mismatch(f"the batches never met {missing or 'some rules'}")
    return weighted_all


def forced_zeros_under_sparse(authors: Authors, groups: list[list[list[Node]]], estimator: dict, seen: Counter) -> None:
    """The difference that `score` steps round is the one that README.md describes, and no other."""
    for tree in (tree for group in groups for tree in group):
        for index, node in enumerate(tree):
            node.set_trajectory(index == 0, marked=True)
        collection = {"trajectories": {str(index): node.trajectory for index, node in enumerate(tree)}}
        authors.rewards.propagate_root_success(collection)
        root = 0.0 if tree[0].status in FORCED_ZERO else tree[0].success
        for node in tree:
            forced = node.status in FORCED_ZERO
            seen["forced zeros under sparse"] += forced and root > 0
            if node.trajectory["reward"] != (0.0 if forced else root):
                raise Mismatch("propagate_root_success does something else than described")


def relative(found: float, expected: float) -> float:
    return abs(found - expected) / max(abs(expected), 1.0)


def golden(authors: Authors) -> None:
    """The numbers that are ordinary tests of `rao_tree` (tests/credit/golden.rs) come out of the authors' functions."""
    paper = {"rule": "rao", "lambda": 0.4, "baseline": "leave-one-out", "depth_weights": "inverse", "depth_scope": "batch",
             "depth_mass": "nodes"}

    def tree(*nodes: tuple[int | None, float], status: str = "finished") -> list[Node]:
        made: list[Node] = []
        for parent, success in nodes:
            depth = 0 if parent is None else made[parent].depth + 1
            made.append(Node([parent, depth, "finished", success, 1, 1, 0, 0, 0]))
        made[0].status = status
        return made

    def run(*group: list[Node], **options) -> list[list[Node]]:
        credit(authors, [list(group)], paper | options, True, Counter())
        return list(group)

    def first(*invalid: int) -> list[list[Node]]:
        shapes = [[(None, 1.0), (0, 1.0), (0, 0.0), (1, 1.0)], [(None, 0.0), (0, 0.0)], [(None, 1.0)]]
        return [tree(*shape, status="invalid" if t in invalid else "finished") for t, shape in enumerate(shapes)]

    def check(what: str, found: list[float], expected: list[float]) -> None:
        if len(found) != len(expected) or any(abs(a - b) > 1e-6 for a, b in zip(found, expected)):
            raise Mismatch(f"golden {what}: {found}, expected {expected} ({authors.name})")

    def flat(trees: list[list[Node]], field) -> list[float]:
        return [field(node) for tree in trees for node in tree]

    def baselines(trees: list[list[Node]], leave_one_out: bool = True) -> list[float]:
        valid = [tree[0].status == "finished" for tree in trees]
        return authors.group_baselines([tree[0].reward for tree in trees], valid, leave_one_out=leave_one_out)

    trees = run(*first())
    check("R", flat(trees, lambda node: node.reward), [1.2, 1.4, 0, 1, 0, 0, 1])
    check("b", baselines(trees), [0.5, 1.1, 0.6])
    check("mean b", baselines(trees, False), [2.2 / 3] * 3)
    check("A", flat(trees, lambda node: node.advantage), [0.7, 0.9, -0.5, 0.5, -1.1, -1.1, 0.4])
    check("A * w", flat(trees, action), [0.544444, 0.7, -0.388889, 1.166667, -0.855556, -0.855556, 0.311111])
    check("b, tree 1 invalid", baselines(run(*first(1))), [1.0, 1.1, 1.2])
    alone = run(*first(1, 2))
    check("b, only tree 0 valid", baselines(alone), [1.2] * 3)
    check("A, only tree 0 valid", flat(alone[:1], lambda node: node.advantage), [0, 0.2, -1.2, -0.2])
    second = run(tree((None, 0.8), (0, 1.0), (0, 0.5)), *(tree((None, s)) for s in (0.4, 0.7, 1.0)))
    check("second", [second[0][0].reward, second[0][0].advantage, baselines(second)[0]], [1.1, 0.4, 0.7])
    # Roots of successes 0 and 1: every advantage is known and none is zero.
    third = run(*(tree((None, float(t % 2)), (0, 1.0), (0, 1.0)) for t in range(4)), **{"lambda": 0.0})
    weights = [action(node) / node.advantage for tree in third for node in tree]
    check("third", weights, [1.5, 0.75, 0.75] * 4)


def speed(authors: Authors, program: str) -> None:
    """Both sides on one batch; ours before and after, and the slower counts."""
    first = json.loads(forests(program, "speed"))
    groups = [[[Node(row) for row in tree] for tree in group] for group in first["groups"]]
    nodes = sum(len(tree) for group in groups for tree in group)
    estimator = first["estimator"]
    credit(authors, groups, estimator, True, Counter())
    trees = [tree for group in groups for tree in group]
    collections = [{"trajectories": {str(index): node.trajectory for index, node in enumerate(tree)}} for tree in trees]
    roots = [[tree[0].reward for tree in group] for group in groups]
    valid = [[tree[0].status not in INTERRUPTED for tree in group] for group in groups]
    results = [
        [types.SimpleNamespace(datums=[d for node in tree for d in node.datums], task_reward=reward, task_reward_valid=ok)
         for tree, reward, ok in zip(*group)]
        for group in zip(groups, roots, valid)
    ]
    datums = [datum for group in results for result in group for datum in result.datums]
    transform = authors.transform(estimator)

    def rewards() -> None:
        for collection in collections:
            authors.rewards.add_direct_subagent_delegation_rewards(collection, estimator["lambda"])

    def baselines() -> None:
        for group in zip(roots, valid):
            authors.group_baselines(*group, leave_one_out=True)

    def advantages() -> None:
        for group in results:
            authors.workflow.assign_advantages(group)

    theirs = {
        "rewards": timed(rewards, 15),
        "baselines": timed(baselines, 15),
        "advantages": timed(advantages, 5),
        "depth weights": timed(lambda: transform(datums, None), 5),
    }
    ours = max(first["median_ns"], json.loads(forests(program, "speed"))["median_ns"]) / nodes
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    print(f"{nodes} nodes, ns per node: ours, everything from the check of the shape to weighted advantages: {ours:.1f}")
    print(f"  theirs, {python}: " + ", ".join(f"{what} {ns / nodes:,.0f}" for what, ns in theirs.items()))
    plain = (theirs["rewards"] + theirs["baselines"]) / nodes
    whole = sum(theirs.values()) / nodes
    print(f"  ratio, their rewards and baselines alone (plain Python): {plain / ours:,.0f}")
    print(f"  ratio, with their advantages and depth weights ({authors.name}): {whole / ours:,.0f}")


def timed(function, runs: int) -> float:
    """Median in nanoseconds, without garbage collections."""
    times = []
    gc.disable()
    for _ in range(runs):
        start = time.perf_counter_ns()
        function()
        times.append(time.perf_counter_ns() - start)
    gc.enable()
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
