"""What the oracle refuses: a function for a scalar, one for each rank of array, and the bounds of section 1.

Every check names the argument, the first offending position and the value (ARB-STATE-006). The operations
call them before they compute, so a refused call has changed nothing.
"""

from typing import Any

Vector = list[int]
Matrix = list[list[int]]

INT32_MAX = 2**31 - 1
MAX_TOKENS = 1 << 20
MAX_SUMMED_TOKENS = 131071
POISONED = 127


def integer(name: str, value: int, low: int, high: int) -> None:
    """Refuse a scalar that is not an int (`TypeError`) or not in low..high (`ValueError`)."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected an int")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low}..{high}")


def vector(name: str, values: Vector, size: int, low: int, high: int) -> None:
    """Refuse a list that has not `size` ints in low..high."""
    if not isinstance(values, list):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a list of ints")
    if len(values) != size:
        raise ValueError(f"{name} has {len(values)} elements, expected {size}")
    for i, value in enumerate(values):
        if type(value) is not int or not low <= value <= high:
            integer(f"{name}: value at position {i}", value, low, high)


def matrix(name: str, values: Matrix, rows: int, columns: int, low: int, high: int) -> None:
    """Refuse a nested list that is not [rows, columns] of ints in low..high."""
    if not isinstance(values, list):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a list of lists of ints")
    if len(values) != rows:
        raise ValueError(f"{name} has {len(values)} rows, expected {rows}")
    for r, row in enumerate(values):
        if not isinstance(row, list):
            raise TypeError(f"{name}: row {r} is a {type(row).__name__}, expected a list of ints")
        if len(row) != columns:
            raise ValueError(f"{name}: row {r} has {len(row)} elements, expected {columns}")
        for c, value in enumerate(row):
            # The message is only formatted for an offender: this runs for every element of every argument.
            if type(value) is not int or not low <= value <= high:
                integer(f"{name}: value at row {r}, column {c}", value, low, high)


def array(name: str, values: Any, shape: list[int], low: int, high: int) -> None:
    """Refuse a nested list that is not of this shape, of ints in low..high."""
    if len(shape) == 1:
        vector(name, values, shape[0], low, high)
        return
    if not isinstance(values, list):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a list of lists")
    if len(values) != shape[0]:
        raise ValueError(f"{name} has {len(values)} elements along an axis, expected {shape[0]}")
    for i, inner in enumerate(values):
        array(f"{name}[{i}]", inner, shape[1:], low, high)


def columns_of(name: str, values: Matrix) -> int:
    """The width of a nested list, which is that of its first row; 0 if it has no row."""
    if not isinstance(values, list) or (values and not isinstance(values[0], list)):
        raise TypeError(f"{name} is {type(values).__name__}, expected a list of lists of ints")
    return len(values[0]) if values else 0


def quantised(name: str, values: Matrix, rows: int, columns: int) -> None:
    """ARB-QUANT-006, ARB-LIN-006: an int8 operand in -127..127, of a shape that is not empty."""
    integer(f"{name}: number of rows", rows, 1, INT32_MAX)
    integer(f"{name}: number of columns", columns, 1, INT32_MAX)
    matrix(name, values, rows, columns, -127, 127)


def tokens_in_call(count: int, most: int = MAX_TOKENS) -> None:
    """ARB-STATE-005: 1 <= T <= 2^20, or 131071 where products of two of -127..127 are summed over T."""
    integer("number of tokens", count, 1, most)


def row_exponents(name: str, values: Vector, size: int) -> None:
    """ARB-QUANT-002 and -007: an exponent a quantiser can give is -100..122, or 127 for a poisoned set."""
    vector(name, values, size, -100, POISONED)
    for i, value in enumerate(values):
        if 122 < value < POISONED:
            raise ValueError(f"{name}: value at position {i} is {value}, expected -100..122 or {POISONED}")


def gradient_exponents(name: str, values: Vector, size: int) -> None:
    """ARB-UPD-004: an exponent for every row of G, of a quantiser and 3 more at most."""
    vector(name, values, size, -100, 125)


def group_count(group_size: int, in_features: int) -> int:
    """ARB-STATE-005: a group size that is a multiple of 4 in 4..1024. Gives the groups of a row."""
    integer("group_size", group_size, 4, 1024)
    if group_size % 4:
        raise ValueError(f"group_size is {group_size}, expected a multiple of 4")
    return -(-in_features // group_size)


def scales(e: Matrix, rows: int, columns: int, e_base: int, e_span: int, group_size: int) -> None:
    """ARB-STATE-003 and -005: e_base, e_span, the exponents between them, and sums that stay in int32."""
    integer("e_base", e_base, -26, 26)
    integer("e_span", e_span, 0, 6)
    for name, extent in (("out_features", rows), ("in_features", columns)):
        integer(name, extent, 1, INT32_MAX // (127 * 2**e_span))
    matrix("e", e, rows, group_count(group_size, columns), e_base, e_base + e_span)
