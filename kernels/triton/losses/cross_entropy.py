"""What rows of logits say of their targets, and the gradient of that (ARB-LOSS-001)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...checks import check_tokens
from ...layout import row_major
from ..launch import require_device
from ..rows.fixed_point import launch_rows, nan_where, tile_of
from .exponential import largest_of, log2, row_octaves, totals_of, weight


@triton.jit(do_not_specialize=["rows"])
def cross_entropy_kernel(x, targets, losses, dx, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """losses [T] and dx [T, C], ROWS rows a program; a target outside ends in the device's assertion."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    target = tl.load(targets + r, mask=r < rows, other=0)
    tl.device_assert((target >= 0) & (target < columns), "target outside the classes")
    largest, poisoned = largest_of(x, r, rows, columns, BLOCK)
    whole = totals_of(x, r, largest, poisoned, rows, columns, BLOCK)
    right = tl.load(x + r * columns + target, mask=r < rows, other=0.0)
    t = row_octaves(tl.where(r < rows, right, largest)[:, None], largest, poisoned)
    loss = log2(whole) - 30 * 1048576 + tl.sum(t, axis=1)
    tl.store(losses + r, tl.where(poisoned, -1, loss), mask=r < rows)
    total = whole.to(tl.float32)
    for start in range(0, columns, BLOCK):
        values, places, inside = tile_of(x, r, start, rows, columns, BLOCK)
        w = weight(row_octaves(tl.where(inside, values, largest[:, None]), largest, poisoned))
        share = tl.div_rn(w.to(tl.float32), tl.zeros_like(values) + total[:, None])
        c = start + tl.arange(0, BLOCK)
        found = share - tl.where(c[None, :] == target[:, None], 1.0, 0.0)
        tl.store(dx + places, nan_where(poisoned[:, None], found), mask=inside)


def cross_entropy(x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [T, C], targets int64 [T] -> losses int64 [T] in octaves of 2^-20, dx float32 [T, C].

    Raises ValueError for a target outside 0..C-1; on CUDA the device asserts.
    """
    require_device("cross_entropy", x)
    check_tokens(targets, x.shape[1], "targets")
    x, targets = row_major(x), row_major(targets)
    rows, columns = x.shape
    dx, losses = torch.empty_like(x), torch.empty_like(targets)
    # debug keeps the assertion
    launch_rows(
        cross_entropy_kernel,
        rows,
        columns,
        x,
        targets,
        losses,
        dx,
        arrays_of_a_row=4,
        debug=True,
        sanitize_overflow=False,
    )
    return losses, dx
