"""y = x W^T for at most 32 tokens (ARB-LIN-001, -003, -004): the time is that of reading the packed codes.

So codes are read once, packed, by enough programs to keep the memory busy: some share rows of W and write
their part of the sums, which a second kernel adds and scales. W is the tall operand of the matrix unit, whose
tiles have at least 64 rows; the tokens are its 16 or 32 columns. The three kernels are launched so that each
starts while the one before it ends ("programmatic dependent launch").

The product runs over the columns of a block in another order: field 0 of its 32 bytes of codes, field 1, ...
Weights are then made four at a time, in the registers where their codes are, and nothing is interleaved.
Tokens are brought into that order first (`planes_kernel`). A field becomes a byte of -64 * trit by one mask
and one exclusive or:

    code    0     1     2
    << 6   0x00  0x40  0x80
    ^0x40  0x40  0x00  0xC0   = 64, 0, -64

Where a block is in one group of columns, its sums are shifted right by 6 - (e - e_base), which is exact.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from ...layout import row_major
from ..launch import INTERPRETED, float_overflow
from ..quantise.exponents import scaled_rows

MOST = 32  # tokens
BLOCK_O, BLOCK_BYTES = 64, 32  # 64 x 128 weights
PLANES = 1024  # bytes of a token that one program reorders
SUMS = 512  # rows of W whose parts one program adds
SPLITS = 16  # the most programs that share rows
PROGRAMS = 512  # from which the device is busy
WARPS, STAGES = 4, {1: 4, 4: 3}

_INTERPRETED = tl.constexpr(INTERPRETED)


@triton.jit
def _let_next_start():
    """The next kernel may take free multiprocessors: it waits for this one's results itself."""
    if not _INTERPRETED:
        gdc_launch_dependents()


@triton.jit
def _wait_for_last():
    """Until the kernel before this one has ended and what it wrote can be read."""
    if not _INTERPRETED:
        gdc_wait()


@triton.jit
def planes_kernel(q_x, planes, columns, width, token_stride, BLOCK: tl.constexpr, BLOCK_BYTES: tl.constexpr):
    """planes int8 [T, width / (4 B), 4, B] of q_x [T, I], B = BLOCK_BYTES: field, byte; zeros behind I."""
    _let_next_start()
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    field, byte = place // BLOCK_BYTES % 4, place % BLOCK_BYTES
    column = place // (4 * BLOCK_BYTES) * (4 * BLOCK_BYTES) + 4 * byte + field
    token = tl.program_id(1)
    x = tl.load(q_x + token * token_stride + column, mask=column < columns, other=0)
    tl.store(planes + token * width + place, x, mask=place < width)


@triton.constexpr_function
def _field_assembly(field):
    """Four bytes: a shift that may cross bytes, then (high & 0xC0...) ^ 0x40..."""
    return f"""{{
        .reg .b32 high;
        shl.b32 high, $1, {6 - 2 * field};
        lop3.b32 $0, high, 0xC0C0C0C0, 0x40404040, 0x6A;
    }}"""


@triton.jit
def _field(packed, FIELD: tl.constexpr):
    """packed uint8 -> int8, -64 * trit of that field of every byte; the interpreter has no assembly."""
    if _INTERPRETED:
        return (((packed << (6 - 2 * FIELD)) & 0xC0) ^ 0x40).to(tl.int8, bitcast=True)
    else:
        asm: tl.constexpr = _field_assembly(FIELD)
        return tl.inline_asm_elementwise(asm, "=r,r", [packed], dtype=tl.int8, is_pure=True, pack=4)


@triton.constexpr_function
def _scaled_assembly():
    """The fields of four bytes and the words of 4 bytes `one` = 1 << (e - e_base) -> trit * one.

    prmt spreads the upper bit of every byte over it: bit 1 of a field says one, not -one; bit 0 says zero.
    """
    field = """
        shl.b32 high, $4, {shift};
        shl.b32 low, high, 1;
        prmt.b32 high, high, 0, 0xBA98;
        prmt.b32 low, low, 0, 0xBA98;
        lop3.b32 high, minus, high, both, 0x78;
        lop3.b32 ${field}, high, low, low, 0x30;"""
    fields = "".join(field.format(shift=6 - 2 * j, field=j) for j in range(4))
    return f"""{{
        .reg .b32 high, low, minus, both;
        sub.u32 minus, $5, 0x01010101;
        not.b32 minus, minus;
        xor.b32 both, minus, $5;{fields}
    }}"""


