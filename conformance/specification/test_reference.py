"""The reference against things that are not it: published answers, the worked examples, exact fractions.

The other backends are compared with the reference elsewhere. Here the reference itself is held to the numbers
that the specification prints, to Random123's known answers, and to its definitions over `fractions.Fraction`.
"""

import hashlib
import inspect
from fractions import Fraction

import numpy as np
import pytest

from arbitor import reference
from arbitor.reference import limits
from arbitor.reference.quantise.exponents import bit_length
from arbitor.reference.random_bits.initialise import initial_base, initial_exponent
from arbitor.reference.random_bits.philox import philox4x32
from arbitor.reference.state_hash import state_hash

OPERATIONS = {
    "pack": "trits",
    "unpack": "codes columns",
    "pack_dense": "trits",
    "unpack_dense": "dense columns",
    "philox": "first count seed step stream",
    "initialise": "out_features in_features seed tensor_id",
    "quantise_nearest": "x",
    "quantise_nearest_both": "x",
    "quantise_stochastic": "x seed step stream first_row",
    "quantise_columns": "dy e_x seed step stream first_row",
    "linear_forward": "q_x e_x codes e e_base e_span group_size",
    "input_gradient": "q_d e_d codes e e_base e_span group_size in_features",
    "weight_gradient": "q_g q_x",
    "ternary_update": "gradient e_g codes t_accum e e_accum moment HOW",
    "linear_update": "q_g e_g q_x codes t_accum e e_accum moment HOW",
    "embedding_forward": "tokens codes e group_size columns",
    "embedding_gradient": "tokens q rows",
    "embedding_update": "tokens q e_g codes t_accum e corr_accum moment step_counter HOW",
    "norm": "x",
    "norm_backward": "dy x",
    "dot": "a b",
    "softmax": "x",
    "softmax_backward": "dp p",
    "sigmoid": "x",
    "cross_entropy": "x targets",
    "squared_error": "x y",
    "heads": "x cos sin",
    "heads_backward": "dq dk dv x cos sin",
    "attention": "q k v window",
    "attention_backward": "dy y top total q k v window",
    "digest": "words first",
}
HOW = (
    "e_base e_span group_size rule gain vote_max accum_threshold scale_gain e_accum_threshold"
    " seed tensor_id step"
)


def from_bits(*bits: int) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


@pytest.mark.parametrize(("name", "arguments"), OPERATIONS.items())
def test_operations_have_the_arguments_of_section_11(name: str, arguments: str) -> None:
    found = list(inspect.signature(getattr(reference, name)).parameters)
    assert found == arguments.replace("HOW", HOW).split()


@pytest.mark.clause("ARB-INIT-002", "ARB-INIT-003")
@pytest.mark.parametrize(
    ("in_features", "e"),
    [(1, 0), (2, 0), (3, -1), (11, -1), (12, -2), (192, -4), (256, -4), (512, -4), (767, -4), (768, -5)],
)
def test_initial_exponent(in_features: int, e: int) -> None:
    """The bounds of ARB-INIT-002, and the middle of an odd and of an even span."""
    assert initial_exponent(in_features) == e
    assert [initial_base(in_features, span) for span in (0, 1, 4)] == [e, e, e - 2]


