"""Kinds of arrays: how the elements of one argument are made, by name.

A kind is a function of a NumPy generator and a shape. Extremes are kinds of their own and not accidents of a
uniform draw; the ends of an integer's range are added by draws.py. Integers are int64 until they are stored;
float32 is made as patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
Build = Callable[[np.random.Generator, Shape], Array]
Kinds = Mapping[str, Build]

SIGN = 1 << 31
INFINITY = 0x7F800000
LARGEST = 0x7F7FFFFF
NANS = (0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF)
FLOAT_SPIKES = (
    0,
    SIGN,
    1,
    SIGN | 1,
    0x7FFFFF,
    0x800000,
    0x3F800000,
    0x42FE0000,
    0x42FE0001,
    LARGEST,
    SIGN | LARGEST,
)
POISON_SPIKES = (INFINITY, SIGN | INFINITY, *NANS)


def among(*values: int) -> Build:
    """Each element one of these."""
    return lambda rng, shape: rng.choice(np.array(values, np.int64), shape)


def between(low: int, high: int) -> Build:
    """Uniform, both ends included."""
    return lambda rng, shape: rng.integers(low, high, shape, endpoint=True)


def packed(trits: Array, fields: int = 4, base: int = 4) -> Array:
    """Trits [R, C] four a byte, or five in base 3: written here so that no backend makes its own input."""
    codes = np.ones((trits.shape[0], -(-trits.shape[1] // fields) * fields), np.int64)
    codes[:, : trits.shape[1]] = trits + 1
    places: Array = base ** np.arange(fields)
    whole: Array = (codes.reshape(len(trits), -1, fields) * places).sum(axis=2)
    return whole.astype(np.uint8)


def _one_hot(rng: np.random.Generator, shape: Shape) -> Array:
    array = np.zeros(shape, np.int64)
    array.reshape(-1)[rng.integers(array.size)] = rng.choice([-127, -1, 1, 127])
    return array


# kinds beside those at either end, which every array has (draws.py)
TRITS: Kinds = {
    "mixed": between(-1, 1),
    "zero": among(0),
    "sparse": among(-1, 0, 0, 0, 0, 0, 1),
}
QUANTISED: Kinds = {
    "mixed": between(-127, 127),
    "zero": among(0),
    "one-hot": _one_hot,
    "small": between(-2, 2),
}
ROW_EXPONENTS: Kinds = {
    "zero": among(0),
    "near": between(-8, 8),
    "mixed": between(-100, 122),
    "largest finite": among(122),
    "finite ends": among(-100, -99, 121, 122),
    "some poisoned": among(-3, 0, 2, 127),
}
GRADIENT_EXPONENTS: Kinds = {
    "zero": among(0),
    "near": between(-8, 8),
    "mixed": between(-100, 125),
    "ends": among(-100, -99, 122, 125),
}


def _one_bit(rng: np.random.Generator, shape: Shape) -> Array:
    return np.int64(1) << rng.integers(0, 64, shape)


# of digests: all 64 bits are legal
WORDS: Kinds = {
    "mixed": between(-(2**63), 2**63 - 1),
    "zero": among(0),
    "sparse": lambda rng, shape: between(-(2**63), 2**63 - 1)(rng, shape) * (rng.random(shape) < 0.2),
    "small": between(-3, 3),
    "one bit": _one_bit,
    "extreme": among(-(2**63), 1 - 2**63, -1, 0, 1, 2**63 - 2, 2**63 - 1),
}
FIRST_PLACES: Kinds = {
    "zero": among(0),
    "mixed": between(-(2**63), 2**63 - 1),
    "small": between(0, 1000),
    "around 0": between(-66, 0),
    "around 2^63": between(2**63 - 66, 2**63 - 1),
}
MANTISSA, BIAS = 21, 512  # of a moment, ARB-MOM-001


def accumulators(threshold: int) -> Kinds:
    """Values of t_accum, e_accum or corr_accum around what decides: zero and the threshold, in their own
    units; of t_accum those are quarters of a vote, and 128 of them are no int8."""
    at = min(threshold, 127)
    edges = (-at, at, 1 - threshold, threshold - 1)
    return {
        "zero": among(0),
        "mixed": between(-127, 127),
        "quiet": between(1 - threshold, threshold - 1),
        "threshold": among(*edges),
        "all": among(*edges, -127, 127, 0, 1, -1),
    }


def gradients(group_size: int, lowest: int, highest: int) -> Kinds:
    """Gradients between these ends, which others get as well: silent groups, one element against a silent
    group, powers of two."""

    def groups(rng: np.random.Generator, shape: Shape, width: int) -> Array:
        count = -(-shape[1] // group_size)
        return np.repeat(rng.integers(0, width, (shape[0], count)), group_size, axis=1)[:, : shape[1]]

    def silent(rng: np.random.Generator, shape: Shape) -> Array:
        silenced: Array = between(-1000, 1000)(rng, shape) * groups(rng, shape, 2)
        return silenced

    def one_hot(rng: np.random.Generator, shape: Shape) -> Array:
        place = np.arange(shape[1]) % group_size == groups(rng, shape, group_size)
        hot: Array = place * rng.choice([lowest, -3, -1, 1, 7, highest], shape)
        return hot

    def powers(rng: np.random.Generator, shape: Shape) -> Array:
        beside: Array = (1 << rng.integers(0, 32, shape)) - rng.integers(0, 2, shape)
        clipped: Array = np.clip(beside * among(-1, 1)(rng, shape), lowest, highest)
        return clipped

    def equal(rng: np.random.Generator, shape: Shape) -> Array:
        return np.full(shape, rng.integers(-(2**20), 2**20))

    return {
        "zero": among(0),
        "small": between(-3, 3),
        "mixed": between(-(2**20), 2**20),
        "any": between(lowest, highest),
        "end or zero": among(lowest, 0, highest),
        "silent groups": silent,
        "one-hot": one_hot,
        "powers of two": powers,
        "equal": equal,
    }


def moments(squares: Array) -> Kinds:
    """Moments [O, G] by how they lie to the mean squares of this update, given as floor(log2), or nowhere."""

    def at(low: int, high: int, least: int = 1 << MANTISSA - 1) -> Build:
        """So many octaves above the squares; mantissas from `least` on."""

        def build(rng: np.random.Generator, shape: Shape) -> Array:
            m = rng.integers(least, 1 << MANTISSA, shape)
            x = squares - (MANTISSA - 1) + rng.integers(low, high, shape, endpoint=True)
            return np.clip(x + BIAS, 0, 2 * BIAS - 1) << MANTISSA | m

        return build

    def exponents(rng: np.random.Generator, shape: Shape) -> Array:
        return rng.integers(0, 2 * BIAS, shape) << MANTISSA

    def some_zero(rng: np.random.Generator, shape: Shape) -> Array:
        kept: Array = at(-2, 2)(rng, shape) * rng.integers(0, 2, shape)
        return kept

    return {
        "zero": among(0),
        "mixed": at(-4, 4),
        "with zeros": some_zero,
        "zero with exponents": exponents,
        "the same": at(0, 0),
        "not normalised": at(-2, 20, least=0),
        "far smaller": at(-60, -12),
        "far larger": at(12, 60),
        "lowest exponents": between(0, 3 << MANTISSA),
        "any": between(0, 2**31 - 1),
    }


def log_squares(gradient: Array, e_g: Array, group_size: int) -> Array:
    """floor(log2) of the mean square of each group of G [O, I] * 2^e_g, [O, G]; of no gradient that of 1."""
    starts = np.arange(0, gradient.shape[1], group_size)
    squares = np.add.reduceat(gradient.astype(np.float64) ** 2, starts, axis=1)
    counts = np.diff(np.append(starts, gradient.shape[1]))
    found: Array = np.floor(np.log2(np.where(squares > 0, squares / counts, 1.0))).astype(np.int64)
    return found + 2 * e_g.astype(np.int64)[:, np.newaxis]


def _signed(rng: np.random.Generator, patterns: Array) -> Array:
    return patterns | among(0, SIGN)(rng, patterns.shape)


def _patterns(values: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float32).view(np.uint32).astype(np.int64)


def _at_own_scale(rng: np.random.Generator, shape: Shape) -> Array:
    """Rows of ordinary numbers, each at a scale of its own: every exponent of the quantiser."""
    scale = rng.integers(-150, 126, (shape[0], 1))
    return _patterns(np.ldexp(rng.standard_normal(shape), scale))


def _ties(rng: np.random.Generator, shape: Shape) -> Array:
    """Halves of the unit of q: a row has 127 * 2^k as its largest and multiples of 2^(k-1) besides."""
    values = rng.integers(-253, 253, shape, endpoint=True) / 2
    values[:, rng.integers(shape[1])] = 127
    return _patterns(np.ldexp(values, rng.integers(-90, 120, (shape[0], 1))))


def _around(mantissa: int) -> Build:
    """One exponent field a row, this mantissa, and its neighbours on both sides."""

    def build(rng: np.random.Generator, shape: Shape) -> Array:
        field = rng.integers(1, 254, (shape[0], 1), endpoint=True) << 23
        return _signed(rng, field + mantissa + rng.integers(-1, 1, shape, endpoint=True))

    return build


def _finite(rng: np.random.Generator, shape: Shape) -> Array:
    return _signed(rng, rng.integers(0, INFINITY, shape))


def _nans(rng: np.random.Generator, shape: Shape) -> Array:
    """Random finite patterns, and NaNs of both signs among them."""
    payload = INFINITY | rng.integers(1, 2**23, shape)
    return _signed(rng, np.where(rng.random(shape) < 0.1, payload, _finite(rng, shape)))


# float32 patterns [sets, elements of a set]: what shares an exponent is a row here
FLOATS: Kinds = {
    "ordinary": lambda rng, shape: _patterns(rng.standard_normal(shape)),
    "zeros": among(0, SIGN),
    "own scale": _at_own_scale,
    "ties": _ties,
    "around 127 * 2^k": _around(0x7E0000),
    "around 2^k": _around(0),
    "subnormal": lambda rng, shape: _signed(rng, rng.integers(0, 2**23, shape)),
    "finite": _finite,
    "largest": among(LARGEST, LARGEST - 1, SIGN | LARGEST),
    "NaNs": _nans,
    "any": between(0, 2**32 - 1),
}


def _shares(rng: np.random.Generator, shape: Shape) -> Array:
    weights = np.exp(rng.standard_normal(shape) * rng.choice([0.1, 2, 10], (shape[0], 1)))
    return _patterns(weights / weights.sum(axis=1, keepdims=True))


# rows of probabilities, and what are none
PROBABILITIES: Kinds = {
    "mixed": _shares,
    "one-hot": lambda rng, shape: _patterns(
        np.arange(shape[1]) == rng.integers(shape[1], size=(shape[0], 1))
    ),
    "around 127 * 2^-6": lambda rng, shape: 0x3FFE0000 + rng.integers(-1, 1, shape, endpoint=True),
    **{name: FLOATS[name] for name in ("zeros", "subnormal", "own scale", "NaNs", "any")},
}
