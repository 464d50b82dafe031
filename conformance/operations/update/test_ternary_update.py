"""`ternary_update`: votes, fires and scale votes from an integer gradient, in place."""

from typing import Any

import pytest
import torch

from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import (
    HOW,
    agreement,
    int8,
    int32,
    layouts,
    packed,
    refusals,
    repetition,
)

test_agrees, test_ends = agreement(
    "ternary_update",
    *(
        *("ARB-VOTE-001", "ARB-VOTE-002", "ARB-VOTE-003", "ARB-FIRE-001", "ARB-FIRE-002", "ARB-FIRE-003"),
        *("ARB-SCALE-001", "ARB-SCALE-002", "ARB-SCALE-003", "ARB-SCALE-004", "ARB-UPD-001", "ARB-RNG-005"),
    ),
)
test_refuses = refusals("ternary_update", "ARB-VOTE-004", "ARB-FIRE-003", "ARB-SCALE-003")
test_layouts = layouts("ternary_update")
test_repeats = repetition("ternary_update")


def updated(
    target: Target, gradient: Any, trits: Any, t_accum: Any, e: Any = None, e_accum: Any = None, **how: Any
) -> dict[str, Any]:
    """The new trits, t_accum, e, e_accum and counts as lists; HOW with changes, e = 0 unless given."""
    gradient, trits = int32(gradient), int8(trits)
    settings = HOW | how
    groups = -(-gradient.shape[1] // settings["group_size"])
    zero = [[0] * groups] * len(gradient)
    arguments: Arguments = {"gradient": gradient, "codes": packed(trits), "t_accum": int8(t_accum)}
    arguments |= {"e": int8(zero if e is None else e), "e_accum": int8(zero if e_accum is None else e_accum)}
    found = target.check("ternary_update", arguments | settings)
    codes = {"codes": found["codes"], "columns": gradient.shape[1]}
    found["trits"] = target.aid("unpack", codes)["trits"]  # refuses padding other than 1
    return {name: array.tolist() for name, array in found.items()}


def r16(target: Target, n: int, purpose: int) -> int:
    """Of HOW's seed, tensor and step."""
    words = {"first": n, "count": 1, "seed": 0, "step": 0, "stream": purpose}
    return int(target.aid("philox", words)["words"][0]) >> 16


@pytest.mark.clause("ARB-FIRE-001", "ARB-FIRE-002", "ARB-VOTE-002")
@pytest.mark.parametrize("threshold", [1, 2, 32, 127])
def test_fires_at_the_threshold_and_not_before(target: Target, threshold: int) -> None:
    """A vote of one from threshold - 1 fires, from threshold - 2 it does not; on both sides."""
    before = [threshold - 1, threshold - 2, 1 - threshold, 2 - threshold]
    found = updated(target, [[-5, -1, 7, 1]], [[0] * 4], [before], accum_threshold=threshold)
    if threshold == 1:  # from -1 and 1 a vote leads to 0
        assert (found["trits"], found["t_accum"]) == ([[1, 0, -1, 0]], [[0, 0, 0, 0]])
    else:
        assert found["trits"] == [[1, 0, -1, 0]]
        assert found["t_accum"] == [[0, threshold - 1, 0, 1 - threshold]]
    assert found["counts"] == [4, 2, 2, 0, 0]


@pytest.mark.clause("ARB-VOTE-001")
@pytest.mark.parametrize("mean", [1, 2, 3, 4, 7, 8, 9, 2**15 - 1, 2**15, 2**20, 2**25 - 1, 2**31 - 1])
def test_the_length_of_a_mean(target: Target, mean: int) -> None:
    """v is the bit length of the mean: a gradient of just the mean, doubled, gives one or two votes."""
    found = updated(target, [[mean] * 4], [[0] * 4], [[0] * 4], rule="scaled", gain=1 << 17)
    v = mean.bit_length()
    votes = [((mean << 17) + (r16(target, n, 3) << v)) >> (16 + v) for n in range(4)]
    assert found["t_accum"] == [[-vote for vote in votes]]


@pytest.mark.clause("ARB-VOTE-001", "ARB-RNG-004")
@pytest.mark.parametrize("row", range(4))
def test_votes_round_up_from_r16_on(target: Target, row: int) -> None:
    """A group of one has m = 1 and v = 1: at gain = 2^17 - 2 * r16 its sum is just 2^17, the first vote."""
    gain = (1 << 17) - 2 * r16(target, row, 3)
    for less, vote in ((0, 1), (1, 0)):
        found = updated(target, [[-1]] * 4, [[0]] * 4, [[0]] * 4, rule="scaled", gain=gain - less)
        assert found["t_accum"][row] == [vote]


@pytest.mark.clause("ARB-FIRE-002")
def test_a_trit_at_its_rail_fires_and_stays(target: Target) -> None:
    found = updated(target, [[-1, 1, -1, 1]], [[1, -1, -1, 1]], [[31, -31, 31, -31]])
    assert (found["trits"], found["t_accum"]) == ([[1, -1, 0, 0]], [[0] * 4])
    assert found["counts"] == [4, 4, 2, 0, 0]


@pytest.mark.clause("ARB-FIRE-001", "ARB-FIRE-002")  # with the largest threshold it fires there
def test_accumulators_at_127_do_not_wrap(target: Target) -> None:
    """127 + 16 is 127 after the clamp, and not -113."""
    gain = {"rule": "scaled", "gain": 2**24, "vote_max": 127, "accum_threshold": 127}
    found = updated(target, [[-9, 9, 9, -9]], [[0] * 4], [[127, -127, 127, -127]], **gain)
    assert (found["trits"], found["t_accum"]) == ([[1, -1, 0, 0]], [[0] * 4])


@pytest.mark.clause("ARB-FIRE-003", "ARB-VOTE-003")
def test_without_a_vote_the_accumulator_is_compared_all_the_same(target: Target) -> None:
    found = updated(target, [[0] * 4], [[0, 0, 1, -1]], [[32, -127, 31, -31]], e_accum=[[40]])
    assert (found["trits"], found["t_accum"]) == ([[1, -1, 1, -1]], [[0, 0, 31, -31]])
    assert (found["e"], found["e_accum"], found["counts"]) == ([[1]], [[0]], [0, 2, 2, 0, 1])


@pytest.mark.clause("ARB-VOTE-003")
@pytest.mark.parametrize("rule", ["scaled", "sign"])
def test_zero_gradients_never_vote(target: Target, rule: str) -> None:
    """In a silent group, and beside the largest element there is."""
    how = {"rule": rule, "gain": 2**24, "scale_gain": 2**20}
    found = updated(target, [[0] * 4 + [2**31 - 1, 0, 0, 0]], [[1] * 8], [[0] * 8], **how)
    assert found["t_accum"][0][:4] == [0] * 4
    assert found["t_accum"][0][5:] == [0] * 3
    assert found["counts"][0] == 1


@pytest.mark.clause("ARB-VOTE-001")
@pytest.mark.parametrize("vote_max", [1, 16, 127])
def test_votes_are_capped(target: Target, vote_max: int) -> None:
    how = {"rule": "scaled", "gain": 2**24, "vote_max": vote_max, "accum_threshold": 127}
    t_accum = updated(target, [[-(2**31) + 1, 2**31 - 1, 5, -5]], [[0] * 4], [[0] * 4], **how)["t_accum"]
    capped = vote_max if vote_max < 127 else 0  # at 127 it fires
    assert t_accum[0][:2] == [capped, -capped]


@pytest.mark.clause("ARB-VOTE-001", "ARB-RNG-005")
@pytest.mark.parametrize("columns", [4, 5, 6, 7])
def test_a_short_group_has_its_own_mean(target: Target, columns: int) -> None:
    """A group of equal elements has its m whatever its length: k = (3*gain + (r16 << 2)) >> 18."""
    how = {"rule": "scaled", "gain": 2**18, "accum_threshold": 127}
    found = updated(target, [[-3] * columns], [[0] * columns], [[0] * columns], **how)
    assert found["t_accum"] == [[(3 * 2**18 + (r16(target, n, 3) << 2)) >> 18 for n in range(columns)]]


@pytest.mark.clause("ARB-SCALE-001", "ARB-RNG-005")
@pytest.mark.parametrize("sign", [-1, 1])
def test_scale_votes_at_equality(target: Target, sign: int) -> None:
    """|h| = S, so the vote is cast where scale_gain > r16(n), and not where they are equal."""
    for row in range(6):
        bits = r16(target, row, 4)
        for scale_gain, vote in ((bits - 1, 0), (bits, 0), (bits + 1, -sign)):
            gradient = [[0] * 4 for _ in range(6)]
            gradient[row] = [sign * 5] * 4
            found = updated(target, gradient, [[1] * 4] * 6, [[0] * 4] * 6, scale_gain=max(scale_gain, 0))
            assert found["e_accum"] == [[vote if r == row else 0] for r in range(6)]
            assert found["counts"][3] == abs(vote)


@pytest.mark.clause("ARB-SCALE-002", "ARB-STATE-003")
@pytest.mark.parametrize("e_span", [0, 1, 6])
def test_exponents_stay_in_their_band(target: Target, e_span: int) -> None:
    top = -26 + e_span
    band = {"e_base": -26, "e_span": e_span, "e_accum_threshold": 3}
    e, e_accum = [[top, -26, top, -26]], [[3, -3, -3, 127]]
    found = updated(target, [[0] * 16], [[0] * 16], [[0] * 16], e, e_accum, **band)
    step = min(e_span, 1)
    assert found["e"] == [[top, -26, top - step, -26 + step]]
    assert found["e_accum"] == [[0] * 4]
    assert found["counts"] == [0, 0, 0, 0, 2 * step]


@pytest.mark.clause("ARB-SCALE-002")
def test_scale_accumulators_at_127_do_not_wrap(target: Target) -> None:
    how = {"scale_gain": 2**20, "e_accum_threshold": 127}
    found = updated(target, [[-1] * 4, [1] * 4], [[1] * 4] * 2, [[0] * 4] * 2, None, [[127], [-127]], **how)
    assert (found["e"], found["e_accum"]) == ([[1], [-1]], [[0], [0]])


@pytest.mark.clause("ARB-SCALE-004")
def test_exponents_are_settled_from_the_trits_before(target: Target) -> None:
    """Every trit leaves 0 in this update: h is 0 before it, and would be 4 after it."""
    found = updated(target, [[-1] * 4], [[0] * 4], [[31] * 4], scale_gain=2**20)
    assert (found["trits"], found["e_accum"], found["counts"]) == ([[1] * 4], [[0]], [4, 4, 4, 0, 0])


@pytest.mark.clause("ARB-UPD-001", "ARB-PACK-002")
@pytest.mark.parametrize("columns", range(1, 10))
def test_padding_stays_1(target: Target, columns: int) -> None:
    fire = [[31] * columns, [-31] * columns, [0] * columns]
    gradient = [[-1] * columns, [1] * columns, [1] * columns]
    found = updated(target, gradient, [[-1] * columns, [1] * columns, [1] * columns], fire)
    assert found["trits"] == [[0] * columns, [0] * columns, [1] * columns]


@pytest.mark.clause("ARB-VOTE-001", "ARB-SCALE-001")
@pytest.mark.parametrize("group_size", [4, 1024])
def test_largest_gradients(target: Target, group_size: int) -> None:
    """Group sums of 2^41 and products of 2^61."""
    columns = 1028
    gradient = torch.full((2, columns), 2**31 - 1, dtype=torch.int32)
    gradient[1] *= -1
    how = {"rule": "scaled", "gain": 2**24, "scale_gain": 2**20, "group_size": group_size}
    zero = [[0] * columns] * 2
    found = updated(target, gradient.tolist(), [[1] * columns] * 2, zero, accum_threshold=127, **how)
    assert found["t_accum"] == [[-16] * columns, [16] * columns]
    groups = -(-columns // group_size)
    assert found["e_accum"] == [[-1] * groups, [1] * groups]
