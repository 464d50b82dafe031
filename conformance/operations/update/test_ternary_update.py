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
from arbitor.conformance.oracle.moment import next_moment, share

test_agrees, test_ends = agreement(
    "ternary_update",
    *(
        *("ARB-VOTE-001", "ARB-VOTE-002", "ARB-VOTE-003", "ARB-FIRE-001", "ARB-FIRE-002", "ARB-FIRE-003"),
        *("ARB-SCALE-001", "ARB-SCALE-002", "ARB-SCALE-003", "ARB-SCALE-004", "ARB-UPD-001", "ARB-RNG-005"),
        *("ARB-MOM-001", "ARB-MOM-002", "ARB-MOM-003", "ARB-VOTE-005", "ARB-UPD-004"),
    ),
)
test_refuses = refusals("ternary_update", "ARB-VOTE-004", "ARB-FIRE-003", "ARB-SCALE-003", "ARB-UPD-004")
test_layouts = layouts("ternary_update")
test_repeats = repetition("ternary_update")


def updated(
    target: Target, gradient: Any, trits: Any, t_accum: Any, e: Any = None, e_accum: Any = None, **how: Any
) -> dict[str, Any]:
    """The new trits, t_accum, e, e_accum, moment and counts as lists; HOW with changes, of which `moment` and
    `e_g` are arrays; what is not given is 0."""
    gradient, trits = int32(gradient), int8(trits)
    moment, e_g = how.pop("moment", None), how.pop("e_g", [0] * len(gradient))
    settings = HOW | how
    groups = -(-gradient.shape[1] // settings["group_size"])
    zero = [[0] * groups] * len(gradient)
    arguments: Arguments = {"gradient": gradient, "codes": packed(trits), "t_accum": int8(t_accum)}
    arguments |= {"e": int8(zero if e is None else e), "e_accum": int8(zero if e_accum is None else e_accum)}
    arguments |= {"moment": int32(zero if moment is None else moment), "e_g": int8(e_g)}
    found = target.check("ternary_update", arguments | settings)
    codes = {"codes": found["codes"], "columns": gradient.shape[1]}
    found["trits"] = target.aid("unpack", codes)["trits"]  # refuses padding other than 1
    return {name: array.tolist() for name, array in found.items()}


def r16(target: Target, n: int, purpose: int, step: int = 0) -> int:
    """Of HOW's seed and tensor."""
    words = {"first": n, "count": 1, "seed": 0, "step": step, "stream": purpose}
    return int(target.aid("philox", words)["words"][0]) >> 16


@pytest.mark.clause("ARB-FIRE-001", "ARB-FIRE-002", "ARB-VOTE-002")
@pytest.mark.parametrize("threshold", [1, 2, 8, 31, 32])
def test_fires_at_the_threshold_and_not_before(target: Target, threshold: int) -> None:
    """Four quarters of a vote from 4 * threshold - 4 fire, from a quarter less they do not; on both sides."""
    at = 4 * threshold
    before = [at - 4, at - 5, 4 - at, 5 - at]
    found = updated(target, [[-5, -1, 7, 1]], [[0] * 4], [before], accum_threshold=threshold)
    assert found["trits"] == [[1, 0, -1, 0]]
    assert found["t_accum"] == [[0, at - 1, 0, 1 - at]]
    assert found["counts"] == [4, 2, 2, 0, 0]


@pytest.mark.clause("ARB-VOTE-001")
@pytest.mark.parametrize("mean", [1, 2, 3, 4, 7, 8, 9, 2**15 - 1, 2**15, 2**20, 2**25 - 1, 2**31 - 1])
def test_the_length_of_a_mean(target: Target, mean: int) -> None:
    """The shift is the bit length of the mean: of a gradient of just the mean, gain 2 gives 1 to 2 votes."""
    found = updated(target, [[mean] * 4], [[0] * 4], [[0] * 4], rule="scaled", gain=1 << 17)
    shift = mean.bit_length()
    votes = [(((mean << 19) >> shift) + r16(target, n, 3)) >> 16 for n in range(4)]
    assert found["t_accum"] == [[-vote for vote in votes]]


@pytest.mark.clause("ARB-VOTE-001", "ARB-RNG-004")
@pytest.mark.parametrize("row", range(4))
def test_votes_round_up_from_r16_on(target: Target, row: int) -> None:
    """A group of one has a shift of 1: half of what r16 lacks, as a gain, is the first quarter of a vote."""
    lacks = (1 << 16) - r16(target, row, 3)
    gain = -(-lacks // 2)
    for less, vote in ((0, 1), (1, 0)):
        found = updated(target, [[-1]] * 4, [[0]] * 4, [[0]] * 4, rule="scaled", gain=gain - less)
        assert found["t_accum"][row] == [vote]


def held_before(m: int, x: int) -> int:
    """A moment that is m * 2^x behind an update of nothing, where the memory is whole."""
    near = m * 128 // 127
    found = [(x + 512) << 21 | n for n in range(near - 2, near + 3)]
    return next(held for held in found if next_moment(held, (0, 0), 127) == (x + 512) << 21 | m)


@pytest.mark.clause("ARB-VOTE-005")
@pytest.mark.parametrize("x", [62, 63])
@pytest.mark.parametrize("gain", [2**22, 2**22 - 1, 2**22 - 3])
@pytest.mark.parametrize("m", [2**20, 2**20 + 1, 1_234_567, 1_777_777, 2_080_001])
def test_one_unit_of_a_share_decides(target: Target, m: int, gain: int, x: int) -> None:
    """The least gradients with a vote, and one less than each, of a moment so large that their own square is
    shifted out: a root or a factor that is one off gives and takes votes. 2^20 has a root of its own."""
    held, columns = held_before(m, x), 64
    factor, shift = share(next_moment(held, (0, 0), 127), 0, gain)
    lacking = [(1 << 16) - r16(target, n, 3, step=127) for n in range(columns)]
    least = [-(-(lacks << shift) // factor) for lacks in lacking]
    least = [g if g < 2**31 else 0 for g in least]
    assert sum(g > 0 for g in least) >= 4
    zero, how = [[0] * columns], {"rule": "adaptive", "gain": gain, "step": 127, "accum_threshold": 32}
    for less, vote in ((0, 1), (1, 0)):
        gradient = [[max(g - less, 0) for g in least]]
        found = updated(target, gradient, zero, zero, moment=[[held] * (columns // 4)], **how)
        assert found["t_accum"] == [[-vote * (g > 0) for g in least]]


@pytest.mark.clause("ARB-FIRE-002")
def test_a_trit_at_its_rail_fires_and_stays(target: Target) -> None:
    """With its accumulator a quarter below the threshold; one that leaves its rail clears it."""
    found = updated(target, [[-1, 1, -1, 1]], [[1, -1, -1, 1]], [[28, -31, 31, -28]])
    assert (found["trits"], found["t_accum"]) == ([[1, -1, 0, 0]], [[31, -31, 0, 0]])
    assert found["counts"] == [4, 4, 2, 0, 0]


@pytest.mark.clause("ARB-FIRE-002")
@pytest.mark.parametrize("threshold", [1, 8, 32])
def test_a_rail_keeps_what_the_next_vote_needs(target: Target, threshold: int) -> None:
    """One vote back is one vote back from there, and one vote more fires again."""
    full = 4 * threshold - 1
    gradient, before = [[0, 0, -1, 1]], [[full, -full, full - 3, 3 - full]]
    found = updated(target, gradient, [[1, -1, 1, -1]], before, accum_threshold=threshold)
    assert found["t_accum"] == [[full, -full, full, -full]]
    assert found["counts"] == [2, 2, 0, 0, 0]
    back = updated(target, [[1, -1, 1, -1]], [[1, -1, 0, 0]], [[full, -full, full, -full]],
                   accum_threshold=threshold)  # fmt: skip
    assert back["t_accum"] == [[full - 4, 4 - full, full - 4, 4 - full]]
    assert back["counts"] == [4, 0, 0, 0, 0]


@pytest.mark.clause("ARB-FIRE-001")
def test_accumulators_at_127_do_not_wrap(target: Target) -> None:
    """127 + 128 is more than a byte has, and no clamp keeps it there: it fires, at the rail too."""
    gain = {"rule": "scaled", "gain": 2**22, "vote_max": 32, "accum_threshold": 32}
    found = updated(target, [[-9, 9, -9, 9]], [[0, 0, 1, -1]], [[127, -127, 127, -127]], **gain)
    assert (found["trits"], found["t_accum"]) == ([[1, -1, 1, -1]], [[0, 0, 127, -127]])
    found = updated(target, [[9, -9, 9, -9]], [[0, 0, 1, -1]], [[127, -127, 127, -127]], **gain)
    assert (found["trits"], found["t_accum"]) == ([[0, 0, 1, -1]], [[-1, 1, -1, 1]])


@pytest.mark.clause("ARB-FIRE-003", "ARB-VOTE-003")
def test_without_a_vote_the_accumulator_is_compared_all_the_same(target: Target) -> None:
    found = updated(target, [[0] * 4], [[0, 0, 1, -1]], [[32, -127, 31, -31]], e_accum=[[40]])
    assert (found["trits"], found["t_accum"]) == ([[1, -1, 1, -1]], [[0, 0, 31, -31]])
    assert (found["e"], found["e_accum"], found["counts"]) == ([[1]], [[0]], [0, 2, 2, 0, 1])


@pytest.mark.clause("ARB-VOTE-003")
@pytest.mark.parametrize("rule", ["scaled", "sign", "adaptive"])
def test_zero_gradients_never_vote(target: Target, rule: str) -> None:
    """In a silent group, and beside the largest element there is."""
    how = {"rule": rule, "gain": 2**22, "scale_gain": 2**20}
    found = updated(target, [[0] * 4 + [2**31 - 1, 0, 0, 0]], [[1] * 8], [[0] * 8], **how)
    assert found["t_accum"][0][:4] == [0] * 4
    assert found["t_accum"][0][5:] == [0] * 3
    assert found["counts"][0] == 1


@pytest.mark.clause("ARB-VOTE-001")
@pytest.mark.parametrize("rule", ["scaled", "adaptive"])
@pytest.mark.parametrize("vote_max", [1, 16, 31, 32])
def test_votes_are_capped(target: Target, vote_max: int, rule: str) -> None:
    """In votes, which are four quarters each."""
    how = {"rule": rule, "gain": 2**22, "vote_max": vote_max, "accum_threshold": 32}
    t_accum = updated(target, [[-(2**31) + 1, 2**31 - 1, 5, -5]], [[0] * 4], [[0] * 4], **how)["t_accum"]
    capped = 4 * vote_max if vote_max < 32 else 0  # at 128 it fires
    assert t_accum[0][:2] == [capped, -capped]


@pytest.mark.clause("ARB-VOTE-001", "ARB-RNG-005")
@pytest.mark.parametrize("columns", [4, 5, 6, 7])
def test_a_short_group_has_its_own_mean(target: Target, columns: int) -> None:
    """A group of equal elements has its mean whatever its length: k = (3 * gain + r16) >> 16, in quarters."""
    how = {"rule": "scaled", "gain": 2**16 + 5000, "accum_threshold": 32}
    found = updated(target, [[-3] * columns], [[0] * columns], [[0] * columns], **how)
    votes = [(3 * (2**16 + 5000) + r16(target, n, 3)) >> 16 for n in range(columns)]
    assert found["t_accum"] == [votes]


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


@pytest.mark.clause("ARB-VOTE-001", "ARB-VOTE-005", "ARB-SCALE-001")
@pytest.mark.parametrize("rule", ["scaled", "adaptive"])
@pytest.mark.parametrize("group_size", [4, 1024])
def test_largest_gradients(target: Target, group_size: int, rule: str) -> None:
    """Group sums of 2^41 and products of 2^61."""
    columns = 1028
    gradient = torch.full((2, columns), 2**31 - 1, dtype=torch.int32)
    gradient[1] *= -1
    how = {"rule": rule, "gain": 2**22, "scale_gain": 2**20, "group_size": group_size}
    zero = [[0] * columns] * 2
    found = updated(target, gradient.tolist(), [[1] * columns] * 2, zero, accum_threshold=32, **how)
    assert found["t_accum"] == [[-64] * columns, [64] * columns]
    groups = -(-columns // group_size)
    assert found["e_accum"] == [[-1] * groups, [1] * groups]
