"""The model: streaming equals one full forward to the last bit, a window is a window, runtime state stays
runtime state."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor.attention import CausalAttention
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, changed, hash_of, snapshot
from arbitor.kernels.registry import why_not_auto
from arbitor.main import ARBConfig, ARBModel
from arbitor.runtime import reset_runtime_state

CONFIGS: dict[str, dict[str, Any]] = {
    "one head": {"heads": 1},
    "two layers": {"layers": 2},
    "window 1": {"window": 1},
    "window 3, two layers": {"window": 3, "layers": 2},
    "window over all": {"window": 99},
    "wide": {"d_model": 48, "heads": 3, "mlp_ratio": 4},
}
LENGTH = 13
pytestmark = pytest.mark.usefixtures("one_thread")


def streamed(model: ARBModel, tokens: torch.Tensor, chunk: int) -> torch.Tensor:
    """Logits from calls of `chunk` tokens."""
    model.reset_runtime_state()
    with torch.no_grad():
        return torch.cat([model(part, stateful=True) for part in tokens.split(chunk, dim=1)], dim=1)


def full(model: ARBModel, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(tokens)
        return logits


def caches(model: ARBModel) -> list[tuple[torch.Tensor, torch.Tensor] | None]:
    return [module._cache for module in model.modules() if isinstance(module, CausalAttention)]


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_streaming_is_one_full_forward(target: Target, config: str, chunk: int) -> None:
    """Before training and after some, for one sequence and for three."""
    model = models.model_of(target, **CONFIGS[config])
    for step in range(2):
        for batch in (1, 3):
            tokens = models.bytes_of(target, batch, LENGTH, seed=step)
            assert torch.equal(streamed(model, tokens, chunk), full(model, tokens))
        backward(models.loss_of(model, models.bytes_of(target, 2, 9)))
        model._ternary_update_memory()


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize("seed", [0, 2])
def test_streaming_where_float32_would_differ(target: Target, seed: int) -> None:
    """Long enough that attention in float32, in another order of sums, gives another last bit on a CPU."""
    slow = why_not_auto(target.backend.name, target.device)
    if target.backend.arrays == "lists" or slow:
        pytest.skip(f"a model of this size takes it minutes to an hour ({slow or 'lists of integers'})")
    model = models.model_of(target, d_model=128, layers=2, heads=1, seed=seed)
    tokens = models.bytes_of(target, 2, 100, seed=seed)
    assert torch.equal(streamed(model, tokens, 1), full(model, tokens))


@pytest.mark.clause("ARB-MODEL-002")
def test_a_sequence_does_not_see_its_neighbours(target: Target) -> None:
    model = models.model_of(target, layers=2)
    tokens = models.bytes_of(target, 3, LENGTH)
    together = full(model, tokens)
    assert torch.equal(torch.cat([full(model, row[None]) for row in tokens]), together)


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize("window", [1, 2, 4, None])
@pytest.mark.parametrize("stream", [False, True])
def test_a_position_sees_its_window_and_no_other(target: Target, window: int | None, stream: bool) -> None:
    """One layer: logits at t change with each byte in t-w+1..t, and are the same bits for any other byte
    elsewhere."""
    model = models.model_of(target, window=window)
    tokens = models.bytes_of(target, 1, LENGTH, high=250)
    before = streamed(model, tokens, 1) if stream else full(model, tokens)
    interpreted = stream and why_not_auto(target.backend.name, target.device) is not None
    for place in (0, 4, LENGTH - 1) if interpreted else range(LENGTH):  # two thousand calls take it minutes
        moved = torch.zeros(LENGTH, dtype=torch.bool, device=target.device)
        for other in (1, 3, 5):  # one byte may look like another to one position
            tokens_now = tokens.clone()
            tokens_now[0, place] += other
            after = streamed(model, tokens_now, 1) if stream else full(model, tokens_now)
            moved |= (after != before)[0].any(dim=-1)
        last = LENGTH if window is None else min(place + window, LENGTH)
        assert moved.nonzero().flatten().tolist() == list(range(place, last))


@pytest.mark.clause("ARB-MODEL-002")
def test_layers_add_their_windows(target: Target) -> None:
    """Two layers with a window of 3: what is 5 back is out of sight."""
    model = models.model_of(target, window=3, layers=2)
    tokens = models.bytes_of(target, 1, LENGTH, high=250)
    other = tokens.clone()
    other[0, 2] += 1
    moved = (full(model, other) != full(model, tokens))[0].any(dim=-1)
    assert moved.nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


@pytest.mark.clause("ARB-RUN-010", "ARB-MODEL-003")
@pytest.mark.parametrize("way", ["method", "function", "of a parent"])
def test_reset_forgets_everything(target: Target, way: str) -> None:
    """The next tokens get the logits of a model that has seen none, and nothing of the old state is left."""
    model = models.model_of(target, layers=2, window=4)
    tokens = models.bytes_of(target, 2, LENGTH)
    first = streamed(model, tokens, 3)
    with torch.no_grad():
        assert not torch.equal(model(tokens, stateful=True), first)
    if way == "method":
        model.reset_runtime_state()
    else:
        reset_runtime_state(model if way == "function" else torch.nn.ModuleDict({"inner": model}))
    assert caches(model) == [None, None]
    assert model._position == 0
    with torch.no_grad():
        assert torch.equal(model(tokens[:, :3], stateful=True), first[:, :3])


@pytest.mark.clause("ARB-MODEL-003", "ARB-STATE-001")
def test_runtime_state_is_in_no_checkpoint(target: Target) -> None:
    """Names, bytes and hash are those from before, and a call without `stateful` leaves and takes nothing."""
    model = models.model_of(target, layers=2)
    before, digest = snapshot(model), hash_of(model)
    tokens = models.bytes_of(target, 2, LENGTH)
    stateless = full(model, tokens)
    assert caches(model) == [None, None]
    streamed(model, tokens, 1)
    assert all(cache is not None for cache in caches(model))
    assert changed(before, snapshot(model)) == []
    assert hash_of(model) == digest
    assert torch.equal(full(model, tokens), stateless)


@pytest.mark.clause("ARB-MODEL-002", "ARB-RUN-010")
@pytest.mark.parametrize("window", [1, 4, None])
def test_the_cache_is_detached_and_no_longer_than_the_window(target: Target, window: int | None) -> None:
    model = models.model_of(target, window=window)
    for seed in range(3):
        backward(model(models.bytes_of(target, 2, 5, seed=seed), stateful=True).square().sum())
        (cache,) = caches(model)
        assert cache is not None
        assert [part.requires_grad for part in cache] == [False, False]
        assert {part.dtype for part in cache} == {torch.int8}
        kept = 5 * (seed + 1) if window is None else min(window - 1, 5 * (seed + 1))
        assert [part.shape[1] for part in cache] == [kept, kept]
        model._ternary_update_memory()


@pytest.mark.clause("ARB-ATT-001", "ARB-MODEL-008")
def test_a_head_has_256_numbers_at_most() -> None:
    """More are refused with what to do; so many are taken."""
    ARBConfig(d_model=512, layers=1, heads=2)
    with pytest.raises(ValueError, match=r"a head has at most 256 .* got d_model 520 of 2 heads: give 3"):
        ARBConfig(d_model=520, layers=1, heads=2)


@pytest.mark.clause("ARB-RUN-010")
def test_another_batch_size_needs_a_reset(target: Target) -> None:
    """It is refused by name, and the sequences that are in progress go on."""
    model = models.model_of(target, layers=2)
    tokens = models.bytes_of(target, 3, LENGTH)
    expected = streamed(model, tokens, 1)
    streamed(model, tokens[:, :6], 6)
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"batch of 3, got 2; call reset_runtime_state first"):
            model(tokens[:2, :2], stateful=True)
        assert torch.equal(model(tokens[:, 6:], stateful=True), expected[:, 6:])
        model.reset_runtime_state()
        model(tokens[:2, :2], stateful=True)


@pytest.mark.clause("ARB-MODEL-001")
def test_shapes_that_are_refused() -> None:
    wrongs: list[dict[str, Any]] = [
        *({"d_model": 20, "heads": 4}, {"window": 0}, {"max_moe_iters": 0}, {"experts": -1}),
        *({"experts": 2, "top_k": 3}, {"experts": 2, "top_k": 0}, {"frame": 0}, {"times": 0}),
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="must be"):
            ARBConfig(**wrong)