def test_initial_codes() -> None:
    """ARB-INIT-001: logical index o*I + i on purpose 0, a third of each code, padding 1."""
    codes = reference.initialise(7, 301, 99, 3)
    words = reference.philox(0, 7 * 301, 99, 0, 48)
    trits = reference.unpack(codes, 301)
    assert (trits.ravel() == words * 3 // 2**32 - 1).all()
    assert all(600 < np.count_nonzero(trits == trit) < 800 for trit in (-1, 0, 1))


@pytest.mark.clause("ARB-STATE-008")
def test_state_hash() -> None:
    arrays: dict[str, np.ndarray] = {"b": np.array([[1, -2]], np.int16), "a": np.array([7], np.uint8)}
    message = (
        b"a\0uint8\0" + b"\1" + bytes(7) + b"\1" + bytes(7) + b"\7"
        + b"b\0int16\0" + b"\2" + bytes(7) + b"\1" + bytes(7) + b"\2" + bytes(7) + b"\x01\x00\xfe\xff"
    )  # fmt: skip
    assert state_hash(arrays) == hashlib.sha256(message).hexdigest()
    assert state_hash({"b": arrays["b"].astype(">i2"), "a": arrays["a"]}) == state_hash(arrays)
    with pytest.raises(TypeError, match="float32"):
        state_hash({"a": np.zeros(1, np.float32)})


@pytest.mark.parametrize("value", [128, -129])
def test_narrow_never_wraps(value: int) -> None:
    with pytest.raises(OverflowError, match=rf"value {value} at \[1, 0\] does not fit int8"):
        limits.narrow(np.array([[127, -128], [value, 300]]), np.int8)


def test_packing_of_the_page() -> None:
    """ARB-PACK-001, ARB-PACK-002."""
    trits = np.array([[-1, 0, 1, 1, 0]], np.int8)
    assert reference.pack(trits).tolist() == [[164, 85]]
    assert reference.pack_dense(trits).tolist() == [[0 + 1 * 3 + 2 * 9 + 2 * 27 + 1 * 81]]


@pytest.mark.parametrize("columns", [1, 4, 5, 11, 20])
def test_formats_convert_without_loss(columns: int) -> None:
    """ARB-PACK-005, ARB-PACK-007."""
    trits = np.random.default_rng(columns).integers(-1, 2, (3, columns), dtype=np.int8)
    dense = reference.pack_dense(trits)
    codes = reference.pack(reference.unpack_dense(dense, columns))
    assert (codes == reference.pack(trits)).all()
    assert (reference.pack_dense(reference.unpack(codes, columns)) == dense).all()


def test_illegal_bytes_are_refused() -> None:
    """ARB-PACK-003, ARB-PACK-004, ARB-PACK-006."""
    with pytest.raises(ValueError, match=r"row 1, byte 0 is 87"):
        reference.unpack(np.array([[85, 85], [87, 85]], np.uint8), 5)
    with pytest.raises(ValueError, match=r"row 0, byte 1 is 81"):
        reference.unpack(np.array([[85, 81]], np.uint8), 5)
    with pytest.raises(ValueError, match=r"row 0, byte 0 is 243"):
        reference.unpack_dense(np.array([[243]], np.uint8), 5)
    with pytest.raises(ValueError, match=r"row 0, byte 0 is 40"):
        reference.unpack_dense(np.array([[40]], np.uint8), 4)  # 40 = 1 + 3 + 9 + 27, place 4 holds 0
    with pytest.raises(ValueError, match=r"trits\[0, 1\] is -2"):
        reference.pack(np.array([[1, -2]], np.int8))
    with pytest.raises(TypeError, match="int64"):
        reference.pack(np.array([[1]]))
    with pytest.raises(ValueError, match=r"trits is of shape \[0, 4\]"):
        reference.pack(np.zeros((0, 4), np.int8))


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    """ARB-RNG-001 against Random123's kat_vectors."""
    k0, k1 = (int(word, 16) for word in key.split())
    given = np.array([int(word, 16) for word in counter.split()], np.int64)
    assert [f"{word:08x}" for word in philox4x32(given, (k0, k1))] == answer.split()


def test_words_by_logical_index() -> None:
    """ARB-RNG-002, ARB-RNG-003: counter, key and word of an index, also above 2^34."""
    assert reference.philox(0, 4, 0, 0, 0).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    first, seed = 2**35 + 2, 5 * 2**32 + 9
    block = philox4x32(np.array([[0, 2, 3, 4], [1, 2, 3, 4]]), (9, 5)).ravel()
    assert (reference.philox(first, 5, seed, 3, 4) == block[2:7]).all()
    assert (reference.philox(2**62, 1, 0, 3, 4) == philox4x32(np.array([0, 2**28, 3, 4]), (0, 0))[0]).all()
    for name, value in (("seed", 2**64), ("step", 2**32), ("stream", -1), ("first", 2**62 + 1), ("count", 0)):
        arguments = {"first": 0, "count": 1, "seed": 0, "step": 0, "stream": 0} | {name: value}
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            reference.philox(**arguments)


EDGES = [
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007FFFFF, 0x00800000, 0x0D7E0000, 0x0D7E0001,
    0x10000000, 0x107E0000, 0x107E0001, 0x107F0000, 0x3F000000, 0x3F7E0000, 0x3F7E0001, 0x3F800000,
    0xBF800000, 0x3C000000, 0xBC000000, 0x42FE0000, 0x42FE0001, 0xC2FE0000, 0x7F7FFFFF, 0xFF7FFFFF,
    0x7F7E0000, 0x7F7E0001, 0x7F000000,
]  # fmt: skip


def quantise_fractions(values: list[Fraction], noise: list[int]) -> tuple[list[int], int]:
    """Section 4 as written, for one finite set."""
    a = max(abs(value) for value in values)
    e = -100
    while a > 127 * Fraction(2) ** e:
        e += 1
    f = [int(value * Fraction(2) ** (16 - e)) for value in values]  # int() truncates
    return [(fixed + bits) >> 16 for fixed, bits in zip(f, noise, strict=True)], e


def random_rows() -> np.ndarray:
    """Rows of random finite bit patterns, and of edges with a companion."""
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**32, (60, 2), dtype=np.uint32)
    bits[:, 1] = (bits[:, 0] & 0x7F800000) ^ (bits[:, 1] & 0x83FFFFFF)  # magnitudes near each other
    edges = np.array([[edge, other] for edge in EDGES for other in (edge, 0x00000001, 0xBF800000)], np.uint32)
    rows = np.concatenate([bits, edges]).view(np.float32)
    return rows[np.isfinite(rows).all(axis=1)]


