"""The table of operations: what every backend provides, under which name, on which arrays.

A backend is any module that has these functions (docs/SPEC.md section 11). The table is the only place that
knows their dtypes and shapes; the host-side checks, the adapters for NumPy and list backends, the conformance
suite and `arbitor doctor` all read it.

A shape is a string of extents: a letter is bound by the first array (or integer argument) that shows it,
`I/4` is ceil(I/4), and a number is itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Array:
    """One array argument or result: its name, dtype, symbolic shape, and whether the operation writes it in
    place."""

    name: str
    dtype: str
    shape: str
    in_place: bool = False

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The extents of the shape, one an axis."""
        return tuple(self.shape.split())


@dataclass(frozen=True)
class Operation:
    """One operation: arrays first, then integers (and the rule's name), in the order of the call."""

    name: str
    arrays: tuple[Array, ...]
    scalars: tuple[str, ...]
    results: tuple[Array, ...]

    @cached_property
    def family(self) -> str:
        """The folder that its file is in, under the same name in every backend and in the suite."""
        return next(family for family, names in FAMILIES.items() if self.name in names.split())

    @property
    def max_tokens(self) -> int:
        """The most tokens T of a call (ARB-STATE-005)."""
        return MAX_SUMMED_TOKENS if self.name in SUMS_OF_PRODUCTS else MAX_TOKENS

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """Names of all arguments in call order."""
        return (*(array.name for array in self.arrays), *self.scalars)


# name: (lowest, highest) of each integer argument, both allowed (ARB-STATE-005, ARB-VOTE-004, ARB-FIRE-003,
# ARB-SCALE-003)
SCALAR_RANGES: dict[str, tuple[int, int]] = {
    "columns": (1, 2**31 - 1),
    "rows": (1, 2**31 - 1),
    "out_features": (1, 2**31 - 1),
    "in_features": (1, 2**31 - 1),
    "first": (0, 2**62),
    "count": (1, 2**40),
    "first_row": (0, 2**20),
    "seed": (0, 2**64 - 1),
    "step": (0, 2**32 - 1),
    "stream": (0, 2**32 - 1),
    "tensor_id": (0, 2**28 - 1),
    "e_base": (-26, 26),
    "e_span": (0, 6),
    "group_size": (4, 1024),
    "gain": (0, 2**22),
    "vote_max": (1, 32),
    "accum_threshold": (1, 32),
    "scale_gain": (0, 2**20),
    "e_accum_threshold": (1, 127),
    "window": (0, 2**31 - 1),
}
RULES = ("scaled", "sign", "adaptive")
# sections 2 to 7 of the specification, 13 and 14
FAMILIES: dict[str, str] = {
    "packing": "pack unpack pack_dense unpack_dense",
    "random_bits": "philox initialise",
    "quantise": "quantise_nearest quantise_nearest_both quantise_stochastic quantise_columns",
    "linear": "linear_forward input_gradient weight_gradient",
    "update": "ternary_update linear_update",
    "embedding": "embedding_forward embedding_gradient embedding_update",
    "rows": "norm norm_backward dot",
    "losses": "softmax softmax_backward sigmoid cross_entropy squared_error",
    "sequences": "heads heads_backward attention attention_backward",
    "digests": "digest",
}
# what ternary layers call; ARBModel and its trainers call the rest too
OF_LAYERS = tuple(
    name
    for family, names in FAMILIES.items()
    if family not in ("rows", "losses", "sequences", "digests")
    for name in names.split()
)
MAX_TOKENS = 2**20  # of an update, and of a call
MAX_SUMMED_TOKENS = 131_071  # of a call that sums products of two of -127..127 over them, in int32
SUMS_OF_PRODUCTS = ("weight_gradient", "linear_update")
INT32_MAX = 2**31 - 1

# integer arguments that bind a letter of the shapes
EXTENT_OF = {"columns": "C", "rows": "V", "in_features": "I", "group_size": "g"}

_HOW = [
    "e_base",
    "e_span",
    "group_size",
    "rule",
    "gain",
    "vote_max",
    "accum_threshold",
    "scale_gain",
    "e_accum_threshold",
    "seed",
    "tensor_id",
    "step",
]
_STATE = (
    Array("codes", "uint8", "O I/4", True),
    Array("t_accum", "int8", "O I", True),
    Array("e", "int8", "O I/g", True),
    Array("e_accum", "int8", "O I/g", True),
    Array("moment", "int32", "O I/g", True),
)
_COUNTS = (Array("counts", "int64", "5"),)
_ANGLES = (Array("cos", "int16", "P H"), Array("sin", "int16", "P H"))
_ATTENDED = (Array("q", "int8", "B A N D"), Array("k", "int8", "B S N D"), Array("v", "int8", "B S N D"))
_QUANTISED = (Array("q", "int8", "R C"), Array("exponents", "int8", "R"))


def _operation(name: str, arrays: tuple[Array, ...], scalars: str, results: tuple[Array, ...]) -> Operation:
    return Operation(name, arrays, tuple(scalars.split()), results)


