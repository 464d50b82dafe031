"""`attention`: softmax attention on int8, in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arbitor import reference
from arbitor.conformance import oracle
from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import agreement, int8, layouts, refusals, repetition, to_bits
from arbitor.kernels.heads import scale_of
from arbitor.reference.sequences.scores import power

test_agrees, test_ends = agreement("attention", "ARB-ATT-001", "ARB-ATT-002", "ARB-ATT-003", "ARB-ATT-004")
test_refuses = refusals("attention")
test_layouts = layouts("attention")
test_repeats = repetition("attention")


def drawn(*shape: int, seed: int, largest: int = 127) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).to(torch.int8)


def attended(batch: int, queries: int, positions: int, heads: int, dim: int, largest: int = 60) -> Arguments:
    counts = {"q": queries, "k": positions, "v": positions}
    return {
        name: drawn(batch, count, heads, dim, seed=seed, largest=largest)
        for seed, (name, count) in enumerate(counts.items())
    }


@pytest.mark.clause("ARB-EXP-004")
def test_the_cubic(target: Target) -> None:
    """At all 2^16 places within 3.1 of 2^-f, in 32 bits, and never over the octave's ends."""
    f = np.arange(2**16)
    p = power(f)
    assert np.abs(p - 32766 * 2 ** (-f / 2**16)).max() < 3.1
    assert p[0] == p.max() == 32766
    assert p.min() == 16381
    assert p.tolist() == [oracle.sequences.power(int(place)) for place in f]
    assert 1485659542 - 1315 * 0 < 2**31 > int(((498026175 - 1315 * f) >> 16).max()) * 65535


