"""Initial codes: a third of the trits are zero (ARB-INIT-001)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..launch import block_of, blocks, pick, random_key, working_device
from ..packing.codes import encode
from .generator import word, word_quads

ROWS, BYTES = pick(8, 512), pick(128, 512)


@triton.jit(do_not_specialize=["rows", "stream", "key_low", "key_high"])
def initialise_kernel(
    codes,
    rows,
    columns,
    code_bytes,
    stream,
    key_low,
    key_high,
    ROWS: tl.constexpr,
    BYTES: tl.constexpr,
    QUADS: tl.constexpr,
):
    """codes [O, ceil(I/4)], one tile a program; QUADS: I is a multiple of 4, so a byte is one counter."""
    across = blocks(code_bytes, BYTES)
    r = ((tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    first = (tl.program_id(0) % across).to(tl.int64) * BYTES
    b = first + tl.arange(0, BYTES)[None, :]
    c = first * 4 + tl.arange(0, BYTES * 4)[None, :]
    step = stream ^ stream
    if QUADS:
        drawn = word_quads(r * code_bytes + b, step, stream, key_low, key_high)
    else:
        drawn = word(r * columns + c, step, stream, key_low, key_high)
    trits = ((drawn.to(tl.int64) * 3) >> 32).to(tl.int32) - 1
    trits = tl.where(c < columns, trits, 0)
    tl.store(codes + r * code_bytes + b, encode(trits), mask=(r < rows) & (b < code_bytes))


def initialise(
    out_features: int, in_features: int, seed: int, tensor_id: int, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """codes uint8 [O, ceil(I/4)]."""
    code_bytes = triton.cdiv(in_features, 4)
    codes = torch.empty(out_features, code_bytes, dtype=torch.uint8, device=working_device(device))
    tile_rows, tile_bytes = block_of(out_features, 1, ROWS), block_of(code_bytes, 4, BYTES)
    grid = (triton.cdiv(out_features, tile_rows) * triton.cdiv(code_bytes, tile_bytes),)
    _, stream, key_low, key_high = random_key(seed, 0, 16 * tensor_id)
    initialise_kernel[grid](
        codes,
        out_features,
        in_features,
        code_bytes,
        stream,
        key_low,
        key_high,
        ROWS=tile_rows,
        BYTES=tile_bytes,
        QUADS=in_features % 4 == 0,
    )
    return codes.to(device)
