"""The oracle against given answers: the worked example of docs/SPEC.md and Random123's known answers."""

from dataclasses import replace

import pytest

from arbitor.conformance import oracle
from arbitor.conformance.oracle import moment
from arbitor.conformance.oracle.random_bits import Block, philox4x32
from arbitor.conformance.oracle.update import How, State, settle

ONES = 0xFFFFFFFF


EXAMPLE = How(
    e_base=-7, e_span=6, group_size=4, rule="scaled", gain=131072, vote_max=16, accum_threshold=8,
    scale_gain=65536, e_accum_threshold=32, seed=0, tensor_id=0, step=0,
)  # fmt: skip


def settled(how: How) -> tuple[State, list[int]]:
    """The worked example by that rule, r16 = 32768 for every n: what it leaves, and the counts."""
    codes = oracle.pack([[0, -1, 1, -1, 1]])
    state = State(codes, [[30, -3, 7, -31, 0]], [[-4, -4]], [[0, 0]], [[0, 0]])
    counts = settle([[-300, 20, 0, 80, 6]], [0], [0], state, [0], how, lambda purpose, n: 32768)
    return state, counts


@pytest.mark.clause("ARB-VOTE-001", "ARB-FIRE-001", "ARB-FIRE-002", "ARB-SCALE-001", "ARB-UPD-001")
def test_worked_example_of_section_6() -> None:
    state, counts = settled(EXAMPLE)
    assert oracle.unpack(state.codes, columns=5) == [[1, -1, 1, -1, 1]]
    assert state.codes == oracle.pack([[1, -1, 1, -1, 1]])
    assert state.t_accum == [[0, -4, 7, -31, -6]]
    assert (state.e, state.scale_accum, state.moment) == ([[-4, -4]], [[0, -1]], [[0, 0]])
    assert counts == [4, 2, 1, 1, 0]


@pytest.mark.clause("ARB-MOM-001", "ARB-MOM-002", "ARB-MOM-003", "ARB-VOTE-005")
def test_worked_example_by_rule_adaptive() -> None:
    """What the page prints on the way, and where it ends."""
    values = [-300, 20, 0, 80]
    square = moment.mean_square(values, 0)
    assert square == (1548800, -6)
    after = moment.next_moment(0, square, 0)
    assert after == 1062707712
    assert moment.share(after, 0, EXAMPLE.gain) == (1766981632, 19)
    state, counts = settled(replace(EXAMPLE, rule="adaptive"))
    assert state.moment == [[1062707712, 1043464192]]
    assert oracle.unpack(state.codes, columns=5) == [[1, -1, 1, -1, 1]]
    assert state.t_accum == [[0, -4, 7, -31, -8]]  # votes of 15, -1, 0, -4 and -8
    assert counts == [4, 2, 1, 1, 0]


@pytest.mark.clause("ARB-MOM-001", "ARB-MOM-003")
def test_a_mean_over_updates_is_the_mean_of_their_squares() -> None:
    """Within what is cut off: the n-th of 128 counts for 1/n, and a square of 0 brings it down by that."""
    held, squares = 0, [900 + 37 * n for n in range(200)]
    for n, size in enumerate(squares[:128]):
        held = moment.next_moment(held, moment.mean_square([size], 0), n)
        mean = sum(size**2 for size in squares[: n + 1]) / (n + 1)
        m, x = moment.unpacked(held)
        assert m.bit_length() == 21
        assert mean * (1 - 2.0**-12) <= m * 2.0**x <= mean
    m, x = moment.unpacked(moment.next_moment(held, (0, 0), 10**6))
    before, at = moment.unpacked(held)
    fallen = before * 2.0**at * 127 / 128
    assert fallen * (1 - 2.0**-20) < m * 2.0**x <= fallen


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
