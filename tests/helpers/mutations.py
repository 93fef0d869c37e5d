"""Hostile versions of what users give: files, nested values and texts, changed at random."""

from __future__ import annotations

import copy
import datetime
import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Generator = np.random.Generator

_DEEP: Any = "bottom"
for _ in range(60):
    _DEEP = [_DEEP]

JUNK: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 10**6, 10**18, 2**70, -(2**63), 0.0, -0.5, 0.3, 1.5, 1e-300, 1e308,
    float("inf"), float("-inf"), float("nan"), "", " ", "x", "a" * 5000, "../../outside", "/no/such/folder", ".",
    "\x00", "a\nb", "é√日", "[red]", "%s{0}", "${HOME}", "${NO_SUCH_VARIABLE}", "${", "1e-4", "none", "all", "1/0",
    "0/1", "-3", "1/16", "99999999", "official:1/16", "train", [], [[]], {}, [None], [1, "a", None], {"a": {"b": []}},
    {"name": "fixmatch"}, {1: 2}, {"": ""}, [1, 2, 3, 4], [8, 8, 8, 8], [0.5, 0.1], datetime.date(2020, 1, 1),
    b"\x00\xff", _DEEP,
)  # fmt: skip
"""What stands where something else was expected."""

LINES: tuple[str, ...] = (
    "- x", "x: [", "x: {", "\tx: 1", "x: *nowhere", "x: &a [*a, *a]", "x: &a {b: *a}", "<<: {train: 1}", "<<: 3",
    "? [1, 2]\n: 3", "x: !!python/object/apply:os.system ['touch escaped']", "x: !!python/name:os.system",
    "x: !!binary x", "x: !!set {a, b}", "x: !custom 1", "x: .inf", "x: .nan", "x: 0x7fffffffffffffff",
    "x: 1_000_000_000_000_000_000_000", "x: 2001-99-99", "x: 2020-01-01T00:00:00Z", "task: seg", "data:",
    "train: train", "...", "---", "%YAML 9.9", "\x00", "x: 190:20:30", "'", '"', "|", "[" * 400, "{a: " * 200,
    "x: 'é√日'", "\ufeff", "x: ~", "~: x", "1: 2", "null: 1", "#", "x: !!timestamp 3",
)  # fmt: skip
"""Lines that do not belong into a YAML file."""

FIELDS = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""What stands in the fields of a broken header."""


def pick(rng: Generator, items: Sequence[Any]) -> Any:
    """One of them, as it is (numpy would make an array of nested ones)."""
    return items[int(rng.integers(len(items)))]


# ---------------------------------------------------------------------------------------------------------------- files


def damaged(rng: Generator, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The content after one to four faults; now and then nothing at all, or the content of another file."""
    first = rng.random()
    if first < 0.01:
        return b""
    if others and first < 0.05:
        return bytes(pick(rng, others))
    for _ in range(int(rng.integers(1, 5))):
        content = pick(rng, _FAULTS)(rng, content)
    return content


def sealed(path: Path) -> Path:
    """A checkpoint with the checksum of what it holds now, as if it had been written so."""
    content = path.read_bytes()
    content = content[:-40] if content[-40:-32] == b"semikit1" else content
    path.write_bytes(content + b"semikit1" + hashlib.sha256(content).digest())
    return path


def _flipped(rng: Generator, content: bytes) -> bytes:
    raw = bytearray(content)
    for place in rng.integers(0, len(raw) or 1, int(rng.integers(1, 9))) if raw else ():
        raw[place] ^= 1 << int(rng.integers(8))
    return bytes(raw)


def _cut(rng: Generator, content: bytes) -> bytes:
    return content[: int(rng.integers(0, len(content) + 1))]


def _inserted(rng: Generator, content: bytes) -> bytes:
    at = int(rng.integers(0, len(content) + 1))
    return content[:at] + rng.bytes(int(rng.integers(1, 40))) + content[at:]


def _removed(rng: Generator, content: bytes) -> bytes:
    at = int(rng.integers(0, len(content) + 1))
    return content[:at] + content[at + int(rng.integers(1, 40)) :]


