"""Section 6: votes, fires and scale votes, one group after another.

A group is self-contained: its votes use its own sum S, its exponent its own h, and both use the trits before
the update. `settle` therefore walks the groups once. Its random source is an argument, so that the worked
example of the specification, whose r16 is a constant, can be run as it is printed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .checks import INT32_MAX, Matrix, columns_of, integer, matrix, scales
from .linear import weight_gradient
from .packing import pack, unpack
from .random_bits import SCALE_VOTES, VOTES, r16

# (purpose, n) -> 0..65535
Bits = Callable[[int, int], int]


@dataclass(frozen=True)
class How:
    """The scalars that section 11 calls `how`, in its order, refused here if they are out of range."""

    e_base: int
    e_span: int
    group_size: int
    rule: str
    gain: int
    vote_max: int
    accum_threshold: int
    scale_gain: int
    e_accum_threshold: int
    seed: int
    tensor_id: int
    step: int

    def __post_init__(self) -> None:
        """ARB-VOTE-001, -002, -004, ARB-FIRE-003, ARB-SCALE-003, ARB-STATE-005."""
        if not isinstance(self.rule, str):
            raise TypeError(f"rule is {self.rule!r}, expected a str")
        if self.rule not in ("scaled", "sign"):
            raise ValueError(f"rule is {self.rule!r}, expected 'scaled' or 'sign'")
        integer("gain", self.gain, 0, 2**24)
        integer("vote_max", self.vote_max, 1, 127)
        integer("accum_threshold", self.accum_threshold, 1, 127)
        integer("scale_gain", self.scale_gain, 0, 2**20)
        integer("e_accum_threshold", self.e_accum_threshold, 1, 127)
        integer("seed", self.seed, 0, 2**64 - 1)
        integer("tensor_id", self.tensor_id, 0, 2**28 - 1)
        integer("step", self.step, 0, 2**32 - 1)

    def bits(self, purpose: int, n: int) -> int:
        """ARB-RNG-002, -005: r16(n) of this tensor and step."""
        return r16(n, self.seed, self.step, 16 * self.tensor_id + purpose)


def ternary_update(
    gradient: Matrix,
    codes: Matrix,
    t_accum: Matrix,
    e: Matrix,
    e_accum: Matrix,
    e_base: int,
    e_span: int,
    group_size: int,
    rule: str,
    gain: int,
    vote_max: int,
    accum_threshold: int,
    scale_gain: int,
    e_accum_threshold: int,
    seed: int,
    tensor_id: int,
    step: int,
) -> list[int]:
    """ARB-UPD-001, -003: apply section 6 to G [O, I] and the four state arrays; gives the five counts."""
    how = How(e_base, e_span, group_size, rule, gain, vote_max, accum_threshold, scale_gain,
              e_accum_threshold, seed, tensor_id, step)  # fmt: skip
    rows = range(len(gradient))
    return settle(gradient, rows, codes, t_accum, e, e_accum, 127, how, how.bits)


def linear_update(
    q_g: Matrix,
    q_x: Matrix,
    codes: Matrix,
    t_accum: Matrix,
    e: Matrix,
    e_accum: Matrix,
    e_base: int,
    e_span: int,
    group_size: int,
    rule: str,
    gain: int,
    vote_max: int,
    accum_threshold: int,
    scale_gain: int,
    e_accum_threshold: int,
    seed: int,
    tensor_id: int,
    step: int,
) -> list[int]:
    """ARB-UPD-002: `ternary_update` of `weight_gradient(q_g, q_x)`."""
    return ternary_update(weight_gradient(q_g, q_x), codes, t_accum, e, e_accum, e_base, e_span, group_size,
                          rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold,
                          seed, tensor_id, step)  # fmt: skip


def _check_state(
    codes: Matrix, t_accum: Matrix, e: Matrix, scale_accum: Matrix, columns: int, clamp: int, how: How
) -> Matrix:
    """ARB-STATE-003, -004, -005, ARB-PACK-003: refuse state that is out of range; gives the trits [O, I]."""
    rows = len(codes)
    scales(e, rows, columns, how.e_base, how.e_span, how.group_size)
    matrix("t_accum", t_accum, rows, columns, -127, 127)
    name = "e_accum" if clamp == 127 else "corr_accum"
    matrix(name, scale_accum, rows, columns_of("e", e), -clamp, clamp)
    return unpack(codes, columns)


def settle(
    gradient: Matrix,
    rows: Iterable[int],
    codes: Matrix,
    t_accum: Matrix,
    e: Matrix,
    scale_accum: Matrix,
    clamp: int,
    how: How,
    bits: Bits,
) -> list[int]:
    """Section 6 for the rows named; `scale_accum` is e_accum with clamp 127, or corr_accum with clamp 32767.

    Everything is checked before the first row is touched. Gives the five counts of ARB-UPD-001.
    """
    columns = columns_of("gradient", gradient)
    trits = _check_state(codes, t_accum, e, scale_accum, columns, clamp, how)
    matrix("gradient", gradient, len(codes), columns, -INT32_MAX - 1, INT32_MAX)
    counts = [0, 0, 0, 0, 0]
    groups = len(e[0])
    for o in rows:
        for group in range(groups):
            members = range(group * how.group_size, min((group + 1) * how.group_size, columns))
            # Both halves read the trits before the update, so the scale comes first (ARB-SCALE-004).
            total = sum(abs(gradient[o][i]) for i in members)
            h = -sum(gradient[o][i] * trits[o][i] for i in members)
            done = _settle_scale(h, total, o, group, groups, e[o], scale_accum[o], clamp, how, bits)
            counts[3] += done[0]
            counts[4] += done[1]
            mean_bits = (total // len(members)).bit_length()
            for i in members:
                n = o * columns + i
                vote = _vote(gradient[o][i], total, mean_bits, n, how, bits)
                fired, changed = _fire(vote, i, trits[o], t_accum[o], how)
                counts[0] += vote != 0
                counts[1] += fired
                counts[2] += changed
        codes[o][:] = pack([trits[o]])[0]
    return counts


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _clamp(value: int, limit: int) -> int:
    return min(max(value, -limit), limit)


def _vote(g: int, total: int, v: int, n: int, how: How, bits: Bits) -> int:
    """ARB-VOTE-001..003: the vote of one weight; `total` is S of its group, v = bit_length(S // count)."""
    if total == 0 or g == 0:
        return 0
    if how.rule == "sign":
        return -_sign(g)
    k = (abs(g) * how.gain + (bits(VOTES, n) << v)) >> (16 + v)
    return -_sign(g) * min(k, how.vote_max)


def _fire(vote: int, i: int, trits: list[int], t_accum: list[int], how: How) -> tuple[bool, bool]:
    """ARB-FIRE-001, -002: settle trit and accumulator i of one row; gives (fired, trit changed)."""
    a = _clamp(t_accum[i] + vote, 127)
    if abs(a) < how.accum_threshold:
        t_accum[i] = a
        return False, False
    before = trits[i]
    trits[i] = _clamp(before + _sign(a), 1)
    t_accum[i] = 0
    return True, trits[i] != before


def _settle_scale(
    h: int,
    total: int,
    o: int,
    group: int,
    groups: int,
    e: list[int],
    accum: list[int],
    clamp: int,
    how: How,
    bits: Bits,
) -> tuple[bool, bool]:
    """ARB-SCALE-001, -002: settle the exponent of one group; gives (voted, exponent changed)."""
    wins = total > 0 and abs(h) * how.scale_gain > bits(SCALE_VOTES, o * groups + group) * total
    vote = _sign(h) if wins else 0
    a = _clamp(accum[group] + vote, clamp)
    if abs(a) < how.e_accum_threshold:
        accum[group] = a
        return vote != 0, False
    before = e[group]
    e[group] = min(max(before + _sign(a), how.e_base), how.e_base + how.e_span)
    accum[group] = 0
    return vote != 0, e[group] != before
