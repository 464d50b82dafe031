"""The gradients of `attention` (ARB-ATT-005, -006), in three kernels: the exponent of each head's G; f, the
means and dq, a block a query and head; dk and dv, a block a position and head."""

from operator import add
from typing import Any

import tilelang.language as T
import torch

from ...heads import shift_of
from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import INFINITY_BITS, bits_of, exponent_of, magnitude
from ..rows.fixed_point import Arithmetic, fine, is_poisoned, or_nan, over_block, schedule, shifted
from .scores import (
    TILE,
    add_tile,
    cell_of,
    first_line,
    lanes,
    numbers_of,
    place_of,
    positions_seen,
    queries_that_see,
    score,
    tile_cells,
    weight,
)
from .slices import times_2_to_minus_14

LN_2 = 0.6931472  # TileLang writes six decimals; the float32 next to these is 0x3F317218


@T.macro
def gradient_of(g: T.Ref, change: Any, total: Any, exact: Arithmetic) -> None:
    """g float32: G (ARB-ATT-005)."""
    below = T.alloc_var("float32", init=0.0)
    below = times_2_to_minus_14(total, exact)
    g = exact.divide(change, below)  # noqa: F841  (a reference)


@kernel
@unchecked
def exponent_kernel(cuda: bool) -> Any:
    """e int32 [B * N] of each head: 127 where a G, or a y, is not finite."""
    rows, dim, all_heads = T.dynamic("rows", "int64"), T.dynamic("dim", "int64"), T.dynamic("all", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def exponents(
        dy: T.Tensor((rows, dim), "float32"),
        y: T.Tensor((rows, dim), "float32"),
        total: T.Tensor((rows,), "int32"),
        e: T.Tensor((all_heads,), "int32"),
        queries: T.int64,
        heads: T.int64,
    ):
        with T.Kernel(all_heads, threads=threads) as block:
            cells = T.alloc_shared((threads,), "int32")
            size, bits = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            place, line, base = (T.alloc_var("int64", init=0) for _ in range(3))
            g = T.alloc_var("float32", init=0.0)
            for t in T.Parallel(threads):
                base = T.Cast("int64", block) // heads * queries * heads + T.Cast("int64", block) % heads
                place = T.Cast("int64", t)
                while place < queries * dim:
                    line = base + place // dim * heads
                    gradient_of(g, dy[line, place % dim], total[line], exact)
                    bits = magnitude(bits_of(g))
                    if bits > size:
                        size = bits
                    bits = magnitude(bits_of(y[line, place % dim]))
                    if bits >= INFINITY_BITS:
                        size = T.int32(INFINITY_BITS)
                    place = place + threads
            over_block(size, cells, threads, T.max)
            for t in T.Parallel(threads):
                if t == 0:
                    e[block] = exponent_of(size)

    return exponents


@T.macro
def m_of(m: T.Ref, y: Any, exact: Arithmetic) -> None:
    """m int64 of what attention gave (ARB-ATT-005); of a NaN anything."""
    value = T.alloc_var("float32", init=0.0)
    value = exact.multiply(y, T.float32(2.0**13))
    if value > T.float32(32512.0):
        value = T.float32(32512.0)
    if not value > T.float32(-32512.0):
        value = T.float32(-32512.0)
    m = T.Cast("int64", value)  # noqa: F841  (a reference)


@T.macro
def prepare(
    f: Any, mean: T.Ref, mine: T.Ref, power: T.Ref, given: tuple[Any, Any, Any], of: Any, exact: Arithmetic
) -> None:
    """f of a thread's numbers of a query, and what they add to its mean. `given`: dy, y, total; `of`: dim,
    threads, the thread, and how many numbers it has at most."""
    dy, y, total = given
    dim, threads, t, most = of
    g, bits = T.alloc_var("float32", init=0.0), T.alloc_var("int32", init=0)
    m = T.alloc_var("int64", init=0)
    for c in T.serial(most):
        if c * threads + t < dim:
            gradient_of(g, dy[mine, c * threads + t], total[mine], exact)
            bits = fine(g, power)
            f[mine, c * threads + t] = bits
            m_of(m, y[mine, c * threads + t], exact)
            mean = mean + T.Cast("int64", bits) * m


@T.macro
def slope(ds: T.Ref, w: T.Ref, f: Any, of: Any, v: Any, at: Any, mean: T.Ref, dim: Any, s: Any) -> None:
    """ds int32 (ARB-ATT-005) of a weight, row `of` of f and row `at` of v."""
    d = T.alloc_var("int64", init=0)
    d = T.int64(0)
    for c in T.serial(dim):
        d = d + T.Cast("int64", f[of, c]) * T.Cast("int64", v[at, c])
    d = T.Cast("int64", w) * (d - mean)
    d = d >> (T.Cast("int64", s) - 1)
    ds = T.Cast("int32", (d + 1) >> 1)  # noqa: F841  (a reference)


@T.macro
def finished(bits: T.Ref, sums: Any, k: T.Ref, exact: Arithmetic) -> None:
    """bits int32 of sums * ln 2 * 2^k (ARB-ATT-006)."""
    value = T.alloc_var("float32", init=0.0)
    value = exact.multiply(T.Cast("float32", sums), T.float32(LN_2))
    bits = bits_of(value)
    bits = shifted(bits, k)


@kernel
@unchecked
def queries_kernel(cuda: bool) -> Any:
    """dq [B * A * N, D]; f int32 and means int64 of the queries for the kernel behind."""
    rows, lines, dim = T.dynamic("rows", "int64"), T.dynamic("lines", "int64"), T.dynamic("dim", "int64")
    all_heads = T.dynamic("all", "int64")
    threads, exact = schedule(cuda)
    most, of_tile = lanes(threads), tile_cells(threads)

    @T.prim_func
    def of_queries(
        dy: T.Tensor((rows, dim), "float32"),
        y: T.Tensor((rows, dim), "float32"),
        top: T.Tensor((rows,), "int32"),
        total: T.Tensor((rows,), "int32"),
        e: T.Tensor((all_heads,), "int32"),
        q: T.Tensor((rows, dim), "int8"),
        k: T.Tensor((lines, dim), "int8"),
        v: T.Tensor((lines, dim), "int8"),
        f: T.Tensor((rows, dim), "int32"),
        means: T.Tensor((rows,), "int64"),
        dq: T.Tensor((rows, dim), "float32"),
        queries: T.int64,
        positions: T.int64,
        heads: T.int64,
        window: T.int64,
        u: T.int32,
        s: T.int32,
    ):
        with T.Kernel(rows, threads=threads) as block:
            wide, slopes = T.alloc_shared((threads,), "int64"), of_tile((TILE,), "int32")
            found = T.alloc_local((most,), "int64")
            row, mine, base, head, line, j = (T.alloc_var("int64", init=0) for _ in range(6))
            begin, end, first, mean = (T.alloc_var("int64", init=0) for _ in range(4))
            z, w, ds, largest, power, by, bits = (T.alloc_var("int32", init=0) for _ in range(7))
            for t in T.Parallel(threads):
                place_of(row, mine, block, queries, heads)
                positions_seen(begin, end, row, queries, positions, window)
                first_line(base, head, block, queries, positions, heads)
                power = e[head]
                largest = top[mine]
                for c in T.serial(most):
                    found[c] = T.int64(0)
                prepare(f, mean, mine, power, (dy, y, total), (dim, threads, t, most), exact)
            over_block(mean, wide, threads, add)
            for t in T.Parallel(threads):
                mean = (mean + 128) >> 8
                if t == 0:
                    means[mine] = mean
            T.sync_threads()
            for tile in T.serial((end - begin + TILE - 1) // TILE):
                for t in T.Parallel(threads):
                    for m in T.serial(TILE // threads):
                        j = begin + tile * TILE + m * threads + t
                        ds = 0
                        if j < end:
                            line = base + j * heads
                            score(z, q, mine, k, line, dim)
                            weight(w, largest, z, u)
                            slope(ds, w, f, mine, v, line, mean, dim, s)
                        slopes[cell_of(m, t, threads)] = ds
                for t in T.Parallel(threads):
                    first = begin + tile * TILE
                    add_tile(found, slopes, k, first, end, base, (heads, dim, threads, t, most))
            for t in T.Parallel(threads):
                by = s + power - 30 - u
                for c in T.serial(most):
                    if c * threads + t < dim:
                        finished(bits, found[c], by, exact)
                        dq[mine, c * threads + t] = or_nan(is_poisoned(power), bits)

    return of_queries


@kernel
@unchecked
def positions_kernel(cuda: bool) -> Any:
    """dk and dv [B * S * N, D]."""
    rows, lines, dim = T.dynamic("rows", "int64"), T.dynamic("lines", "int64"), T.dynamic("dim", "int64")
    all_heads = T.dynamic("all", "int64")
    threads, exact = schedule(cuda)
    most, of_tile = lanes(threads), tile_cells(threads)

    @T.prim_func
    def of_positions(
        top: T.Tensor((rows,), "int32"),
        e: T.Tensor((all_heads,), "int32"),
        q: T.Tensor((rows, dim), "int8"),
        k: T.Tensor((lines, dim), "int8"),
        v: T.Tensor((lines, dim), "int8"),
        f: T.Tensor((rows, dim), "int32"),
        means: T.Tensor((rows,), "int64"),
        dk: T.Tensor((lines, dim), "float32"),
        dv: T.Tensor((lines, dim), "float32"),
        queries: T.int64,
        positions: T.int64,
        heads: T.int64,
        window: T.int64,
        u: T.int32,
        s: T.int32,
    ):
        with T.Kernel(lines, threads=threads) as block:
            slopes, w_of = of_tile((TILE,), "int32"), of_tile((TILE,), "int32")
            of_k, of_v = T.alloc_local((most,), "int64"), T.alloc_local((most,), "int64")
            row, mine, base, head, line, i = (T.alloc_var("int64", init=0) for _ in range(6))
            begin, end, first, mean = (T.alloc_var("int64", init=0) for _ in range(4))
            z, w, ds, largest, power, by, bits = (T.alloc_var("int32", init=0) for _ in range(7))
            for _t in T.Parallel(threads):
                place_of(row, mine, block, positions, heads)
                queries_that_see(begin, end, row, queries, positions, window)
                first_line(base, head, block, positions, queries, heads)
                power = e[head]
                for c in T.serial(most):
                    of_k[c] = T.int64(0)
                    of_v[c] = T.int64(0)
            for tile in T.serial((end - begin + TILE - 1) // TILE):
                for t in T.Parallel(threads):
                    for m in T.serial(TILE // threads):
                        i = begin + tile * TILE + m * threads + t
                        ds = 0
                        w = 0
                        if i < end:
                            line = base + i * heads
                            score(z, q, line, k, mine, dim)
                            largest = top[line]
                            weight(w, largest, z, u)
                            mean = means[line]
                            slope(ds, w, f, line, v, mine, mean, dim, s)
                        slopes[cell_of(m, t, threads)] = ds
                        w_of[cell_of(m, t, threads)] = w
                for t in T.Parallel(threads):
                    first = begin + tile * TILE
                    add_tile(of_k, slopes, q, first, end, base, (heads, dim, threads, t, most))
                    add_tile(of_v, w_of, f, first, end, base, (heads, dim, threads, t, most))
            for t in T.Parallel(threads):
                for c in T.serial(most):
                    if c * threads + t < dim:
                        by = s + power - 30 - u
                        finished(bits, of_k[c], by, exact)
                        dk[mine, c * threads + t] = or_nan(is_poisoned(power), bits)
                        by = power - 30
                        bits = bits_of(T.Cast("float32", of_v[c]))
                        bits = shifted(bits, by)
                        dv[mine, c * threads + t] = or_nan(is_poisoned(power), bits)

    return of_positions


def attention_backward(
    dy: torch.Tensor,
    y: torch.Tensor,
    top: torch.Tensor,
    total: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dy and y float32 [B, A, N, D], top and total int32 [B, A, N], and what `attention` took -> dq float32
    [B, A, N, D], dk and dv float32 [B, S, N, D]."""
    batch, queries, heads, dim = q.shape
    numbers = (*numbers_of(q, k, window), shift_of(dim))
    dq, dk, dv = (torch.empty(x.shape, dtype=torch.float32, device=q.device) for x in (q, k, v))
    dy, y, q, k, v = (row_major(x).view(-1, dim) for x in (dy, y, q, k, v))
    top, total = row_major(top).view(-1), row_major(total).view(-1)
    e = torch.empty(batch * heads, dtype=torch.int32, device=q.device)
    f = torch.empty(q.shape, dtype=torch.int32, device=q.device)
    means = torch.empty(top.shape, dtype=torch.int64, device=q.device)
    exponent_kernel(q.device)(dy, y, total, e, queries, heads)
    queries_kernel(q.device)(dy, y, top, total, e, q, k, v, f, means, dq.view(-1, dim), *numbers)
    found = dk.view(-1, dim), dv.view(-1, dim)
    positions_kernel(q.device)(top, e, q, k, v, f, means, *found, *numbers)
    return dq, dk, dv
