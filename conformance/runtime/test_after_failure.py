"""What a failure leaves behind: nothing. What comes after it is what would have come without it."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import Lost, backward, changed, failing, hash_of, noise, snapshot
from arbitor.update import ternary_modules, update_memory


def layers(target: Target) -> nn.ModuleDict:
    """A table, and two layers of another shape each."""
    parts = {"rows": models.table(target), "first": models.linear(target, tensor_id=1)}
    return nn.ModuleDict(parts | {"last": models.linear(target, columns=10, rows=7, tensor_id=2)})


def forward(group: nn.ModuleDict, target: Target, seed: int = 0) -> torch.Tensor:
    tokens = models.bytes_of(target, 5, high=9, seed=seed)
    y: torch.Tensor = group["last"](group["first"](group["rows"](tokens)))
    return y


def step(group: nn.ModuleDict, target: Target, seed: int) -> None:
    backward(forward(group, target, seed).square().sum())
    assert update_memory(group).modules_updated == 3


# what an update is given, and what is said of it: a skip says it in its report
GIVEN: dict[str, tuple[dict[str, Any], str]] = {
    "a signal": ({"loss_signal": math.nan}, "loss_signal is not finite"),
    "a component": ({"loss_components": [torch.tensor(math.inf)]}, r"loss_components\[0\] is not finite"),
    "a gradient": ({}, "gradient of last is not finite"),
    "a gain": ({"gain": -1}, r"gain must be in 0\.\.4194304, got -1"),
    "a scale_gain": ({"scale_gain": 2**20 + 1}, r"scale_gain must be in 0\.\.1048576, got 1048577"),
    "updates": ({}, "last: updates is 4294967295, the most there may be"),
}


@pytest.mark.clause("ARB-RUN-005", "ARB-RUN-006", "ARB-RNG-006", "ARB-STATE-005")
@pytest.mark.parametrize("fault", GIVEN)
def test_an_update_that_is_refused_has_not_been(target: Target, fault: str) -> None:
    """The modules before the one at fault have not changed either, and the next step is as without it."""
    group, twin = layers(target), layers(target)
    for each in (group, twin):
        step(each, target, 0)
    last, (given, words) = ternary_modules(group)["last"], GIVEN[fault]
    before = snapshot(group)
    backward(forward(group, target, 1).square().sum())
    if fault == "a gradient":
        backward(last(noise(target, 3, 10) * math.nan).sum())
    last.updates = 2**32 - 1 if fault == "updates" else 1
    try:
        said = update_memory(group, **given).skipped
    except ValueError as error:
        said = str(error)
    last.updates = 1
    assert said is not None
    assert re.search(words, said)
    assert changed(before, snapshot(group)) == []
    for each in (group, twin):
        step(each, target, 2)
    assert hash_of(group) == hash_of(twin)


@pytest.mark.clause("ARB-RUN-009")
def test_settings_out_of_range_do_not_get_as_far_as_an_update(target: Target) -> None:
    layer = models.linear(target)
    wrongs: list[dict[str, Any]] = [
        {"gain": -1},
        {"vote_max": 128},
        {"e_accum_threshold": 0},
        {"rule": "none"},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            layer.settings = replace(layer.settings, **wrong)
    wrong = {"gain": 1.0}
    with pytest.raises(TypeError, match="gain must be an int, got float"):
        layer.settings = replace(layer.settings, **wrong)


IN_THE_UPDATE = ("quantise_columns", "quantise_stochastic", "embedding_update", "linear_update")


@pytest.mark.clause("ARB-RUN-006")
@pytest.mark.parametrize("operation", IN_THE_UPDATE)
def test_an_update_that_fails(target: Target, operation: str) -> None:
    """Before the first module has changed nothing has; after it the error says who was updated."""
    group, twin = layers(target), layers(target)
    backward(forward(group, target).square().sum())
    before = snapshot(group)
    with pytest.raises(Lost) as failed, failing(target, operation):
        update_memory(group)
    notes = getattr(failed.value, "__notes__", [])
    if operation == "linear_update":
        assert notes == [
            "rows had been updated when first failed, the rest had not: load a checkpoint before going on"
        ]
        assert {name.partition(".")[0] for name in changed(before, snapshot(group))} == {"rows"}
        group.load_state_dict(before)
    assert notes == [] or operation == "linear_update"
    assert changed(before, snapshot(group)) == []
    step(group, target, 2)
    step(twin, target, 2)
    assert hash_of(group) == hash_of(twin)


FORWARD = ("embedding_forward", "quantise_nearest_both", "linear_forward")
CALLS = {
    "rows": ("embedding_forward",),
    "first": ("quantise_nearest_both", "linear_forward", "quantise_stochastic", "input_gradient"),
}


@pytest.mark.clause("ARB-RNG-006", "ARB-RUN-004")
@pytest.mark.parametrize(("kind", "operation"), [(k, o) for k, found in CALLS.items() for o in found])
def test_a_call_that_fails_takes_no_numbers_and_captures_nothing(
    target: Target, kind: str, operation: str
) -> None:
    """Forward or backward; the same call again, as after a device ran out of memory."""
    ends = []
    for fails in (False, True):
        module = ternary_modules(layers(target))[kind]
        inputs: Any = (
            noise(target, 5, 12).requires_grad_() if kind == "first" else models.bytes_of(target, 5, high=9)
        )
        for part in range(2):
            if fails and part and operation in FORWARD:
                with pytest.raises(Lost), failing(target, operation):
                    module(inputs)
            loss = module(inputs).square().sum()
            if fails and part and operation not in FORWARD:
                with pytest.raises(Lost), failing(target, operation):
                    backward(loss, retain_graph=True)
                assert len(module.captures) == part
            backward(loss)
        assert len(module.captures) == 2
        update_memory(module)
        ends.append((hash_of(module), [] if inputs.grad is None else inputs.grad.tolist()))
    assert ends[0] == ends[1]


@pytest.mark.clause("ARB-EMB-001", "ARB-RNG-006")
def test_a_token_that_is_refused_takes_no_numbers(target: Target) -> None:
    if target.device == "cuda":
        pytest.skip("there it is the device's own assertion, after which there is no device")
    ends = []
    for fails in (False, True):
        table = models.table(target)
        if fails:
            with pytest.raises(ValueError, match="9"):
                table(torch.tensor([0, 1, 9]))
        backward(table(models.bytes_of(target, 5, high=9)).square().sum())
        update_memory(table)
        ends.append(hash_of(table))
    assert ends[0] == ends[1]


@pytest.mark.clause("ARB-RUN-004", "ARB-RNG-006")
def test_a_forward_from_before_a_skip(target: Target) -> None:
    """A skip changes no weights: its backward may still come, and has the next numbers."""
    ends = []
    for skips in (False, True):
        layer = models.linear(target)
        x = noise(target, 5, 12)
        first, second = layer(x), layer(x)
        if skips:
            backward(layer(x).square().sum())
            assert update_memory(layer, loss_signal=float("nan")).skipped is not None
        backward(second.square().sum())
        backward(first.square().sum())
        assert [capture.first_row for capture in layer.captures] == [0, 5]
        update_memory(layer)
        ends.append(hash_of(layer))
    assert ends[0] == ends[1]


KILLED = """
import os, signal, sys, torch
from arbitor.checkpoint import save_checkpoint
honest, when = getattr(os, sys.argv[2]), int(sys.argv[3])
calls = []
def call(*arguments, **named):
    calls.append(0)
    if len(calls) == when:
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(*arguments, **named)
setattr(os, sys.argv[2], call)
save_checkpoint(sys.argv[1], {"codes": torch.zeros(3, 2, dtype=torch.uint8)}, {}, 2)
"""


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize(("call", "when"), [("fsync", 1), ("replace", 1), ("fsync", 2)])
def test_a_write_after_a_killed_write(tmp_path: Path, call: str, when: int) -> None:
    """The file before or the new one is there meanwhile; what is written next is whole, and nothing else is
    left in the folder."""
    path = tmp_path / "a.safetensors"
    codes = torch.full((3, 2), 0b01010101, dtype=torch.uint8)
    save_checkpoint(path, {"codes": codes}, {}, 1)
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), call, str(when)], cwd=Path(__file__).parents[2]
    )
    assert died.returncode == -signal.SIGKILL
    assert load_checkpoint(path).step == (2 if (call, when) == ("fsync", 2) else 1)
    digest = save_checkpoint(path, {"codes": codes * 2}, {}, 3)
    found = load_checkpoint(path)
    assert (found.step, found.digest) == (3, digest)
    assert torch.equal(found.tensors["codes"], codes * 2)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
