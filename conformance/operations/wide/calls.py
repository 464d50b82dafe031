"""What corners.py checks of packing, random bits, quantisers, digests: all ways through 2^31 elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from arbitor.conformance.draw.arrays import packed
from arbitor.conformance.judge.target import Arguments
from arbitor.conformance.operations.wide.corners import Build, Wide, corners, drawn, first, last, zeros
from arbitor.reference.digests.digest import digest as of_rows
from arbitor.reference.quantise.exponents import quantise_sets, split
from arbitor.reference.random_bits.philox import r16, word

K = 40  # rows or columns of a corner: whole bytes of four trits and of five
ROWS, COLUMNS = 131_075, 16_400  # together 2^31 and some more
MORE = 2**31 + 5  # one extent that alone is too much for 32 bits
RANDOM: Arguments = {"seed": 2**40 + 7, "step": 2**31 + 3, "stream": 50}


def corner_of(rows: int, columns: int) -> tuple[int, int]:
    """The shape of a corner: a part of a row, or of the only column."""
    return (1, K) if columns > 1 else (K, 1)


def packing(operation: str, rows: int, columns: int, fields: int) -> Build:
    """Trits to bytes, or back; rows are whole bytes, or of one trit and its padding."""
    base, name = (4, "codes") if fields == 4 else (3, "dense")
    zero = 0 if columns > 1 else (0x55 if fields == 4 else 121)  # of bytes: a padding of 0 would be illegal

    def build(device: str) -> Wide:
        shape = corner_of(rows, columns)
        trits = [drawn(-1, 1, *shape), drawn(-1, 1, *shape)[::-1, ::-1]]
        whole = [packed(part, fields, base) for part in trits]
        if operation.startswith("pack"):
            found = Wide(operation, {"trits": corners(zeros(device, "int8", rows, columns), *trits)})
            results, name_of = whole, name
        else:
            array = zeros(device, "uint8", rows, -(-columns // fields))
            for place in [slice(None)] if device == "cuda" else [slice(0, 5000), slice(-5000, None)]:
                array[place] = zero
            found = Wide(operation, {name: corners(array, *whole), "columns": columns})
            results, name_of = [part.astype(np.int8) for part in trits], "trits"
        found.gives(name_of, first(*results[0].shape), results[0])
        return found.gives(name_of, last(*results[1].shape), results[1])

    return build


def philox(device: str) -> Wide:
    """16 GiB of words, for a GPU."""
    found = Wide("philox", {"first": 2**33 - 5, "count": MORE} | RANDOM)
    for place, start in ((first(K), 2**33 - 5), (last(K), 2**33 - 5 + MORE - K)):
        found.gives("words", place, word(start + np.arange(K), **RANDOM))
    return found


def initialise(rows: int, columns: int) -> Build:
    def build(device: str) -> Wide:
        numbers = {"seed": 2**40 + 7, "tensor_id": 3}
        found = Wide("initialise", {"out_features": rows, "in_features": columns} | numbers)
        for row, place in ((0, first), (rows - 1, last)):
            start = 0 if row == 0 or columns < K else (columns - 1) // 4 * 4 - K + 4
            n = row * columns + np.arange(start, min(start + K, columns))
            codes = packed(((word(n, 2**40 + 7, 0, 48) * 3) >> 32)[np.newaxis] - 1)
            found.gives("codes", place(*codes.shape), codes)
        return found

    return build


def quantising_rows(operation: str, rows: int, columns: int) -> Build:
    """By rows: to nearest, in both layouts, or stochastically."""

    def build(device: str) -> Wide:
        shape = corner_of(rows, columns)
        parts = [np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed in (0, 1)]
        x = corners(zeros(device, "float32", rows, columns), *parts)
        stochastic = operation == "quantise_stochastic"
        found = Wide(operation, {"x": x} | (RANDOM | {"first_row": 2**20} if stochastic else {}))
        starts = ((0, 0), (rows - shape[0], columns - shape[1]))
        noise: list[Any] = [32_768, 32_768]
        if stochastic:
            for i, (row, column) in enumerate(starts):
                r, c = (start + np.arange(extent) for start, extent in zip((row, column), shape, strict=True))
                noise[i] = r16((2**20 + r)[:, np.newaxis] * columns + c, **RANDOM)
        if rows == 1:  # both corners are in one row
            joined = np.concatenate(np.broadcast_arrays(*noise), axis=1) if stochastic else 32_768
            q, e = quantise_sets(split(np.concatenate(parts, axis=1)), joined, axis=1)
            sets = [(q[:, :K], e), (q[:, K:], e)]
        else:
            sets = [quantise_sets(split(part), n, axis=1) for part, n in zip(parts, noise, strict=True)]
        for place, (q, e) in zip((first, last), sets, strict=True):
            found.gives("q", place(*q.shape), q).gives("exponents", place(len(e)), e)
            if operation == "quantise_nearest_both":
                found.gives("q_t", place(*q.T.shape), q.T)
        return found

    return build


def quantise_columns(tokens: int, columns: int) -> Build:
    """One element a column in either corner, each with a scale of its own."""

    def build(device: str) -> Wide:
        parts = [np.random.default_rng(seed).standard_normal((1, K)).astype(np.float32) for seed in (0, 1)]
        dy = corners(zeros(device, "float32", tokens, columns), *parts)
        numbers = RANDOM | {"first_row": 2**20}
        found = Wide("quantise_columns", {"dy": dy, "e_x": zeros(device, "int8", tokens)} | numbers, 40)
        starts = ((0, 0), (tokens - 1, columns - K))
        for place, part, (t, o) in zip((first, last), parts, starts, strict=True):
            n = (2**20 + t) * columns + o + np.arange(K)
            q, e = quantise_sets(split(part), r16(n[np.newaxis], **RANDOM), axis=0)
            found.gives("q", place(1, K), q).gives("exponents", place(K), e)
        return found

    return build


def digest(rows: int, columns: int) -> Build:
    """Of each row but the first and the last nothing; of one row both corners are in one sum."""

    def build(device: str) -> Wide:
        parts = [drawn(-(2**62), 2**62, 1, K), drawn(-(2**62), 2**62, 1, K)[:, ::-1]]
        starts = [[2**62 + 3], [-7]] if rows > 1 else [[5], [5]]
        first_places = corners(zeros(device, "int64", rows), *(np.array(start) for start in starts))
        found = Wide(
            "digest",
            {"words": corners(zeros(device, "int64", rows, columns), *parts), "first": first_places},
        )
        places = [np.array(start) + at for start, at in zip(starts, (0, columns - K), strict=True)]
        sums = [of_rows(part, place) for part, place in zip(parts, places, strict=True)]
        if rows == 1:
            return found.gives("digests", first(1), sums[0] + sums[1])
        return found.gives("digests", first(1), sums[0]).gives("digests", last(1), sums[1])

    return build
