"""The dense format to trits, legality checked (ARB-PACK-006)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, first_illegal, new_cell, require_device
from .pack import report_illegal
from .pack_dense import BYTES, ROWS


@triton.jit(do_not_specialize=["rows"])
def unpack_dense_kernel(dense, trits, cell, rows, columns, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """trits [R, C] of one tile; the cell gets the first illegal byte's index."""
    dense_bytes = blocks(columns, 5)
    across = blocks(dense_bytes, BYTES)
    r = ((tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    b = (tl.program_id(0) % across).to(tl.int64) * BYTES + tl.arange(0, BYTES)[None, :]
    inside = (r < rows) & (b < dense_bytes)
    # 121 is five times code 1
    byte = tl.load(dense + r * dense_bytes + b, mask=inside, other=121).to(tl.int32)
    illegal = byte > 242
    rest = byte
    for place in tl.static_range(5):
        trit = rest % 3 - 1
        rest = rest // 3
        c = b * 5 + place
        illegal |= (trit != 0) & (c >= columns)
        tl.store(trits + r * columns + c, trit.to(tl.int8), mask=(r < rows) & (c < columns))
    report_illegal(cell, illegal, r * dense_bytes + b)


def unpack_dense(dense: torch.Tensor, columns: int) -> torch.Tensor:
    """dense uint8 [R, ceil(C/5)] -> trits int8 [R, C]. Raises ValueError for bytes over 242 and for padding
    not code 1."""
    require_device("unpack_dense", dense)
    dense = row_major(dense)
    rows, dense_bytes = dense.shape
    trits = torch.empty(rows, columns, dtype=torch.int8, device=dense.device)
    cell = new_cell(dense.device)
    tile_rows, tile_bytes = block_of(rows, 1, ROWS), block_of(dense_bytes, 4, BYTES)
    grid = (triton.cdiv(rows, tile_rows) * triton.cdiv(dense_bytes, tile_bytes),)
    unpack_dense_kernel[grid](dense, trits, cell, rows, columns, ROWS=tile_rows, BYTES=tile_bytes)
    place = first_illegal(cell)
    if place is not None:
        row, byte = divmod(place, dense_bytes)
        raise ValueError(
            f"dense[{row}, {byte}] = {dense[row, byte].item()}, "
            "expected a byte 0..242 whose padding holds code 1"
        )
    return trits
