"""An update from a given integer gradient, in place (ARB-UPD-001), and the kernel that the embedding's update
shares: some rows of one group a program, so that every sum that section 6 asks for is inside one program."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, in_place, pick, random_key, require_device
from ..packing.codes import decode, encode
from ..random_bits.generator import r16, r16_quads
from .moment import advance, mean_square, root_factor, square_shift
from .rules import SCALE_VOTE, VOTE, fire, mean_bit_length, scale_step, votes

TILE = pick(2048, 65536)  # elements a program
COUNTERS = 1024  # rows a program that counts steps


@triton.jit
def settle_exponents(
    row, group, valid, total, h, e, e_accum, groups, scale_gain, e_threshold, e_base, e_span,
    step, stream, key_low, key_high, LIMIT: tl.constexpr,
):  # fmt: skip
    """Exponents of one group of each row, in place -> masks [R] of votes and moves (ARB-SCALE-001, -002)."""
    place = row * groups + group
    old_e = tl.load(e + place, mask=valid, other=0).to(tl.int32)
    old_accum = tl.load(e_accum + place, mask=valid, other=0).to(tl.int32)
    drawn = r16(place, step, stream, key_low, key_high)
    new_e, accum, vote = scale_step(
        old_e, old_accum, h, total, drawn, scale_gain, e_threshold, e_base, e_span, LIMIT
    )
    # several threads hold the same row: all have read it before one writes it
    tl.debug_barrier()
    tl.store(e + place, new_e.to(e.dtype.element_ty), mask=valid)
    tl.store(e_accum + place, accum.to(e_accum.dtype.element_ty), mask=valid)
    return valid & (vote != 0), valid & (new_e != old_e)


@triton.jit
def add_counts(counts, voted, fired, moved, scale_voted, e_moved):
    """Add the numbers of what is set in the masks of a tile to counts int64 [5]."""
    tl.atomic_add(counts, tl.sum(voted.to(tl.int32)).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 1, tl.sum(fired.to(tl.int32)).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 2, tl.sum(moved.to(tl.int32)).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 3, tl.sum(scale_voted.to(tl.int32)).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 4, tl.sum(e_moved.to(tl.int32)).to(tl.int64), sem="relaxed")


@triton.jit
def group_factor(g, total, count, moment, place, valid, e_g, updates, gain, RULE: tl.constexpr):
    """Factor and shift of the votes of a group a row, int64 [R, 1] or scalars, from g int32 [R, C] and S
    int64 [R]; and the moments int32 [R] behind them, which the caller stores (ARB-VOTE-001, -005)."""
    if RULE == "adaptive":
        shift = square_shift(total)
        half = ((1 << shift) >> 1).to(tl.int64)
        f = (tl.abs(g.to(tl.int64)) + half[:, None]) >> shift[:, None]
        a, x_a = mean_square(tl.sum((f * f).to(tl.int32), axis=1), shift, e_g, count)
        new = advance(tl.load(moment + place, mask=valid, other=0), a, x_a, updates)
        factor, down = root_factor(new, e_g, gain)
        result = factor.to(tl.int64)[:, None], down.to(tl.int64)[:, None], new
    else:
        result = gain, mean_bit_length(total, count)[:, None], total
    return result


@triton.jit(do_not_specialize=["rows"])
def count_step_kernel(touched, step_counter, rows, BLOCK: tl.constexpr):
    """One more update of the rows that `touched` marks; it stays at 2^31-1 (ARB-EMB-004)."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = row < rows
    valid = valid & (tl.load(touched + row, mask=valid, other=0) != 0)
    old = tl.load(step_counter + row, mask=valid, other=0)
    tl.store(step_counter + row, old + (old < 0x7FFFFFFF).to(tl.int32), mask=valid)


