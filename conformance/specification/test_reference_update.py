"""The reference's products and updates against the worked example and Python integers (sections 5 to 7).

The sequel of test_reference.py. Sums are recomputed over `fractions.Fraction`, updates element by element
from the words of section 6; the random bits are the reference's own, which test_reference.py holds to known
answers.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from arbitor import reference
from arbitor.conformance.specification.integers import check_update, how, matrix, update_with_integers
from arbitor.reference import limits, step
from arbitor.reference.state_hash import state_hash
from arbitor.reference.update import rules


def test_products_of_the_linear_layer() -> None:
    """ARB-LIN-001..005 over fractions."""
    state, rng = matrix(5, 19), np.random.default_rng(2)
    trits = reference.unpack(state["codes"], 19).tolist()
    q_x, q_d = (rng.integers(-127, 128, shape, dtype=np.int8) for shape in ((3, 19), (3, 5)))
    e_x = np.array([-20, 0, 9], np.int8)
    weight = [[trits[o][i] * Fraction(2) ** int(state["e"][o, i // 8]) for i in range(19)] for o in range(5)]
    y = reference.linear_forward(q_x, e_x, state["codes"], state["e"], -5, 4, 8)
    dx = reference.input_gradient(q_d, e_x, state["codes"], state["e"], -5, 4, 8, 19)
    for t in range(3):
        scale = Fraction(2) ** int(e_x[t])
        for o in range(5):
            assert Fraction(float(y[t, o])) == scale * sum(int(q_x[t, i]) * weight[o][i] for i in range(19))
        for i in range(19):
            assert Fraction(float(dx[t, i])) == scale * sum(int(q_d[t, o]) * weight[o][i] for o in range(5))
    g = reference.weight_gradient(q_d, q_x)
    assert g.dtype == np.int32
    assert g[4, 18] == sum(int(q_d[t, 4]) * int(q_x[t, 18]) for t in range(3))


def test_operands_are_checked() -> None:
    """ARB-LIN-006, ARB-STATE-003, ARB-STATE-005."""
    state = matrix(2, 9)
    q, e_x = np.zeros((1, 9), np.int8), np.zeros(1, np.int8)
    with pytest.raises(ValueError, match=r"e\[\d, \d\] is -\d, expected -5..-4"):
        reference.linear_forward(q, e_x, state["codes"], state["e"], -5, 1, 8)
    with pytest.raises(ValueError, match=r"q_x\[0, 0\] is -128"):
        reference.linear_forward(np.full((1, 9), -128, np.int8), e_x, state["codes"], state["e"], -5, 4, 8)
    with pytest.raises(ValueError, match="group_size is 6"):
        reference.linear_forward(q, e_x, state["codes"], state["e"], -5, 4, 6)
    with pytest.raises(TypeError, match="q_x is of dtype float32"):
        reference.linear_forward(q.astype(np.float32), e_x, state["codes"], state["e"], -5, 4, 8)
    with pytest.raises(ValueError, match="tokens"):
        reference.weight_gradient(np.zeros((131072, 1), np.int8), np.zeros((131072, 1), np.int8))


def test_worked_example() -> None:
    """The table of section 6: ARB-VOTE-001, ARB-FIRE-002, ARB-SCALE-001."""
    gradient = np.array([[-300, 20, 0, 80, 6]])
    trits = np.array([[0, -1, 1, -1, 1]])
    t_accum = np.array([[30, -3, 7, -31, 0]])
    factor, shift = rules.mean_factor(gradient, 4, 131072)
    assert (factor.tolist(), shift.tolist()) == ([[524288] * 2], [[7, 3]])
    votes = rules.rounded_votes(gradient, np.full((1, 5), 32768), 4, 16, factor, shift)
    assert votes.tolist() == [[19, -1, 0, -5, -6]]
    fired = rules.accumulate_and_fire(trits, t_accum, votes, 8)
    assert fired.trits.tolist() == [[1, -1, 1, -1, 1]]
    assert fired.t_accum.tolist() == [[0, -4, 7, -31, -6]]
    assert fired.fires.tolist() == [[True, False, False, True, False]]
    e_votes = rules.scale_votes(gradient, trits, np.full((1, 2), 32768), 4, 65536)
    assert e_votes.tolist() == [[0, -1]]
    moved = rules.move_exponents(np.array([[-2, -2]]), np.array([[0, 0]]), e_votes, -4, 4, 32, 127)
    assert (moved.e.tolist(), moved.e_accum.tolist()) == ([[-2, -2]], [[0, -1]])


@pytest.mark.clause("ARB-FIRE-002")
@pytest.mark.parametrize(("threshold", "kept"), [(1, 3), (8, 31), (32, 127)])
def test_a_fire_at_the_rail_keeps_the_accumulator(threshold: int, kept: int) -> None:
    """A quarter below its threshold, on its side; a trit of 0 and one that turns back clear it."""
    trits, at = np.array([[1, 1, 0, -1, -1]]), 4 * threshold
    t_accum = np.array([[at - 1, 3 - at, at - 1, at - 1, 1 - at]])
    votes = np.array([[1, -3, 5, 1, -128]])
    fired = rules.accumulate_and_fire(trits, t_accum, votes, threshold)
    assert fired.trits.tolist() == [[1, 0, 1, 0, -1]]
    assert fired.t_accum.tolist() == [[kept, 0, 0, 0, -kept]]
    assert fired.fires.all()


def test_scale_votes_compare_strictly() -> None:
    """ARB-SCALE-001."""
    gradient, trits = np.array([[-4, 0, 0, 0]]), np.array([[1, 1, 1, 1]])
    at = [rules.scale_votes(gradient, trits, np.array([[r]]), 4, 40000).item() for r in (39999, 40000)]
    assert at == [1, 0]


def test_exponents_move_and_stop() -> None:
    """ARB-SCALE-002: at its rail an exponent stays and its accumulator is cleared; the clamp is a limit."""
    e, e_accum = np.array([[-5, -5, -1, -3, -3]]), np.array([[-3, 2, 2, 127, -126]])
    moved = rules.move_exponents(e, e_accum, np.array([[0, 1, 1, 1, -1]]), -5, 4, 3, 127)
    assert moved.e.tolist() == [[-5, -4, -1, -2, -4]]
    assert moved.e_accum.tolist() == [[0, 0, 0, 0, 0]]
    high = rules.move_exponents(np.array([[0]]), np.array([[127]]), np.array([[1]]), 0, 0, 128, 127)
    assert high.e_accum.tolist() == [[127]]


@pytest.mark.parametrize("rule", ["scaled", "sign", "adaptive"])
@pytest.mark.parametrize("top", [3, 10**6, 2**31 - 1])
def test_ternary_update(rule: str, top: int) -> None:
    """ARB-VOTE, ARB-FIRE, ARB-SCALE, ARB-UPD-001, with the extremes of int32 and groups of zeros; of rule
    adaptive with any moment at all."""
    rng = np.random.default_rng(top)
    gradient = rng.integers(-top - 1, top, (6, 21), dtype=np.int32, endpoint=True)
    gradient[0, 0], gradient[1, :8], gradient[2, 16:] = -(2**31), 0, 0
    check_update(gradient, [-100, -3, 0, 5, 125, 0], matrix(6, 21), [7] * 6, how(rule=rule))


def test_linear_update_is_its_composition() -> None:
    """ARB-UPD-002."""
    rng = np.random.default_rng(9)
    q_g, q_x = (rng.integers(-127, 128, shape, dtype=np.int8) for shape in ((30, 6), (30, 21)))
    one, two = matrix(6, 21), matrix(6, 21)
    e_g, h = np.array([-100, -3, 0, 5, 125, 0], np.int8), how(rule="adaptive")
    counts = reference.linear_update(q_g, e_g, q_x, **one, **h)
    assert (counts == reference.ternary_update(reference.weight_gradient(q_g, q_x), e_g, **two, **h)).all()
    assert all((one[name] == two[name]).all() for name in one)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("t_accum", -128, r"t_accum\[1, 2\] is -128, expected -127..127"),
        ("e_accum", -128, r"e_accum\[1, 2\] is -128"),
        ("e", 0, r"e\[1, 2\] is 0, expected -5..-1"),
        ("codes", 255, r"codes row 1, byte 2 is 255"),
        ("moment", -1, r"moment\[1, 2\] is -1, expected 0..2147483647"),
        ("e_g", 126, r"e_g\[1\] is 126, expected -100..125"),
        ("e_g", -101, r"e_g\[1\] is -101, expected -100..125"),
        ("gain", 2**22 + 1, "gain is 4194305, expected 0..4194304"),
        ("vote_max", 0, "vote_max is 0"),
        ("vote_max", 33, "vote_max is 33, expected 1..32"),
        ("accum_threshold", 33, "accum_threshold is 33, expected 1..32"),
        ("scale_gain", -1, "scale_gain is -1"),
        ("e_span", 7, "e_span is 7"),
        ("e_base", 27, "e_base is 27"),
        ("rule", "other", "rule is 'other'"),
        ("step", 2**32, "step is 4294967296"),
    ],
)
def test_bad_state_is_refused_before_a_change(name: str, change: Any, message: str) -> None:
    """ARB-STATE-003, ARB-STATE-006, ARB-MOM-001, ARB-UPD-004, ARB-VOTE-004, ARB-FIRE-003, ARB-SCALE-003."""
    state, h, e_g = matrix(2, 21), how(e_span=4), np.zeros(2, np.int8)
    if name in state:
        state[name][1, 2] = change
    elif name == "e_g":
        e_g[1] = change
    else:
        h[name] = change
    before = state_hash(state)
    with pytest.raises(ValueError, match=message):
        reference.ternary_update(np.full((2, 21), 9, np.int32), e_g, **state, **h)
    assert state_hash(state) == before


def table(rows: int, columns: int) -> dict[str, Any]:
    """A random table within the bounds of `how`, one counter at its end."""
    state = matrix(rows, columns)
    state["corr_accum"] = state.pop("e_accum").astype(np.int16) * np.int16(258)
    state["step_counter"] = np.arange(rows, dtype=np.int32)
    state["step_counter"][1], state["step_counter"][3] = 2**31 - 1, 127
    return state


def test_embedding_forward() -> None:
    """ARB-EMB-001."""
    state = table(6, 21)
    tokens = np.array([5, 0, 5])
    y = reference.embedding_forward(tokens, state["codes"], state["e"], 8, 21)
    trits = reference.unpack(state["codes"], 21)
    assert y.tolist() == [
        [float(trits[v, d]) * 2.0 ** int(state["e"][v, d // 8]) for d in range(21)] for v in tokens.tolist()
    ]
    assert not np.signbit(y[y == 0]).any()
    with pytest.raises(ValueError, match=r"tokens\[1\] is 6, expected 0..5"):
        reference.embedding_forward(np.array([0, 6]), state["codes"], state["e"], 8, 21)


@pytest.mark.parametrize("rule", ["scaled", "adaptive"])
@pytest.mark.parametrize("e_accum_threshold", [3, 127])
def test_embedding_update(e_accum_threshold: int, rule: str) -> None:
    """ARB-EMB-003, ARB-EMB-004, ARB-EMB-005: of rule adaptive by the counters of the rows, not the step."""
    rng = np.random.default_rng(8)
    tokens = np.array([4, 1, 4, 4, 3])
    q = rng.integers(-127, 128, (5, 21), dtype=np.int8)
    q[4] = 0  # row 3 occurs without a gradient
    gradient = reference.embedding_gradient(tokens, q, 6)
    assert gradient.tolist() == [
        [sum(int(q[t, d]) for t in range(5) if tokens[t] == v) for d in range(21)] for v in range(6)
    ]
    state, h = table(6, 21), how(e_accum_threshold=e_accum_threshold, rule=rule)
    state["moment"] = (
        np.random.default_rng(3).integers((500 << 21) + 2**20, 520 << 21, (6, 3)).astype(np.int32)
    )
    expected: dict[str, Any] = {name: array.astype(object) for name, array in state.items()}
    expected["trits"] = reference.unpack(state["codes"], 21).astype(object)
    expected["e_accum"] = expected["corr_accum"]
    done = state["step_counter"].tolist()
    counts = reference.embedding_update(tokens, q, np.array([-3], np.int8), **state, **h)
    right = update_with_integers(gradient, [-3] * 6, expected, done, [1, 3, 4], h, 32767)
    assert counts.tolist() == right
    assert right[0] > 10
    assert (reference.unpack(state["codes"], 21) == expected["trits"]).all()
    assert all((state[name] == expected[name]).all() for name in ("t_accum", "e", "corr_accum", "moment"))
    assert state["step_counter"].tolist() == [0, 2**31 - 1, 2, 128, 5, 5]


@pytest.mark.clause("ARB-RNG-006", "ARB-RUN-003", "ARB-RUN-005")
def test_microbatches_are_one_step() -> None:
    """Cutting the tokens into microbatches changes nothing."""
    rng = np.random.default_rng(6)
    x, dy = (rng.standard_normal((9, n), dtype=np.float32) for n in (21, 6))
    results: list[tuple[Any, ...]] = []
    for cuts in ([], [2, 5]):
        state = step.State(**matrix(6, 21) | {"moment": np.zeros((6, 3), np.int32)})
        h = limits.How(**how(rule="adaptive", step=0))
        y, dx, counts = step.linear_step(np.split(x, cuts), np.split(dy, cuts), state, h)
        assert counts is not None
        assert counts[0] > 0
        results.append((np.concatenate(y), np.concatenate(dx), counts, state_hash(vars(state))))
    one, two = results
    assert all(np.array_equal(a, b) for a, b in zip(one[:3], two[:3], strict=True))
    assert one[3] == two[3]

    dy[3, 3] = np.inf
    state = step.State(**matrix(6, 21))
    before = state_hash(vars(state))
    _, dx, counts = step.linear_step([x], [dy], state, limits.How(**how()))
    assert counts is None
    assert np.isnan(dx[0][3]).all()
    assert state_hash(vars(state)) == before
