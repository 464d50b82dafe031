"""2^31 elements and more, on a GPU and in Triton's interpreter: indices of 32 bits would go round.

Of one column, or one row, as many as the table of operations allows. What else runs on a CPU would take
minutes for one call.
"""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.judge.target import Target, call
from arbitor.conformance.operations.common import Total
from arbitor.conformance.operations.wide import calls, products
from arbitor.conformance.operations.wide.calls import COLUMNS, MORE, ROWS
from arbitor.conformance.operations.wide.corners import Build, Wide, check_wide
from arbitor.kernels.operations import INT32_MAX

TALL, SHORT = 2_097_168, 4104  # together, in bytes of codes and in words of weights, 2^31 and some more
FEWER = 2_056  # columns that make as many of 2^20 tokens
# label: the operation's clause and the call
CALLS: dict[str, tuple[str, Build]] = {
    "pack": ("ARB-PACK-001", calls.packing("pack", ROWS, COLUMNS, 4)),
    "pack, one column": ("ARB-PACK-001", calls.packing("pack", MORE, 1, 4)),
    "pack, one row": ("ARB-PACK-001", calls.packing("pack", 1, 2**31 + 40, 4)),
    "pack_dense": ("ARB-PACK-005", calls.packing("pack_dense", ROWS, COLUMNS, 5)),
    "pack_dense, one column": ("ARB-PACK-005", calls.packing("pack_dense", MORE, 1, 5)),
    "pack_dense, one row": ("ARB-PACK-005", calls.packing("pack_dense", 1, 2**31 + 52, 5)),
    "unpack": ("ARB-PACK-001", calls.packing("unpack", ROWS, COLUMNS, 4)),
    "unpack, one column": ("ARB-PACK-001", calls.packing("unpack", MORE, 1, 4)),
    "unpack, one row": ("ARB-PACK-001", calls.packing("unpack", 1, 2**31 - 4, 4)),
    "unpack_dense": ("ARB-PACK-005", calls.packing("unpack_dense", ROWS, COLUMNS, 5)),
    "unpack_dense, one column": ("ARB-PACK-005", calls.packing("unpack_dense", MORE, 1, 5)),
    "unpack_dense, one row": ("ARB-PACK-005", calls.packing("unpack_dense", 1, 2**31 - 3, 5)),
    "philox": ("ARB-RNG-003", calls.philox),
    "initialise": ("ARB-INIT-001", calls.initialise(ROWS, COLUMNS)),
    "initialise, ragged": ("ARB-INIT-001", calls.initialise(ROWS, COLUMNS + 1)),
    "initialise, one column": ("ARB-INIT-001", calls.initialise(2**31 - 1, 1)),
}
for name, clause in (
    ("quantise_nearest", "ARB-QUANT-008"),
    ("quantise_nearest_both", "ARB-QUANT-011"),
    ("quantise_stochastic", "ARB-QUANT-009"),
):
    CALLS |= {
        f"{name}, long rows": (clause, calls.quantising_rows(name, ROWS, COLUMNS)),
        f"{name}, ragged rows": (clause, calls.quantising_rows(name, ROWS, COLUMNS + 1)),
        f"{name}, short rows": (clause, calls.quantising_rows(name, TALL, 1025)),
        f"{name}, rows in registers": (clause, calls.quantising_rows(name, TALL + 4000, 1024)),
        f"{name}, one column": (clause, calls.quantising_rows(name, MORE, 1)),
        f"{name}, one row": (clause, calls.quantising_rows(name, 1, MORE)),
    }
