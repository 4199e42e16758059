"""Compares the text tools of TextCraft with the game of the paper's authors, from the wheel `platoon-textcraft==0.3.0`, unmodified.

    textcraft.py --wheel platoon_textcraft-0.3.0-py3-none-any.whl --crafts target/debug/examples/crafts [--actions 100000] [--seed 0]

Theirs: `harbor/game.py`, the whole game in one file of the standard library, over the recipes of `recipe_loader.py` (Minecraft) and
`synth_recipe_loader.py`. Ours: `trainer/examples/crafts.rs`. Both play every published solution of both benchmarks, and as many random actions,
half of them on each: crafts that work, crafts that are wrong in one way or two, wrong types, looks. Compared are whether it worked, the
stock after every action, every answer of the tools, the facts of every error (which rule, which item, how many were needed, named and
there), and the verdicts.
"""

import argparse
import hashlib
import importlib
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import types
import zipfile
from collections import Counter

WHEEL_SHA256 = "9f0e8819fc2897ec186f84eea0acb98b468fc84a1badeb2676264a7e055edfa3"
# Published solutions of original TextCraft that name a kind of ingredient where the game takes only an item: they fail on either side.
BROKEN_SOLUTIONS = 9


class Mismatch(Exception):
    pass


def main() -> int:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--wheel", required=True, help="platoon_textcraft-0.3.0-py3-none-any.whl")
    args.add_argument("--crafts", required=True, help="the example `crafts` of rao-trainer")
    args.add_argument("--actions", type=int, default=100_000, help="random actions in all")
    args.add_argument("--seed", type=int, default=0)
    args = args.parse_args()
    with open(args.wheel, "rb") as wheel:
        if hashlib.sha256(wheel.read()).hexdigest() != WHEEL_SHA256:
            print(f"{args.wheel} is not the published wheel")
            return 1
    with tempfile.TemporaryDirectory() as directory:
        with zipfile.ZipFile(args.wheel) as wheel:
            wheel.extractall(directory)
        package = pathlib.Path(directory) / "platoon_textcraft"
        game, worlds = authors(package)
        try:
            for name, world in worlds.items():
                command = [args.crafts, "synth"] if name == "synth" else [args.crafts, "minecraft", str(package / "data")]
                tasks = [json.loads(line) for file in world.files for line in (package / "data" / file).open(encoding="utf-8")]
                print(f"{name}: {solutions(game, world, tasks, command)}")
                print(f"{name}: {actions(game, world, tasks, command, args.actions // len(worlds), random.Random(args.seed))}")
        except Mismatch as error:
            print(f"MISMATCH: {error}")
            return 1
    return 0


class World:
    """Their recipes, in an order that does not depend on the file system."""

    def __init__(self, book, files, broken):
        self.book, self.files, self.broken = book, files, broken
        for recipes in book.recipes.values():
            recipes.sort(key=lambda recipe: recipe.filename)
        self.craftable = sorted(book.recipes)
        self.items = sorted(book.all_items)


def authors(package):
    """Their modules, without the package's own `__init__`, which imports a trainer."""
    for name, path in (("platoon_textcraft", package), ("platoon_textcraft.harbor", package / "harbor")):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module
    load = lambda name: importlib.import_module(f"platoon_textcraft.{name}")
    minecraft = load("recipe_loader").RecipeDatabase(package / "data" / "recipes")
    synth = load("synth_recipe_loader").SynthRecipeLoader()
    files = lambda stem: [f"{stem}_{split}.jsonl" for split in ("train", "val")]
    worlds = {
        "synth": World(synth, files("textcraft_synth"), 0),
        "minecraft": World(minecraft, files("textcraft"), BROKEN_SOLUTIONS),
    }
    return load("harbor.game").Game, worlds


def begin(game, world, misc):
    task = {"goal": "", "target_items": misc["target_items"], "initial_inventory": misc["initial_inventory"]}
    return game(world.book, task), {"targets": misc["target_items"], "inventory": misc["initial_inventory"]}


