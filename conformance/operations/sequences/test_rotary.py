"""`rotary`: the angles of positions, a table of the host."""

from __future__ import annotations

import numpy as np
import pytest

from arbitor.conformance.oracle.rotary import phases
from arbitor.kernels.rotary import rotary as of_the_runtime
from arbitor.reference.sequences.rotary import rotary as of_the_reference

CALLS = [(0, 7, 2), (0, 65, 32), (1000, 3, 64), (2**20, 2, 6), (2**31 - 1, 1, 256), (65_530, 5, 128)]


@pytest.mark.clause("ARB-ROT-001")
@pytest.mark.parametrize("call", CALLS)
def test_three_tables_agree(call: tuple[int, int, int]) -> None:
    """The reference's, the runtime's, and the oracle's phases with cosines in float64."""
    first, count, head_dim = call
    turns = np.array(phases(first, count, head_dim)) * (2 * np.pi / 2**16)
    for table, mine, f in zip(of_the_reference(*call), of_the_runtime(*call), (np.cos, np.sin), strict=True):
        assert table.dtype == np.int16
        assert table.tolist() == mine.tolist() == np.rint(2**14 * f(turns)).tolist()


@pytest.mark.clause("ARB-ROT-001")
def test_no_cosine_is_near_a_half() -> None:
    """So its nearest integer needs no more digits than float64 has."""
    exact = 2**14 * np.cos(np.arange(2**16) * (2 * np.pi / 2**16))
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 5e-7


@pytest.mark.clause("ARB-ROT-001")
def test_the_angles_are_those_of_rotary_positions() -> None:
    """t * 10000^(-i / H), within what 16 bits of a phase and 15 of a cosine leave."""
    positions, half = np.arange(2000, 2050), 16
    angles = positions[:, np.newaxis] * 10_000.0 ** (-np.arange(half) / half)
    cos, sin = of_the_reference(2000, 50, 2 * half)
    assert np.abs(cos / 2**14 - np.cos(angles)).max() < 2e-4
    assert np.abs(sin / 2**14 - np.sin(angles)).max() < 2e-4


@pytest.mark.clause("ARB-ROT-001")
@pytest.mark.parametrize(
    ("call", "named"), [((0, 1, 3), "3"), ((0, 0, 2), "0"), ((-1, 1, 2), "-1"), ((0, 1, 258), "258")]
)
def test_refuses(call: tuple[int, int, int], named: str) -> None:
    for rotary in (of_the_reference, of_the_runtime):
        with pytest.raises(ValueError, match=named):
            rotary(*call)
