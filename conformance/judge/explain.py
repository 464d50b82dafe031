"""Section 6 at one place: the intermediate values of an update that differs, for who looks for the step that
is wrong.

The numbers are computed here in Python integers, the random bits by the oracle; meta/test_explain.py compares
where they end with the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from arbitor.conformance.oracle.moment import mean_square, next_moment, share, unpacked
from arbitor.conformance.oracle.random_bits import SCALE_VOTES, VOTES, r16

UPDATES = ("ternary_update", "linear_update", "embedding_update")
EXPLAINED = ("codes", "t_accum", "e", "e_accum", "corr_accum", "moment")


def explained(
    operation: str,
    arguments: Mapping[str, Any],
    expected: Mapping[str, torch.Tensor],
    actual: Mapping[str, Any],
    name: str,
) -> str:
    """Lines about the first element of `name` that differs in an update, or "" where there are none."""
    if operation not in UPDATES or name not in EXPLAINED:
        return ""
    right, mine = expected[name].cpu(), actual.get(name)
    if not isinstance(mine, torch.Tensor) or mine.shape != right.shape or mine.dtype != right.dtype:
        return ""
    row, column = (int(i) for i in (right != mine.cpu()).nonzero()[0])
    if operation == "embedding_update" and not bool((arguments["tokens"] == row).any()):
        return f"  row {row} is not among the tokens: no byte of it may change\n"
    columns = arguments["t_accum"].shape[1]
    if name == "codes":
        flips = int(right[row, column]) ^ int(mine[row, column])
        column = 4 * column + next(k for k in range(4) if flips >> 2 * k & 3)
        if column >= columns:
            return f"  element {column} of row {row} is padding, which holds code 1\n"
    explain = {"codes": element, "t_accum": element, "moment": moment}.get(name, group)
    found = explain(operation, arguments, row, column)
    return "  " + ", ".join(f"{what} {value}" for what, value in found.items()) + "\n"


def element(operation: str, arguments: Mapping[str, Any], o: int, i: int) -> dict[str, Any]:
    """What section 6 computes for the weight at [o, i], by its names there, in order."""
    size, columns = arguments["group_size"], arguments["t_accum"].shape[1]
    row = _gradient(operation, arguments, o)
    start = i // size * size
    members = row[start : start + size]
    g, total = row[i], sum(map(abs, members))
    found = {"row": o, "column": i, "G": g, "S": total, "count": len(members), "rule": arguments["rule"]}
    if arguments["rule"] == "sign":
        vote = -4 * _sign(g)
    else:
        more = _share(operation, arguments, o, i // size, members)
        bits = r16(o * columns + i, *_bits(arguments, VOTES))
        k = ((abs(g) * more["factor"] >> more["shift"]) + bits) >> 16
        found |= {**more, "r16": bits, "k": k}
        vote = -_sign(g) * min(k, 4 * arguments["vote_max"])
    return found | _fired(arguments, o, i, vote)


def _fired(arguments: Mapping[str, Any], o: int, i: int, vote: int) -> dict[str, Any]:
    before, at = int(arguments["t_accum"][o, i]), 4 * arguments["accum_threshold"]
    a = before + vote
    trit = (int(arguments["codes"][o, i // 4]) >> 2 * (i % 4) & 3) - 1
    new = max(-1, min(1, trit + _sign(a))) if abs(a) >= at else trit
    kept = 0 if new != trit else _sign(a) * min(abs(a), at - 1)
    return {
        "vote": vote, "t_accum before": before, "a": a, "accum_threshold": arguments["accum_threshold"],
        "fires": "yes" if abs(a) >= at else "no", "trit before": trit, "trit": new, "t_accum": kept,
    }  # fmt: skip


def _share(
    operation: str, arguments: Mapping[str, Any], o: int, number: int, members: list[int]
) -> dict[str, Any]:
    """Factor and shift of a group of row o, and what they come from."""
    gain = arguments["gain"]
    if arguments["rule"] == "scaled":
        mean = sum(map(abs, members)) // len(members)
        return {"mean": mean, "gain": gain, "factor": 4 * gain, "shift": mean.bit_length()}
    found = moment(operation, arguments, o, number)
    factor, shift = share(found["moment"], found["e_g"], gain)
    names = ("e_g", "n_done", "moment before", "moment")
    return {name: found[name] for name in names} | {"gain": gain, "factor": factor, "shift": shift}


def moment(operation: str, arguments: Mapping[str, Any], o: int, number: int) -> dict[str, Any]:
    """What ARB-MOM makes of the moment of that group of row o, likewise."""
    size, table = arguments["group_size"], operation == "embedding_update"
    members = _gradient(operation, arguments, o)[number * size : (number + 1) * size]
    before, e_g = int(arguments["moment"][o, number]), int(arguments["e_g"][0 if table else o])
    done = int(arguments["step_counter"][o]) if table else arguments["step"]
    a, x_a = mean_square(members, e_g)
    m, x_m = unpacked(before)
    found = {
        "row": o, "group": number, "S": sum(map(abs, members)), "count": len(members), "e_g": e_g,
        "n_done": done, "a": a, "x_a": x_a, "m": m, "x_m": x_m, "moment before": before,
    }  # fmt: skip
    after = next_moment(before, (a, x_a), done) if arguments["rule"] == "adaptive" else before
    return found | {"rule": arguments["rule"], "moment": after}


def _bits(arguments: Mapping[str, Any], purpose: int) -> tuple[int, int, int]:
    """Seed, step and stream."""
    return arguments["seed"], arguments["step"], 16 * arguments["tensor_id"] + purpose


def group(operation: str, arguments: Mapping[str, Any], o: int, number: int) -> dict[str, Any]:
    """What section 6 computes for the exponent of that group of row o, likewise."""
    size, groups = arguments["group_size"], arguments["e"].shape[1]
    row = _gradient(operation, arguments, o)
    places = range(number * size, min((number + 1) * size, len(row)))
    total = sum(abs(row[i]) for i in places)
    codes = arguments["codes"][o].tolist()
    h = -sum(row[i] * ((codes[i // 4] >> 2 * (i % 4) & 3) - 1) for i in places)
    bits = r16(o * groups + number, *_bits(arguments, SCALE_VOTES))
    vote = _sign(h) if abs(h) * arguments["scale_gain"] > bits * total else 0
    name, limit = ("corr_accum", 32_767) if "corr_accum" in arguments else ("e_accum", 127)
    before = int(arguments[name][o, number])
    a = max(-limit, min(limit, before + vote))
    fires = abs(a) >= arguments["e_accum_threshold"]
    e, low = int(arguments["e"][o, number]), arguments["e_base"]
    new = max(low, min(low + arguments["e_span"], e + _sign(a))) if fires else e
    return {
        "row": o, "group": number, "S": total, "h": h, "r16": bits, "scale_gain": arguments["scale_gain"],
        "scale vote": vote, f"{name} before": before, "a": a,
        "e_accum_threshold": arguments["e_accum_threshold"], "moves": "yes" if fires else "no",
        "e before": e, "e": new, name: 0 if fires else a,
    }  # fmt: skip


def _gradient(operation: str, arguments: Mapping[str, Any], o: int) -> list[int]:
    """Row o of G."""
    if operation == "ternary_update":
        row: list[int] = arguments["gradient"][o].tolist()
        return row
    if operation == "linear_update":
        q, of_row = arguments["q_x"], arguments["q_g"][:, o]
    else:
        q, of_row = arguments["q"], (arguments["tokens"] == o)
    products: list[int] = (q.cpu().long() * of_row.cpu().long()[:, None]).sum(0).tolist()
    return products


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