def test_bit_length() -> None:
    values = [0, 1, 2, 3, 4, 2**31 - 1, 2**31, 2**62, 2**63 - 1]
    assert bit_length(np.array(values)).tolist() == [value.bit_length() for value in values]


def test_exponent_from_the_bits() -> None:
    """ARB-QUANT-001, ARB-QUANT-002: the formula over exponent and mantissa fields."""
    for bits in EDGES:
        field, mantissa = bits >> 23 & 255, bits & 0x7FFFFF
        expected = max(field - (133 if mantissa <= 0x7E0000 else 132), -100) if field else -100
        assert reference.quantise_nearest(from_bits(bits).reshape(1, 1))[1].tolist() == [expected]


def test_quantise_nearest_is_its_definition() -> None:
    """ARB-QUANT-001..004, ARB-QUANT-006, ARB-QUANT-008."""
    x = random_rows()
    q, e = reference.quantise_nearest(x)
    for row, q_row, e_row in zip(x, q.tolist(), e.tolist(), strict=True):
        assert (q_row, e_row) == quantise_fractions([Fraction(float(v)) for v in row], [32768, 32768])


def test_a_tie_goes_up() -> None:
    """ARB-QUANT-004."""
    q, e = reference.quantise_nearest(np.array([[127, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5]], np.float32))
    assert (q.tolist(), e.tolist()) == ([[127, 1, 0, 2, -1, 3, -2]], [0])


def test_quantise_stochastic_is_its_definition() -> None:
    """ARB-QUANT-005, ARB-QUANT-009: n = (first_row + r)*C + c."""
    x = random_rows()
    q, e = reference.quantise_stochastic(x, 11, 12, 13, 1000)
    bits = reference.philox(2000, x.size, 11, 12, 13).reshape(x.shape) >> 16
    for row, noise, q_row, e_row in zip(x, bits.tolist(), q.tolist(), e.tolist(), strict=True):
        assert (q_row, e_row) == quantise_fractions([Fraction(float(v)) for v in row], noise)
    parts = [reference.quantise_stochastic(x[r:], 11, 12, 13, 1000 + r)[0][0] for r in (0, 5)]
    assert all((part == q[r]).all() for part, r in zip(parts, (0, 5), strict=True))


