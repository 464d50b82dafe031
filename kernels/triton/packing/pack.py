"""Trits to 2-bit codes (ARB-PACK-001, -002, -004)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, first_illegal, new_cell, pick, require_device
from .codes import encode

ROWS, BYTES = pick(16, 1024), pick(128, 256)


@triton.jit
def report_illegal(cell, illegal, place):
    """Lower the int64 `cell` to the smallest of the places whose mask is set."""
    if tl.max(tl.max(illegal.to(tl.int32), axis=1), axis=0) > 0:
        first = tl.min(tl.min(tl.where(illegal, place, 0x7FFFFFFFFFFFFFFF), axis=1), axis=0)
        tl.atomic_min(cell, first, sem="relaxed")


@triton.jit(do_not_specialize=["rows"])
def pack_kernel(trits, codes, cell, rows, columns, code_bytes, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """codes [R, ceil(C/4)] of one tile; the cell gets the first illegal element's index."""
    across = blocks(code_bytes, BYTES)
    r = ((tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    first = (tl.program_id(0) % across).to(tl.int64) * BYTES
    c = first * 4 + tl.arange(0, BYTES * 4)[None, :]
    b = first + tl.arange(0, BYTES)[None, :]
    values = tl.load(trits + r * columns + c, mask=(r < rows) & (c < columns), other=0).to(tl.int32)
    report_illegal(cell, tl.abs(values) > 1, r * columns + c)
    tl.store(codes + r * code_bytes + b, encode(values), mask=(r < rows) & (b < code_bytes))


def refuse_trit(trits: torch.Tensor, cell: torch.Tensor) -> None:
    """Raises ValueError if the cell holds an element's index. Waits for the device."""
    place = first_illegal(cell)
    if place is not None:
        row, column = divmod(place, trits.shape[1])
        raise ValueError(f"trits[{row}, {column}] = {trits[row, column].item()}, expected -1, 0 or 1")


def pack(trits: torch.Tensor) -> torch.Tensor:
    """trits int8 [R, C] -> codes uint8 [R, ceil(C/4)]. Raises ValueError for a value outside -1..1."""
    require_device("pack", trits)
    trits = row_major(trits)
    rows, columns = trits.shape
    code_bytes = triton.cdiv(columns, 4)
    codes = torch.empty(rows, code_bytes, dtype=torch.uint8, device=trits.device)
    cell = new_cell(trits.device)
    tile_rows, tile_bytes = block_of(rows, 1, ROWS), block_of(code_bytes, 4, BYTES)
    grid = (triton.cdiv(rows, tile_rows) * triton.cdiv(code_bytes, tile_bytes),)
    pack_kernel[grid](trits, codes, cell, rows, columns, code_bytes, ROWS=tile_rows, BYTES=tile_bytes)
    refuse_trit(trits, cell)
    return codes
