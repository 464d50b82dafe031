"""w^ = trit << (e - e_base) as int8 in memory, in the layout that a product reads (section 5).

A quarter byte and its exponent become one byte a weight, once a call: at 4,096 tokens that is a few percent
of the product's time, and the product then runs at the speed of plain int8 operands. Few tokens go through
`linear_forward`'s own kernel, which reads the packed codes alone.

Both kernels read words of 16 codes and make words of four weights, which lie side by side in memory: four
columns of a row, or, transposed, four rows of a column. Nothing smaller than a word moves between threads.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import padded_rows, pick

ROWS, WORDS = pick(8, 64), 64  # a tile of rows as they are: 8 x 1024 weights
QUADS, TURNED_WORDS = pick(16, 64), 16  # a tile that is turned: 64 x 256 weights
WARPS = 8


@triton.jit
def _weights(fields, ones):
    """Words of codes, in the low bits of four bytes, and of one = 1 << (e - e_base) -> trit * one."""
    low, high = (fields & 0x01010101) * 0xFF, (fields >> 1 & 0x01010101) * 0xFF
    minus = ~(ones - 0x01010101)
    return (high & ones) | (~(high | low) & minus)


@triton.jit
def _spread(byte):
    """A byte of four codes -> a word of them."""
    apart = byte | byte << 12
    return (apart | apart << 6) & 0x03030303


@triton.jit
def _load_one(exponents, row, column, rows, groups, group_size, e_base):
    """uint32 1 << (e - e_base), that of the nearest row and group where there is none."""
    group = tl.minimum(column // group_size, groups - 1)
    e = tl.load(exponents + tl.minimum(row, rows - 1).to(tl.int64) * groups + group)
    return (1 << (e.to(tl.int32) - e_base)).to(tl.uint32)


@triton.jit
def _load_words(codes, row, word, rows, words):
    """uint32, 16 codes each."""
    inside = (row < rows) & (word < words)
    return tl.load(codes + row.to(tl.int64) * words + word, mask=inside, other=0).to(tl.uint32, bitcast=True)


@triton.jit
def scaled_weight_kernel(
    codes,
    exponents,
    out,
    rows,
    words,
    groups,
    group_size,
    e_base,
    out_words,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """out int32 [O, out_words] of codes int32 [O, W]. WHOLE: no group of columns ends inside a word."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    word = (tl.program_id(1) * WORDS + tl.arange(0, WORDS))[None, :]
    packed = _load_words(codes, row, word, rows, words)
    one = _load_one(exponents, row, word * 16, rows, groups, group_size, e_base)
    w0 = _weights(_spread(packed & 0xFF), one * 0x01010101)
    if not WHOLE:
        one = _load_one(exponents, row, word * 16 + 4, rows, groups, group_size, e_base)
    w1 = _weights(_spread(packed >> 8 & 0xFF), one * 0x01010101)
    if not WHOLE:
        one = _load_one(exponents, row, word * 16 + 8, rows, groups, group_size, e_base)
    w2 = _weights(_spread(packed >> 16 & 0xFF), one * 0x01010101)
    if not WHOLE:
        one = _load_one(exponents, row, word * 16 + 12, rows, groups, group_size, e_base)
    w3 = _weights(_spread(packed >> 24), one * 0x01010101)
    weights = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (ROWS, 4 * WORDS))
    place = (tl.program_id(1) * (4 * WORDS) + tl.arange(0, 4 * WORDS))[None, :]
    inside = (row < rows) & (place < out_words)
    tl.store(out + row.to(tl.int64) * out_words + place, weights.to(tl.int32, bitcast=True), mask=inside)


@triton.jit
def _turn(p0, p1, p2, p3):
    """Four words of bytes, [row][column] -> [column][row]."""
    even, odd = (p0 & 0xFF00FF) | (p1 & 0xFF00FF) << 8, (p0 >> 8 & 0xFF00FF) | (p1 & 0xFF00FF00)
    even_2, odd_2 = (p2 & 0xFF00FF) | (p3 & 0xFF00FF) << 8, (p2 >> 8 & 0xFF00FF) | (p3 & 0xFF00FF00)
    q0, q1 = (even & 0xFFFF) | even_2 << 16, (odd & 0xFFFF) | odd_2 << 16
    q2, q3 = even >> 16 | (even_2 & 0xFFFF0000), odd >> 16 | (odd_2 & 0xFFFF0000)
    return q0, q1, q2, q3


