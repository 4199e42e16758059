#!/usr/bin/env python3
"""Reads a trace file and prints its tree, as text that other readers can be compared with.

Written from rao-proto/SPEC.md alone, to show that the page suffices; Python 3.9 or later, standard library only.

    python3 tests/conformance/reader.py FILE...

Of several files, each is printed behind a line with its name. Exits with 1 where something in the file is not as the page says; everything before it is printed all the same.
"""

import math
import struct
import sys
import zlib

VERSION = 1
FRAME_MAX = 1 << 20
HEADER_LEN = 5
CHECKSUM_LEN = 4
PAYLOAD_MAX = FRAME_MAX - HEADER_LEN - CHECKSUM_LEN

LIMITS = ["depth", "nodes", "children", "steps", "tokens", "context"]
STATUSES = ["finished", "failed", "truncated", "timed out", "cancelled", "invalid"]
REASONS = ["parent ended", "caller"]


class Malformed(Exception):
    """A sound frame whose payload is not as the page says."""


class Payload:
    """The fields of one payload, taken off its front."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def raw(self, count):
        if len(self.data) - self.at < count:
            raise Malformed("a field runs past the payload")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self):
        return self.raw(1)[0]

    def varint(self, bits):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if value >> bits or shift > bits:
                raise Malformed("an integer out of range")
            if byte < 0x80:
                if byte == 0 and shift > 0:
                    raise Malformed("an integer longer than it need be")
                return value
            shift += 7

    def f32(self):
        return struct.unpack("<f", self.raw(4))[0]

    def bytes(self):
        return self.raw(self.varint(32))

    def text(self):
        try:
            return self.bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("a text that is not UTF-8") from error

    def option(self, field):
        present = self.u8()
        if present > 1:
            raise Malformed("an option neither 00 nor 01")
        return field() if present else None

    def choice(self, names):
        number = self.varint(32)
        if number >= len(names):
            raise Malformed("an unknown alternative")
        return names[number]

    def tokens(self):
        field, tokens = Payload(self.bytes()), []
        while field.at < len(field.data):
            tokens.append(field.varint(32))
        return tokens

    def logprobs(self):
        data = self.bytes()
        if len(data) % 4:
            raise Malformed("log-probabilities that are not whole")
        logprobs = [number for (number,) in struct.iter_unpack("<f", data)]
        if any(not math.isfinite(number) or number > 0 for number in logprobs):
            raise Malformed("a log-probability out of range")
        return logprobs

    def status(self):
        status = self.choice(STATUSES)
        return f"{status} ({self.choice(LIMITS)})" if status == "truncated" else status

    def success(self):
        success = self.f32()
        if not 0 <= success <= 1:
            raise Malformed("a success out of range")
        return success

    def limits(self):
        fields = [8, 32, 16, 16, 64, 32, 32, 32]
        return [self.u8() if bits == 8 else self.varint(bits) for bits in fields], self.option(lambda: self.varint(64))

    def budget(self):
        fields = [8, 32, 16, 16, 64]
        return [self.u8() if bits == 8 else self.varint(bits) for bits in fields], self.option(lambda: self.varint(64))


def run_opened(p):
    return {"task": p.text(), "seed": p.varint(64), "limits": p.limits(), "weights": p.varint(64)}


def spawn(p):
    node, parent = p.varint(32), p.option(lambda: p.varint(32))
    return {"node": node, "parent": parent, "depth": p.u8(), "task": p.text(), "budget": p.budget()}


def refuse(p):
    return {"node": p.varint(32), "index": p.u8(), "limit": p.choice(LIMITS)}


def observe(p):
    return {"node": p.varint(32), "tokens": p.tokens()}


def act(p):
    fields = {"node": p.varint(32), "tokens": p.tokens(), "logprobs": p.logprobs(), "weights": p.varint(64)}
    if len(fields["tokens"]) != len(fields["logprobs"]):
        raise Malformed("an act whose counts differ")
    return fields


def returned(p):
    return {"node": p.varint(32), "status": p.status(), "value": p.bytes()}


def cancel(p):
    return {"node": p.varint(32), "reason": p.choice(REASONS)}


def score(p):
    return {"node": p.varint(32), "success": p.success()}


def run_closed(p):
    return {"nodes": p.varint(32), "tokens": p.varint(64)}


def restart(p):
    return {"node": p.varint(32)}


def allow(p):
    return {"node": p.varint(32), "masks": p.bytes()}


EVENTS = [
    ("run opened", run_opened),
    ("spawn", spawn),
    ("refuse", refuse),
    ("observe", observe),
    ("act", act),
    ("return", returned),
    ("cancel", cancel),
    ("score", score),
    ("run closed", run_closed),
    ("restart", restart),
    ("allow", allow),
]


def decode(data):
    """The name and the fields of the event in a payload; None where it is unknown."""
    payload = Payload(data)
    payload.varint(64)
    number = payload.varint(32)
    if number >= len(EVENTS):
        return None
    name, fields = EVENTS[number]
    event = (name, fields(payload))
    if payload.at < len(data):
        raise Malformed("bytes after the last field")
    return event


def frame_at(data, offset):
    """The payload of the frame at this offset and the offset behind it; or None and what is wrong."""
    rest = len(data) - offset
    if data[offset] != VERSION:
        return None, f"version {data[offset]}"
    if rest < HEADER_LEN:
        return None, "torn frame"
    (length,) = struct.unpack_from("<I", data, offset + 1)
    if length > PAYLOAD_MAX:
        return None, f"length {length} is above the limit"
    end = offset + HEADER_LEN + length
    if end + CHECKSUM_LEN > len(data):
        return None, "torn frame"
    (stored,) = struct.unpack_from("<I", data, end)
    if stored != zlib.crc32(data[offset:end]):
        return None, "wrong checksum"
    return data[offset + HEADER_LEN : end], end + CHECKSUM_LEN


class Node:
    """What is printed of a node."""

    def __init__(self, depth, task, budget):
        self.depth, self.task, self.budget = depth, task, budget
        self.status = self.success = None
        self.steps = self.sampled = 0
        self.children = []

    def line(self, number):
        status = self.status or "unfinished"
        success = "" if self.success is None else f", success {self.success:.3f}"
        counts = f"{self.steps} steps, {self.sampled} tokens"
        return f'{"  " * self.depth}{number} {status}{success}, {counts}: {quoted(self.task)}\n'


class Tree:
    """A fold over events: the rules of a whole run as far as the outline relies on them."""

    def __init__(self):
        self.nodes = []

    def live(self, number):
        return number < len(self.nodes) and self.nodes[number].status is None

    def fits(self, name, event):
        if name == "spawn":
            parent = event["parent"]
            if event["node"] != len(self.nodes) or (parent is None) != (not self.nodes):
                return False
            if parent is None:
                return event["depth"] == 0
            if not self.live(parent):
                return False
            above = self.nodes[parent]
            return event["depth"] == above.depth + 1 and within(event["budget"], above.budget)
        if name == "score":
            return event["node"] < len(self.nodes) and not self.live(event["node"])
        return "node" not in event or self.live(event["node"])

    def apply(self, name, event):
        if not self.fits(name, event):
            return False
        if name == "spawn":
            self.nodes.append(Node(event["depth"], event["task"], event["budget"]))
            if event["parent"] is not None:
                self.nodes[event["parent"]].children.append(event["node"])
            return True
        node = self.nodes[event["node"]] if "node" in event else None
        if name == "act":
            node.steps += 1
            node.sampled += len(event["tokens"])
        elif name == "return":
            node.status = event["status"]
        elif name == "cancel":
            node.status = "cancelled"
        elif name == "score":
            node.success = event["success"]
        return True

    def lines(self):
        """Every node below its parent, children in the order of their spawns; a stack of its own, since a tree may be deep."""
        stack = [0] if self.nodes else []
        while stack:
            number = stack.pop()
            yield self.nodes[number].line(number)
            stack.extend(reversed(self.nodes[number].children))


def within(budget, parents):
    """Whether a child's budget has one level less than its parent was given, at least, and no more of anything else."""
    (levels, *caps), deadline = budget
    (levels_above, *caps_above), deadline_above = parents
    in_time = deadline_above is None or (deadline is not None and deadline <= deadline_above)
    return levels < levels_above and all(cap <= above for cap, above in zip(caps, caps_above)) and in_time


