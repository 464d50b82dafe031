"""The bounds of the specification, the checks of arguments, and the one way to a narrower integer.

Every operation of this package computes in int64 and stores in something smaller. All of that storing goes
through `narrow`, which looks at each value first; so no result here can wrap, and a bound of section 1 that
did not hold would be an error instead of a wrong number. The checks raise before an operation has computed
anything, and name the argument, the first offending index, its value and what was expected (ARB-STATE-006).
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Element = TypeVar("Element", bound=np.generic)

INT32_MAX: Final = 2**31 - 1
Q_MAX: Final = 127  # ARB-QUANT-006
EXPONENT_MIN: Final = -100  # ARB-QUANT-001, ARB-QUANT-002
EXPONENT_MAX: Final = 122  # ARB-QUANT-007
POISONED: Final = 127  # ARB-QUANT-007
T_ACCUM_MAX: Final = 127  # ARB-STATE-003
E_ACCUM_MAX: Final = 127  # ARB-STATE-003
CORR_ACCUM_MAX: Final = 32767  # ARB-STATE-004
GRADIENT_EXPONENT_MAX: Final = 125  # ARB-UPD-004
RULES: Final = ("scaled", "sign", "adaptive")  # ARB-VOTE-001, ARB-VOTE-002, ARB-VOTE-005

# Purposes of random bits, ARB-RNG-005.
INITIAL_CODES: Final = 0
INPUT_GRADIENT: Final = 1
WEIGHT_GRADIENT: Final = 2
VOTES: Final = 3
SCALE_VOTES: Final = 4

BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "e_base": (-26, 26),  # ARB-STATE-003
    "e_span": (0, 6),
    "group_size": (4, 1024),  # ARB-STATE-005
    "tokens": (1, 2**20),
    "summed_tokens": (1, 131071),  # of int32 sums of two of -127..127
    "tensor_id": (0, 2**28 - 1),
    "seed": (0, 2**64 - 1),
    "step": (0, 2**32 - 1),
    "stream": (0, 2**32 - 1),
    "first_row": (0, 2**20),
    "first": (0, 2**62),
    "gain": (0, 2**22),  # ARB-VOTE-004
    "vote_max": (1, 32),
    "accum_threshold": (1, 32),  # ARB-FIRE-003
    "scale_gain": (0, 2**20),  # ARB-SCALE-003
    "e_accum_threshold": (1, 127),
}


def narrow(a: Array, dtype: type[Element]) -> NDArray[Element]:
    """The integers of `a` as `dtype`; `OverflowError` with the first index and value that does not fit."""
    limits = np.iinfo(np.dtype(dtype))
    outside = (a < limits.min) | (a > limits.max)
    if outside.any():
        index = first_index(outside)
        raise OverflowError(f"value {a[index]} at {list(index)} does not fit {limits.dtype}")
    return a.astype(dtype)


def wide(a: Array) -> Ints:
    """A copy of an integer array in int64, the width of all arithmetic here."""
    return a.astype(np.int64)


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up, for a >= 0 and b > 0."""
    return (a + b - 1) // b


def first_index(mask: Mask) -> tuple[int, ...]:
    """The index, in C order, of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as a Python integer in low..high."""
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value}, expected an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}, expected {low}..{high}")
    return number


def check_bound(name: str, value: Any) -> int:
    """The integer argument `name` within its row of BOUNDS."""
    number = check_integer(name, value, *BOUNDS[name])
    if name == "group_size" and number % 4 != 0:
        raise ValueError(f"group_size is {number}, expected a multiple of 4")
    return number


def check_array(name: str, array: Array, dtype: type[np.generic], *shape: int | None) -> None:
    """An ndarray of `dtype` and `shape`, where None stands for any extent; none is 0 (ARB-STATE-005)."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}, expected a numpy array")
    if array.dtype != np.dtype(dtype):
        raise TypeError(f"{name} is of dtype {array.dtype}, expected {np.dtype(dtype)}")
    fits = len(shape) == array.ndim and all(
        got >= 1 and want in (None, got) for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("1 or more" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} is of shape {list(array.shape)}, expected [{expected}]")


def check_allowed(name: str, array: Array, allowed: Mask, expected: str) -> None:
    """Refuses the first element of `array` that `allowed` marks False."""
    if not allowed.all():
        index = first_index(~allowed)
        raise ValueError(f"{name}{list(index)} is {array[index]}, expected {expected}")


def check_range(name: str, array: Array, low: int, high: int) -> None:
    """Every element of `array` lies in low..high."""
    check_allowed(name, array, (array >= low) & (array <= high), f"{low}..{high}")


def check_writeable(**arrays: Array) -> None:
    """Arrays that an operation writes in place can be written."""
    for name, array in arrays.items():
        if not array.flags.writeable:
            raise ValueError(f"{name} is read-only, expected an array that can be written in place")


def check_tokens(name: str, count: int, bound: str = "tokens") -> None:
    """ARB-STATE-005: T, the length of the array `name`, within that row of BOUNDS."""
    low, high = BOUNDS[bound]
    if not low <= count <= high:
        raise ValueError(f"{name} has {count} tokens, expected {low}..{high}")


def check_quantised(q_name: str, q: Array, rows: int | None, columns: int | None) -> None:
    """ARB-LIN-006: int8 [rows, columns] in -127..127."""
    check_array(q_name, q, np.int8, rows, columns)
    check_range(q_name, q, -Q_MAX, Q_MAX)


def check_row_exponents(name: str, e: Array, rows: int) -> None:
    """Exponents that the quantisers can give: -100..122, or 127 (ARB-QUANT-002, ARB-QUANT-007)."""
    check_array(name, e, np.int8, rows)
    allowed = ((e >= EXPONENT_MIN) & (e <= EXPONENT_MAX)) | (e == POISONED)
    check_allowed(name, e, allowed, f"{EXPONENT_MIN}..{EXPONENT_MAX} or {POISONED}")


def check_gradient_exponents(name: str, e: Array, rows: int) -> None:
    """ARB-UPD-004: int8 [rows] in -100..125, exponents of gradients that may be updated from."""
    check_array(name, e, np.int8, rows)
    check_range(name, e, EXPONENT_MIN, GRADIENT_EXPONENT_MAX)


def check_moment(moment: Array, rows: int, groups: int) -> None:
    """ARB-MOM-001: int32 [rows, groups], none below 0."""
    check_array("moment", moment, np.int32, rows, groups)
    check_range("moment", moment, 0, INT32_MAX)


def check_extent(name: str, extent: int, e_span: int) -> None:
    """ARB-STATE-005, for a linear layer: a sum of `extent` products q * w^ stays in int32."""
    check_integer(name, extent, 1, INT32_MAX // (127 * 2**e_span))


@dataclass(frozen=True)
class How:
    """The integers (and the rule's name) that section 11 calls `how`, checked, in that order."""

    e_base: int
    e_span: int
    group_size: int
    rule: str
    gain: int
    vote_max: int
    accum_threshold: int
    scale_gain: int
    e_accum_threshold: int
    seed: int
    tensor_id: int
    step: int

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule is {self.rule!r}, expected one of {', '.join(RULES)}")
        for field in fields(self):
            if field.name != "rule":
                # Stored as a Python integer: a numpy scalar would bring its own width into expressions.
                object.__setattr__(self, field.name, check_bound(field.name, getattr(self, field.name)))
