"""1 / (1 + e^-x), element by element (ARB-SOFT-003)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import INFINITY_BITS, bits_of, magnitude
from ..rows.fixed_point import THREADS, Arithmetic, or_nan
from .exponential import ONE, octaves_of, weight_of


@kernel
@unchecked
def sigmoid_kernel(cuda: bool) -> Any:
    """One element of y a thread."""
    count = T.dynamic("count", "int64")
    exact = Arithmetic(cuda)

    @T.prim_func
    def sigmoid(x: T.Tensor((count,), "float32"), y: T.Tensor((count,), "float32")):
        with T.Kernel(T.ceildiv(count, THREADS), threads=THREADS) as block:
            octave, w, f, n = (T.alloc_var("int64", init=0) for _ in range(4))
            d, below = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            size = T.alloc_var("int32", init=0)
            for t in T.Parallel(THREADS):
                n = T.Cast("int64", block) * THREADS + t
                if n < count:
                    size = magnitude(bits_of(x[n]))
                    d = T.float32(0.0)
                    if size <= INFINITY_BITS:
                        d = T.reinterpret(size, "float32")
                    octaves_of(octave, d, exact)
                    weight_of(w, octave, f)
                    below = T.Cast("float32", w + T.int64(ONE))
                    f = T.int64(ONE)
                    if x[n] < T.float32(0.0):
                        f = w
                    d = exact.divide(T.Cast("float32", f), below)
                    y[n] = or_nan(size > INFINITY_BITS, bits_of(d))

    return sigmoid


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> y float32 [R, C]."""
    x = row_major(x)
    y = torch.empty_like(x)
    sigmoid_kernel(x.device)(x.view(-1), y.view(-1))
    return y
