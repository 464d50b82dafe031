"""A result has memory of its own: not that of an argument, nor that of another result of the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arbitor.conformance.judge import guard
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins import memory
from arbitor.kernels.registry import select

BUFFER = torch.arange(4096, dtype=torch.int32)
# two tensors, and whether they have a byte in common
PAIRS: dict[str, tuple[torch.Tensor, torch.Tensor, bool]] = {
    "one tensor": (BUFFER, BUFFER, True),
    "a view": (BUFFER, BUFFER.view(64, 64), True),
    "transposed": (BUFFER.view(64, 64), BUFFER.view(64, 64).t(), True),
    "another dtype": (BUFFER, BUFFER.view(torch.int8)[-1:], True),
    "halves": (BUFFER[:2048], BUFFER[2048:], False),
    "halves and one": (BUFFER[:2049], BUFFER[2048:], True),
    "by turns": (BUFFER[::2], BUFFER[1::2], False),
    "by turns of 2 and 4": (BUFFER[::2], BUFFER[::4], True),
    "a column beside the rest": (BUFFER.view(64, 64)[:, :63], BUFFER.view(64, 64)[:, 63], False),
    "a column of it": (BUFFER.view(64, 64)[:, :63], BUFFER.view(64, 64)[:, 62], True),
    "expanded": (BUFFER[7].expand(3, 5), BUFFER[5:9], True),
    "expanded, beside": (BUFFER[7].expand(3, 5), BUFFER[8:9], False),
    "no element": (BUFFER[:0], BUFFER, False),
    "its own": (BUFFER, BUFFER.clone(), False),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_overlap(pair: str) -> None:
    first, second, expected = PAIRS[pair]
    assert memory.overlap(first, second) == memory.overlap(second, first) == expected


def rearranged(change: Callable[..., Any]) -> Callable[[torch.Tensor], Any]:
    """quantise_nearest_both, its results rearranged by `change(x, q, q_t, exponents)`."""
    return lambda x: change(x, *select("torch").quantise_nearest_both(x))


def in_one_buffer(q: torch.Tensor, q_t: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same results, side by side in one buffer."""
    first, second, third = torch.cat([q, q_t.t(), e[:, None]], 1).split([4, 4, 1], 1)
    return first, second.t(), third[:, 0]


BOTH: dict[str, tuple[Callable[..., Any], str | None]] = {
    "honest": (lambda x, q, q_t, e: (q, q_t, e), None),
    "q_t is a view of q": (lambda x, q, q_t, e: (q, q.t(), e), "q_t shares memory with q"),
    "q is a view of q_t": (lambda x, q, q_t, e: (q_t.t(), q_t, e), "q_t shares memory with q"),
    "q in x": (
        lambda x, q, q_t, e: (x.view(torch.int8)[:, : x.shape[1]].copy_(q), q_t, e),
        "q shares memory with an argument",
    ),
    "in one buffer, side by side": (
        lambda x, *results: in_one_buffer(*results),
        None,
    ),
}


@pytest.mark.parametrize("way", BOTH)
def test_results_that_share_memory_are_seen(way: str) -> None:
    """By what judges those of the suite's process and of any other; the guard raises it."""
    change, words = BOTH[way]
    operation, x = OPERATIONS["quantise_nearest_both"], torch.ones(3, 4)
    found = rearranged(change)(x)
    fault = memory.results_fault(operation, found, [x], "cpu")
    if words is None:
        assert fault is None
        guard._check_results(operation, found, (x,), {})
        return
    assert fault is not None
    assert words in fault
    with pytest.raises(AssertionError, match=words):
        guard._check_results(operation, found, (x,), {})


@pytest.mark.parametrize("shape", [(1, 1), (1, 33), (33, 1), (17, 130)])
def test_torch_gives_both_layouts_memory(shape: tuple[int, int]) -> None:
    """Of one row the transpose is contiguous already: a copy that is made where it is not would be none."""
    x = torch.ones(shape)
    assert (
        memory.sharing(OPERATIONS["quantise_nearest_both"], select("torch").quantise_nearest_both(x), [x])
        is None
    )
