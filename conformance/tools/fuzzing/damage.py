"""What may be wrong with a file: other values at every place of its content, and other bytes."""

from __future__ import annotations

import copy
import random
from typing import Any

ESCAPES = "\x1b[2J\x1b]0;x\x07\u202e\u2066\u200f\r\n\u2028"
# what may stand in the place of any value
STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 64, 127, 255, -128, 2**15, 10**5, 10**6, 2**31 - 1, 2**31, -(2**31),
    10**9, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**19, 10**30, 10**400,
    0.5, 1.0, -0.0, 1e9, 1e308, "", "x", "0", "torch", "reference", "cpu", "cuda", "cmd:touch owned",
    "../../etc/passwd", "a" * 300, "a" * 100_000, "9" * 5000, ESCAPES, "\x00", "\udc80", "\ud83d",
    [], {}, [[]], [{}], {"": None}, [0], [1, 2], [-1], [2**62, 2**62], list(range(300)), ["x"] * 2000,
    {"dtype": "int8", "shape": [1], "data": [0]}, {str(n): n for n in range(300)},
]  # fmt: skip
TOKENS = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-", b"9" * 5000, b"[" * 3000, b"{" * 3000, b'{"a":' * 3000,
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\\", b",", b"]", b"}", b"\n", b'"\\ud800"', b"a." * 3000,
    b"PK\x05\x06", b"PK\x01\x02", b"PK\x06\x07", b"\x00" * 64, b"\x1b[2J", b"[[a]]\n", b"''' ", b'"""',
]  # fmt: skip


def changed(rng: random.Random, tree: Any) -> Any:
    """A copy with a few places changed: another value, one more, one fewer, another name of a key."""
    found = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if isinstance(found, dict | list) and found:
            _change(rng, *_place(rng, found), found)
    return found


def _place(rng: random.Random, tree: Any) -> tuple[Any, Any]:
    """A place of a tree, what holds it and its key or index there; on the way down every branch is as likely
    as any other, so that long lists take nothing away from what stands beside them."""
    while True:
        holder = tree
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        tree = holder[key]
        if not isinstance(tree, dict | list) or not tree or rng.random() < 0.2:
            return holder, key


def _change(rng: random.Random, holder: Any, key: Any, tree: Any) -> None:
    kind = rng.randrange(10)
    if kind < 6:
        holder[key] = copy.deepcopy(rng.choice(STRANGE))
    elif kind == 6:
        del holder[key]
    elif kind == 7 and isinstance(holder, dict):
        holder[rng.choice(["", "x", ESCAPES, "__class__", "a" * 300])] = holder.pop(key)
    elif kind == 7:
        holder *= rng.choice((2, 50))
    elif kind == 8:
        other, place = _place(rng, tree)
        holder[key] = copy.deepcopy(other[place])
    elif isinstance(holder[key], int) and not isinstance(holder[key], bool):
        holder[key] += rng.choice((1, -1, 2**8, 2**31))
    else:
        for _ in range(rng.choice((2, 40, 2000))):
            holder[key] = [holder[key]]


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes flipped, cut out, put in, doubled, or the end cut off."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + data[place + rng.randrange(1, 40) :]
        elif kind == 2:
            data = data[:place] + rng.choice(TOKENS) + data[place:]
        elif kind == 3:
            token = rng.choice(TOKENS)
            data = data[:place] + token + data[place + len(token) :]
        elif kind == 4:
            end = place + rng.randrange(1, 200)
            data = data[:end] + data[place:end] + data[end:]
        else:
            flipped = data[place : place + 1]
            data = data[:place] + bytes(b ^ 1 << rng.randrange(8) for b in flipped) + data[place + 1 :]
    return data
