"""Trits to the dense format, five a byte (ARB-PACK-004, -005)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, new_cell, pick, require_device
from .pack import refuse_trit, report_illegal

ROWS, BYTES = pick(8, 1024), pick(256, 1024)


@triton.jit(do_not_specialize=["rows"])
def pack_dense_kernel(trits, dense, cell, rows, columns, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """dense [R, ceil(C/5)] of one tile; the cell gets the first illegal element's index."""
    dense_bytes = blocks(columns, 5)
    across = blocks(dense_bytes, BYTES)
    r = ((tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    b = (tl.program_id(0) % across).to(tl.int64) * BYTES + tl.arange(0, BYTES)[None, :]
    byte = tl.zeros((ROWS, BYTES), dtype=tl.int32)
    for place in tl.static_range(4, -1, -1):  # the first trit is the least significant
        c = b * 5 + place
        value = tl.load(trits + r * columns + c, mask=(r < rows) & (c < columns), other=0).to(tl.int32)
        report_illegal(cell, tl.abs(value) > 1, r * columns + c)
        byte = byte * 3 + value + 1
    tl.store(dense + r * dense_bytes + b, byte.to(tl.uint8), mask=(r < rows) & (b < dense_bytes))


def pack_dense(trits: torch.Tensor) -> torch.Tensor:
    """trits int8 [R, C] -> uint8 [R, ceil(C/5)]. Raises ValueError for a value outside -1..1."""
    require_device("pack_dense", trits)
    trits = row_major(trits)
    rows, columns = trits.shape
    dense = torch.empty(rows, triton.cdiv(columns, 5), dtype=torch.uint8, device=trits.device)
    cell = new_cell(trits.device)
    tile_rows, tile_bytes = block_of(rows, 1, ROWS), block_of(dense.shape[1], 4, BYTES)
    grid = (triton.cdiv(rows, tile_rows) * triton.cdiv(dense.shape[1], tile_bytes),)
    pack_dense_kernel[grid](trits, dense, cell, rows, columns, ROWS=tile_rows, BYTES=tile_bytes)
    refuse_trit(trits, cell)
    return dense