@triton.jit
def _scaled_fields(packed, one):
    """packed uint8 and one int8 (1, 2, ... 64), alike -> four int8: the trits of every field times one."""
    if _INTERPRETED:
        w0 = ((packed & 3).to(tl.int8, bitcast=True) - 1) * one
        w1 = ((packed >> 2 & 3).to(tl.int8, bitcast=True) - 1) * one
        w2 = ((packed >> 4 & 3).to(tl.int8, bitcast=True) - 1) * one
        w3 = ((packed >> 6).to(tl.int8, bitcast=True) - 1) * one
        return w0, w1, w2, w3
    else:
        asm: tl.constexpr = _scaled_assembly()
        return tl.inline_asm_elementwise(
            asm,
            "=&r,=&r,=&r,=&r,r,r",
            [packed, one],
            dtype=(tl.int8, tl.int8, tl.int8, tl.int8),
            is_pure=True,
            pack=4,
        )


@triton.jit
def _side_by_side(w0, w1, w2, w3):
    """Four [O, B] -> [O, 4B], one behind the other: in registers, nothing moves between threads."""
    rows: tl.constexpr = w0.shape[0]
    columns: tl.constexpr = 4 * w0.shape[1]
    fields = tl.permute(tl.join(tl.join(w0, w1), tl.join(w2, w3)), (0, 3, 2, 1))
    return tl.reshape(fields, (rows, columns))


