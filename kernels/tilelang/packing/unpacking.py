"""Words of 16 codes to words of 4 weights, on CUDA, and calls of the kernels that read them packed."""

from collections.abc import Callable
from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import k_major
from .codes import widen

FIELDS = 16  # of a word of codes
ZEROS = 0x55555555  # a word of zero trits
SHIFT_16 = 1 << 16
EVEN, ODD = 0x6420, 0x7531  # selectors of bytes


def permuted(a: Any, b: Any, selector: Any) -> Any:
    """Four bytes of the words a (0-3) and b (4-7), one for each nibble of the selector, lowest first."""
    return T.call_extern("int32", "__byte_perm", a, b, selector)


def _weights(one: Any) -> Any:
    """The word that codes are looked up in: bytes -one, 0, one. one = 1, 2, 4 ... 64."""
    return one * 0xFFFF + 0x100


def unpacked_byte(byte: Any, one: Any) -> Any:
    """4 bytes, trit * one, of the lowest byte of an int32: each field becomes a nibble of a selector."""
    pairs = (byte & 0xF) | ((byte & 0xF0) << 4)
    return permuted(_weights(one), 0, (pairs & 0x303) | ((pairs & 0xC0C) << 2))


def _upper_word(a: Any, b: Any) -> Any:
    """Bits 32 to 63 of the product of two words, both without sign."""
    return T.call_extern("int32", "__umulhi", a, b)


@T.macro
def spread_word(trits: Any, at: int, word: Any, one: Any, shift_16: Any) -> None:
    """trits int32 [at ... at + 3] = 16 bytes, trit * one, of a word of 16 codes: those of its fields 0, 2, 4,
    6; 1, 3, 5, 7; 8, 10, 12, 14; 9, 11, 13, 15. Its nibbles are selectors as they are, with an even field
    below, an odd one above.

    `shift_16` is 2^16 where the compiler cannot see it: the upper halves are then a product's upper word, for
    which the units of shifts and permutations are not needed; None where those are not what time is spent on.
    """
    fields = T.alloc_local((2,), "int32")
    for k in T.unroll(2):
        fields[k] = word >> (2 * k)
        upper = fields[k] >> 16 if shift_16 is None else _upper_word(fields[k], shift_16)
        trits[at + k] = permuted(_weights(one), 0, fields[k] & 0x3333)
        trits[at + 2 + k] = permuted(_weights(one), 0, upper & 0x3333)


@T.macro
def spread_bytes(out: Any, x: Any, at: Any) -> None:
    """out int32 [4] = the 16 bytes x int32 [at ... at + 3] in the order of spread_word."""
    for h in T.unroll(2):
        out[2 * h] = permuted(x[at + 2 * h], x[at + 2 * h + 1], EVEN)
        out[2 * h + 1] = permuted(x[at + 2 * h], x[at + 2 * h + 1], ODD)


@T.macro
def unpack_word(trits: Any, at: int, word: Any, one: Any) -> None:
    """trits int32 [at ... at + 3] = 16 bytes, trit * one, of a word of 16 codes."""
    halves = T.alloc_local((4,), "int32")
    spread_word(halves, 0, word, one, None)
    for half in T.unroll(2):
        trits[at + 2 * half] = permuted(halves[2 * half], halves[2 * half + 1], 0x5140)
        trits[at + 2 * half + 1] = permuted(halves[2 * half], halves[2 * half + 1], 0x7362)


@T.macro
def find_groups(found: Any, e: Any, word: Any, group_size: Any, whole: bool) -> None:
    """found int32 [4]: the group of each byte of a word of codes, the first alone where `whole`: no group of
    columns ends inside a word. The last group stands for what is behind it."""
    for j in T.unroll(1 if whole else 4):
        found[j] = T.truncdiv(word * FIELDS + 4 * j, group_size)
        if found[j] >= T.Cast("int32", e.shape[1]):
            found[j] = T.Cast("int32", e.shape[1]) - 1


@T.macro
def scaled_word(
    weights: Any, at: int, word: Any, e: Any, row: Any, found: Any, e_base: Any, whole: bool
) -> None:
    """weights int32 [at ... at + 3] = 16 bytes: the weights of that word of codes, in groups `found`."""
    one = T.alloc_var("int32", init=0)
    if whole:
        one = T.int32(1) << (widen(e[row, found[0]]) - e_base)
        unpack_word(weights, at, word, one)
    else:
        for j in T.unroll(4):
            one = T.int32(1) << (widen(e[row, found[j]]) - e_base)
            weights[at + j] = unpacked_byte(word >> (8 * j), one)


@T.macro
def spread_weights(
    weights: Any, at: int, word: Any, e: Any, row: Any, group: Any, e_base: Any, shift_16: Any
) -> None:
    """weights int32 [at ... at + 3] = 16 bytes in the order of spread_word: the weights of a word of codes,
    all in one group."""
    one = T.alloc_var("int32", init=0)
    one = T.int32(1) << (widen(e[row, group]) - e_base)
    spread_word(weights, at, word, one, shift_16)


@T.macro
def load_word(codes: Any, row: Any, word: Any, columns: Any) -> Any:
    """Word of codes [O, W] int32, code 1 behind the last column and outside the matrix."""
    found = T.alloc_var("int32", init=ZEROS)
    left = T.alloc_var("int32", init=0)
    keep = T.alloc_var("int32", init=0)
    found = ZEROS
    left = columns - word * FIELDS
    if (row < codes.shape[0]) & (left > 0):
        found = codes[row, word]
        if left < FIELDS:
            keep = (T.int32(1) << (left * 2)) - 1
            found = (found & keep) | (ZEROS & ~keep)
    return found


def run_packed(
    kernel: Callable[..., None], q_x: torch.Tensor, *rest: Any, quads: bool = False
) -> torch.Tensor:
    """y float32 [T, O] of a kernel that reads packed codes, words [O, W] or, with `quads`, [O, W / 4, 4];
    rest = e_x, codes, e, e_base, e_span, group_size as in linear_forward."""
    e_x, codes, e, e_base, _, group_size = rest
    y = torch.empty(len(q_x), codes.shape[0], dtype=torch.float32, device=q_x.device)
    x, words = (k_major(packed).view(torch.int32) for packed in (q_x, codes))
    if quads:
        words = words.view(len(words), -1, 4)
    kernel(x.view(len(x), -1, 4), row_major(e_x), words, row_major(e), y, group_size, e_base, SHIFT_16)
    return y
