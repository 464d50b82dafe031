"""The line protocol between arbitor and a backend that is a program (docs/adding-a-backend.md, version 1).

One request a line on the program's stdin, one answer a line on its stdout, both JSON objects. An array is its
dtype, its shape and base64 of its elements in C order, little-endian.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import extent
from ..operations import EXTENT_OF, Array, Operation
from ..plain import all_lines
from ..reading import Unreadable, json_of
from .answers import WrongAnswer

VERSION = 1
QUESTIONS = ("why_not", "why_not_auto", "configurations")  # optional functions of a module
ERRORS: dict[str, type[Exception]] = {
    "value": ValueError,
    "type": TypeError,
    "not implemented": NotImplementedError,
    "failed": RuntimeError,
}
IN_WORDS = ("error", "warnings", "answer")  # fields of an answer that somebody reads
SHOWN = 120  # characters of an answer that a message repeats


def request_line(fields: Mapping[str, Any]) -> bytes:
    """One request, with its newline."""
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def encode(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON has it."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(little.tobytes()).decode(),
    }


def answer_of(line: bytes, number: int) -> dict[str, Any]:
    """The answer to request `number`, what it says in words made plain; raises WrongAnswer for a line that is
    none, which it repeats."""
    shown = line[:SHOWN].decode("utf-8", "backslashreplace").rstrip()
    try:
        found = json_of(line)
    except Unreadable as error:
        raise WrongAnswer(f"wrote {shown!r}, expected a JSON object on one line ({error})") from None
    if not isinstance(found, dict):
        raise WrongAnswer(f"wrote {shown!r}, expected a JSON object")
    if isinstance(found.get("id"), bool) or found.get("id") != number:
        raise WrongAnswer(f"wrote {shown!r}, with the id {found.get('id')!r}, expected {number}")
    return found | {name: all_lines(found[name]) for name in IN_WORDS if name in found}


def raise_refusal(error: Any) -> None:
    """Raise what the program's `error` stands for; WrongAnswer if it is none that the protocol has."""
    kind = error.get("kind") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if kind not in ERRORS or not isinstance(message, str):
        raise WrongAnswer(
            f"error is {error!r}, expected a kind ({', '.join(ERRORS)}) and a message that is a string"
        )
    raise ERRORS[kind](message)


def extents_of(operation: Operation, values: Mapping[str, Any]) -> dict[str, int]:
    """The extents of a legal call by letter; `count` and the like by the name of the argument."""
    found = {EXTENT_OF.get(name, name): values[name] for name in operation.scalars if name != "rule"}
    found |= {"O": values["out_features"]} if "out_features" in values else {}
    found |= {"I": values["in_features"]} if "in_features" in values else {}
    for array in operation.arrays:
        for letter, size in zip(array.axes, values[array.name].shape, strict=True):
            if "/" not in letter:
                found[letter] = size
    return found


def room_of(operation: Operation, values: Mapping[str, Any]) -> int:
    """Bytes that the arrays of an answer take, in base64."""
    extents = extents_of(operation, values)
    written = (array for array in operation.arrays if array.in_place)
    return sum(4 * bytes_of(array, extents) // 3 + 4 for array in (*operation.results, *written))


def bytes_of(array: Array, extents: Mapping[str, int]) -> int:
    """Bytes of an array with these extents."""
    return prod(extent(axis, extents) for axis in array.axes) * np.dtype(array.dtype).itemsize


def decode(operation: Operation, array: Array, found: Any, extents: Mapping[str, int]) -> NDArray[Any]:
    """An array of an answer; raises WrongAnswer with what was found and expected."""
    where = f"{operation.name}: {array.name}"
    if not isinstance(found, dict) or set(found) != {"dtype", "shape", "data"}:
        shown = f"{found!r}"[:SHOWN]
        raise WrongAnswer(f"{where} is {shown}, expected an object of dtype, shape and data")
    if found["dtype"] != array.dtype:
        raise WrongAnswer(f"{where} has dtype {found['dtype']}, expected {array.dtype}")
    shape = [extent(axis, extents) for axis in array.axes]
    if found["shape"] != shape:
        raise WrongAnswer(f"{where} has shape {found['shape']}, expected {shape}")
    try:
        data = base64.b64decode(found["data"], validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise WrongAnswer(f"{where} has data that is no base64: {error}") from None
    dtype = np.dtype(array.dtype).newbyteorder("<")
    if len(data) != prod(shape) * dtype.itemsize:
        expected = f"expected {prod(shape) * dtype.itemsize} for {array.dtype} {shape}"
        raise WrongAnswer(f"{where} has {len(data)} bytes of data, {expected}")
    return np.frombuffer(data, dtype).reshape(shape).astype(array.dtype)