@triton.jit
def _load_ones(exponents, row, column, rows, groups, group_size, e_base):
    """A word of `one` of four rows."""
    ones = _load_one(exponents, row, column, rows, groups, group_size, e_base)
    for r in tl.static_range(1, 4):
        ones |= _load_one(exponents, row + r, column, rows, groups, group_size, e_base) << 8 * r
    return ones


@triton.jit
def _four_columns(fields, ones):
    """A word of bytes of four rows, all codes of the same four columns -> [..., 2, 2] of four columns."""
    w0, w1 = _weights(fields & 0x03030303, ones), _weights(fields >> 2 & 0x03030303, ones)
    w2, w3 = _weights(fields >> 4 & 0x03030303, ones), _weights(fields >> 6 & 0x03030303, ones)
    return tl.join(tl.join(w0, w2), tl.join(w1, w3))


@triton.jit
def turned_weight_kernel(
    codes,
    exponents,
    out,
    rows,
    words,
    groups,
    group_size,
    e_base,
    out_words,
    columns,
    QUADS: tl.constexpr,
    WORDS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """out int32 [I, out_words], the transpose: a word is a column of four rows."""
    row = (tl.program_id(0) * (4 * QUADS) + 4 * tl.arange(0, QUADS))[:, None]
    word = (tl.program_id(1) * WORDS + tl.arange(0, WORDS))[None, :]
    q0, q1, q2, q3 = _turn(
        _load_words(codes, row, word, rows, words),
        _load_words(codes, row + 1, word, rows, words),
        _load_words(codes, row + 2, word, rows, words),
        _load_words(codes, row + 3, word, rows, words),
    )
    ones = _load_ones(exponents, row, word * 16, rows, groups, group_size, e_base)
    c0 = _four_columns(q0, ones)
    if not WHOLE:
        ones = _load_ones(exponents, row, word * 16 + 4, rows, groups, group_size, e_base)
    c1 = _four_columns(q1, ones)
    if not WHOLE:
        ones = _load_ones(exponents, row, word * 16 + 8, rows, groups, group_size, e_base)
    c2 = _four_columns(q2, ones)
    if not WHOLE:
        ones = _load_ones(exponents, row, word * 16 + 12, rows, groups, group_size, e_base)
    c3 = _four_columns(q3, ones)
    fields = tl.join(tl.join(c0, c2), tl.join(c1, c3))  # quad, word, field: 2 x 2, byte: 2 x 2
    weights = tl.reshape(tl.permute(fields, (1, 4, 5, 2, 3, 0)), (16 * WORDS, QUADS))
    line = (tl.program_id(1) * (16 * WORDS) + tl.arange(0, 16 * WORDS))[:, None]
    place = (tl.program_id(0) * QUADS + tl.arange(0, QUADS))[None, :]
    inside = (line < columns) & (place < out_words)
    tl.store(out + line.to(tl.int64) * out_words + place, weights.to(tl.int32, bitcast=True), mask=inside)


def words_of(codes: torch.Tensor) -> torch.Tensor:
    """codes uint8 [O, B] -> int32 [O, ceil(B/4)]; a copy where rows are not whole words."""
    rows, code_bytes = codes.shape
    codes = row_major(codes)
    if code_bytes % 4 or codes.data_ptr() % 4:
        words = codes.new_empty(rows, -(-code_bytes // 4) * 4)
        words[:, :code_bytes] = codes
        codes = words
    return codes.view(torch.int32)


def scaled_weight(
    codes: torch.Tensor, e: torch.Tensor, e_base: int, group_size: int, columns: int, transposed: bool
) -> torch.Tensor:
    """codes uint8 [O, ceil(I/4)], e int8 [O, G] -> w^ int8 [O, I], or [I, O] if transposed; rows aligned."""
    packed, e = words_of(codes), row_major(e)
    (rows, words), groups, whole = packed.shape, e.shape[1], group_size % 16 == 0
    shape = (columns, rows) if transposed else (rows, columns)
    out = padded_rows(*shape, codes.device)
    place = out.view(torch.int32)
    given = (packed, e, place, rows, words, groups, group_size, e_base, place.shape[1])
    if transposed:
        grid = (triton.cdiv(rows, 4 * QUADS), triton.cdiv(words, TURNED_WORDS))
        turned_weight_kernel[grid](
            *given, columns, QUADS=QUADS, WORDS=TURNED_WORDS, WHOLE=whole, num_warps=WARPS
        )
    else:
        grid = (triton.cdiv(rows, ROWS), triton.cdiv(words, WORDS))
        scaled_weight_kernel[grid](*given, ROWS=ROWS, WORDS=WORDS, WHOLE=whole, num_warps=WARPS)
    return out[:, : shape[1]]