def quoted(text):
    """On one line: quotes, backslashes and control characters by their numbers."""
    plain = (f"\\u{{{ord(c):x}}}" if c in '"\\' or ord(c) < 0x20 or ord(c) == 0x7F else c for c in text)
    return '"' + "".join(plain) + '"'


def outline(data):
    """The tree that a trace describes, as text, and whether all of the trace was as it should be."""
    tree, errors = Tree(), []
    offset = events = skipped = 0
    while offset < len(data):
        payload, end = frame_at(data, offset)
        if payload is None:
            # What follows is not trusted.
            errors.append((offset, end))
            break
        try:
            event = decode(payload)
            if event is None:
                skipped += 1
            else:
                events += 1
                if not tree.apply(*event):
                    errors.append((offset, f"{event[0]} of node {event[1]['node']} does not fit the run"))
        except Malformed:
            errors.append((offset, "malformed payload"))
        offset = end
    sampled = sum(node.sampled for node in tree.nodes)
    deepest = max((node.depth for node in tree.nodes), default=0)
    counts = f"{len(tree.nodes)} nodes, deepest {deepest}, {sampled} tokens, {events} events, {skipped} skipped\n"
    return "".join(tree.lines()) + counts + "".join(f"at byte {at}: {what}\n" for at, what in errors), not errors


def main():
    files = sys.argv[1:]
    if not files:
        print(__doc__, file=sys.stderr)
        return 2
    whole = True
    for name in files:
        with open(name, "rb") as file:
            text, sound = outline(file.read())
        whole = whole and sound
        head = f"== {name}\n" if len(files) > 1 else ""
        sys.stdout.buffer.write((head + text).encode("utf-8"))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