@triton.jit
def few_tokens_kernel(
    planes,
    codes,
    exponents,
    sums,
    tokens,
    rows,
    code_bytes,
    groups,
    group_inverse,
    e_base,
    width,
    steps,
    BLOCK_O: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCKS_OF_GROUP: tl.constexpr,
    STEP: tl.constexpr,
):
    """sums int32 [S, T, O] of a program's steps, of STEP blocks of columns each, S = programs along axis 1.

    BLOCKS_OF_GROUP is 0 if a block of columns is in several groups. With a STEP of 4 it is 1, and exponents
    are read as words. What is behind the columns meets zeros in `planes`.
    """
    row = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    here = tl.minimum(row, rows - 1).to(tl.int64)  # sums of rows that are not there are not stored
    token = tl.arange(0, BLOCK_T)
    lines = codes + here[:, None] * code_bytes
    x_lines = planes + token[None, :] * width
    groups = groups // STEP
    scales = exponents + here * groups
    start = tl.program_id(1) * steps
    end = tl.minimum(start + steps, width // (4 * BLOCK_BYTES * STEP))
    total = tl.zeros((BLOCK_O, BLOCK_T), dtype=tl.int32)
    if BLOCKS_OF_GROUP:  # a step ahead: they are needed at its end
        e = tl.load(scales + tl.minimum(start // BLOCKS_OF_GROUP, groups - 1))
    _wait_for_last()
    _let_next_start()
    for step in range(start, end):
        if BLOCKS_OF_GROUP:
            e_next = tl.load(scales + tl.minimum((step + 1) // BLOCKS_OF_GROUP, groups - 1))
        for part in tl.static_range(STEP):
            block = step * STEP + part
            byte = block * BLOCK_BYTES + tl.arange(0, BLOCK_BYTES)
            packed = tl.load(lines + byte[None, :], mask=(byte < code_bytes)[None, :], other=0)
            column = block * (4 * BLOCK_BYTES) + tl.arange(0, 4 * BLOCK_BYTES)
            x = tl.load(x_lines + column[:, None], mask=(token < tokens)[None, :], other=0)
            if BLOCKS_OF_GROUP:
                shift = 6 + e_base - (e.to(tl.int32) << (24 - 8 * part) >> 24)
                w = _side_by_side(_field(packed, 0), _field(packed, 1), _field(packed, 2), _field(packed, 3))
                total -= tl.dot(w, x, out_dtype=tl.int32) >> shift[:, None]
            else:
                group = tl.minimum(tl.umulhi(4 * byte, group_inverse), groups - 1)
                e_block = tl.load(scales[:, None] + group[None, :])
                w0, w1, w2, w3 = _scaled_fields(packed, (1 << (e_block.to(tl.int32) - e_base)).to(tl.int8))
                total = tl.dot(_side_by_side(w0, w1, w2, w3), x, total, out_dtype=tl.int32)
        if BLOCKS_OF_GROUP:
            e = e_next
    tl.store(
        sums + (tl.program_id(1) * tokens + token)[None, :] * rows + row[:, None],
        total,
        mask=(row < rows)[:, None] & (token < tokens)[None, :],
    )


@triton.jit
def finish_kernel(sums, e_x, y, tokens, rows, e_base, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """y float32 [T, O] = float32(sum of sums int32 [SPLITS, T, O]) * 2^min(e_x + e_base, 127)."""
    row, token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1)
    total = tl.zeros((BLOCK,), dtype=tl.int32)
    _wait_for_last()
    for split in tl.static_range(SPLITS):
        total += tl.load(sums + (split * tokens + token) * rows + row, mask=row < rows, other=0)
    e = tl.load(e_x + token).to(tl.int32)
    tl.store(y + token * rows + row, scaled_rows(total, e, e_base), mask=row < rows)


def splits_of(row_blocks: int, blocks: int) -> int:
    """How many programs share rows: a power of two, each with a block of columns at least."""
    wanted = 1
    while 2 * wanted <= min(SPLITS, blocks) and row_blocks * wanted < PROGRAMS:
        wanted *= 2
    return wanted


def few_tokens(
    q_x: torch.Tensor, e_x: torch.Tensor, codes: torch.Tensor, e: torch.Tensor, e_base: int, group_size: int
) -> torch.Tensor:
    """As linear_forward, for at most MOST tokens."""
    q_x, codes, e = row_major(q_x), row_major(codes), row_major(e)
    (tokens, columns), (rows, code_bytes) = q_x.shape, codes.shape
    step = blocks_of_step(e, group_size)
    steps, row_blocks = triton.cdiv(code_bytes, BLOCK_BYTES * step), triton.cdiv(rows, BLOCK_O)
    width, splits = 4 * BLOCK_BYTES * step * steps, splits_of(row_blocks, steps)
    planes = torch.empty(tokens, width, dtype=torch.int8, device=q_x.device)
    sums = torch.empty(splits, tokens, rows, dtype=torch.int32, device=q_x.device)
    y = torch.empty(tokens, rows, dtype=torch.float32, device=q_x.device)
    planes_kernel[(triton.cdiv(width, PLANES), tokens)](
        q_x, planes, columns, width, columns, BLOCK=PLANES, BLOCK_BYTES=BLOCK_BYTES
    )
    few_tokens_kernel[(row_blocks, splits)](
        planes,
        codes,
        e if step == 1 else e.view(torch.int32),
        sums,
        tokens,
        rows,
        code_bytes,
        e.shape[1],
        group_inverse(group_size),
        e_base,
        width,
        triton.cdiv(steps, splits),
        BLOCK_O=BLOCK_O,
        BLOCK_BYTES=BLOCK_BYTES,
        BLOCK_T=columns_of(tokens),
        BLOCKS_OF_GROUP=blocks_of_group(group_size),
        STEP=step,
        num_warps=WARPS,
        num_stages=STAGES[step],
        launch_pdl=True,
    )
    with float_overflow():
        finish_kernel[(triton.cdiv(rows, SUMS), tokens)](
            sums,
            row_major(e_x),
            y,
            tokens,
            rows,
            e_base,
            SPLITS=splits,
            BLOCK=SUMS,
            launch_pdl=True,
        )
    return y


def blocks_of_group(group_size: int) -> int:
    """How many blocks of columns a group has, if it is whole blocks; otherwise 0."""
    return 0 if group_size % (4 * BLOCK_BYTES) else group_size // (4 * BLOCK_BYTES)


def blocks_of_step(e: torch.Tensor, group_size: int) -> int:
    """4 if exponents can be read as words, one of a row for 4 blocks; otherwise 1."""
    words = e.shape[1] % 4 == 0 and e.data_ptr() % 4 == 0
    return 4 if words and blocks_of_group(group_size) == 1 else 1


def group_inverse(group_size: int) -> int:
    """m with column // group_size = (column * m) >> 32 for columns that are multiples of 4: byte b of codes
    in groups of g bytes wants b * (g - 1) < 2^30. ARB-STATE-005 ends at I = 16909320 and g at 256; 256
    divides 2^30, so that its m is exact, and 255 and less keep within."""
    return -(-(2**32) // group_size)


def columns_of(tokens: int) -> int:
    """Columns of the product's tile: 16 or 32. Triton 3.6 takes no Hopper product of 8."""
    return max(16, triton.next_power_of_2(tokens))
