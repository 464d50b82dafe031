"""Philox4x32-10 in TIR (section 3), written once for both targets."""

from typing import Any, NamedTuple

import tilelang.language as T

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


class Draw(NamedTuple):
    """Where the random bits of rows of a matrix come from (ARB-RNG-002, -006), as a kernel's arguments."""

    key0: Any
    key1: Any
    step: Any
    stream: Any
    first_row: Any


def draw_arguments() -> Draw:
    """These as a kernel's last arguments: for the first line of its body."""
    return Draw._make(T.arg(name, T.int64()) for name in Draw._fields)


@T.macro
def philox_block(words: Any, block: Any, key0: Any, key1: Any, step: Any, stream: Any) -> None:
    """words uint32 [4] of the counter `block` = n >> 2 (ARB-RNG-001, -002); every number is int64."""
    keys = T.alloc_local((2,), "uint32")
    old = T.alloc_local((4,), "uint32")
    keys[0] = T.Cast("uint32", key0)
    keys[1] = T.Cast("uint32", key1)
    words[0] = T.Cast("uint32", block)
    words[1] = T.Cast("uint32", block >> T.int64(32))
    words[2] = T.Cast("uint32", step)
    words[3] = T.Cast("uint32", stream)
    for _ in T.unroll(ROUNDS):
        for j in T.unroll(4):
            old[j] = words[j]
        product0 = T.Cast("uint64", old[0]) * T.uint64(MULTIPLIERS[0])
        product1 = T.Cast("uint64", old[2]) * T.uint64(MULTIPLIERS[1])
        words[0] = T.Cast("uint32", product1 >> T.uint64(32)) ^ old[1] ^ keys[0]
        words[1] = T.Cast("uint32", product1)
        words[2] = T.Cast("uint32", product0 >> T.uint64(32)) ^ old[3] ^ keys[1]
        words[3] = T.Cast("uint32", product0)
        keys[0] = keys[0] + T.uint32(KEY_INCREMENTS[0])
        keys[1] = keys[1] + T.uint32(KEY_INCREMENTS[1])


@T.macro
def philox_quad(quad: Any, n: Any, key0: Any, key1: Any, step: Any, stream: Any) -> None:
    """quad uint32 [4] = word(n) .. word(n + 3): one block where n is a multiple of 4, else two."""
    first = T.alloc_local((4,), "uint32")
    second = T.alloc_local((4,), "uint32")
    block = T.alloc_var("int64", init=0)
    offset = T.alloc_var("int32", init=0)
    block = n >> T.int64(2)
    offset = T.Cast("int32", n & T.int64(3))
    philox_block(first, block, key0, key1, step, stream)
    if offset != 0:
        philox_block(second, block + T.int64(1), key0, key1, step, stream)
    for j in T.unroll(4):
        quad[j] = first[j]
    # selects, because a register has no index
    for shift in range(1, 4):
        for j in range(4):
            word = first[j + shift] if j + shift < 4 else second[j + shift - 4]
            quad[j] = T.if_then_else(offset == shift, word, quad[j])


@T.macro
def draw_quad(quad: Any, n: Any, draw: Draw) -> None:
    """The same of a draw."""
    philox_quad(quad, n, draw.key0, draw.key1, draw.step, draw.stream)


def r16(word: Any) -> Any:
    """r16 as int32 (ARB-RNG-004)."""
    return T.Cast("int32", word >> T.uint32(16))
