"""Section 6 once more, element by element with Python integers and fractions, for tests of the reference.

The random bits are the reference's own, which test_reference.py holds to known answers.
"""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np

from arbitor import reference

HOW_VALUES: dict[str, Any] = {
    "e_base": -5, "e_span": 4, "group_size": 8, "rule": "scaled", "gain": 131072, "vote_max": 16,
    "accum_threshold": 5, "scale_gain": 1 << 17, "e_accum_threshold": 3, "seed": 2**63 + 5,
    "tensor_id": 2**28 - 1, "step": 7,
}  # fmt: skip


def how(**changes: Any) -> dict[str, Any]:
    """The arguments `how` by name, with changes."""
    return HOW_VALUES | changes


def matrix(rows: int, columns: int, seed: int = 1) -> dict[str, Any]:
    """A random state within the bounds of `how`."""
    rng = np.random.default_rng(seed)
    groups = -(-columns // HOW_VALUES["group_size"])
    return {
        "codes": reference.pack(rng.integers(-1, 2, (rows, columns), dtype=np.int8)),
        "t_accum": rng.integers(-127, 128, (rows, columns), dtype=np.int8),
        "e": rng.integers(-5, 0, (rows, groups), dtype=np.int8),
        "e_accum": rng.integers(-127, 128, (rows, groups), dtype=np.int8),
        "moment": rng.integers(0, 2**31, (rows, groups), dtype=np.int32),
    }


def to_bits(value: Fraction, bits: int) -> tuple[int, int]:
    """The largest integer of so many bits and the power of two with which it is not above the value."""
    x = 0
    while value and value >= Fraction(2) ** (x + bits):
        x += 1
    while value and value < Fraction(2) ** (x + bits - 1):
        x -= 1
    return floor(value / Fraction(2) ** x), x


def adaptive(held: int, values: list[int], e_g: int, done: int, gain: int) -> tuple[int, int, int]:
    """ARB-MOM-001..003 and ARB-VOTE-005 of one group over fractions: its moment, factor and shift."""
    two = Fraction(2)
    s = max(sum(map(abs, values)).bit_length() - 15, 0)
    q = sum(((abs(g) + (1 << s >> 1)) >> s) ** 2 for g in values)
    wide, x_a = to_bits(q * two ** (2 * (s + e_g)), 31)
    a, x_a = to_bits(wide // len(values) * two**x_a, 21)
    m, x_m, c = held & 2**21 - 1, (held >> 21) - 512, min(done + 1, 128)
    top = max([x for part, x in ((m, x_m), (a, x_a)) if part], default=0)
    total = floor(m * two ** (x_m - top)) * (c - 1) + floor(a * two ** (x_a - top))
    mean, x = to_bits(total * 8 // c * two ** (top - 3), 21)
    if mean == 0 or x < -512:
        return 0, 0, 0
    y = x - 2 * e_g
    size, u = mean << y % 2, 1 << 26
    while u * u * size > 2**52:
        u = min(u - 1, (u + 2**52 // (u * size)) // 2)  # Newton's step, from above
    factor, cut = 4 * gain * u, 0
    while factor >= 2**31:
        factor, cut = factor >> 1, cut + 1
    return (x + 512) << 21 | mean, factor, min(max(26 + y // 2 - cut, 0), 62)


def update_with_integers(
    gradient: np.ndarray,
    e_g: list[int],
    state: dict[str, Any],
    done: list[int],
    rows: list[int],
    h: dict[str, Any],
    limit: int,
) -> list[int]:
    """Section 6 element by element with Python integers; the arrays of `state` hold trits and are changed."""
    columns, g = gradient.shape[1], h["group_size"]
    groups = -(-columns // g)
    stream, size = 16 * h["tensor_id"], max(rows) + 1
    bits = reference.philox(0, size * columns, h["seed"], h["step"], stream + 3) >> 16
    e_bits = reference.philox(0, size * groups, h["seed"], h["step"], stream + 4) >> 16
    counts = [0] * 5

    def sign(a: int) -> int:
        return (a > 0) - (a < 0)

    for o in rows:
        for group in range(groups):
            members = range(group * g, min(columns, group * g + g))
            values = [int(gradient[o, i]) for i in members]
            total = sum(map(abs, values))
            grow = -sum(v * int(state["trits"][o, i]) for v, i in zip(values, members, strict=True))
            factor, shift = 4 * h["gain"], (total // len(members)).bit_length()
            if h["rule"] == "adaptive":
                held = int(state["moment"][o, group])
                held, factor, shift = adaptive(held, values, e_g[o], done[o], h["gain"])
                state["moment"][o, group] = held
            for value, i in zip(values, members, strict=True):
                k = (abs(value) * factor // 2**shift + int(bits[o * columns + i])) >> 16
                vote = -sign(value) * (4 if h["rule"] == "sign" else min(k, 4 * h["vote_max"]))
                a = int(state["t_accum"][o, i]) + vote
                fires = abs(a) >= 4 * h["accum_threshold"]
                old = int(state["trits"][o, i])
                new = min(max(old + sign(a), -1), 1) if fires else old
                kept = sign(a) * (4 * h["accum_threshold"] - 1) if new == old else 0
                state["trits"][o, i], state["t_accum"][o, i] = new, kept if fires else a
                counts[0] += vote != 0
                counts[1] += fires
                counts[2] += new != old
            votes = abs(grow) * h["scale_gain"] > int(e_bits[o * groups + group]) * total
            vote = sign(grow) if votes else 0
            a = min(max(int(state["e_accum"][o, group]) + vote, -limit), limit)
            old = int(state["e"][o, group])
            if abs(a) >= h["e_accum_threshold"]:
                state["e"][o, group] = min(max(old + sign(a), h["e_base"]), h["e_base"] + h["e_span"])
                a = 0
            state["e_accum"][o, group] = a
            counts[3] += vote != 0
            counts[4] += int(state["e"][o, group]) != old
    return counts


def check_update(
    gradient: np.ndarray, e_g: list[int], state: dict[str, Any], done: list[int], h: dict[str, Any]
) -> list[int]:
    """`ternary_update` of six rows of 21 against Python integers; gives the counts."""
    expected: dict[str, Any] = {name: array.astype(object) for name, array in state.items()}
    expected["trits"] = reference.unpack(state["codes"], 21).astype(object)
    kept, exponents = gradient.copy(), np.array(e_g, np.int8)
    counts = reference.ternary_update(gradient, exponents, **state, **h)
    assert counts.dtype == np.int64
    right = update_with_integers(gradient, e_g, expected, done, list(range(6)), h, 127)
    assert counts.tolist() == right
    assert (gradient == kept).all()
    assert exponents.tolist() == e_g
    assert (reference.unpack(state["codes"], 21) == expected["trits"]).all()
    assert all((state[name] == expected[name]).all() for name in ("t_accum", "e", "e_accum", "moment"))
    return right