def _doubled(rng: Generator, content: bytes) -> bytes:
    at, size = int(rng.integers(0, len(content) + 1)), int(rng.integers(1, 200))
    return content[: at + size] + content[at:]


def _blank(rng: Generator, content: bytes) -> bytes:
    at, size = int(rng.integers(0, len(content) + 1)), int(rng.integers(1, 64))
    return (content[:at] + bytes([int(rng.choice([0, 255]))]) * size + content[at + size :])[: len(content)]


def _field(rng: Generator, content: bytes) -> bytes:
    """Another number in the first 200 bytes, of 1, 2, 4 or 8 bytes and either order."""
    code = str(rng.choice(list("BHIQ")))
    order = str(rng.choice(["<", ">"]))
    size = struct.calcsize(code)
    at = int(rng.integers(0, max(1, min(200, len(content) - size))))
    value = int(rng.choice(FIELDS)) & ((1 << (8 * size)) - 1)
    return content[:at] + struct.pack(order + code, value) + content[at + size :]


_FAULTS: tuple[Callable[[Generator, bytes], bytes], ...] = (
    _flipped, _flipped, _cut, _inserted, _removed, _doubled, _blank, _field, _field,
)  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- values


def altered(rng: Generator, value: Any) -> Any:
    """Nested plain values after one to three changes: a key dropped, misspelt, wrapped; another type or value."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        found = list(places(value))
        if not found:
            return pick(rng, JUNK)
        owner, key = pick(rng, found)
        pick(rng, _CHANGES)(rng, owner, key)
    return value


def places(value: Any) -> Any:
    """(container, key or number) of everything inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield value, key
        yield from places(item)


def _replaced(rng: Generator, owner: Any, key: Any) -> None:
    owner[key] = copy.deepcopy(pick(rng, JUNK))  # later changes must not change it here


def _dropped(rng: Generator, owner: Any, key: Any) -> None:
    del owner[key]


def _renamed(rng: Generator, owner: Any, key: Any) -> None:
    if isinstance(owner, dict):
        owner[pick(rng, (f"{key}s", str(key)[1:], str(key).upper(), 5, None, True))] = owner.pop(key)


def _moved(rng: Generator, owner: Any, key: Any) -> None:
    """Wrapped, or turned into another type that looks alike."""
    item = owner[key]
    owner[key] = pick(rng, ([item], {"x": item}, [item, item], str(item), {str(key): item}))


def _scaled(rng: Generator, owner: Any, key: Any) -> None:
    if isinstance(owner[key], (int, float)):
        owner[key] = owner[key] * pick(rng, (-1, 0, 0.5, 2, 10, 1000, 10**9))
    else:
        _replaced(rng, owner, key)


_CHANGES: tuple[Callable[[Generator, Any, Any], None], ...] = (
    _replaced,
    _replaced,
    _dropped,
    _renamed,
    _moved,
    _scaled,
)


# ---------------------------------------------------------------------------------------------------------------- texts


def garbled(rng: Generator, text: str) -> bytes:
    """A text after one to four changes of lines and characters; now and then of its bytes."""
    lines = text.splitlines()
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(lines) + 1))
        line = lines[at] if at < len(lines) else ""
        kind = int(rng.integers(7))
        if kind == 0:
            lines.insert(at, pick(rng, LINES))
        elif kind == 1:
            lines[at : at + 1] = []
        elif kind == 2:
            lines.insert(at, line)
        elif kind == 3:
            lines[at : at + 1] = [" " * int(rng.integers(1, 5)) + line]
        elif kind == 4:
            lines[at : at + 1] = [line.partition(":")[0] + ": " + pick(rng, LINES)]
        elif kind == 5:
            place = int(rng.integers(0, len(line) + 1))
            lines[at : at + 1] = [
                line[:place] + str(pick(rng, ("\t", ":", "'", "{", "]", ",", "\x07", "é", "\u2028"))) + line[place:]
            ]
        else:
            lines[at : at + 1] = [line.strip()]
    content = pick(rng, ("\n", "\n", "\n", "\r\n", "\r")).join(lines).encode("utf-8", "surrogatepass")
    return damaged(rng, content) if rng.random() < 0.15 else content
