"""What each operation is called with: a builder for each takes its decisions one after another (draws.py)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from arbitor.conformance.draw import arrays
from arbitor.conformance.draw.arrays import Array
from arbitor.conformance.draw.draws import Draws
from arbitor.conformance.draw.extents import EXTENTS
from arbitor.conformance.draw.sequences import SEQUENCES
from arbitor.conformance.judge.target import Arguments

Builder = Callable[[Draws], Arguments]

LONG_GROUPS = (260, 772, 1020)  # no powers of two, and longer than a block of threads
GROUP_SIZES = (4, 8, 12, 16, 32, 64, 1024, *LONG_GROUPS)
THRESHOLDS = (1, 2, 31, 32, 64, 126, 127)
VOTE_THRESHOLDS = (1, 2, 8, 16, 31, 32)
STEPS = (0, 1, 126, 127, 128, 2**31)  # from 127 on a moment has its whole memory


def _seed(draws: Draws) -> int:
    return draws.integer("seed", 0, 1, 2**32 - 1, 2**32)


def _step(draws: Draws) -> int:
    return draws.integer("step", *STEPS)


def _random(draws: Draws, first_row: bool = True) -> Arguments:
    """seed, step, stream, and first_row."""
    stream = {"seed": _seed(draws), "step": _step(draws), "stream": draws.integer("stream", 0, 1, 2**31)}
    return stream | ({"first_row": draws.integer("first_row", 0, 1, 7, 1000)} if first_row else {})


def _scale(draws: Draws) -> Arguments:
    return {
        "e_base": draws.integer("e_base", 0, -5, 20),
        "e_span": draws.integer("e_span", *range(7)),
        "group_size": draws.integer("group_size", *GROUP_SIZES),
    }


def _how(draws: Draws) -> Arguments:
    return _scale(draws) | {
        "rule": draws.fixed.get("rule") or draws.choose(("scaled", "adaptive", "adaptive", "sign")),
        "gain": draws.integer("gain", 65_536, 0, 1, 131_072, 300_000, 2**22 - 1),
        "vote_max": draws.integer("vote_max", 16, 1, 2, 31),
        "accum_threshold": draws.integer("accum_threshold", *VOTE_THRESHOLDS),
        "scale_gain": draws.integer("scale_gain", 65_536, 0, 1, 131_072),
        "e_accum_threshold": draws.integer("e_accum_threshold", *THRESHOLDS),
        "seed": _seed(draws),
        "tensor_id": draws.integer("tensor_id", 0, 1),
        "step": _step(draws),
    }


def _trits(draws: Draws, name: str, rows: int, columns: int) -> torch.Tensor:
    return draws.tensor(name, arrays.TRITS, (rows, columns), (0,))


def _quantised(draws: Draws, name: str, *shape: int) -> torch.Tensor:
    return draws.tensor(name, arrays.QUANTISED, shape, (0,))


def _row_exponents(draws: Draws, name: str, rows: int) -> torch.Tensor:
    return draws.tensor(name, arrays.ROW_EXPONENTS, (rows,), (122,))


def _exponents(draws: Draws, rows: int, columns: int) -> torch.Tensor:
    groups = -(-columns // draws.known["group_size"])
    return draws.tensor("e", {"mixed": arrays.between(*draws.ends("e"))}, (rows, groups))


def _weight(draws: Draws, rows: int, columns: int) -> Arguments:
    return {"codes": _trits(draws, "codes", rows, columns), "e": _exponents(draws, rows, columns)}


def _state(draws: Draws, gradient: Array, how: Arguments, table: bool = False) -> Arguments:
    """e_g of a gradient [O, I], and codes, t_accum, e, e_accum and moment; of a table corr_accum in the place
    of e_accum, and step_counter."""
    rows, columns = gradient.shape
    kinds = arrays.accumulators(4 * how["accum_threshold"])
    e_kinds = arrays.accumulators(how["e_accum_threshold"])
    e_g = draws.tensor("e_g", arrays.GRADIENT_EXPONENTS, (1 if table else rows,), (0,))
    state: Arguments = {"e_g": e_g, "codes": _trits(draws, "codes", rows, columns)}
    state["t_accum"] = draws.tensor("t_accum", kinds, (rows, columns))
    state["e"] = _exponents(draws, rows, columns)
    name = "corr_accum" if table else "e_accum"
    state[name] = draws.tensor(name, e_kinds, tuple(state["e"].shape))
    squares = arrays.log_squares(gradient, np.broadcast_to(e_g.numpy(), (rows,)), how["group_size"])
    state["moment"] = draws.tensor("moment", arrays.moments(squares), tuple(state["e"].shape), (0,))
    if table:
        counts = {"mixed": arrays.among(0, 1, 126, 127, 128, 2**31 - 2, 2**31 - 1)}
        state["step_counter"] = draws.tensor("step_counter", counts, (rows,))
    return state


def _packing(name: str) -> Builder:
    """The one array that a packing operation has, and its columns where they are an argument."""

    def build(draws: Draws) -> Arguments:
        rows, columns = draws.extents("RC")
        return {name: _trits(draws, name, rows, columns)} | ({"columns": columns} if name != "trits" else {})

    return build


def _philox(draws: Draws) -> Arguments:
    first = draws.integer("first", 0, 1, 2, 3, 2**31 - 2, 2**33 - 2, 2**34 - 5, 2**61 + 3)
    count = draws.fixed.get("count", 1 if "count" in draws.at else draws.choose(EXTENTS))
    return {"first": first, "count": count} | _random(draws, first_row=False)


def _initialise(draws: Draws) -> Arguments:
    rows, columns = draws.extents("OI")
    numbers = {"seed": _seed(draws), "tensor_id": draws.integer("tensor_id", 0, 1)}
    return {"out_features": rows, "in_features": columns} | numbers


def _quantise_nearest(draws: Draws) -> Arguments:
    rows, columns = draws.extents("RC")
    return {"x": draws.stored("x", draws.floats("x", (rows, columns)))}


def _quantise_stochastic(draws: Draws) -> Arguments:
    return _quantise_nearest(draws) | _random(draws)


def _quantise_columns(draws: Draws) -> Arguments:
    columns, rows = draws.extents("OT")
    dy = draws.stored("dy", draws.floats("dy", (columns, rows)).T)
    return {"dy": dy, "e_x": _row_exponents(draws, "e_x", rows)} | _random(draws)


def _two_of_rows(*names: str) -> Builder:
    """Two arrays of floats of one shape."""

    def build(draws: Draws) -> Arguments:
        rows, columns = draws.extents("RC")
        return {name: draws.stored(name, draws.floats(name, (rows, columns))) for name in names}

    return build


def _softmax_backward(draws: Draws) -> Arguments:
    rows, columns = draws.extents("RC")
    dp = draws.stored("dp", draws.floats("dp", (rows, columns)))
    return {"dp": dp, "p": draws.tensor("p", arrays.PROBABILITIES, (rows, columns), arrays.POISON_SPIKES)}


def _cross_entropy(draws: Draws) -> Arguments:
    rows, columns = draws.extents("TC")
    x = draws.stored("x", draws.floats("x", (rows, columns)))
    draws.known["x"] = x
    return {
        "x": x,
        "targets": draws.tensor("targets", {"mixed": arrays.between(*draws.ends("targets"))}, (rows,)),
    }


def _linear_forward(draws: Draws) -> Arguments:
    scale = _scale(draws)
    rows, columns, tokens = draws.extents("OIT", "I")
    operand = {"q_x": _quantised(draws, "q_x", tokens, columns), "e_x": _row_exponents(draws, "e_x", tokens)}
    return operand | _weight(draws, rows, columns) | scale


def _input_gradient(draws: Draws) -> Arguments:
    scale = _scale(draws)
    rows, columns, tokens = draws.extents("OIT", "I")
    operand = {"q_d": _quantised(draws, "q_d", tokens, rows), "e_d": _row_exponents(draws, "e_d", tokens)}
    return operand | _weight(draws, rows, columns) | (scale | {"in_features": columns})


def _operands(draws: Draws, rows: int, columns: int, tokens: int) -> Arguments:
    return {"q_g": _quantised(draws, "q_g", tokens, rows), "q_x": _quantised(draws, "q_x", tokens, columns)}


def _weight_gradient(draws: Draws) -> Arguments:
    return _operands(draws, *draws.extents("OIT"))


def _ternary_update(draws: Draws) -> Arguments:
    how = _how(draws)
    rows, columns = draws.extents("OI", "I")
    kinds = arrays.gradients(how["group_size"], *draws.ends("gradient"))
    gradient = draws.tensor("gradient", kinds, (rows, columns), (0,))
    return {"gradient": gradient} | _state(draws, gradient.numpy(), how) | how


def _linear_update(draws: Draws) -> Arguments:
    how = _how(draws)
    operands = _operands(draws, *draws.extents("OIT", "I"))
    q_g, q_x = (operands[name].numpy().astype(np.float64) for name in ("q_g", "q_x"))
    return operands | _state(draws, q_g.T @ q_x, how) | how


def _tokens(draws: Draws, tokens: int) -> torch.Tensor:
    return draws.tensor("tokens", {"mixed": arrays.between(*draws.ends("tokens"))}, (tokens,))


def _embedding_forward(draws: Draws) -> Arguments:
    group_size = draws.integer("group_size", *GROUP_SIZES)
    rows, columns, tokens = draws.extents("VCT", "C")
    found = {"tokens": _tokens(draws, tokens)} | _weight(draws, rows, columns)
    return found | {"group_size": group_size, "columns": columns}


def _embedding_gradient(draws: Draws) -> Arguments:
    rows, columns, tokens = draws.extents("VCT")
    return {
        "tokens": _tokens(draws, tokens),
        "q": _quantised(draws, "q", tokens, columns),
        "rows": rows,
    }


def _embedding_update(draws: Draws) -> Arguments:
    how = _how(draws)
    rows, columns, tokens = draws.extents("VCT", "C")
    operands = {"tokens": _tokens(draws, tokens), "q": _quantised(draws, "q", tokens, columns)}
    gradient = np.zeros((rows, columns), np.int64)
    np.add.at(gradient, operands["tokens"].numpy(), operands["q"].numpy())
    return operands | _state(draws, gradient, how, table=True) | how


def _digest(draws: Draws) -> Arguments:
    rows, columns = draws.extents("RC")
    return {
        "words": draws.tensor("words", arrays.WORDS, (rows, columns), (0,)),
        "first": draws.tensor("first", arrays.FIRST_PLACES, (rows,), (0, -1)),
    }


BUILDERS: dict[str, Builder] = {
    "pack": _packing("trits"),
    "unpack": _packing("codes"),
    "pack_dense": _packing("trits"),
    "unpack_dense": _packing("dense"),
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
    "norm": _quantise_nearest,
    "norm_backward": _two_of_rows("dy", "x"),
    "dot": _two_of_rows("a", "b"),
    "softmax": _quantise_nearest,
    "softmax_backward": _softmax_backward,
    "sigmoid": _quantise_nearest,
    "cross_entropy": _cross_entropy,
    "squared_error": _two_of_rows("x", "y"),
    **SEQUENCES,
    "digest": _digest,
}