@triton.jit(
    do_not_specialize=[
        "rows", "gain", "vote_max", "threshold", "scale_gain", "step", "stream", "key_low", "key_high",
    ]
)  # fmt: skip
def group_update_kernel(
    gradient, e_g, touched, codes, t_accum, e, e_accum, moment, step_counter, counts,
    rows, columns, code_bytes, e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold,
    step, stream, key_low, key_high,
    RULE: tl.constexpr, SIZE: tl.constexpr, QUADS: tl.constexpr, LIMIT: tl.constexpr, TABLE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """ROWS rows of one group of SIZE columns, in place; BLOCK >= SIZE. TABLE: only rows that `touched` marks,
    which have one exponent of the gradient and each a number of updates in `step_counter`."""
    groups = blocks(columns, SIZE)
    group = (tl.program_id(0) % groups).to(tl.int64)
    row = (tl.program_id(0) // groups).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    valid = row < rows
    updates = step
    gradient_exponent = e_g + row
    if TABLE:
        valid = valid & (tl.load(touched + row, mask=valid, other=0) != 0)
        updates = tl.load(step_counter + row, mask=valid, other=0)
        gradient_exponent = e_g + 0 * row

    within = tl.arange(0, BLOCK)
    column = group * SIZE + within
    inside = valid[:, None] & ((within < SIZE) & (column < columns))[None, :]
    quad = tl.arange(0, BLOCK // 4)
    byte = group * (SIZE // 4) + quad
    has_byte = valid[:, None] & ((quad < SIZE // 4) & (byte < code_bytes))[None, :]
    place = row[:, None] * columns + column[None, :]
    packed = codes + row[:, None] * code_bytes + byte[None, :]

    g = tl.load(gradient + place, mask=inside, other=0)
    trit = decode(tl.load(packed, mask=has_byte, other=0x55))
    total = tl.sum(tl.abs(g.to(tl.int64)), axis=1)
    h = -tl.sum(g.to(tl.int64) * trit, axis=1)
    scale_voted, e_moved = settle_exponents(
        row, group, valid, total, h, e, e_accum, groups, scale_gain, e_threshold, e_base, e_span,
        step, stream + SCALE_VOTE, key_low, key_high, LIMIT,
    )  # fmt: skip

    count = tl.minimum(columns - group * SIZE, SIZE).to(tl.int32)
    place_of_group = row * groups + group
    old_e_g = tl.load(gradient_exponent, mask=valid, other=0).to(tl.int32)
    factor, shift, new_moment = group_factor(
        g, total, count, moment, place_of_group, valid, old_e_g, updates, gain, RULE
    )
    if RULE == "sign":
        drawn = trit  # not read
    elif QUADS:
        drawn = r16_quads(row[:, None] * code_bytes + byte[None, :], step, stream + VOTE, key_low, key_high)
    else:
        drawn = r16(place, step, stream + VOTE, key_low, key_high)
    vote = votes(g, factor, shift, drawn, vote_max, RULE)
    old = tl.load(t_accum + place, mask=inside, other=0).to(tl.int32)
    new, accum, fired = fire(trit, old, vote, threshold)
    tl.debug_barrier()
    # what is masked is 0 in every array: it does not vote, and no threshold is 0, so it does not fire
    tl.store(t_accum + place, accum.to(tl.int8), mask=inside)
    tl.store(packed, encode(new), mask=has_byte)
    if RULE == "adaptive":
        tl.store(moment + place_of_group, new_moment, mask=valid)
    add_counts(counts, vote != 0, fired, new != trit, scale_voted, e_moved)


def group_update(
    gradient: torch.Tensor,
    e_g: torch.Tensor,
    state: tuple[torch.Tensor, ...],
    how: tuple[Any, ...],
    touched: torch.Tensor | None = None,
    step_counter: torch.Tensor | None = None,
) -> torch.Tensor:
    """Contiguous gradient int32 [O, I], e_g int8 [O] and state (codes, t_accum, e, accumulator of e, moment)
    -> counts int64 [5].

    With `touched` int32 [O] only rows that it marks are updated, and counted in step_counter int32 [O]; then
    e_g is [1].
    """
    e_base, e_span, group_size, rule, gain, vote_max, threshold, scale_gain, e_threshold, *random = how
    seed, tensor_id, step = random
    rows, columns = gradient.shape
    counts = torch.zeros(5, dtype=torch.int64, device=gradient.device)
    block = triton.next_power_of_2(group_size)
    # drawn one by one, random bits take more registers
    quads = columns % 4 == 0
    tile = TILE if quads else TILE // 2
    tile_rows = block_of(rows, 1, max(tile // block, 1))
    group_update_kernel[(triton.cdiv(rows, tile_rows) * triton.cdiv(columns, group_size),)](
        gradient,
        row_major(e_g),
        counts if touched is None else touched,
        *state,
        counts if step_counter is None else step_counter,
        counts,
        rows,
        columns,
        state[0].shape[1],
        e_base,
        e_span,
        4 * gain,
        4 * vote_max,
        4 * threshold,
        scale_gain,
        e_threshold,
        *random_key(seed, step, 16 * tensor_id),
        RULE=rule,
        SIZE=group_size,
        QUADS=quads,
        LIMIT=torch.iinfo(state[3].dtype).max,
        TABLE=touched is not None,
        ROWS=tile_rows,
        BLOCK=block,
        num_warps=4 if quads else 8,
    )
    if touched is not None:
        # every group of a row has read by now how many updates there were
        count_step_kernel[(triton.cdiv(rows, COUNTERS),)](touched, step_counter, rows, BLOCK=COUNTERS)
    return counts


def ternary_update(
    gradient: torch.Tensor,
    e_g: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    moment: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """gradient int32 [O, I], e_g int8 [O]; codes, t_accum, e, e_accum, moment in place; `how` as in the
    specification -> counts int64 [5]."""
    require_device("ternary_update", gradient)
    with in_place(codes, t_accum, e, e_accum, moment) as state:
        return group_update(row_major(gradient), e_g, state, how)
