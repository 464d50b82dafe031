"""The oracle against given answers: the worked example of docs/SPEC.md and Random123's known answers."""

import pytest

from arbitor.conformance import oracle
from arbitor.conformance.oracle.random_bits import Block, philox4x32
from arbitor.conformance.oracle.update import How, settle

ONES = 0xFFFFFFFF


def test_worked_example_of_section_6() -> None:
    """ARB-VOTE-001, ARB-FIRE-001, -002, ARB-SCALE-001, -002, ARB-UPD-001, with r16 = 32768 for every n."""
    codes = oracle.pack([[0, -1, 1, -1, 1]])
    t_accum, e, e_accum = [[30, -3, 7, -31, 0]], [[-4, -4]], [[0, 0]]
    how = How(
        e_base=-7, e_span=6, group_size=4, rule="scaled", gain=131072, vote_max=16, accum_threshold=32,
        scale_gain=65536, e_accum_threshold=32, seed=0, tensor_id=0, step=0,
    )  # fmt: skip
    counts = settle(
        [[-300, 20, 0, 80, 6]], [0], codes, t_accum, e, e_accum, 127, how, lambda purpose, n: 32768
    )
    assert oracle.unpack(codes, columns=5) == [[1, -1, 1, -1, 1]]
    assert codes == oracle.pack([[1, -1, 1, -1, 1]])
    assert t_accum == [[0, -3, 7, 0, -2]]
    assert (e, e_accum) == ([[-4, -4]], [[0, -1]])
    assert counts == [3, 2, 1, 1, 0]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: Block, key: tuple[int, int], expected: Block) -> None:
    """ARB-RNG-001, and ARB-RNG-002 through the operation, which packs the same counter and key."""
    assert philox4x32(counter, key) == expected
    first = 4 * (counter[0] + (counter[1] << 32))
    seed = key[0] + (key[1] << 32)
    words = oracle.philox(first, count=4, seed=seed, step=counter[2], stream=counter[3])
    assert words == list(expected)
