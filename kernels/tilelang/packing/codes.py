"""Fields of packed bytes as TIR expressions. Everything is int32: bytes are widened before any arithmetic."""

from typing import Any

import tilelang.language as T

PADDING = 1
ALL_PADDING = 0x55  # four fields of code 1


def widen(byte: Any) -> Any:
    """A byte as int32."""
    return T.Cast("int32", byte)


def field(byte: Any, place: Any) -> Any:
    """The 2-bit code in that place of a widened byte (ARB-PACK-001)."""
    return (byte >> (2 * place)) & 3


def trit(byte: Any, place: Any) -> Any:
    """The trit in that place of a widened byte."""
    return field(byte, place) - 1


def replaced(byte: Any, place: Any, trit: Any) -> Any:
    """The widened byte with another trit in that place."""
    return (byte & ~(3 << (2 * place))) | ((trit + 1) << (2 * place))