_TABLE = (
    _operation("pack", (Array("trits", "int8", "R C"),), "", (Array("codes", "uint8", "R C/4"),)),
    _operation("unpack", (Array("codes", "uint8", "R C/4"),), "columns", (Array("trits", "int8", "R C"),)),
    _operation("pack_dense", (Array("trits", "int8", "R C"),), "", (Array("dense", "uint8", "R C/5"),)),
    _operation(
        "unpack_dense", (Array("dense", "uint8", "R C/5"),), "columns", (Array("trits", "int8", "R C"),)
    ),
    _operation("philox", (), "first count seed step stream", (Array("words", "int64", "count"),)),
    _operation(
        "initialise", (), "out_features in_features seed tensor_id", (Array("codes", "uint8", "O I/4"),)
    ),
    _operation("quantise_nearest", (Array("x", "float32", "R C"),), "", _QUANTISED),
    _operation(
        "quantise_nearest_both",
        (Array("x", "float32", "R C"),),
        "",
        (Array("q", "int8", "R C"), Array("q_t", "int8", "C R"), Array("exponents", "int8", "R")),
    ),
    _operation(
        "quantise_stochastic", (Array("x", "float32", "R C"),), "seed step stream first_row", _QUANTISED
    ),
    _operation(
        "quantise_columns",
        (Array("dy", "float32", "T O"), Array("e_x", "int8", "T")),
        "seed step stream first_row",
        (Array("q", "int8", "T O"), Array("exponents", "int8", "O")),
    ),
    _operation(
        "linear_forward",
        (
            Array("q_x", "int8", "T I"),
            Array("e_x", "int8", "T"),
            Array("codes", "uint8", "O I/4"),
            Array("e", "int8", "O I/g"),
        ),
        "e_base e_span group_size",
        (Array("y", "float32", "T O"),),
    ),
    _operation(
        "input_gradient",
        (
            Array("q_d", "int8", "T O"),
            Array("e_d", "int8", "T"),
            Array("codes", "uint8", "O I/4"),
            Array("e", "int8", "O I/g"),
        ),
        "e_base e_span group_size in_features",
        (Array("dx", "float32", "T I"),),
    ),
    _operation(
        "weight_gradient",
        (Array("q_g", "int8", "T O"), Array("q_x", "int8", "T I")),
        "",
        (Array("gradient", "int32", "O I"),),
    ),
    Operation(
        "ternary_update",
        (Array("gradient", "int32", "O I"), Array("e_g", "int8", "O"), *_STATE),
        tuple(_HOW),
        _COUNTS,
    ),
    Operation(
        "linear_update",
        (Array("q_g", "int8", "T O"), Array("e_g", "int8", "O"), Array("q_x", "int8", "T I"), *_STATE),
        tuple(_HOW),
        _COUNTS,
    ),
    _operation(
        "embedding_forward",
        (Array("tokens", "int64", "T"), Array("codes", "uint8", "V C/4"), Array("e", "int8", "V C/g")),
        "group_size columns",
        (Array("y", "float32", "T C"),),
    ),
    _operation(
        "embedding_gradient",
        (Array("tokens", "int64", "T"), Array("q", "int8", "T C")),
        "rows",
        (Array("gradient", "int32", "V C"),),
    ),
    Operation(
        "embedding_update",
        (
            Array("tokens", "int64", "T"),
            Array("q", "int8", "T C"),
            Array("e_g", "int8", "1"),
            Array("codes", "uint8", "V C/4", True),
            Array("t_accum", "int8", "V C", True),
            Array("e", "int8", "V C/g", True),
            Array("corr_accum", "int16", "V C/g", True),
            Array("moment", "int32", "V C/g", True),
            Array("step_counter", "int32", "V", True),
        ),
        tuple(_HOW),
        _COUNTS,
    ),
    _operation("norm", (Array("x", "float32", "R C"),), "", (Array("y", "float32", "R C"),)),
    _operation(
        "norm_backward",
        (Array("dy", "float32", "R C"), Array("x", "float32", "R C")),
        "",
        (Array("dx", "float32", "R C"),),
    ),
    _operation(
        "dot", (Array("a", "float32", "R C"), Array("b", "float32", "R C")), "", (Array("y", "float32", "R"),)
    ),
    _operation("softmax", (Array("x", "float32", "R C"),), "", (Array("p", "float32", "R C"),)),
    _operation(
        "softmax_backward",
        (Array("dp", "float32", "R C"), Array("p", "float32", "R C")),
        "",
        (Array("dx", "float32", "R C"),),
    ),
    _operation("sigmoid", (Array("x", "float32", "R C"),), "", (Array("y", "float32", "R C"),)),
    _operation(
        "cross_entropy",
        (Array("x", "float32", "T C"), Array("targets", "int64", "T")),
        "",
        (Array("losses", "int64", "T"), Array("dx", "float32", "T C")),
    ),
    _operation(
        "squared_error",
        (Array("x", "float32", "R C"), Array("y", "float32", "R C")),
        "",
        (Array("losses", "int64", "R"),),
    ),
    _operation(
        "heads",
        (Array("x", "float32", "B P 3 N 2 H"), *_ANGLES),
        "",
        tuple(Array(name, "int8", "B P N 2 H") for name in ("q", "k", "v")),
    ),
    _operation(
        "heads_backward",
        (
            *(Array(name, "float32", "B P N 2 H") for name in ("dq", "dk", "dv")),
            Array("x", "float32", "B P 3 N 2 H"),
            *_ANGLES,
        ),
        "",
        (Array("dx", "float32", "B P 3 N 2 H"),),
    ),
    _operation(
        "attention",
        _ATTENDED,
        "window",
        (Array("y", "float32", "B A N D"), Array("top", "int32", "B A N"), Array("total", "int32", "B A N")),
    ),
    _operation(
        "attention_backward",
        (
            Array("dy", "float32", "B A N D"),
            Array("y", "float32", "B A N D"),
            Array("top", "int32", "B A N"),
            Array("total", "int32", "B A N"),
            *_ATTENDED,
        ),
        "window",
        (
            Array("dq", "float32", "B A N D"),
            Array("dk", "float32", "B S N D"),
            Array("dv", "float32", "B S N D"),
        ),
    ),
    _operation(
        "digest",
        (Array("words", "int64", "R C"), Array("first", "int64", "R")),
        "",
        (Array("digests", "int64", "R"),),
    ),
)
OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
