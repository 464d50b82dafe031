"""Words of the counter-based generator, as an operation of their own (ARB-RNG-001, -002)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..launch import block_of, pick, random_key, signed, working_device
from .generator import word_quads

BLOCK = pick(1024, 65536)


@triton.jit(do_not_specialize=["count", "first_low", "first_high", "step", "stream", "key_low", "key_high"])
def philox_kernel(words, count, first_low, first_high, step, stream, key_low, key_high, BLOCK: tl.constexpr):
    """words int64 [count]; the quads of a program begin at a multiple of 4, `first` may not."""
    first = (first_high.to(tl.int64) << 32) | first_low.to(tl.uint32).to(tl.int64)
    start = tl.program_id(0).to(tl.int64) * BLOCK
    quad = (first >> 2) + start // 4 + tl.arange(0, BLOCK // 4)
    place = start - (first & 3) + tl.arange(0, BLOCK)
    found = word_quads(quad, step, stream, key_low, key_high).to(tl.int64)
    tl.store(words + place, found, mask=(place >= 0) & (place < count))


def philox(
    first: int, count: int, seed: int, step: int, stream: int, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """word(first) ... word(first + count - 1), int64 [count]."""
    words = torch.empty(count, dtype=torch.int64, device=working_device(device))
    block = block_of(count + 3, 16, BLOCK)
    philox_kernel[(triton.cdiv(count + first % 4, block),)](
        words,
        count,
        signed(first & 0xFFFFFFFF),
        first >> 32,
        *random_key(seed, step, stream),
        BLOCK=block,
    )
    return words.to(device)
