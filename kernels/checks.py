"""Host-side checks that run before anything is launched: dtypes, shapes, ranges of integers, bounds of sums.

`check_call` reads shapes and dtypes only, never elements, so it costs no wait for a device. Elements are
checked where state enters (ARB-STATE-006), by `unpack` and `unpack_dense`, and tokens by `check_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .heads import MOST_DIM, MOST_POSITIONS
from .operations import EXTENT_OF, INT32_MAX, RULES, SCALAR_RANGES, Array, Operation

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("uint8", "int8", "int16", "int32", "int64", "float32")
}


def check_call(operation: Operation, values: Mapping[str, Any]) -> None:
    """Refuse a call that is out of contract.

    Raises TypeError for a wrong dtype and ValueError for a wrong shape, range, rule or bound (ARB-LIN-006,
    ARB-STATE-005).
    """
    _check_scalars(operation, values)
    extents: dict[str, int] = {
        EXTENT_OF[name]: values[name] for name in operation.scalars if name in EXTENT_OF
    }
    derived: list[tuple[Array, int, str, int]] = []
    device: torch.device | None = None
    for array in operation.arrays:
        tensor = values[array.name]
        _check_dtype(operation, array, tensor)
        if device is None:
            device = tensor.device
            if device.type == "meta":
                raise ValueError(f"{operation.name}: {array.name} is on the device meta: it has no elements")
        elif tensor.device != device:
            raise ValueError(
                f"{operation.name}: {array.name} is on {tensor.device}, the arguments before it on {device}"
            )
        names = array.axes
        if tensor.dim() != len(names):
            raise ValueError(
                f"{operation.name}: {array.name} must have shape [{', '.join(names)}], "
                f"got {tuple(tensor.shape)}"
            )
        for axis, name in enumerate(names):
            found = tensor.shape[axis]
            if "/" in name:
                derived.append((array, axis, name, found))
            elif extents.setdefault(name, int(name) if name.isdigit() else found) != found:
                raise ValueError(_shape_message(operation, array, axis, found, name, extents[name]))
            if found == 0:
                raise ValueError(f"{operation.name}: {array.name} is empty: shape {tuple(tensor.shape)}")
    for array, axis, name, found in derived:
        expected = _ceil(name, extents)
        if found != expected:
            raise ValueError(_shape_message(operation, array, axis, found, name, expected))
    _check_bounds(operation, values, extents)


def check_tokens(tokens: torch.Tensor, rows: int, name: str = "tokens") -> None:
    """Refuse a token outside a table of so many rows (ARB-EMB-001), or a target outside so many classes
    (ARB-LOSS-002).

    These are the only elements that are looked at here, and on the CPU only: on CUDA the kernels assert, so
    that nothing waits for the device. Raises ValueError.
    """
    if tokens.is_cuda:
        return
    illegal = ((tokens < 0) | (tokens >= rows)).nonzero()
    if len(illegal):
        place = int(illegal[0])
        raise ValueError(f"{name}[{place}] = {tokens[place].item()}, expected 0..{rows - 1}")


def extent(name: str, extents: Mapping[str, int]) -> int:
    """Value of a symbolic extent: `I`, `I/4` (rounded up) or a number."""
    if name.isdigit():
        return int(name)
    return _ceil(name, extents) if "/" in name else extents[name]


def _ceil(name: str, extents: Mapping[str, int]) -> int:
    whole, part = name.split("/")
    divisor = int(part) if part.isdigit() else extents[part]
    return -(-extents[whole] // divisor)


def _shape_message(
    operation: Operation, array: Array, axis: int, found: int, name: str, expected: int
) -> str:
    return f"{operation.name}: {array.name} has {found} along axis {axis}, expected {name} = {expected}"


def _check_dtype(operation: Operation, array: Array, tensor: object) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{operation.name}: {array.name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype != DTYPES[array.dtype]:
        raise TypeError(
            f"{operation.name}: {array.name} must be {array.dtype}, "
            f"got {str(tensor.dtype).removeprefix('torch.')}"
        )


def _check_scalars(operation: Operation, values: Mapping[str, Any]) -> None:
    for name in operation.scalars:
        value = values[name]
        if name == "rule":
            if value not in RULES:
                raise ValueError(f"{operation.name}: rule must be one of {', '.join(RULES)}, got {value!r}")
            continue
        lowest, highest = SCALAR_RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{operation.name}: {name} must be an int, got {type(value).__name__}")
        if not lowest <= value <= highest:
            raise ValueError(f"{operation.name}: {name} must be in {lowest}..{highest}, got {value}")
        if name == "group_size" and value % 4:
            raise ValueError(f"{operation.name}: group_size must be a multiple of 4, got {value}")


def _check_bounds(operation: Operation, values: Mapping[str, Any], extents: Mapping[str, int]) -> None:
    tokens = extents.get("T", 0)
    if tokens > operation.max_tokens:
        raise ValueError(
            f"{operation.name}: T must be at most {operation.max_tokens} tokens a call, got {tokens}"
        )
    if operation.family == "sequences":
        _check_sequences(operation, extents)
    if "e_span" in values:
        for name in ("O", "I"):
            features = extents.get(name, 0)
            if features * 127 << values["e_span"] > INT32_MAX:
                raise ValueError(
                    f"{operation.name}: {name} = {features} with e_span = {values['e_span']} "
                    "can overflow int32"
                )


def _check_sequences(operation: Operation, extents: Mapping[str, int]) -> None:
    """ARB-HEAD-001 and ARB-ATT-001."""
    for name, most in (("P", MOST_POSITIONS), ("S", MOST_POSITIONS), ("H", MOST_DIM // 2), ("D", MOST_DIM)):
        if extents.get(name, 0) > most:
            raise ValueError(f"{operation.name}: {name} must be at most {most}, got {extents[name]}")
    if extents.get("A", 0) > extents.get("S", 0):
        raise ValueError(
            f"{operation.name}: A = {extents['A']} queries are the last of S = {extents['S']} positions, "
            "which must be as many"
        )
