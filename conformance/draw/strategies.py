"""Arguments for every operation, legal and full of edges.

A builder takes its decisions one after another from `choose`. With Hypothesis behind `choose` it is a
strategy that shrinks; with a seeded generator it is a fixed example. Only shapes, kinds, seeds and a few
spikes are drawn; NumPy makes the arrays (arrays.py), so a draw is fast and the extremes are sure to come.
Shapes stay small enough for the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from arbitor.conformance.draw import arrays
from arbitor.conformance.draw.arrays import Array, Kinds, Shape
from arbitor.conformance.draw.extents import EXTENTS, Choose, extents, tiles_of
from arbitor.conformance.judge.target import Arguments
from arbitor.kernels.operations import OPERATIONS

Builder = Callable[[Choose], Arguments]

GROUP_SIZES = (4, 8, 12, 16, 32, 64, 1024)
THRESHOLDS = (1, 2, 31, 32, 64, 126, 127)
WORDS = (0, 1, 2**32 - 1)  # of steps and streams
SIZED = ("linear_forward", "input_gradient", "weight_gradient", "linear_update")  # of `sized_example`


def _wide(choose: Choose, edges: Sequence[int], bits: int) -> int:
    """An edge, or any number of that many bits."""
    edge = choose((*edges, None))
    if edge is not None:
        return int(edge)
    number: int = 0
    for _ in range(0, bits, 32):
        number = number << 32 | choose(range(2**32))
    return int(number % 2**bits)


def _array(choose: Choose, kinds: Kinds, shape: Shape, spikes: Sequence[int] = ()) -> Array:
    """An array of a chosen kind with up to two chosen elements overwritten, int64."""
    kind = choose(list(kinds))
    array = kinds[kind](np.random.default_rng(choose(range(2**32))), shape)
    for _ in range(choose((0, 0, 1, 2)) if spikes else 0):
        array.reshape(-1)[choose(range(array.size))] = choose(spikes)
    return array


def _tensor(array: Array, dtype: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(dtype))


def _floats(choose: Choose, shape: Shape) -> Array:
    poison = choose((False, False, True))
    return _array(choose, arrays.FLOATS, shape, arrays.FLOAT_SPIKES + poison * arrays.POISON_SPIKES)


def _float_tensor(patterns: Array) -> torch.Tensor:
    return _tensor(patterns, "uint32").view(torch.float32)


def _random(choose: Choose, first_row: bool = True) -> Arguments:
    """seed, step, stream, and first_row."""
    words = {
        "seed": _wide(choose, (0, 1, 2**32 - 1, 2**32, 2**64 - 1), 64),
        "step": _wide(choose, WORDS, 32),
        "stream": _wide(choose, WORDS, 32),
    }
    return words | ({"first_row": choose((0, 1, 7, 1000, 131_071))} if first_row else {})


def _scale(choose: Choose) -> Arguments:
    return {
        "e_base": choose((0, -26, -5, 20, 26)),
        "e_span": choose(range(7)),
        "group_size": choose(GROUP_SIZES),
    }


def _how(choose: Choose) -> Arguments:
    scale, random = _scale(choose), _random(choose, first_row=False)
    return scale | {
        "rule": choose(("scaled", "scaled", "sign")),
        "gain": choose((65_536, 0, 1, 131_072, 300_000, 2**24 - 1, 2**24)),
        "vote_max": choose((16, 1, 2, 126, 127)),
        "accum_threshold": choose(THRESHOLDS),
        "scale_gain": choose((65_536, 0, 1, 131_072, 2**20)),
        "e_accum_threshold": choose(THRESHOLDS),
        "seed": random["seed"],
        "tensor_id": _wide(choose, (0, 1, 2**28 - 1), 28),
        "step": random["step"],
    }


def _packed(trits: Array) -> torch.Tensor:
    return torch.from_numpy(arrays.packed(trits))


def _packed_dense(trits: Array) -> torch.Tensor:
    return torch.from_numpy(arrays.packed(trits, 5, 3))


def _trits(choose: Choose, rows: int, columns: int) -> Array:
    return _array(choose, arrays.TRITS, (rows, columns), (-1, 0, 1))


def _quantised(choose: Choose, *shape: int) -> torch.Tensor:
    return _tensor(_array(choose, arrays.QUANTISED, shape, (-127, 0, 127)), "int8")


def _row_exponents(choose: Choose, rows: int) -> torch.Tensor:
    return _tensor(_array(choose, arrays.ROW_EXPONENTS, (rows,), (-100, 122)), "int8")


def _exponents(choose: Choose, rows: int, columns: int, scale: Arguments) -> torch.Tensor:
    low, high = scale["e_base"], scale["e_base"] + scale["e_span"]
    kinds = {"mixed": arrays.between(low, high), "low": arrays.among(low), "high": arrays.among(high)}
    return _tensor(_array(choose, kinds, (rows, -(-columns // scale["group_size"]))), "int8")


def _state(choose: Choose, rows: int, columns: int, how: Arguments, table: bool = False) -> Arguments:
    """codes, t_accum, e, e_accum; of a table codes, t_accum, e, corr_accum, step_counter."""
    t_kinds = arrays.accumulators(how["accum_threshold"])
    state = {
        "codes": _packed(_trits(choose, rows, columns)),
        "t_accum": _tensor(_array(choose, t_kinds, (rows, columns), (-127, 127)), "int8"),
        "e": _exponents(choose, rows, columns, how),
    }
    name, dtype, limit = ("corr_accum", "int16", 32_767) if table else ("e_accum", "int8", 127)
    kinds = arrays.accumulators(how["e_accum_threshold"], limit)
    state[name] = _tensor(_array(choose, kinds, tuple(state["e"].shape), (-limit, limit)), dtype)
    if table:
        counter = arrays.among(0, 1, 2**31 - 2, 2**31 - 1)
        state["step_counter"] = _tensor(_array(choose, {"counter": counter}, (rows,)), "int32")
    return state


def _packing(name: str, pack: Callable[[Array], torch.Tensor] | None = None) -> Builder:
    def build(choose: Choose) -> Arguments:
        trits = _trits(choose, *extents(choose, "RC"))
        return {name: pack(trits), "columns": trits.shape[1]} if pack else {name: _tensor(trits, "int8")}

    return build


def _philox(choose: Choose) -> Arguments:
    first = _wide(choose, (0, 1, 2, 3, 2**34 - 5, 2**61 + 3, 2**62), 61)
    return {"first": first, "count": choose(EXTENTS)} | _random(choose, first_row=False)


def _initialise(choose: Choose) -> Arguments:
    rows, columns = extents(choose, "OI")
    how = _how(choose)
    return {
        "out_features": rows,
        "in_features": columns,
        "seed": how["seed"],
        "tensor_id": how["tensor_id"],
    }


def _quantise_nearest(choose: Choose) -> Arguments:
    rows, columns = extents(choose, "RC")
    return {"x": _float_tensor(_floats(choose, (rows, columns)))}


def _quantise_stochastic(choose: Choose) -> Arguments:
    return _quantise_nearest(choose) | _random(choose)


def _quantise_columns(choose: Choose) -> Arguments:
    columns, rows = extents(choose, "OT")
    dy = _float_tensor(_floats(choose, (columns, rows)).T)
    return {"dy": dy, "e_x": _row_exponents(choose, rows)} | _random(choose)


def _linear_forward(choose: Choose) -> Arguments:
    rows, columns, tokens = extents(choose, "OIT")
    scale = _scale(choose)
    return {
        "q_x": _quantised(choose, tokens, columns),
        "e_x": _row_exponents(choose, tokens),
        "codes": _packed(_trits(choose, rows, columns)),
        "e": _exponents(choose, rows, columns, scale),
    } | scale


def _input_gradient(choose: Choose) -> Arguments:
    rows, columns, tokens = extents(choose, "OIT")
    scale = _scale(choose)
    return {
        "q_d": _quantised(choose, tokens, rows),
        "e_d": _row_exponents(choose, tokens),
        "codes": _packed(_trits(choose, rows, columns)),
        "e": _exponents(choose, rows, columns, scale),
    } | (scale | {"in_features": columns})


def _weight_gradient(choose: Choose) -> Arguments:
    rows, columns, tokens = extents(choose, "OIT")
    return {"q_g": _quantised(choose, tokens, rows), "q_x": _quantised(choose, tokens, columns)}


def _ternary_update(choose: Choose) -> Arguments:
    rows, columns = extents(choose, "OI")
    how = _how(choose)
    kinds = arrays.gradients(how["group_size"])
    gradient = _array(choose, kinds, (rows, columns), (-arrays.INT32_MAX, 0, arrays.INT32_MAX))
    return {"gradient": _tensor(gradient, "int32")} | _state(choose, rows, columns, how) | how


def _linear_update(choose: Choose) -> Arguments:
    rows, columns, tokens = extents(choose, "OIT")
    how = _how(choose)
    operands = {"q_g": _quantised(choose, tokens, rows), "q_x": _quantised(choose, tokens, columns)}
    return operands | _state(choose, rows, columns, how) | how


def _tokens(choose: Choose, tokens: int, rows: int) -> torch.Tensor:
    kinds = {
        "mixed": arrays.between(0, rows - 1),
        "last": arrays.among(rows - 1),
        "ends": arrays.among(0, rows - 1),
    }
    return _tensor(_array(choose, kinds, (tokens,)), "int64")


def _embedding_forward(choose: Choose) -> Arguments:
    rows, columns, tokens = extents(choose, "VCT")
    scale = _scale(choose)
    return {
        "tokens": _tokens(choose, tokens, rows),
        "codes": _packed(_trits(choose, rows, columns)),
        "e": _exponents(choose, rows, columns, scale),
        "group_size": scale["group_size"],
        "columns": columns,
    }


def _embedding_gradient(choose: Choose) -> Arguments:
    rows, columns, tokens = extents(choose, "VCT")
    return {"tokens": _tokens(choose, tokens, rows), "q": _quantised(choose, tokens, columns), "rows": rows}


def _embedding_update(choose: Choose) -> Arguments:
    rows, columns, tokens = extents(choose, "VCT")
    how = _how(choose)
    operands = {"tokens": _tokens(choose, tokens, rows), "q": _quantised(choose, tokens, columns)}
    return operands | _state(choose, rows, columns, how, table=True) | how


BUILDERS: dict[str, Builder] = {
    "pack": _packing("trits"),
    "unpack": _packing("codes", _packed),
    "pack_dense": _packing("trits"),
    "unpack_dense": _packing("dense", _packed_dense),
    "philox": _philox,
    "initialise": _initialise,
    "quantise_nearest": _quantise_nearest,
    "quantise_nearest_both": _quantise_nearest,
    "quantise_stochastic": _quantise_stochastic,
    "quantise_columns": _quantise_columns,
    "linear_forward": _linear_forward,
    "input_gradient": _input_gradient,
    "weight_gradient": _weight_gradient,
    "ternary_update": _ternary_update,
    "linear_update": _linear_update,
    "embedding_forward": _embedding_forward,
    "embedding_gradient": _embedding_gradient,
    "embedding_update": _embedding_update,
}


@st.composite
def arguments_of(draw: st.DrawFn, operation: str) -> Arguments:
    """Hypothesis strategy: the arguments of one legal call, by name, around the tiles that are declared."""

    def choose(options: Sequence[Any]) -> Any:
        if isinstance(options, range):
            return draw(st.integers(options[0], options[-1]))
        return draw(st.sampled_from(options))

    vars(choose)["tiles"] = tiles_of(operation)
    return _in_order(operation, BUILDERS[operation](choose))


def example(operation: str, seed: int) -> Arguments:
    """The arguments of one legal call, a fixed one for every seed."""
    rng = np.random.default_rng(seed)
    return _in_order(operation, BUILDERS[operation](lambda options: options[int(rng.integers(len(options)))]))


def sized_example(operation: str, seed: int, sizes: Sequence[int], group_size: int) -> Arguments:
    """As `example`, for a linear operation with O, I, T = `sizes` and that group size: larger than what the
    oracle could judge."""
    rng = np.random.default_rng(seed)
    asked = iter(sizes)  # a linear operation chooses its extents first

    def choose(options: Sequence[Any]) -> Any:
        size = next(asked, None)
        if size is not None:
            return size
        return group_size if options is GROUP_SIZES else options[int(rng.integers(len(options)))]

    return _in_order(operation, BUILDERS[operation](choose))


def _in_order(operation: str, arguments: Arguments) -> Arguments:
    return {name: arguments[name] for name in OPERATIONS[operation].arguments}
