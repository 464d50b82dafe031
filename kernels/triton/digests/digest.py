"""Sums of mixed words, row by row (ARB-DIG-001)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import blocks, require_device
from ..rows.fixed_point import launch_rows


@triton.jit
def mixed(words, places):
    """mix(w, i) of uint64 words and places of one shape."""
    z = words ^ ((places + 1) * 0x9E3779B97F4A7C15)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return tl.where(words == 0, 0, z ^ (z >> 31))


@triton.jit(do_not_specialize=["rows"])
def digest_kernel(words, first, digests, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """digests [R], ROWS rows a program."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    start = tl.load(first + r, mask=r < rows, other=0)
    c = tl.arange(0, BLOCK).to(tl.int64)
    total = tl.zeros((ROWS,), tl.int64)
    for _ in range(blocks(columns, BLOCK)):
        inside = (r < rows)[:, None] & (c < columns)[None, :]
        part = tl.load(words + r[:, None] * columns + c[None, :], mask=inside, other=0)
        places = start[:, None] + c[None, :]
        total += tl.sum(mixed(part.to(tl.uint64), places.to(tl.uint64)).to(tl.int64), axis=1)
        c += BLOCK
    tl.store(digests + r, total, mask=r < rows)


def digest(words: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """words int64 [R, C] and first int64 [R] -> digests int64 [R]."""
    require_device("digest", words)
    words, first = row_major(words), row_major(first)
    rows, columns = words.shape
    digests = torch.empty(rows, dtype=torch.int64, device=words.device)
    launch_rows(digest_kernel, rows, columns, words, first, digests, arrays_of_a_row=2)
    return digests
