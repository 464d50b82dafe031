"""Powers of two and logarithms in integers (ARB-EXP-001 to -003), and the weights of rows."""

from __future__ import annotations

import torch

from ..quantise.exponents import POISONED, exponent_of

UNITS = 20  # of an octave, as a power of two
ONE = 1 << 30
_COEFFICIENTS = (ONE, 744261112, 257940808, 59591895, 10304880, 1387046, 123459)
_LOG2_E = 1.4426950216293335  # float32 0x3FB8AA3B
_MOST = 2.0**20  # octaves


def octaves(d: torch.Tensor) -> torch.Tensor:
    """t int64 of d float32, 0 or more (ARB-EXP-002)."""
    return ((d * _LOG2_E).clamp(max=_MOST) * 2.0**UNITS).long()


def weight(t: torch.Tensor) -> torch.Tensor:
    """W int64 of t int64 (ARB-EXP-002)."""
    f = t & ((1 << UNITS) - 1)
    p = torch.full_like(f, _COEFFICIENTS[-1])
    for c in reversed(_COEFFICIENTS[:-1]):
        p = c - (p * f >> UNITS)
    return p >> (t >> UNITS).clamp(max=31)


def log2(n: torch.Tensor) -> torch.Tensor:
    """lb int64 of n int64 from 2^30 on (ARB-EXP-003)."""
    k = torch.full_like(n, 30)
    for step in (16, 8, 4, 2, 1):
        k = torch.where(n >> (k + step) > 0, k + step, k)
    m, found = n >> (k - 30), k
    for _ in range(UNITS):
        m = m * m >> 30
        bit = m >> 31
        m, found = m >> bit, 2 * found + bit
    return found


def weights_of(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> t and w int64 [R, C], and which rows are poisoned, [R, 1] (ARB-SOFT-001)."""
    poisoned = exponent_of(x, 1) == POISONED
    clean = torch.where(poisoned, 0.0, x)
    t = octaves(clean.amax(1, keepdim=True) - clean)
    return t, weight(t), poisoned


def shares(w: torch.Tensor) -> torch.Tensor:
    """float32 [R, C] of w int64 [R, C], each over the sum of its row."""
    return w.float() / w.sum(1, keepdim=True).float()
