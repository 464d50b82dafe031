"""An update from a given integer gradient, in place (ARB-UPD-001): one thread a group for the sums and the
exponents, then one thread a byte of codes for votes, firing and packing.

The CPU target runs the same two kernels, its threads one after another: it proves their arithmetic and their
indices, not that they are free of races (no thread writes what another reads).
"""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import THREADS, InPlace, kernel
from ..packing.codes import trit, widen
from ..random_bits.generator import r16
from .rules import (
    COUNTS,
    FIRED,
    fire_trit,
    how_arguments,
    keep_untouched,
    mean_bits,
    read_how,
    settle_group,
    store_fired,
    store_settled,
    tally,
    vote_words,
)


@kernel
def settling_kernel(cuda: bool, table: bool) -> Any:
    """Sums and exponents of all groups; bits gets v of each. `table`: touched rows only, int16
    accumulators."""
    rows, columns, quads, groups = (T.dynamic(n, "int64") for n in ("rows", "columns", "quads", "groups"))
    accumulator, limit = ("int16", 32767) if table else ("int8", 127)

    @T.prim_func
    def settle_groups(
        gradient: T.Tensor((rows, columns), "int32"),
        codes: T.Tensor((rows, quads), "uint8"),
        e: T.Tensor((rows, groups), "int8"),
        e_accum: T.Tensor((rows, groups), accumulator),
        touched: T.Tensor((rows,), "int8"),
        bits: T.Tensor((rows, groups), "int8"),
        counts: T.Tensor((COUNTS,), "int32"),
    ):
        how = how_arguments()
        with T.Kernel(T.ceildiv(rows * groups, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                settled = T.alloc_local((4,), "int32")
                total = T.alloc_var("int64", init=0)
                h = T.alloc_var("int64", init=0)
                settled[2] = 0
                settled[3] = 0
                o = item // groups
                group = item % groups
                if item < rows * groups:
                    total = T.int64(0)
                    h = T.int64(0)
                    count = T.min(how.group_size, columns - group * how.group_size)
                    for j in T.serial(count):
                        i = group * how.group_size + j
                        g = T.Cast("int64", gradient[o, i])
                        total = total + T.abs(g)
                        h = h - g * T.Cast("int64", trit(widen(codes[o, i // 4]), T.Cast("int32", i % 4)))
                    mean_bits(settled, total, count)
                    bits[o, group] = T.Cast("int8", settled[0])
                    old_e = widen(e[o, group])
                    old_accum = widen(e_accum[o, group])
                    settle_group(settled, total, h, item, old_e, old_accum, limit, how)
                    if table:
                        keep_untouched(settled, 4, touched[o], old_e, old_accum)
                    store_settled(e, e_accum, (o, group), settled)
                tally(cuda, counts, 3, settled[2])
                tally(cuda, counts, 4, settled[3])

    return settle_groups


@kernel
def firing_kernel(cuda: bool, rule: str, table: bool) -> Any:
    """Votes, firing and packing of all trits; bits holds v of each group."""
    rows, columns, quads, groups = (T.dynamic(n, "int64") for n in ("rows", "columns", "quads", "groups"))

    @T.prim_func
    def fire_trits(
        gradient: T.Tensor((rows, columns), "int32"),
        codes: T.Tensor((rows, quads), "uint8"),
        t_accum: T.Tensor((rows, columns), "int8"),
        touched: T.Tensor((rows,), "int8"),
        bits: T.Tensor((rows, groups), "int8"),
        counts: T.Tensor((COUNTS,), "int32"),
    ):
        how = how_arguments()
        with T.Kernel(T.ceildiv(rows * quads, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                words = T.alloc_local((4,), "uint32")
                fired = T.alloc_local((5,), "int32")
                sums = T.alloc_local((FIRED,), "int32")
                byte = T.alloc_var("int32", init=0)
                for j in T.unroll(FIRED):
                    sums[j] = 0
                o = item // quads
                i = item % quads * 4
                if item < rows * quads:
                    for j in T.unroll(4):
                        words[j] = T.uint32(0)
                    if rule == "scaled":
                        vote_words(words, o * columns + i, how)
                    v = widen(bits[o, i // how.group_size])
                    byte = widen(codes[o, item % quads])
                    for j in T.unroll(4):
                        if i + j < columns:
                            before = trit(byte, j)
                            old_accum = widen(t_accum[o, i + j])
                            fire_trit(
                                fired, rule, gradient[o, i + j], before, old_accum, v, r16(words[j]), how
                            )
                            if table:
                                keep_untouched(fired, 5, touched[o], before, old_accum)
                            store_fired(byte, j, t_accum, (o, i + j), sums, fired)
                    codes[o, item % quads] = T.Cast("uint8", byte)
                for c in T.unroll(FIRED):
                    tally(cuda, counts, c, sums[c])

    return fire_trits


def apply_update(
    gradient: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    touched: torch.Tensor | None,
    *how: Any,
) -> torch.Tensor:
    """gradient int32 [O, I] and the state as `ternary_update` has them; touched int8 [O] and an int16 e_accum
    for a table -> counts int64 [5]."""
    rule, integers = read_how(*how)
    table = touched is not None
    rows = e_accum.new_empty(len(e), dtype=torch.int8) if touched is None else touched
    gradient = row_major(gradient)
    with InPlace(codes, t_accum, e, e_accum) as (codes, t_accum, e, e_accum):
        bits = torch.empty_like(e)
        counts = torch.zeros(COUNTS, dtype=torch.int32, device=e.device)
        settling_kernel(e.device, table)(gradient, codes, e, e_accum, rows, bits, counts, *integers)
        firing_kernel(e.device, rule, table)(gradient, codes, t_accum, rows, bits, counts, *integers)
    return counts.to(torch.int64)


def ternary_update(
    gradient: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """gradient int32 [O, I]; codes, t_accum, e, e_accum in place; `how` as in the specification -> counts
    int64 [5]."""
    return apply_update(gradient, codes, t_accum, e, e_accum, None, *how)