@pytest.mark.clause("ARB-EXP-004", "ARB-ATT-002")
def test_every_fraction_of_an_octave(target: Target) -> None:
    """Heads of 256 numbers have 2^13 units an octave: scores of 0 to 8191 below the largest, one a position,
    and the values that stand with one of them alone."""
    score = torch.arange(2**13)
    k = torch.zeros(1, 2**13, 1, 256, dtype=torch.int8)
    k[0, :, 0, 0], k[0, :, 0, 1] = (score // 127).to(torch.int8), (score % 127).to(torch.int8)
    q = torch.zeros(1, 1, 1, 256, dtype=torch.int8)
    q[0, 0, 0, 0], q[0, 0, 0, 1] = 127, 1
    v = torch.zeros_like(k)
    v[0, :, 0, :128] = (score[:, None] % 128 == torch.arange(128)).to(torch.int8) * 127
    v[0, :, 0, 128:] = (score[:, None] // 64 == torch.arange(128)).to(torch.int8) * 127
    assert scale_of(256)[1] == 13
    assert target.check("attention", {"q": q, "k": k, "v": v, "window": 0})["top"].item() == 8191


@pytest.mark.clause("ARB-ATT-002", "ARB-ATT-003")
@pytest.mark.parametrize("dim", [1, 4, 32, 64, 256])
@pytest.mark.parametrize("window", [0, 40])
def test_it_is_softmax_attention(target: Target, dim: int, window: int) -> None:
    """Of scores z * 2^-u octaves, in float64: within 2^-12 of the largest value."""
    arguments = attended(1, 40, 40, 2, dim, largest=60 if dim > 1 else 20)
    found = target.check("attention", arguments | {"window": window})["y"]
    q, k, v = (arguments[name].double().transpose(1, 2) for name in ("q", "k", "v"))
    octaves = q @ k.mT * 2.0 ** -scale_of(dim)[1]
    if window:
        octaves = octaves.masked_fill(~torch.ones(40, 40, dtype=torch.bool).tril(), -torch.inf)
    right = (octaves * np.log(2)).softmax(-1) @ v / 32
    assert (found.transpose(1, 2) - right).abs().max() < 4 * 2**-12


@pytest.mark.clause("ARB-ATT-001")
@pytest.mark.parametrize("window", [1, 2, 7, 8, 2**31 - 1])
def test_a_query_sees_its_window(target: Target, window: int) -> None:
    """Values that name their position: keys are alike, so y is the mean of what is seen."""
    queries, positions = 5, 12
    q, k = torch.zeros(1, queries, 1, 2, dtype=torch.int8), torch.zeros(1, positions, 1, 2, dtype=torch.int8)
    v = (torch.arange(positions)[None, :, None, None] * 8).expand_as(k).to(torch.int8)
    found = target.check("attention", {"q": q, "k": k, "v": v, "window": window})
    for i in range(queries):
        place = positions - queries + i
        seen = range(max(0, place - window + 1), place + 1)
        assert found["y"][0, i, 0, 0] == np.float32(sum(seen) * 8 / len(seen) / 32)
        assert found["total"][0, i, 0] == 16383 * len(seen)


@pytest.mark.clause("ARB-ATT-001")
def test_a_window_of_none_is_all(target: Target) -> None:
    found = target.check("attention", attended(2, 3, 9, 2, 4) | {"window": 0})
    again = target.check("attention", attended(2, 9, 9, 2, 4) | {"window": 2**31 - 1})
    assert not torch.equal(found["total"][:, 0], again["total"][:, 0])


@pytest.mark.clause("ARB-ATT-001", "ARB-ATT-003")
@pytest.mark.parametrize("window", [3, 50])
def test_one_query_after_another_is_all_at_once(target: Target, window: int) -> None:
    """What a stream gives: the same bits, whether a query comes alone or among others."""
    arguments = attended(2, 20, 20, 2, 8)
    whole = target.check("attention", arguments | {"window": window})
    for t in (0, 1, 11, 19):
        part = {name: x[:, : t + 1] for name, x in arguments.items()} | {"q": arguments["q"][:, t : t + 1]}
        found = target.check("attention", part | {"window": window})
        assert all(torch.equal(found[name][:, 0], whole[name][:, t]) for name in ("y", "top", "total"))


@pytest.mark.clause("ARB-ATT-002")
def test_weights_end_after_fifteen_octaves(target: Target) -> None:
    """A weight is 1 down to nearly 15 octaves below the largest and 0 from there, with one number a head."""
    _, u = scale_of(1)
    for key, weight in ((0, 16383), (-60, 1), (-61, 0), (-127, 0)):  # a score is 127 times that
        k = int8([[[[0]], [[key]]]])
        found = target.check("attention", {"q": int8([[[[127]]]]), "k": k, "v": k, "window": 0})
        octaves = -127 * key / 2**u
        assert found["total"].item() == 16383 + weight, octaves


@pytest.mark.clause("ARB-ATT-004")
@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_poison_takes_what_sees_it(target: Target, name: str) -> None:
    arguments = attended(2, 6, 6, 2, 3)
    arguments[name][1, 2, 1] = -128
    found = target.check("attention", arguments | {"window": 2})
    lost = [2] if name == "q" else [2, 3]
    assert to_bits(found["y"][1, lost, 1]) == [[0x7FC00000] * 3] * len(lost)
    assert found["y"].isnan().sum() == 3 * len(lost)
    for other in ("top", "total"):
        assert found[other][1, lost, 1].eq(0).all()


@pytest.mark.clause("ARB-ATT-001")
def test_a_head_is_wider_than_allowed() -> None:
    wide = np.zeros((1, 1, 1, 257), np.int8)
    with pytest.raises(ValueError, match="257"):
        reference.attention(wide, wide, wide, 0)


@pytest.mark.clause("ARB-ATT-001")
def test_more_queries_than_positions(target: Target) -> None:
    arguments = attended(1, 3, 2, 1, 4) | {"window": 0}
    target.refuses("attention", arguments, ValueError, "3", "2")


@pytest.mark.clause("ARB-ATT-001")
def test_a_slice_that_is_partly_poison_is_refused_by_the_judges() -> None:
    q = np.array([[[[1, -128]]]], np.int8)
    with pytest.raises(ValueError, match="-128"):
        reference.attention(q, q, q, 0)
    with pytest.raises(ValueError, match="-128"):
        oracle.attention(q.tolist(), q.tolist(), q.tolist(), 0)