CALLS |= {
    "quantise_columns": ("ARB-QUANT-010", calls.quantise_columns(2**20, FEWER)),
    "quantise_columns, ragged": ("ARB-QUANT-010", calls.quantise_columns(2**20, FEWER + 1)),
    "quantise_columns, one row": ("ARB-QUANT-010", calls.quantise_columns(1, MORE)),
    "weight_gradient": ("ARB-LIN-005", products.weight_gradient),
    "linear_forward, wide y": ("ARB-LIN-001", products.linear_forward(1030, TALL, 4, 4)),
    "linear_forward, most tokens": ("ARB-LIN-001", products.linear_forward(2**20, FEWER, 4, 4)),
    "input_gradient": ("ARB-LIN-002", products.input_gradient(2, SHORT, TALL, 4)),
    "input_gradient, long groups": ("ARB-LIN-002", products.input_gradient(2, SHORT, TALL, 64)),
    "input_gradient, wide dx": ("ARB-LIN-002", products.input_gradient(1030, 4, TALL, 4)),
    "input_gradient, most tokens": ("ARB-LIN-002", products.input_gradient(2**20, 4, FEWER, 4)),
    "embedding_forward": ("ARB-EMB-001", products.embedding_forward(2, ROWS, 4 * COLUMNS, 4)),
    "embedding_forward, wide y": ("ARB-EMB-001", products.embedding_forward(2**20, 3, FEWER, 64)),
    "embedding_gradient": ("ARB-EMB-003", products.embedding_gradient(2, ROWS, COLUMNS)),
    "embedding_gradient, many tokens": ("ARB-EMB-003", products.embedding_gradient(2**20, 3, FEWER)),
    "embedding_update": ("ARB-EMB-004", products.embedding_update(COLUMNS, 4)),
    "embedding_update, ragged": ("ARB-EMB-004", products.embedding_update(COLUMNS + 1, 64)),
    "ternary_update": ("ARB-RNG-003", products.ternary_update(COLUMNS, 4)),
    "ternary_update, ragged": ("ARB-RNG-003", products.ternary_update(COLUMNS + 1, 64)),
    "linear_update, fused": ("ARB-UPD-002", products.linear_update(COLUMNS + 48, 64)),
    "linear_update, two steps": ("ARB-UPD-002", products.linear_update(COLUMNS, 12)),
}
CALLS |= {
    "embedding_update, adaptive": ("ARB-EMB-004", products.embedding_update(COLUMNS, 4, "adaptive")),
    "ternary_update, adaptive": ("ARB-VOTE-005", products.ternary_update(COLUMNS, 4, "adaptive")),
    "linear_update, adaptive": ("ARB-UPD-002", products.linear_update(COLUMNS + 48, 64, "adaptive")),
}
CALLS |= {
    "digest": ("ARB-DIG-001", calls.digest(ROWS, COLUMNS)),
    "digest, one row": ("ARB-DIG-001", calls.digest(1, MORE)),
}
for tokens in (2, 16, 40):  # each another kernel
    for size in (4, 128):
        label = f"linear_forward, {tokens} tokens, groups of {size}"
        CALLS[label] = ("ARB-LIN-001", products.linear_forward(tokens, TALL, SHORT, size))
LONG_ROW = "a program goes through the whole row, which the interpreter does in minutes"
TOO_LARGE = "it takes more memory than a CPU may have: --device cuda"  # results of 4 to 16 GiB
INSIDE = "programs of its corners are in the middle of the grid, of which the interpreter runs the ends"
GPU_ONLY = {
    "philox": TOO_LARGE,
    "quantise_nearest_both, one row": TOO_LARGE,
    "quantise_columns, one row": TOO_LARGE,
    "input_gradient, wide dx": INSIDE,
    "input_gradient, most tokens": INSIDE,
    "embedding_update": INSIDE,
    "embedding_update, ragged": INSIDE,
    "embedding_update, adaptive": INSIDE,
    "digest, one row": LONG_ROW,
}


@pytest.fixture(scope="module")
def wide(target: Target) -> Target:
    """The backend, where it can run such calls at all."""
    if target.device == "cpu" and target.backend.name != "triton":
        pytest.skip("2^31 elements take a CPU minutes: --device cuda, or Triton's interpreter")
    return target


def marks_of(label: str) -> list[pytest.MarkDecorator]:
    """Its clause, and the operation that its first word is."""
    return [pytest.mark.clause(CALLS[label][0]), pytest.mark.operations(label.partition(",")[0])]


@pytest.mark.parametrize("label", [pytest.param(label, marks=marks_of(label)) for label in CALLS])
def test_wide(wide: Target, label: str, total: Total) -> None:
    if wide.device == "cpu" and label in GPU_ONLY:
        pytest.skip(GPU_ONLY[label])
    try:
        asked = CALLS[label][1](wide.device)
        if wide.backend.name == "tilelang" and _is_refused(asked):
            with pytest.raises(ValueError, match="count rows and columns in 32 bits, at most 2147483647"):
                call(wide.backend, asked.operation, asked.arguments, wide.device)
            return
        compared = check_wide(wide, asked)
    except torch.OutOfMemoryError:
        compared = 0
    if not compared:
        pytest.skip("it takes more memory than this GPU has")
    total("corners of wide arrays compared", compared)


def _is_refused(asked: Wide) -> bool:
    """Whether TileLang cannot count an extent of what it quantises."""
    return "quantise" in asked.operation and max(next(iter(asked.arguments.values())).shape) > INT32_MAX


@pytest.mark.operations("quantise_nearest")
@pytest.mark.parametrize("shape", [(MORE, 1), (1, MORE)])
def test_an_extent_that_tilelang_cannot_count(target: Target, shape: tuple[int, int]) -> None:
    """Refused before anything of it is copied."""
    if target.backend.name != "tilelang":
        pytest.skip("other kernels than TileLang's count extents in 64 bits")
    with pytest.raises(ValueError, match=r"2147483653.* in 32 bits, at most 2147483647"):
        target.backend.module.quantise_nearest(torch.zeros(1, 1, device=target.device).expand(shape))
