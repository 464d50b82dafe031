"""An update from a given integer gradient, in place (ARB-UPD-001): one thread a group for the sums, the
moments and the exponents, then one thread a byte of codes for votes, firing and packing.

The CPU target runs the same two kernels, its threads one after another: it proves their arithmetic and their
indices, not that they are free of races (no thread writes what another reads).
"""

from typing import Any, NamedTuple

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import THREADS, InPlace, kernel
from ..packing.codes import trit, widen
from ..random_bits.generator import r16
from .moment import adapt, add_square, square_shift
from .rules import (
    COUNTS,
    FIRED,
    fire_trit,
    how_arguments,
    keep_untouched,
    mean_factor,
    read_how,
    settle_group,
    store_fired,
    store_settled,
    tally,
    vote_words,
)


@kernel
def settling_kernel(cuda: bool, rule: str, table: bool) -> Any:
    """Sums, moments and exponents of all groups; factors and shifts get what their votes are made with (by
    the rule `sign`, nothing). `table`: touched rows only, int16 accumulators, one e_g, and how many updates
    each row had; of a layer that is the step."""
    rows, columns, quads, groups = (T.dynamic(n, "int64") for n in ("rows", "columns", "quads", "groups"))
    exponents = T.dynamic("exponents", "int64")
    accumulator, limit = ("int16", 32767) if table else ("int8", 127)

    @T.prim_func
    def settle_groups(
        gradient: T.Tensor((rows, columns), "int32"),
        e_g: T.Tensor((exponents,), "int8"),
        codes: T.Tensor((rows, quads), "uint8"),
        e: T.Tensor((rows, groups), "int8"),
        e_accum: T.Tensor((rows, groups), accumulator),
        moment: T.Tensor((rows, groups), "int32"),
        touched: T.Tensor((rows,), "int8"),
        updates: T.Tensor((rows,), "int32"),
        factors: T.Tensor((rows, groups), "int32"),
        shifts: T.Tensor((rows, groups), "int32"),
        counts: T.Tensor((COUNTS,), "int32"),
    ):
        how = how_arguments()
        with T.Kernel(T.ceildiv(rows * groups, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                settled = T.alloc_local((4,), "int32")
                voting = T.alloc_local((3,), "int32")
                total = T.alloc_var("int64", init=0)
                h = T.alloc_var("int64", init=0)
                s = T.alloc_var("int32", init=0)
                squares = T.alloc_var("int32", init=0)
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
                    if rule == "scaled":
                        mean_factor(voting, total, count, how.gain)
                    if rule == "adaptive":
                        s = square_shift(total)
                        squares = 0
                        for j in T.serial(count):
                            add_square(squares, gradient[o, group * how.group_size + j], s)
                        old_moment = moment[o, group]
                        e_row = widen(e_g[0 if table else o])
                        n_done = T.Cast("int64", updates[o]) if table else how.step
                        adapt(voting, squares, s, T.Cast("int32", count), e_row, old_moment, n_done, how.gain)
                        if table:
                            voting[2] = T.if_then_else(touched[o] != 0, voting[2], old_moment)
                        moment[o, group] = voting[2]
                    if rule != "sign":
                        factors[o, group] = voting[0]
                        shifts[o, group] = voting[1]
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
def firing_kernel(cuda: bool, by_sign: bool, table: bool) -> Any:
    """Votes, firing and packing of all trits; factors and shifts hold those of each group. `by_sign`: the
    rule is `sign`."""
    rows, columns, quads, groups = (T.dynamic(n, "int64") for n in ("rows", "columns", "quads", "groups"))

    @T.prim_func
    def fire_trits(
        gradient: T.Tensor((rows, columns), "int32"),
        codes: T.Tensor((rows, quads), "uint8"),
        t_accum: T.Tensor((rows, columns), "int8"),
        touched: T.Tensor((rows,), "int8"),
        factors: T.Tensor((rows, groups), "int32"),
        shifts: T.Tensor((rows, groups), "int32"),
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
                factor = T.alloc_var("int32", init=0)
                shift = T.alloc_var("int32", init=0)
                for j in T.unroll(FIRED):
                    sums[j] = 0
                o = item // quads
                i = item % quads * 4
                if item < rows * quads:
                    for j in T.unroll(4):
                        words[j] = T.uint32(0)
                    if not by_sign:
                        vote_words(words, o * columns + i, how)
                        factor = factors[o, i // how.group_size]
                        shift = shifts[o, i // how.group_size]
                    byte = widen(codes[o, item % quads])
                    for j in T.unroll(4):
                        if i + j < columns:
                            before = trit(byte, j)
                            old_accum = widen(t_accum[o, i + j])
                            fire_trit(
                                fired,
                                by_sign,
                                gradient[o, i + j],
                                before,
                                old_accum,
                                factor,
                                shift,
                                r16(words[j]),
                                how,
                            )
                            if table:
                                keep_untouched(fired, 5, touched[o], before, old_accum)
                            store_fired(byte, j, t_accum, (o, i + j), sums, fired)
                    codes[o, item % quads] = T.Cast("uint8", byte)
                for c in T.unroll(FIRED):
                    tally(cuda, counts, c, sums[c])

    return fire_trits


class TableRows(NamedTuple):
    """What a table's update knows of its rows: int8 [V], not 0 where one occurs, and int32 [V], how many
    updates each had."""

    touched: torch.Tensor
    updates: torch.Tensor


def apply_update(
    gradient: torch.Tensor,
    e_g: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    moment: torch.Tensor,
    table: TableRows | None,
    *how: Any,
) -> torch.Tensor:
    """gradient int32 [O, I], e_g and the state as `ternary_update` has them; of a table its rows, one e_g
    and an int16 e_accum -> counts int64 [5]."""
    rule, integers = read_how(*how)
    device = e.device
    unread = torch.empty(len(e), dtype=torch.int32, device=device)
    rows = TableRows(unread.to(torch.int8), unread) if table is None else table
    gradient, e_g = row_major(gradient), row_major(e_g)
    with InPlace(codes, t_accum, e, e_accum, moment) as (codes, t_accum, e, e_accum, moment):
        votes = torch.empty_like(moment), torch.empty_like(moment)
        counts = torch.zeros(COUNTS, dtype=torch.int32, device=device)
        settling = settling_kernel(device, rule, table is not None)
        settling(gradient, e_g, codes, e, e_accum, moment, *rows, *votes, counts, *integers)
        firing = firing_kernel(device, rule == "sign", table is not None)
        firing(gradient, codes, t_accum, rows.touched, *votes, counts, *integers)
    return counts.to(torch.int64)


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
    return apply_update(gradient, e_g, codes, t_accum, e, e_accum, moment, None, *how)
