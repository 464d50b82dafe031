"""Integer matrix products that are exact on every device.

CPU: float32 products over slices of the inner dimension that are short enough for every partial sum to stay
at or below 2^24, where float32 holds every integer; slices are added in int32. Measured at 1024^3 on two
cores (docs/log/): as fast as one float32 product, and many times faster than int32 `matmul`.
`torch._int_mm` is exact on CUDA (int32 accumulators on the tensor cores) but known to be wrong on some CPUs,
so it is used on CUDA only, padded to the multiples of 8 that it needs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

EXACT_FLOAT32 = 1 << 24


def matmul_nt(a: torch.Tensor, b: torch.Tensor, bound: int) -> torch.Tensor:
    """a int8 [M, K] times b int8 [N, K] transposed -> int32 [M, N]; `bound` is max|a| * max|b|."""
    if a.is_cuda:
        return _int_mm(a, b)
    inner = a.shape[1]
    step = EXACT_FLOAT32 // bound
    if inner <= step:
        return (a.float() @ b.float().t()).to(torch.int32)
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int32)
    for start in range(0, inner, step):
        part = a[:, start : start + step].float() @ b[:, start : start + step].float().t()
        total += part.to(torch.int32)
    return total


def _int_mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    rows, inner = a.shape
    columns = b.shape[0]
    # at least 17 rows, and multiples of 8 elsewhere
    a = F.pad(a, (0, -inner % 8, 0, max(17 - rows, 0)))
    b = F.pad(b, (0, -inner % 8, 0, -columns % 8))
    return torch._int_mm(a.contiguous(), b.contiguous().t())[:rows, :columns]