def test_quantise_columns_is_its_definition() -> None:
    """ARB-QUANT-010: the exponents of x go into dy, also into a subnormal; a column has one exponent."""
    dy = random_rows()
    dy = dy[np.abs(dy).max(axis=1) < 2.0**90][:40]
    e_x = np.random.default_rng(4).integers(-100, 30, len(dy)).astype(np.int8)
    e_x[np.abs(dy).max(axis=1) < 2.0**-126] = 122
    q, e = reference.quantise_columns(dy, e_x, 1, 2, 3, 17)
    bits = reference.philox(17 * 2, dy.size, 1, 2, 3).reshape(dy.shape) >> 16
    for o in range(2):
        d = [Fraction(float(v)) * Fraction(2) ** int(k) for v, k in zip(dy[:, o], e_x, strict=True)]
        assert (q[:, o].tolist(), e[o]) == quantise_fractions(d, bits[:, o].tolist())
    alone = from_bits(1, 0x807FFFFF).reshape(1, 2)
    _, e = reference.quantise_columns(alone, np.array([122], np.int8), 1, 2, 3, 0)
    assert e.tolist() == [-27 - 6, -5 - 6 + 1]


@pytest.mark.parametrize("bits", [0x7F800000, 0xFF800000, 0x7F800001, 0x7FC00000, 0xFFFFFFFF])
def test_poisoned_sets(bits: int) -> None:
    """ARB-QUANT-007, and ARB-QUANT-010 for columns."""
    x = np.array([[1, 2], [3, 3e38], [0, 0]], np.float32)
    x.view(np.uint32)[1, 0] = bits
    for q, e in (reference.quantise_nearest(x), reference.quantise_stochastic(x, 1, 1, 1, 0)):
        assert e.tolist() == [-5, 127, -100]
        assert not q[1].any()
        assert q[0].any()
    q, e = reference.quantise_columns(x, np.array([0, -100, 0], np.int8), 1, 1, 1, 0)
    assert e.tolist() == [127, 21]
    assert not q[:, 0].any()


def test_overflow_poisons_its_column() -> None:
    """ARB-QUANT-010."""
    dy = from_bits(0x7F7FFFFF, 0x7F000000, 0x00000001, 0, 0x3F800000, 0x7E800000).reshape(2, 3)
    for e_x, e in (([0, 0], [122, 121, 120]), ([1, 1], [127, 127, 121]), ([0, 127], [127] * 3)):
        assert reference.quantise_columns(dy, np.array(e_x, np.int8), 0, 0, 0, 0)[1].tolist() == e
    with pytest.raises(ValueError, match=r"e_x\[1\] is 123"):
        reference.quantise_columns(dy, np.array([0, 123], np.int8), 0, 0, 0, 0)


def test_floats_of_sums() -> None:
    """ARB-LIN-001, ARB-LIN-003, ARB-LIN-004: overflow, k at 127, the smallest scale, +0.0 and NaN."""
    codes, e = reference.pack(np.array([[1, 0, 1]], np.int8)), np.array([[-26]], np.int8)
    q_x = np.array([[1, 5, 0], [0, 5, 0], [0, 0, 0], [-127, 0, -127]], np.int8)
    y = reference.linear_forward(q_x, np.array([-100, 127, 122, -100], np.int8), codes, e, -26, 0, 4)
    minus_254 = 0x80000000 + (1 + 7 << 23) + 0x7E0000  # 254 = 1.984375 * 2^7, times 2^-126
    assert y.view(np.uint32).ravel().tolist() == [0x00800000, 0x7FC00000, 0, minus_254]
    q_x = np.array([[1, 5, 0], [1, 5, 1], [-1, 5, -1], [0, 5, 0]], np.int8)
    y = reference.linear_forward(q_x, np.full(4, 122, np.int8), codes, np.array([[26]], np.int8), 26, 0, 4)
    assert y.view(np.uint32).ravel().tolist() == [0x7F000000, 0x7F800000, 0xFF800000, 0]


@pytest.mark.parametrize(("extra", "rounded"), [(1, 0), (3, 4), (2, 2)])
def test_rounding_is_to_nearest_even(extra: int, rounded: int) -> None:
    """ARB-LIN-003: Z = 2^24 + extra."""
    columns = 132105
    q_x = np.full((1, columns), 127, np.int8)
    q_x[0, -1] = 2**24 + extra - 127 * (columns - 1)
    codes, e = reference.pack(np.ones((1, columns), np.int8)), np.zeros((1, 130), np.int8)
    y = reference.linear_forward(q_x, np.zeros(1, np.int8), codes, e, 0, 0, 1024)
    assert y.tolist() == [[2.0**24 + rounded]]
