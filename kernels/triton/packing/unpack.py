"""2-bit codes to trits, legality checked (ARB-PACK-003)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, first_illegal, new_cell, require_device
from .codes import decode
from .pack import BYTES, ROWS, report_illegal


@triton.jit(do_not_specialize=["rows"])
def unpack_kernel(codes, trits, cell, rows, columns, code_bytes, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """trits [R, C] of one tile; the cell gets the first illegal field's index, padding fields counted."""
    across = blocks(code_bytes, BYTES)
    r = ((tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    first = (tl.program_id(0) % across).to(tl.int64) * BYTES
    c = first * 4 + tl.arange(0, BYTES * 4)[None, :]
    b = first + tl.arange(0, BYTES)[None, :]
    found = decode(tl.load(codes + r * code_bytes + b, mask=(r < rows) & (b < code_bytes), other=0x55))
    illegal = (found == 2) | ((found != 0) & (c >= columns))
    report_illegal(cell, illegal, r * code_bytes * 4 + c)
    tl.store(trits + r * columns + c, found.to(tl.int8), mask=(r < rows) & (c < columns))


def unpack(codes: torch.Tensor, columns: int) -> torch.Tensor:
    """codes uint8 [R, ceil(C/4)] -> trits int8 [R, C]. Raises ValueError for code 3 and for padding that is
    not code 1."""
    require_device("unpack", codes)
    codes = row_major(codes)
    rows, code_bytes = codes.shape
    trits = torch.empty(rows, columns, dtype=torch.int8, device=codes.device)
    cell = new_cell(codes.device)
    tile_rows, tile_bytes = block_of(rows, 1, ROWS), block_of(code_bytes, 4, BYTES)
    grid = (triton.cdiv(rows, tile_rows) * triton.cdiv(code_bytes, tile_bytes),)
    unpack_kernel[grid](codes, trits, cell, rows, columns, code_bytes, ROWS=tile_rows, BYTES=tile_bytes)
    place = first_illegal(cell)
    if place is not None:
        row, column = divmod(place, 4 * code_bytes)
        byte = int(codes[row, column // 4])
        expected = "padding code 1" if column >= columns else "a code 0, 1 or 2"
        raise ValueError(
            f"codes[{row}, {column // 4}] = {byte} (0b{byte:08b}): field {column % 4} holds "
            f"{(byte >> 2 * (column % 4)) & 3}, expected {expected}"
        )
    return trits