def play(command, lines):
    """What ours says, a line for every line."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Mismatch(f"{command[0]} failed: {done.stderr}")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(lines):
        raise Mismatch(f"{len(lines)} lines in, {len(answers)} out")
    return answers


def solutions(game, world, tasks, command):
    """Every published solution, on either side."""
    lines, expected, solved, crafts = [], [], 0, 0
    for task in tasks:
        theirs, line = begin(game, world, task["misc"])
        lines.append(line)
        expected.append(None)
        for step in task["misc"]["gold_trajectory"]:
            arguments = {"ingredients": step["ingredients"], "target": [step["target"][0], step["result_count"]]}
            lines.append({"tool": "craft", "arguments": arguments})
            expected.append(facts(theirs.call("craft", arguments)))
            crafts += 1
        score, _ = theirs.evaluate("done")
        solved += score == 1
        lines.append({"finish": "done"})
        expected.append(score)
    for line, answer, expect in zip(lines, play(command, lines), expected):
        if "tool" in line:
            same(line, our_facts(answer), expect)
        elif "finish" in line:
            same(line, answer["score"], expect)
    if len(tasks) - solved != world.broken:
        raise Mismatch(f"{len(tasks) - solved} solutions fail in their game, not {world.broken}")
    others = f"; {world.broken} fail on both" if world.broken else ""
    return f"{solved} of {len(tasks)} published solutions succeed on both sides, {crafts} crafts{others}"


def actions(game, world, tasks, command, number, rng):
    """Random actions, on either side."""
    lines, expected = [], []
    done = 0
    while done < number:
        task = rng.choice(tasks)
        theirs, line = begin(game, world, task["misc"])
        lines.append(line)
        expected.append(None)
        gold = iter(task["misc"]["gold_trajectory"])
        for _ in range(min(rng.randint(20, 120), number - done)):
            tool, arguments = draw(world, theirs, gold, rng)
            if isinstance(arguments.get("ingredients"), dict):
                # JSON says nothing about the order of an object's keys; which of two items serves a kind depends on it.
                arguments["ingredients"] = dict(sorted(arguments["ingredients"].items()))
            lines.append({"tool": tool, "arguments": arguments})
            answer = theirs.call(tool, arguments)
            expected.append((facts(answer) if tool == "craft" else json.loads(answer), dict(theirs.inventory)))
            done += 1
        lines.append({"finish": "done"})
        expected.append(theirs.evaluate("done")[0])
    kinds, scores = Counter(), Counter()
    for line, answer, expect in zip(lines, play(command, lines), expected):
        if "tool" in line:
            craft = line["tool"] == "craft"
            ours = our_facts(answer) if craft else answer.get("value")
            same(line, ours, expect[0])
            same(line, answer["stock"], expect[1])
            kinds.update({kind(expect[0]) if craft else line["tool"]: 1})
        elif "finish" in line:
            same(line, answer["score"], expect)
            scores[expect] += 1
    listed = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
    return f"{done} random actions have the same outcome, facts and stock: {listed}; {sum(scores.values())} verdicts, {scores[1.0]} of them success"


def draw(world, game, gold, rng):
    """One action: a tool and its arguments."""
    roll = rng.random()
    if roll < 0.05:
        return "view_inventory", {}
    if roll < 0.15:
        names = rng.sample(world.items, rng.randint(0, 3)) + ["nothing_known"] * (rng.random() < 0.2)
        return "get_info", {"items": names}
    ingredients, (item, total) = right(world, game, gold, rng)
    if roll < 0.55:
        return "craft", {"ingredients": ingredients, "target": [item, total]}
    for _ in range(rng.choice((1, 1, 2))):
        ingredients, item, total = spoil(world, ingredients, item, total, rng)
    if roll < 0.6:
        return "craft", untyped(ingredients, item, total, rng)
    if not ingredients:
        # Eight of their recipes take nothing, and ours counts to 2^32.
        total = min(total, 1000)
    return "craft", {"ingredients": ingredients, "target": [item, total]}


def right(world, game, gold, rng):
    """A craft that names what it takes: a step of the published solution, one that the stock suffices for, or any."""
    roll = rng.random()
    step = next(gold, None) if roll < 0.5 else None
    if step is not None:
        return dict(step["ingredients"]), (step["target"][0], step["result_count"])
    for _ in range(200):
        item = rng.choice(world.craftable)
        recipe = rng.choice(world.book.recipes[item])
        batches = rng.choice((1, 1, 1, 2, 3, 1000))
        ingredients = {}
        for need, count in recipe.ingredients.items():
            options = world.book.get_items_for_tag(need[4:]) if need.startswith("tag:") else [need]
            stocked = [option for option in options if game.inventory.get(option, 0) >= count * batches]
            ingredients[rng.choice(stocked or options or ["nothing_known"])] = count * batches
        if roll > 0.9 or all(game.inventory.get(name, 0) >= count for name, count in ingredients.items()):
            break
    return ingredients, (item, recipe.result_count * batches)


def spoil(world, ingredients, item, total, rng):
    """Makes one thing of a craft wrong; now and then it stays right by chance."""
    ingredients, names = dict(ingredients), list(ingredients)
    way = rng.randrange(8)
    if way == 0:
        total += rng.choice((-1, 1, 2))
    elif way == 1:
        total = rng.choice((0, -3, 2**40))
    elif way == 2 and names:
        del ingredients[rng.choice(names)]
    elif way == 3 and names:
        ingredients[rng.choice(names)] += rng.choice((-1, 1, 5))
    elif way == 4:
        ingredients[rng.choice(world.items)] = rng.randint(1, 4)
    elif way == 5:
        ingredients[rng.choice(("nothing_known", "tag:planks", "tag:wool", ""))] = rng.randint(1, 4)
    elif way == 6:
        item = rng.choice(("nothing_known", "", rng.choice(world.items)))
    elif way == 7 and names:
        ingredients[rng.choice(names)] = rng.choice((0, -1, 2**33))
    return ingredients, item, total


def untyped(ingredients, item, total, rng):
    """A craft with one argument of another type."""
    total, counts = abs(total) + 1, {name: abs(count) + 1 for name, count in ingredients.items()}
    return rng.choice((
        {"ingredients": list(ingredients), "target": [item, total]},
        {"ingredients": None, "target": [item, total]},
        {"ingredients": {**counts, "log": 1.5}, "target": [item, total]},
        {"ingredients": {**counts, "log": "2"}, "target": [item, total]},
        {"ingredients": counts, "target": item},
        {"ingredients": counts, "target": [item]},
        {"ingredients": counts, "target": [item, str(total)]},
        {"ingredients": counts, "target": [total, item]},
        {"ingredients": counts, "target": [item, total, 1]},
    ))


def kind(found):
    """The rule that a craft ended by, for the summary."""
    return found[0] if isinstance(found[0], str) else found[0][0] if len(found) == 1 else "no recipe fits"


def facts(text):
    """The facts of their answer to a craft."""
    if match := re.fullmatch(r"Successfully crafted (\d+) (\S+)\(s\)", text):
        return ["crafted", match[2], int(match[1])]
    if match := re.fullmatch(r"Error: target count must be positive, got (-?\d+)", text):
        return ["total", int(match[1])]
    if match := re.fullmatch(r"Error: ingredient count for (.*) must be positive, got (-?\d+)", text):
        return ["amount", match[1], int(match[2])]
    if match := re.fullmatch(r"Error: No recipe found for (.*)", text):
        return ["no recipe", match[1]]
    if " must be a" in text:
        return ["type"]
    reasons = [line.partition(": ")[2] for line in text.splitlines()[1:]]
    return [reason(line) for line in reasons]


def reason(line):
    if match := re.fullmatch(r"Target count (\d+) is not divisible by recipe result count (\d+)", line):
        return ["no multiple", int(match[1]), int(match[2])]
    if match := re.fullmatch(r"No ingredient provided for (tag:\S+)\. Expected one of: \[(.*)\]", line):
        return ["none of", match[1], [name.strip("'") for name in match[2].split(", ") if name]]
    if match := re.fullmatch(r"Missing required ingredient (.*)", line):
        return ["missing", match[1]]
    if match := re.fullmatch(r"Wrong amount of (.*)\. Need (\d+), provided (\d+)", line):
        return ["wrong amount", match[1], int(match[2]), int(match[3])]
    if match := re.fullmatch(r"Extra ingredients not required: (.*)", line):
        return ["extra", match[1].split(", ")]
    if match := re.fullmatch(r"Insufficient ingredients in inventory: (.*)", line):
        short = re.findall(r"(\S+): need (\d+), have (\d+)", match[1])
        return ["too little", sorted([name, int(need), int(have)] for name, need, have in short)]
    raise Mismatch(f"an error of theirs that is not known here: {line}")


def our_facts(answer):
    """The same of ours."""
    if "value" in answer:
        match = re.fullmatch(r"Crafted (\d+) (\S+); the inventory now holds (\d+)\.", answer["value"])
        if match is None or answer["stock"].get(match[2], 0) != int(match[3]):
            raise Mismatch(f"an answer of ours that is not known here: {answer}")
        return ["crafted", match[2], int(match[1])]
    text = answer["error"]
    if match := re.fullmatch(r"the total must be at least 1, not (-?\d+)", text):
        return ["total", int(match[1])]
    if match := re.fullmatch(r"the amount of (.*) must be at least 1, not (-?\d+)", text):
        return ["amount", match[1], int(match[2])]
    if match := re.fullmatch(r"there is no recipe for (.*)", text):
        return ["no recipe", match[1]]
    if " must be " in text:
        return ["type"]
    reasons = re.sub(r"^.* was not crafted\. (Its recipe|Recipe 1): ", "", text).splitlines()
    return [our_reason(re.sub(r"^Recipe \d+: ", "", line)) for line in reasons]


def our_reason(line):
    if match := re.fullmatch(r"it makes (\d+) at a time, which (\d+) is no multiple of", line):
        return ["no multiple", int(match[2]), int(match[1])]
    if match := re.fullmatch(r"it needs \d+ of one item of (tag:[^:]+): (.*)", line):
        return ["none of", match[1], [name for name in match[2].split(", ") if name]]
    if match := re.fullmatch(r"ingredient (.*) is missing, it needs \d+", line):
        return ["missing", match[1]]
    if match := re.fullmatch(r"it needs (\d+) of (.*), not (\d+)", line):
        return ["wrong amount", match[2], int(match[1]), int(match[3])]
    if match := re.fullmatch(r"it does not need (.*)", line):
        return ["extra", match[1].split(", ")]
    if match := re.fullmatch(r"the inventory holds too little: (.*)", line):
        short = re.findall(r"(\d+) of (\S+) needed, (\d+) there", match[1])
        return ["too little", sorted([name, int(need), int(have)] for need, name, have in short)]
    raise Mismatch(f"an error of ours that is not known here: {line}")


def same(line, ours, theirs):
    if ours != theirs:
        raise Mismatch(f"{json.dumps(line)}\n  ours:   {ours}\n  theirs: {theirs}")


if __name__ == "__main__":
    sys.exit(main())
