"""More than 2^31 elements, on a GPU, and in Triton's interpreter: indices of 32 bits would go round.

What else runs on a CPU would take minutes for one call; machine code of TileLang's kernels is looked at instead
(test_machine_code.py).
"""

from __future__ import annotations

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations import wide_calls as calls
from arbitor.conformance.operations import wide_products as products
from arbitor.conformance.operations.common import Total
from arbitor.conformance.operations.wide import Build, check_wide
from arbitor.conformance.operations.wide_calls import COLUMNS, MORE, ROWS

TALL, SHORT = 2_097_168, 4104  # together, in bytes of codes and in words of weights, 2^31 and some more
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
    "quantise_columns": ("ARB-QUANT-010", calls.quantise_columns(131_071, COLUMNS)),
    "quantise_columns, ragged": ("ARB-QUANT-010", calls.quantise_columns(131_071, COLUMNS + 1)),
    "quantise_columns, one row": ("ARB-QUANT-010", calls.quantise_columns(1, MORE)),
    "weight_gradient": ("ARB-LIN-005", products.weight_gradient),
    "linear_forward, wide y": ("ARB-LIN-001", products.linear_forward(1030, TALL, 4, 4)),
    "input_gradient": ("ARB-LIN-002", products.input_gradient(2, SHORT, TALL, 4)),
    "input_gradient, long groups": ("ARB-LIN-002", products.input_gradient(2, SHORT, TALL, 64)),
    "input_gradient, wide dx": ("ARB-LIN-002", products.input_gradient(1030, 4, TALL, 4)),
    "embedding_forward": ("ARB-EMB-001", products.embedding_forward(2, ROWS, 4 * COLUMNS, 4)),
    "embedding_forward, wide y": ("ARB-EMB-001", products.embedding_forward(131_071, 3, COLUMNS, 64)),
    "embedding_gradient": ("ARB-EMB-003", products.embedding_gradient(2, ROWS, COLUMNS)),
    "embedding_gradient, many tokens": ("ARB-EMB-003", products.embedding_gradient(131_071, 3, COLUMNS)),
    "embedding_update": ("ARB-EMB-004", products.embedding_update(COLUMNS, 4)),
    "embedding_update, ragged": ("ARB-EMB-004", products.embedding_update(COLUMNS + 1, 64)),
    "ternary_update": ("ARB-RNG-003", products.ternary_update(COLUMNS, 4)),
    "ternary_update, ragged": ("ARB-RNG-003", products.ternary_update(COLUMNS + 1, 64)),
    "linear_update, fused": ("ARB-UPD-002", products.linear_update(COLUMNS + 48, 64)),
    "linear_update, two steps": ("ARB-UPD-002", products.linear_update(COLUMNS, 12)),
}
for tokens in (2, 16, 40):  # each another kernel
    for size in (4, 128):
        label = f"linear_forward, {tokens} tokens, groups of {size}"
        CALLS[label] = ("ARB-LIN-001", products.linear_forward(tokens, TALL, SHORT, size))
GPU_ONLY = ("philox", "quantise_nearest_both, one row", "quantise_columns, one row")  # 16 GiB of results and more


@pytest.fixture(scope="module")
def wide(target: Target) -> Target:
    """The backend, where it can run such calls at all."""
    if target.device == "cpu" and target.backend.name != "triton":
        pytest.skip("2^31 elements take a CPU minutes: --device cuda, or Triton's interpreter")
    return target


@pytest.mark.parametrize("label", [pytest.param(k, marks=pytest.mark.clause(v[0])) for k, v in CALLS.items()])
def test_wide(wide: Target, label: str, total: Total) -> None:
    if wide.device == "cpu" and label in GPU_ONLY:
        pytest.skip("its results take more memory than a CPU may have: --device cuda")
    total("corners of wide arrays compared", check_wide(wide, CALLS[label][1](wide.device)))
