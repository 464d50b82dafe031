"""Digests of whole tensors, beside ARB-DIG-002 in Python's integers."""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.training.recording.digests import COLUMNS, Digests, as_text, digests_of
from arbitor.update import ternary_modules

MASK = (1 << 64) - 1


def mixed(word: int, place: int) -> int:
    """ARB-DIG-001, of one word."""
    if word == 0:
        return 0
    z = word ^ (place + 1) * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def by_hand(tensor: torch.Tensor) -> int:
    """The sum over all words of the bytes, each at its own place."""
    data = tensor.cpu().contiguous().numpy().tobytes()
    words = (data[place : place + 8].ljust(8, b"\0") for place in range(0, len(data), 8))
    return sum(mixed(int.from_bytes(word, "little"), place) for place, word in enumerate(words)) & MASK


def random(*extents: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    low, high = (0, 255) if dtype == torch.uint8 else (-100, 100)
    return torch.randint(low, high, extents, generator=torch.Generator().manual_seed(seed)).to(dtype)


TENSORS = {
    "one byte": random(1, dtype=torch.uint8),
    "a word and a byte": random(9, dtype=torch.int8),
    "one row": random(8 * COLUMNS, dtype=torch.uint8),
    "a byte more": random(8 * COLUMNS + 1, dtype=torch.int8),
    "three rows": random(3, 4096, dtype=torch.int16),
    "int32": random(5, 7, dtype=torch.int32),
    "int64": random(3, 3, dtype=torch.int64),
    "zeros": torch.zeros(4, 4, dtype=torch.int8),
    "none": torch.zeros(0, 4, dtype=torch.int8),
    "a view": random(6, 10, dtype=torch.int32).t(),
}


@pytest.mark.clause("ARB-DIG-002", "ARB-DIG-001")
def test_tensors_by_hand(target: Target) -> None:
    """Together and each alone: of any dtype and extents, rows of 1,024 words, and none."""
    placed = {name: tensor.to(target.device) for name, tensor in TENSORS.items()}
    found = Digests(placed, target.backend).of(placed)
    assert [number & MASK for number in found.tolist()] == [by_hand(tensor) for tensor in TENSORS.values()]
    assert as_text(found) == "".join(f"{by_hand(tensor):016x}" for tensor in TENSORS.values())
    for name, tensor in placed.items():
        assert int(Digests({name: tensor}, target.backend).of({name: tensor})) & MASK == by_hand(tensor)


@pytest.mark.clause("ARB-DIG-002")
def test_of_several_it_is_of_theirs(target: Target) -> None:
    """In their order."""
    several = [TENSORS["int32"].to(target.device), TENSORS["a word and a byte"].to(target.device)]
    digests = [by_hand(tensor) for tensor in several]
    groups = [several, several[:1], several[::-1]]
    right = [(digests[0], digests[1]), (digests[0],), (digests[1], digests[0])]
    expected = [sum(map(mixed, group, range(len(group)))) & MASK for group in right]
    assert digests_of(groups, target.backend) == expected
    assert [digests_of([group], target.backend) for group in groups] == [[each] for each in expected]


@pytest.mark.clause("ARB-DIG-002", "ARB-TRAIN-006")
def test_every_tensor_of_a_state_has_its_own(target: Target) -> None:
    """One element changed changes that digest and no other."""
    model = models.model_of(target)
    state = {
        f"{name}.{part}": held
        for name, module in ternary_modules(model).items()
        for part, held in module.state().items()
    }
    digests = Digests(state, target.backend)
    before = digests.of(state)
    for place, tensor in enumerate(state.values()):
        tensor.view(-1)[-1] += 1
        after = digests.of(state)
        assert (after != before).nonzero().flatten().tolist() == [place]
        tensor.view(-1)[-1] -= 1
