"""Products and the fused update around the edges of tiles: one less, one more, and several tiles each way.

Kernels are cut into tiles of 32 to 256; drawn examples are smaller than that, so that the oracle can judge
them. Here the reference judges, and each operation is run at sizes where a wrong mask, tail or stride shows.
"""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.draw.strategies import SIZED, sized_example
from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import busy

# O, I, T
SIZES = [
    (64, 128, 64),
    (65, 132, 33),
    (63, 127, 129),
    (129, 257, 66),
    (128, 256, 256),
    (1, 260, 131),
    (257, 4, 65),
    (130, 516, 1),
    (70, 900, 20),
]


@pytest.fixture(autouse=True)
def _small_enough(target: Target) -> None:
    if target.judge.arrays == "lists" or target.backend.arrays == "lists":
        pytest.skip("matrices of this size on lists of Python integers take minutes each")


@pytest.mark.clause("ARB-LIN-001", "ARB-LIN-002", "ARB-LIN-005", "ARB-UPD-002", "ARB-UPD-003")
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("operation", SIZED)
def test_around_tiles(target: Target, operation: str, size: tuple[int, int, int]) -> None:
    for group_size in (32, 128) if operation != "weight_gradient" else (4,):
        arguments = sized_example(operation, sum(size), size, group_size)
        target.check(operation, arguments)
        target.check(operation, busy(arguments))


@pytest.mark.clause("ARB-UPD-002", "ARB-VOTE-001", "ARB-VOTE-002")
@pytest.mark.operations("linear_update")
@pytest.mark.parametrize("group_size", [4, 12, 32, 64, 128, 256, 1024])
@pytest.mark.parametrize("rule", ["scaled", "sign"])
def test_every_group_size_is_updated(target: Target, group_size: int, rule: str) -> None:
    """Those that a fused kernel takes and those that go another way; 130 and 192 have short last groups."""
    for columns in (130, 192, 512):
        arguments = busy(sized_example("linear_update", columns, (66, columns, 70), group_size))
        counts = target.check("linear_update", arguments | {"rule": rule})["counts"].tolist()
        assert min(counts[:4]) > 0


@pytest.mark.clause("ARB-UPD-003")
@pytest.mark.operations("linear_update")
def test_layout_of_the_operands_is_no_difference(target: Target) -> None:
    """Row-major operands, and those whose memory runs over the tokens."""
    arguments = busy(sized_example("linear_update", 7, (96, 192, 160), 64))
    plain = target.check("linear_update", dict(arguments))
    turned = target.check(
        "linear_update",
        dict(arguments),
        lambda name, tensor: tensor.t().contiguous().t() if name in ("q_g", "q_x") else tensor.clone(),
    )
    assert all(torch.equal(plain[name], turned[name]) for name in plain)
