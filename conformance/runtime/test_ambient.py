"""Whole trainings under everything that a process may be set to, and what is kept from one mode to another.

`test_settings.py` does the same to each operation.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from arbitor.between.sequences import angles_at
from arbitor.checkpoint import load_checkpoint
from arbitor.components import TernaryLinear
from arbitor.conformance.judge.settings import NO_TRAINING, SETTINGS
from arbitor.conformance.judge.target import Target, call
from arbitor.conformance.machine.models import QUICK, backward, bytes_of, hash_of, loss_of, model_of, noise
from arbitor.conformance.training.trainers import Runs
from arbitor.kernels.ambient import is_plain, plain
from arbitor.kernels.registry import why_not
from arbitor.main import ARBConfig, ARBModel
from arbitor.runtime import configure_ternary_training
from arbitor.update import ternary_modules

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"window": 4},
    "experts": {"experts": 3, "top_k": 2, "max_moe_iters": 2},
}
pytestmark = pytest.mark.usefixtures("one_thread")
TRAINING = [name for name in SETTINGS if name not in NO_TRAINING]


def tokens_of(target: Target, step: int = 0) -> torch.Tensor:
    """int64 [2, 9]."""
    return bytes_of(target, 2, 9, seed=step, high=4)


@cache
def batches(target: Target) -> list[torch.Tensor]:
    return [tokens_of(target, step) for step in range(3)]


def train(model: ARBModel, data: list[torch.Tensor]) -> str:
    """A step from each, with the experts' balance in its loss and a plain number for a signal -> the state's
    hash."""
    for tokens in data:
        loss = loss_of(model, tokens)
        balance = model.auxiliary_loss()
        backward(loss if balance is None else loss + 0.01 * balance)
        report = model._ternary_update_memory(loss_signal=loss.item())  # in no assert: python -O has none
        assert report.skipped is None
    return hash_of(model)


@cache
def plainly(target: Target, config: str) -> str:
    """The hash without any setting."""
    return train(model_of(target, **CONFIGS[config]), batches(target))


@pytest.mark.clause("ARB-UPD-003", "ARB-RUN-005", "ARB-MOE-004")
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("setting", TRAINING)
def test_a_training_under_a_setting(target: Target, setting: str, config: str) -> None:
    data, model = batches(target), model_of(target, **CONFIGS[config])
    with SETTINGS[setting](target.device):
        found = train(model, data)
    assert found == plainly(target, config)


@pytest.mark.clause("ARB-MOE-004")
@pytest.mark.parametrize("setting", TRAINING)
def test_the_balance_of_experts_under_a_setting(target: Target, setting: str) -> None:
    """float32 to the bit: a quotient of two integers has the default dtype."""

    def balance() -> torch.Tensor:
        model(tokens)
        found = model.auxiliary_loss()
        assert found is not None
        return found

    model, tokens = model_of(target, **CONFIGS["experts"]), tokens_of(target)
    expected = balance()
    with SETTINGS[setting](target.device):
        found = balance()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.clause("ARB-UPD-003", "ARB-INIT-001", "ARB-STATE-001")
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_model_made_under_a_setting(target: Target, setting: str) -> None:
    """Has the same state, on the default device, and learns the same."""
    with SETTINGS[setting](target.device):
        model = ARBModel(ARBConfig(16, 1, 2, mlp_ratio=2, group_size=12), backend=target.backend.name)
        home = torch.get_default_device()
    assert {buffer.device for buffer in model.buffers()} == {home}
    configure_ternary_training(model, **QUICK)
    other = model_of(target)
    if home.type == "meta":
        with pytest.raises(ValueError, match="is on the device meta: it has no elements"):
            model.load_state_dict({"head.codes": other.head.state_dict()["codes"]}, strict=False)
        model.load_state_dict(copy.deepcopy(other.state_dict()), assign=True)
    assert train(model.to(target.device), batches(target)) == train(other, batches(target))


@pytest.mark.clause("ARB-STATE-006")
def test_elements_that_are_not_there_are_not_computed_with(target: Target) -> None:
    with torch.device("meta"):
        layer = TernaryLinear(8, 4, backend=target.backend.name)
    with pytest.raises(ValueError, match="quantise_nearest_both: x is on the device meta"):
        layer(torch.zeros(1, 8, device="meta"))
    with pytest.raises(ValueError, match="extra state is on the device meta"):
        layer.set_extra_state(layer.get_extra_state().to("meta"))


def generated(model: ARBModel, target: Target) -> None:
    """Some text, token by token, as a validation or a sample between two steps has it."""
    for token in tokens_of(target).unbind(1):
        model(token.unsqueeze(1), stateful=True)


def looked(model: ARBModel, target: Target) -> None:
    model(tokens_of(target)[:, :-1])


def moved(model: ARBModel, target: Target) -> None:
    """There and back: every tensor is another one."""
    model.to("meta" if target.device == "cpu" else "cpu")
    model.to_empty(device=target.device)
    model.load_state_dict(model_of(target, experts=2).state_dict())


def loaded(model: ARBModel, target: Target) -> None:
    model.load_state_dict(model_of(target, experts=2).state_dict())


def assigned(model: ARBModel, target: Target) -> None:
    state = {name: tensor.clone() for name, tensor in model_of(target, experts=2).state_dict().items()}
    model.load_state_dict(state, assign=True)


MEANWHILE: dict[str, Callable[[ARBModel, Target], None]] = {
    "generate": generated,
    "look": looked,
    "move": moved,
    "load": loaded,
    "assign": assigned,
}


@pytest.mark.clause("ARB-UPD-003", "ARB-MODEL-003", "ARB-RUN-001")
@pytest.mark.parametrize("setting", NO_TRAINING)
@pytest.mark.parametrize("what", MEANWHILE)
def test_training_after_what_was_done_without_gradients(target: Target, what: str, setting: str) -> None:
    """What is kept from there (angles, caches, state) can be trained with; lengths that nobody had before."""
    angles_at.cache_clear()
    model, data = model_of(target, experts=2), batches(target)
    with SETTINGS[setting](target.device):
        MEANWHILE[what](model, target)
    first = train(model, data)
    assert first == plainly_with_two(target)
    assert train(model, data) == train_again(target)


@cache
def plainly_with_two(target: Target) -> str:
    return train(model_of(target, experts=2), batches(target))


@cache
def train_again(target: Target) -> str:
    return train(model_of(target, experts=2), batches(target) * 2)


@pytest.mark.clause("ARB-UPD-003", "ARB-STATE-007")
def test_copies_made_in_inference_mode(target: Target) -> None:
    """Their tensors are such ones, and they learn and load all the same."""
    model = model_of(target)
    with torch.inference_mode():
        twin = copy.deepcopy(model)
    assert any(buffer.is_inference() for buffer in twin.buffers()), "nothing is tried here any more"
    expected = plainly(target, "plain")
    before = model_of(target, window=4).state_dict()
    assert train(model_of(target, window=4), batches(target)) == expected
    for each in (model, twin):
        each.config = ARBConfig(**(vars(each.config) | {"window": None}))
    assert train(twin, batches(target)) == train(model, batches(target))
    twin.load_state_dict(before)
    model.load_state_dict(before)
    assert train(twin, batches(target)) == train(model, batches(target))


@pytest.mark.clause("ARB-RUN-001", "ARB-EMB-001")
def test_data_made_in_inference_mode(target: Target) -> None:
    """Tokens that a model has written are learnt from, and activations go through a layer."""
    expected = train(model_of(target), batches(target))
    with torch.inference_mode():
        data = [tokens.clone() for tokens in batches(target)]
        x = noise(target, 3, 8).clone()
    assert train(model_of(target), data) == expected
    layer = TernaryLinear(8, 4, backend=target.backend.name).to(target.device)
    backward(layer(x).sum())
    assert [len(module.captures) for module in ternary_modules(layer).values()] == [1]


@pytest.mark.clause("ARB-UPD-003")
def test_a_stateful_text_goes_on_in_training(target: Target) -> None:
    """The KV cache of a prompt that was read in inference mode."""

    def lost(mode: Any) -> torch.Tensor:
        model = model_of(target)
        with mode:
            model(tokens_of(target)[:, :4], stateful=True)
        logits: torch.Tensor = model(tokens_of(target)[:, 4:], stateful=True)
        backward(logits.square().sum())
        return logits.detach()

    assert torch.equal(lost(torch.inference_mode()), lost(torch.no_grad()))


@pytest.mark.clause("ARB-UPD-003", "ARB-QUANT-010")
def test_the_guard_leaves_everything_as_it_was(target: Target) -> None:
    """Also where a call is refused; and it sees each setting that it fixes."""
    fixed = ("autocast bfloat16", "flush to zero", "inside a device", "default device", "inference mode")
    twos = torch.full((1, 4), 2, dtype=torch.int8, device=target.device)
    assert is_plain()
    for name in fixed:
        with SETTINGS[name](target.device):
            assert not is_plain(), name
            before = state_of_thread()
            with plain():
                assert state_of_thread() == (False, False, False, False, torch.device("cpu"), False)
            with pytest.raises(ValueError, match="trits"):
                call(target.backend, "pack", {"trits": twos})
            assert state_of_thread() == before, name
    assert is_plain()


def state_of_thread() -> tuple[object, ...]:
    smallest = sys.float_info.min
    return (
        *(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.get_default_device(),
        smallest * 0.5 == 0.0,
    )


@pytest.mark.clause("ARB-TRAIN-002", "ARB-LIN-001")
def test_the_trainer_on_every_backend(target: Target, runs: Runs) -> None:
    """One hash on every backend that works here."""
    names = ["torch", "reference", "tilelang"] if target.device == "cpu" else ["torch", "triton", "tilelang"]
    found = {}
    for name in dict.fromkeys([target.backend.name, *names]):
        if why_not(name) is None:
            how = ("--backend", name, "--run", name, "--group-size", "32")
            assert runs("pretrain.py", *how, "--d-model", "32", "--log-interval", "0") == 0
            found[name] = load_checkpoint(runs.folder / name / "checkpoint.safetensors").digest
    assert len(found) > 1
    assert len(set(found.values())) == 1, found


@pytest.mark.clause("ARB-UPD-003")
def test_a_training_of_optimised_python(target: Target) -> None:
    """python -OO leaves out assertions and docstrings."""
    words = (
        "from arbitor.conformance.runtime.test_ambient import *; "
        "from arbitor.conformance.judge.target import target_of; "
        f"target = target_of({target.backend.name!r}, {target.device!r}); print(plainly(target, 'experts'))"
    )
    if target.backend.name == "tilelang":
        pytest.skip("TileLang itself needs its docstrings")
    assert apart("-OO", "-c", words) == plainly(target, "experts")


def test_a_backend_that_needs_docstrings_says_so() -> None:
    """TVM formats its own; auto passes it over, with that reason."""
    if why_not("tilelang") is not None:
        pytest.skip(f"tilelang: {why_not('tilelang')}")
    words = "from arbitor.kernels.registry import why_not; print(why_not('tilelang'))"
    assert "TileLang cannot be imported by python -OO" in apart("-OO", "-c", words)


def apart(*words: str) -> str:
    """The last line that another Python prints."""
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]
