"""What corners.py checks of products, updates and tables, in every way through 2^31 elements and more."""

from __future__ import annotations

import numpy as np
import torch

from arbitor import reference
from arbitor.conformance.draw.arrays import packed
from arbitor.conformance.judge.target import Arguments
from arbitor.conformance.operations.common import HOW
from arbitor.conformance.operations.wide.calls import COLUMNS, ROWS, K
from arbitor.conformance.operations.wide.corners import Array, Build, Wide, corners, drawn, first, last, zeros
from arbitor.reference.limits import How
from arbitor.reference.update.settle import settle

SCALE: Arguments = {"e_base": -3, "e_span": 3}
BUSY = HOW | SCALE | {
    "gain": 3 << 16, "rule": "scaled", "accum_threshold": 5, "scale_gain": 1 << 20, "e_accum_threshold": 3,
    "seed": 2**40 + 7, "step": 2**31 + 3, "tensor_id": 3,
}  # fmt: skip


def _weight(device: str, rows: int, columns: int, group_size: int, top: Array, bottom: Array) -> Arguments:
    """codes and e of trits -1 but in the corners, whose exponents are drawn; all others are e_base + 3."""
    codes = corners(zeros(device, "uint8", rows, columns // 4), packed(top), packed(bottom))
    e = zeros(device, "int8", rows, -(-columns // group_size))
    shape = (len(top), -(-top.shape[1] // group_size))
    return {"codes": codes, "e": corners(e, drawn(-3, 0, *shape), drawn(-3, 0, *shape)[::-1])}


def _weights_of(arguments: Arguments, rows: Array, columns: Array) -> Array:
    """w^ of some rows and columns, each counted from 0 or, negative, from the end."""
    size, (many, byte_columns) = arguments["group_size"], arguments["codes"].shape
    o, i = rows % many, columns % (4 * byte_columns)
    codes = arguments["codes"][torch.from_numpy(o)][:, torch.from_numpy(i // 4)].cpu().numpy()
    e = arguments["e"][torch.from_numpy(o)][:, torch.from_numpy(i // size)].cpu().numpy().astype(np.int64)
    weights: Array = ((codes >> (2 * (i % 4)) & 3).astype(np.int64) - 1) << (e + 3)
    return weights


def linear_forward(tokens: int, rows: int, columns: int, group_size: int) -> Build:
    """The first token has the first columns, the last token the last ones."""

    def build(device: str) -> Wide:
        width = min(K, columns)
        trits = drawn(-1, 1, 1, width), drawn(-1, 1, 1, width)[:, ::-1]
        q = [drawn(-127, 127, 1, width), drawn(-127, 127, 1, width)[:, ::-1]]
        arguments: Arguments = {"q_x": corners(zeros(device, "int8", tokens, columns), *q)}
        arguments |= {"e_x": zeros(device, "int8", tokens)} | SCALE | {"group_size": group_size}
        arguments |= _weight(device, rows, columns, group_size, *trits)
        found = Wide("linear_forward", arguments)
        for place, operand, i in zip((first, last), q, (np.arange(width), np.arange(-width, 0)), strict=True):
            for where, o in ((slice(0, 1), 0), (slice(-1, None), -1)):
                z = operand @ _weights_of(arguments, np.array([o]), i).T
                found.gives("y", (place(1)[0], where), z.astype(np.float32) * np.float32(2.0**-3))
        return found

    return build


def input_gradient(tokens: int, rows: int, columns: int, group_size: int) -> Build:
    """The first token has the first out-features, the last token the last ones."""

    def build(device: str) -> Wide:
        height = min(K, rows)
        trits = drawn(-1, 1, height, 4), drawn(-1, 1, height, 4)[::-1]
        q = [drawn(-127, 127, 1, height), drawn(-127, 127, 1, height)[:, ::-1]]
        arguments: Arguments = {"q_d": corners(zeros(device, "int8", tokens, rows), *q)}
        arguments |= {"e_d": zeros(device, "int8", tokens), "in_features": columns}
        arguments |= SCALE | {"group_size": group_size} | _weight(device, rows, columns, group_size, *trits)
        found = Wide("input_gradient", arguments)
        for place, operand, o in zip(
            (first, last), q, (np.arange(height), np.arange(-height, 0)), strict=True
        ):
            for where, i in ((slice(0, 4), np.arange(4)), (slice(-4, None), np.arange(-4, 0))):
                z = operand @ _weights_of(arguments, o, i)
                found.gives("dx", (place(1)[0], where), z.astype(np.float32) * np.float32(2.0**-3))
        return found

    return build


def _operands(device: str, rows: int, columns: int) -> tuple[Arguments, Array, Array]:
    """q_g and q_x of two tokens, and the two corners of their product: of the first row and of the last."""
    q_x = drawn(-127, 127, 1, K), drawn(-127, 127, 1, K)[:, ::-1]
    q_g = np.array([[101]]), np.array([[-77]])
    arguments = {"q_g": corners(zeros(device, "int8", 2, rows), *q_g)}
    arguments |= {"q_x": corners(zeros(device, "int8", 2, columns), *q_x)}
    return arguments, 101 * q_x[0], -77 * q_x[1]


def weight_gradient(device: str) -> Wide:
    arguments, top, bottom = _operands(device, ROWS, COLUMNS)
    found = Wide("weight_gradient", arguments).gives("gradient", first(1, K), top.astype(np.int32))
    return found.gives("gradient", last(1, K), bottom.astype(np.int32))


def _state(device: str, rows: int, columns: int, size: int, table: bool = False) -> Arguments:
    """Trits -1, accumulators, moments and exponents 0, but in the corners."""
    groups = -(-columns // size)
    near = -(-K // size)
    top = np.zeros((1, columns), np.int64) - 1
    top[:, :K] = drawn(-1, 1, 1, K)
    codes = zeros(device, "uint8", rows, -(-columns // 4))
    state = {"codes": corners(codes, packed(top), packed(top[:, ::-1]))}
    t_accum = drawn(-19, 19, 1, K)
    state["t_accum"] = corners(zeros(device, "int8", rows, columns), t_accum, t_accum[:, ::-1])
    e, accum = drawn(-3, 0, 1, near), drawn(-2, 2, 1, near)
    state["e"] = corners(zeros(device, "int8", rows, groups), e, e[:, ::-1])
    name, dtype = ("corr_accum", "int16") if table else ("e_accum", "int8")
    state[name] = corners(zeros(device, dtype, rows, groups), accum, accum[:, ::-1])
    moment = drawn((512 << 21) + 2**20, (513 << 21) - 1, 1, near)  # of squares about 2^20
    state["moment"] = corners(zeros(device, "int32", rows, groups), moment, moment[:, ::-1])
    state["e_g"] = zeros(device, "int8", 1 if table else rows)
    return state | ({"step_counter": zeros(device, "int32", rows)} if table else {})


def _updated(wide: Wide, top: Array, bottom: Array) -> Wide:
    """With the first and the last row after these gradients in their corners; no other row changes."""
    arguments, table = wide.arguments, "corr_accum" in wide.arguments
    rows, columns = arguments["t_accum"].shape
    accum = "corr_accum" if table else "e_accum"
    gradient = np.zeros((2, columns), np.int64)
    gradient[0, :K], gradient[1, -K:] = top[0], bottom[0]
    before = {n: arguments[n][[0, -1]].cpu().numpy() for n in ("codes", "t_accum", "e", accum, "moment")}
    trits = reference.unpack(before["codes"], columns)
    numbers = np.array([0, rows - 1])
    how = How(**{name: arguments[name] for name in HOW})
    limit = 32_767 if table else 127
    done = np.array([0, 0] if table else [how.step] * 2)
    held = (trits, before["t_accum"], before["e"], before[accum], before["moment"])
    new = settle(gradient, np.array([0, 0]), *held, done, numbers, how, limit)
    found: dict[str, Array] = {"codes": new.codes, "t_accum": new.t_accum, "e": new.e, "moment": new.moment}
    found[accum] = new.e_accum.astype(before[accum].dtype)
    for name, values in found.items():
        wide.gives(name, first(1), values[:1]).gives(name, last(1), values[1:])
    return wide.gives("counts", first(5), new.counts)


def ternary_update(columns: int, group_size: int, rule: str = "scaled") -> Build:
    def build(device: str) -> Wide:
        top, bottom = drawn(-(10**6), 10**6, 1, K), drawn(-(10**6), 10**6, 1, K)[:, ::-1]
        gradient = corners(zeros(device, "int32", ROWS, columns), top, bottom)
        arguments = {"gradient": gradient} | _state(device, ROWS, columns, group_size)
        how = BUSY | {"group_size": group_size, "rule": rule}
        return _updated(Wide("ternary_update", arguments | how, 16), top, bottom)

    return build


def linear_update(columns: int, group_size: int, rule: str = "scaled") -> Build:
    def build(device: str) -> Wide:
        arguments, top, bottom = _operands(device, ROWS, columns)
        how = BUSY | {"group_size": group_size, "rule": rule}
        arguments |= _state(device, ROWS, columns, group_size)
        return _updated(Wide("linear_update", arguments | how, 16), top, bottom)

    return build


def _rows_of(device: str, tokens: int, rows: int, columns: int) -> Arguments:
    """tokens and q of a table: the first token is row 0, all others the last row; q is 0 but in the
    corners."""
    q = drawn(-127, 127, 1, K)
    token = zeros(device, "int64", tokens)
    token[1:] = rows - 1
    return {"tokens": token, "q": corners(zeros(device, "int8", tokens, columns), q, q[:, ::-1])}


def embedding_forward(tokens: int, rows: int, columns: int, group_size: int) -> Build:
    def build(device: str) -> Wide:
        trits = drawn(-1, 1, 1, K), drawn(-1, 1, 1, K)[:, ::-1]
        arguments = {"tokens": _rows_of(device, tokens, rows, K)["tokens"], "group_size": group_size}
        arguments |= {"columns": columns} | _weight(device, rows, columns, group_size, *trits)
        found = Wide("embedding_forward", arguments)
        for place, o, i in ((first, 0, np.arange(K)), (last, -1, np.arange(-K, 0))):
            w = _weights_of(arguments, np.array([o]), i).astype(np.float32) * np.float32(2.0**-3)
            found.gives("y", place(1, K), w + np.float32(0))
        return found

    return build


def embedding_gradient(tokens: int, rows: int, columns: int) -> Build:
    def build(device: str) -> Wide:
        arguments = _rows_of(device, tokens, rows, columns) | {"rows": rows}
        found = Wide("embedding_gradient", arguments)
        for place, values in ((first, arguments["q"][:1, :K]), (last, arguments["q"][-1:, -K:])):
            found.gives("gradient", place(1, K), values.cpu().numpy().astype(np.int32))
        return found

    return build


def embedding_update(columns: int, group_size: int, rule: str = "scaled") -> Build:
    def build(device: str) -> Wide:
        arguments = _rows_of(device, 2, ROWS, columns)
        top, bottom = (arguments["q"][t : t + 1].cpu().numpy() for t in (0, 1))
        arguments |= _state(device, ROWS, columns, group_size, table=True)
        found = Wide("embedding_update", arguments | BUSY | {"group_size": group_size, "rule": rule}, 16)
        found.gives("step_counter", first(2), np.array([1, 0], np.int32))
        found.gives("step_counter", last(2), np.array([0, 1], np.int32))
        return _updated(found, top[:, :K], bottom[:, -K:])

    return build
