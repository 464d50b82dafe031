"""Section 6: votes, fires and scale votes, one group after another.

A group is self-contained: its votes use its own sum S and its own moment, its exponent its own h, and all of
them the trits before the update. `settle` therefore walks the groups once. Its random source is an argument,
so that the worked example of the specification, whose r16 is a constant, can be run as it is printed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .checks import INT32_MAX, Matrix, Vector, columns_of, gradient_exponents, integer, matrix, scales
from .linear import weight_gradient
from .moment import mean_square, next_moment, share
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
        """ARB-VOTE-001, -002, -004, -005, ARB-FIRE-003, ARB-SCALE-003, ARB-STATE-005."""
        if not isinstance(self.rule, str):
            raise TypeError(f"rule is {self.rule!r}, expected a str")
        if self.rule not in ("scaled", "sign", "adaptive"):
            raise ValueError(f"rule is {self.rule!r}, expected 'scaled', 'sign' or 'adaptive'")
        integer("gain", self.gain, 0, 2**22)
        integer("vote_max", self.vote_max, 1, 32)
        integer("accum_threshold", self.accum_threshold, 1, 32)
        integer("scale_gain", self.scale_gain, 0, 2**20)
        integer("e_accum_threshold", self.e_accum_threshold, 1, 127)
        integer("seed", self.seed, 0, 2**64 - 1)
        integer("tensor_id", self.tensor_id, 0, 2**28 - 1)
        integer("step", self.step, 0, 2**32 - 1)

    def bits(self, purpose: int, n: int) -> int:
        """ARB-RNG-002, -005: r16(n) of this tensor and step."""
        return r16(n, self.seed, self.step, 16 * self.tensor_id + purpose)


@dataclass(frozen=True)
class State:
    """What is settled, all of it [O, ...] and changed in place; `scale_accum` is e_accum with clamp 127, or
    corr_accum with clamp 32767."""

    codes: Matrix
    t_accum: Matrix
    e: Matrix
    scale_accum: Matrix
    moment: Matrix
    clamp: int = 127


def ternary_update(
    gradient: Matrix,
    e_g: Vector,
    codes: Matrix,
    t_accum: Matrix,
    e: Matrix,
    e_accum: Matrix,
    moment: Matrix,
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
    """ARB-UPD-001, -003: apply section 6 to G [O, I] and the five state arrays; gives the five counts."""
    how = How(e_base, e_span, group_size, rule, gain, vote_max, accum_threshold, scale_gain,
              e_accum_threshold, seed, tensor_id, step)  # fmt: skip
    rows = range(len(gradient))
    state = State(codes, t_accum, e, e_accum, moment)
    return settle(gradient, e_g, rows, state, [step] * len(rows), how, how.bits)


def linear_update(
    q_g: Matrix,
    e_g: Vector,
    q_x: Matrix,
    codes: Matrix,
    t_accum: Matrix,
    e: Matrix,
    e_accum: Matrix,
    moment: Matrix,
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
    return ternary_update(weight_gradient(q_g, q_x), e_g, codes, t_accum, e, e_accum, moment, e_base, e_span,
                          group_size, rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold,
                          seed, tensor_id, step)  # fmt: skip


def _check_state(state: State, columns: int, how: How) -> Matrix:
    """ARB-STATE-003, -004, -005, ARB-MOM-001, ARB-PACK-003: refuse state that is out of range; gives the
    trits [O, I]."""
    rows, clamp = len(state.codes), state.clamp
    scales(state.e, rows, columns, how.e_base, how.e_span, how.group_size)
    groups = columns_of("e", state.e)
    matrix("t_accum", state.t_accum, rows, columns, -127, 127)
    matrix("e_accum" if clamp == 127 else "corr_accum", state.scale_accum, rows, groups, -clamp, clamp)
    matrix("moment", state.moment, rows, groups, 0, INT32_MAX)
    return unpack(state.codes, columns)


def settle(
    gradient: Matrix,
    e_g: Vector,
    rows: Iterable[int],
    state: State,
    n_done: Vector,
    how: How,
    bits: Bits,
) -> list[int]:
    """Section 6 for the rows named; e_g and n_done have an element for every row of the state.

    Everything is checked before the first row is touched. Gives the five counts of ARB-UPD-001.
    """
    columns = columns_of("gradient", gradient)
    trits = _check_state(state, columns, how)
    matrix("gradient", gradient, len(trits), columns, -INT32_MAX - 1, INT32_MAX)
    gradient_exponents("e_g", e_g, len(trits))
    counts = [0, 0, 0, 0, 0]
    groups = len(state.e[0])
    for o in rows:
        for group in range(groups):
            members = range(group * how.group_size, min((group + 1) * how.group_size, columns))
            values = [gradient[o][i] for i in members]
            # Both halves read the trits before the update, so the scale comes first (ARB-SCALE-004).
            h = -sum(gradient[o][i] * trits[o][i] for i in members)
            done = _settle_scale(h, sum(map(abs, values)), o, group, state, how, bits)
            counts[3] += done[0]
            counts[4] += done[1]
            factor, shift = _share(values, e_g[o], n_done[o], state.moment[o], group, how)
            for i in members:
                vote = _vote(gradient[o][i], factor, shift, o * columns + i, how, bits)
                fired, changed = _fire(vote, i, trits[o], state.t_accum[o], how)
                counts[0] += vote != 0
                counts[1] += fired
                counts[2] += changed
        state.codes[o][:] = pack([trits[o]])[0]
    return counts


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _clamp(value: int, limit: int) -> int:
    return min(max(value, -limit), limit)


def _share(
    values: list[int], e_g: int, n_done: int, moments: list[int], group: int, how: How
) -> tuple[int, int]:
    """ARB-VOTE-001, -005: factor and shift of one group; by rule `adaptive` its moment goes on."""
    if how.rule != "adaptive":
        return 4 * how.gain, (sum(map(abs, values)) // len(values)).bit_length()
    moments[group] = next_moment(moments[group], mean_square(values, e_g), n_done)
    return share(moments[group], e_g, how.gain)


def _vote(g: int, factor: int, shift: int, n: int, how: How, bits: Bits) -> int:
    """ARB-VOTE-001..003: the vote of one weight, in quarters."""
    if g == 0:
        return 0
    if how.rule == "sign":
        return -4 * _sign(g)
    k = ((abs(g) * factor >> shift) + bits(VOTES, n)) >> 16
    return -_sign(g) * min(k, 4 * how.vote_max)


def _fire(vote: int, i: int, trits: list[int], t_accum: list[int], how: How) -> tuple[bool, bool]:
    """ARB-FIRE-001, -002: settle trit and accumulator i of one row; gives (fired, trit changed)."""
    a = t_accum[i] + vote
    at = 4 * how.accum_threshold
    if abs(a) < at:
        t_accum[i] = a
        return False, False
    moved = trits[i] + _sign(a)
    if not -1 <= moved <= 1:
        t_accum[i] = _sign(a) * (at - 1)
        return True, False
    trits[i], t_accum[i] = moved, 0
    return True, True


def _settle_scale(
    h: int, total: int, o: int, group: int, state: State, how: How, bits: Bits
) -> tuple[bool, bool]:
    """ARB-SCALE-001, -002: settle the exponent of one group; gives (voted, exponent changed)."""
    e, accum = state.e[o], state.scale_accum[o]
    wins = total > 0 and abs(h) * how.scale_gain > bits(SCALE_VOTES, o * len(e) + group) * total
    vote = _sign(h) if wins else 0
    a = _clamp(accum[group] + vote, state.clamp)
    if abs(a) < how.e_accum_threshold:
        accum[group] = a
        return vote != 0, False
    before = e[group]
    e[group] = min(max(before + _sign(a), how.e_base), how.e_base + how.e_span)
    accum[group] = 0
    return vote != 0, e[group] != before
