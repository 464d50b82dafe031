"""Slices of heads as TIR expressions: the angles of a position, and what turns two numbers by one."""

from typing import Any

import tilelang.language as T
import torch

from ...heads import scale_of
from ..rows.fixed_point import Arithmetic


def kappa_bits(head_dim: int) -> int:
    """The bits of what queries are multiplied by (ARB-HEAD-004)."""
    kappa = torch.tensor(scale_of(head_dim)[0], dtype=torch.float32)
    return int(kappa.view(torch.int32))


def times_2_to_minus_14(x: Any, exact: Arithmetic) -> Any:
    """x * 2^-14 of an integer as float32: TileLang writes six decimals, too few for this constant."""
    return exact.multiply(exact.multiply(T.Cast("float32", x), T.float32(2.0**-7)), T.float32(2.0**-7))


@T.macro
def turn(y: T.Ref, z: T.Ref, c: T.Ref, s: T.Ref, back: bool, exact: Arithmetic) -> None:
    """(y, z) turned by the angle of cos c and sin s, or back (ARB-HEAD-002, -005)."""
    a, b = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
    a = exact.multiply(y, c)
    b = exact.multiply(z, s)
    a = exact.add(a, b) if back else exact.subtract(a, b)
    b = exact.multiply(y, s)
    z = exact.multiply(z, c)
    z = exact.subtract(z, b) if back else exact.add(z, b)
    y = a
