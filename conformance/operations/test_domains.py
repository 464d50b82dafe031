"""Domains that are small enough to walk whole: the oracle, the reference and the backend under test on every
point.

What is expected is written out here as well where that takes a line. The report shows every domain with its
size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.conformance.judge.compare import assert_same
from arbitor.conformance.judge.target import (
    ORACLE,
    REFERENCE,
    Arguments,
    Arrays,
    Target,
    call,
    judge_of,
    target_of,
)
from arbitor.conformance.operations.common import HOW, from_bits, int8, int32, packed, uint8
from arbitor.conformance.oracle import quantise as oracle_quantise
from arbitor.conformance.oracle import update as oracle_update
from arbitor.reference.quantise import exponents as reference_exponents
from arbitor.reference.update import rules as reference_rules

Domain = Callable[[str, int], None]
THRESHOLDS = (1, 2, 8, 16, 31, 32)  # in votes
ACCUMULATORS = range(-127, 128)


@pytest.fixture(scope="module")
def everyone(target: Target) -> list[Target]:
    """The oracle, the reference, and the backend under test where it is neither."""
    judges = [target_of(REFERENCE), target_of(ORACLE)]
    return judges if target.backend in [t.backend for t in judges] else [*judges, target]


def agreed(everyone: list[Target], operation: str, arguments: Arguments) -> Arrays:
    """What all of them give."""
    found = [call(t.backend, operation, t.placed(arguments), t.device) for t in everyone]
    for target, arrays in zip(everyone[1:], found[1:], strict=True):
        assert_same(operation, arguments, found[0], arrays, target.backend.name)
    return found[0]


def trits_of(byte: int, base: int, fields: int, columns: int) -> list[int] | None:
    """The trits in a packed byte, the first least significant, or None if it is illegal."""
    if byte >= base**fields:
        return None
    codes = [byte // base**k % base for k in range(fields)]
    return None if 3 in codes or set(codes[columns:]) - {1} else [code - 1 for code in codes[:columns]]


@pytest.mark.clause("ARB-PACK-001", "ARB-PACK-002", "ARB-PACK-003", "ARB-PACK-005", "ARB-PACK-006")
@pytest.mark.parametrize(
    ("operation", "name", "base", "fields"), [("unpack", "codes", 4, 4), ("unpack_dense", "dense", 3, 5)]
)
def test_all_bytes(
    everyone: list[Target], domain: Domain, operation: str, name: str, base: int, fields: int
) -> None:
    for columns in range(1, fields + 1):
        trits = {byte: trits_of(byte, base, fields, columns) for byte in range(256)}
        legal = [byte for byte in trits if trits[byte] is not None]
        assert len(legal) == 3**columns
        arguments = {name: uint8(legal).unsqueeze(1), "columns": columns}
        assert agreed(everyone, operation, arguments)["trits"].tolist() == [trits[byte] for byte in legal]
        back = agreed(everyone, operation.replace("un", ""), {"trits": int8([trits[byte] for byte in legal])})
        assert back[name].flatten().tolist() == legal
        for byte in set(range(256)) - set(legal):
            for target in everyone:
                target.refuses(operation, {name: uint8([[byte]]), "columns": columns}, ValueError, byte)
    domain(f"{operation}: bytes x columns", 256 * fields)


def fired(trit: int, accumulator: int, vote: int, threshold: int) -> tuple[int, int]:
    """ARB-FIRE-001, -002 for one weight: (trit, accumulator)."""
    a, sign = accumulator + vote, 1 if accumulator + vote > 0 else -1
    if abs(a) < 4 * threshold:
        return trit, a
    return (trit, sign * (4 * threshold - 1)) if trit == sign else (trit + sign, 0)


@pytest.mark.clause("ARB-VOTE-002", "ARB-FIRE-001", "ARB-FIRE-002", "ARB-FIRE-003")
@pytest.mark.operations("ternary_update")
def test_sign_rule(everyone: list[Target], domain: Domain) -> None:
    """Every trit, sign of the gradient, accumulator and threshold."""
    rows = list(product((-1, 0, 1), (-1, 0, 1)))
    for threshold in THRESHOLDS:
        update(everyone, rows, 4, [[-vote] * 255 for _, vote in rows], {"rule": "sign"}, threshold)
    domain("sign rule: trit x sign x accumulator x threshold", 9 * 255 * len(THRESHOLDS))


@pytest.mark.clause("ARB-VOTE-001", "ARB-FIRE-001", "ARB-FIRE-002", "ARB-FIRE-003")
@pytest.mark.operations("ternary_update")
def test_scaled_votes(everyone: list[Target], domain: Domain) -> None:
    """Every trit, vote of -16..16, accumulator and threshold, by `ternary_update`.

    In quarters: a group of 63 elements w and one of 1030 has a mean of 16..31, so its shift is 5; with
    gain = 2^19 every r16 gives w.
    """
    rows = list(product((-1, 0, 1), range(-16, 17)))
    gradient = [[1030 if i % 64 == 63 else -vote for i in range(5 * 64)] for _, vote in rows]
    how = {"rule": "scaled", "gain": 1 << 19, "vote_max": 16, "group_size": 64}
    for threshold in THRESHOLDS:
        update(everyone, rows, 1, gradient, how, threshold)
    domain("scaled rule: trit x vote x accumulator x threshold", len(rows) * 255 * len(THRESHOLDS))


def update(
    everyone: list[Target],
    rows: list[tuple[int, int]],
    quarters: int,
    gradient: Any,
    how: Arguments,
    threshold: int,
) -> None:
    """A row for every (trit, vote of so many quarters), the 255 accumulators along it; the 64th of a group is
    not one of them."""
    columns = len(gradient[0])
    spread = columns > 255
    places = [i for i in range(columns) if not (spread and i % 64 == 63)][:255]
    t_accum = torch.zeros(len(rows), columns, dtype=torch.int8)
    t_accum[:, places] = int8(list(ACCUMULATORS))
    settings = HOW | how | {"accum_threshold": threshold}
    groups = -(-columns // settings["group_size"])
    trits = int8([[trit] * columns for trit, _ in rows])
    arguments: Arguments = {"gradient": int32(gradient), "codes": packed(trits), "t_accum": t_accum}
    arguments |= {name: torch.zeros(len(rows), groups, dtype=torch.int8) for name in ("e", "e_accum")}
    arguments["e_g"] = torch.zeros(len(rows), dtype=torch.int8)
    arguments["moment"] = torch.zeros(len(rows), groups, dtype=torch.int32)
    found = agreed(everyone, "ternary_update", arguments | settings)
    after = agreed(everyone, "unpack", {"codes": found["codes"], "columns": columns})["trits"]
    expected = [[fired(trit, a, quarters * vote, threshold) for a in ACCUMULATORS] for trit, vote in rows]
    assert after[:, places].tolist() == [[trit for trit, _ in row] for row in expected]
    assert found["t_accum"][:, places].tolist() == [[a for _, a in row] for row in expected]


@pytest.mark.clause("ARB-FIRE-001", "ARB-FIRE-002")
def test_firing_of_every_vote(domain: Domain) -> None:
    """The rule itself in the reference and in the oracle, with votes up to the largest."""
    votes = range(-128, 129)
    for threshold, trit in product(THRESHOLDS, (-1, 0, 1)):
        a, v = (grid.ravel() for grid in np.meshgrid(np.array(ACCUMULATORS), np.array(votes)))
        found = reference_rules.accumulate_and_fire(np.full(a.shape, trit), a, v, threshold)
        how = oracle_update.How(**HOW | {"accum_threshold": threshold})
        for i, (accumulator, vote) in enumerate(zip(a.tolist(), v.tolist(), strict=True)):
            trits, t_accum = [trit], [accumulator]
            oracle_update._fire(vote, 0, trits, t_accum, how)
            if (trits[0], t_accum[0]) != (found.trits[i], found.t_accum[i]):
                raise AssertionError(f"trit {trit}, accumulator {accumulator}, vote {vote}, {threshold}")
    domain("firing: trit x vote x accumulator x threshold", 3 * 255 * 257 * len(THRESHOLDS))


@pytest.mark.clause("ARB-MOM-001", "ARB-MOM-003", "ARB-VOTE-005")
@pytest.mark.operations("ternary_update")
@pytest.mark.parametrize("e_g", [-100, -1, 0, 125])
def test_exponents_of_moments(everyone: list[Target], domain: Domain, e_g: int) -> None:
    """A row for every seventh of the 1024 and for the ends, with mantissas at both ends, odd and even, one
    not normalised and none; at the first update, the second, and where the memory is whole; with a gradient
    and without one."""
    mantissas = (0, 1, 2**20 - 1, 2**20, 2**20 + 1, 2**21 - 1)
    exponents = (*range(0, 1024, 7), 1, 2, 3, 1021, 1022, 1023)
    moment = [[x << 21 | m for m in mantissas] for x in exponents]
    columns = 4 * len(mantissas)
    still = torch.zeros(len(moment), len(mantissas), dtype=torch.int8)
    arguments: Arguments = {"e_g": int8([e_g] * len(moment))}
    arguments |= {"codes": packed(int8([[0] * columns] * len(moment)))}
    arguments |= {"t_accum": int8([[0] * columns] * len(moment)), "e": still, "e_accum": still.clone()}
    for step, group in product((0, 1, 126, 127, 2**32 - 1), ([900, -31, 1, 0], [0] * 4)):
        how = HOW | {"rule": "adaptive", "step": step, "accum_threshold": 32}
        how |= {"gradient": int32([group * len(mantissas)] * len(moment))}
        found = agreed(everyone, "ternary_update", arguments | {"moment": int32(moment)} | how)
        after = found["moment"]
        assert bool(((after == 0) | (after & 2**20 > 0)).all())
        assert not found["t_accum"][(after == 0).repeat_interleave(4, dim=1)].any()
    domain("moments: exponent x mantissa x update x gradient", 10 * len(moment) * len(mantissas))


@pytest.mark.clause("ARB-MOM-002")
@pytest.mark.operations("ternary_update")
def test_every_length_of_a_sum(everyone: list[Target], domain: Domain) -> None:
    """First updates of groups whose S has each length from 0 to 33 bits: just that power of two, one less and
    one more, and halves that go up."""
    rows = []
    for length in range(34):
        for beside in (-1, 0, 1):
            total = max(2**length + beside, 0)
            first = min(total, 2**31 - 1)
            rows.append([first, *[-min(max(total - first - k * 2**31, 0), 2**31) for k in range(7)]])
    count = len(rows)
    arguments: Arguments = {"gradient": int32(rows), "e_g": torch.zeros(count, dtype=torch.int8)}
    arguments |= {"codes": packed(int8([[0] * 8] * count)), "t_accum": int8([[0] * 8] * count)}
    arguments |= {"e": int8([[0]] * count), "e_accum": int8([[0]] * count), "moment": int32([[0]] * count)}
    how = HOW | {"rule": "adaptive", "group_size": 8, "accum_threshold": 32}
    found = agreed(everyone, "ternary_update", arguments | how)["moment"].flatten().tolist()
    for row, moment in zip(rows, found, strict=True):
        square = sum(g * g for g in row) / 8
        m, x = moment & 2**21 - 1, (moment >> 21) - 512
        assert abs(m * 2.0**x - square) <= square * 2.0**-12
    domain("lengths of S and their neighbours", count)


@pytest.mark.clause("ARB-LIN-001", "ARB-LIN-002", "ARB-LIN-005")
@pytest.mark.operations("linear_forward", "input_gradient", "weight_gradient")
def test_dot_products_of_five_trits(everyone: list[Target], domain: Domain) -> None:
    vectors = int8(list(product((-1, 0, 1), repeat=5)))
    expected = (vectors.int() @ vectors.int().t()).tolist()
    scale = {"e_base": 0, "e_span": 0, "group_size": 4}
    zero = torch.zeros(243, dtype=torch.int8)
    weight = {"codes": packed(vectors), "e": torch.zeros(243, 2, dtype=torch.int8)}
    y = agreed(everyone, "linear_forward", {"q_x": vectors, "e_x": zero} | weight | scale)["y"]
    assert y.tolist() == expected
    turned = {"codes": packed(vectors.t()), "e": torch.zeros(5, 61, dtype=torch.int8)}
    arguments = {"q_d": vectors, "e_d": zero} | turned | scale | {"in_features": 243}
    assert agreed(everyone, "input_gradient", arguments)["dx"].tolist() == expected
    arguments = {"q_g": vectors.t().contiguous(), "q_x": vectors.t().contiguous()}
    assert agreed(everyone, "weight_gradient", arguments)["gradient"].tolist() == expected
    domain("dot products of five trits x 3 operations", 3**11)


def edge_patterns() -> Iterator[int]:
    """Every exponent field with the mantissas at which the quantiser decides, both signs."""
    mantissas = (0, 1, 0x7DFFFF, 0x7E0000, 0x7E0001, 0x7FFFFF)
    for sign, field, mantissa in product((0, 1), range(256), mantissas):
        yield sign << 31 | field << 23 | mantissa


@pytest.mark.clause("ARB-QUANT-001", "ARB-QUANT-002", "ARB-QUANT-007", "ARB-QUANT-010")
@pytest.mark.operations("quantise_nearest", "quantise_stochastic", "quantise_columns")
@pytest.mark.parametrize("companion", [None, 0, 0x3F800000, 0x00800000, 0x80000001, 0x7F7FFFFF], ids=str)
def test_every_exponent_edge(everyone: list[Target], domain: Domain, companion: int | None) -> None:
    """Alone in its row or column, and beside a zero, 1, the least normal, a subnormal, the largest."""
    patterns = list(edge_patterns())
    x = from_bits([[p] if companion is None else [p, companion] for p in patterns])
    bits = {"seed": 3, "step": 1, "stream": 2, "first_row": 0}
    e_x = torch.zeros(x.shape[1], dtype=torch.int8)
    nearest = agreed(everyone, "quantise_nearest", {"x": x})["exponents"]
    stochastic = agreed(everyone, "quantise_stochastic", {"x": x, **bits})["exponents"]
    columns = agreed(everyone, "quantise_columns", {"dy": x.t().contiguous(), "e_x": e_x, **bits})
    assert nearest.tolist() == stochastic.tolist() == columns["exponents"].tolist()
    if not companion:
        assert nearest.tolist() == [exponent_of(pattern) for pattern in patterns]
    beside = "nothing" if companion is None else f"{companion:#010x}"
    domain(f"exponent edges beside {beside} x 3 quantisers", 3 * len(patterns))


def exponent_of(pattern: int) -> int:
    """ARB-QUANT-001, -002, -007 for one value: the recipe on the bits."""
    field, mantissa = pattern >> 23 & 0xFF, pattern & 0x7FFFFF
    if field == 255:
        return 127
    return max(field - (133 if mantissa <= 0x7E0000 else 132), -100) if field else -100


@pytest.mark.clause("ARB-QUANT-003", "ARB-QUANT-005", "ARB-QUANT-006")
def test_every_r16_against_the_boundaries_of_f(domain: Domain) -> None:
    """q = (f + r16) >> 16 in the reference and in the oracle, whose random bits are an argument."""
    edges = (0, 1, 32767, 32768, 65535, 65536, 65537, 8257535, 8257536, 8323071, 8323072)
    fs = sorted({sign * f for f in edges for sign in (-1, 1)})
    r16 = np.arange(65536)
    for f in fs:
        x = np.full((65537, 1), f / 65536, np.float32)
        x[-1] = 127
        noise = np.append(r16, 0)[:, np.newaxis]
        q, e = reference_exponents.quantise_sets(reference_exponents.split(x), noise, axis=0)
        expected = ((f + r16) >> 16).tolist()
        assert (q[:-1, 0].tolist(), e.tolist()) == (expected, [0])
        assert -127 <= min(expected) <= max(expected) <= 127
        values = [
            oracle_quantise.fine(pattern, 0)
            for pattern in (*[int(x.view(np.uint32)[0, 0])] * 65536, 0x42FE0000)
        ]
        assert oracle_quantise._quantise_set(values, lambda i: i & 0xFFFF) == ([*expected, 127], 0)
    domain("r16 x boundaries of f", 65536 * len(fs))


@pytest.mark.clause("ARB-QUANT-005", "ARB-RNG-004")
@pytest.mark.operations("quantise_stochastic")
def test_boundaries_of_f_in_the_backend(target: Target) -> None:
    """The same boundaries with the bits of the generator, on as many indices as the judge can do."""
    edges = (1, 32767, 32768, 65535, 65536, 8257535, 8323071)
    rows = [[127.0] + [sign * f / 65536] * 4095 for f in edges for sign in (-1, 1)]
    count = 1024 if judge_of(target.backend.name).arrays == "lists" else 4096
    x = torch.tensor(rows)[:, :count]
    target.check("quantise_stochastic", {"x": x, "seed": 9, "step": 0, "stream": 1, "first_row": 0})
