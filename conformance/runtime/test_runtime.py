"""Settings, schedule and registry: what a caller asks for is what runs, or an error says why not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from arbitor.components import TernaryEmbeddingTable, TernaryLinear
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.kernels import registry
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.registry import BackendUnavailable, choose, select, why_not
from arbitor.main import ARBConfig, ARBModel
from arbitor.runtime import configure_ternary_training
from arbitor.schedule import rated, scheduled_gain, scheduled_scale_gain
from arbitor.update import ternary_modules


def settings_of(model: nn.Module) -> list[Any]:
    return [module.settings for module in ternary_modules(model).values()]


@pytest.mark.clause("ARB-RUN-009")
def test_configure_sets_every_module(target: Target) -> None:
    """Defaults are 32 and 32; what is returned is the accum_threshold; other settings stay unless named."""
    model = models.model_of(target, layers=2)
    assert configure_ternary_training(model) == 32
    assert {(s.accum_threshold, s.e_accum_threshold) for s in settings_of(model)} == {(32, 32)}
    assert {s.scale_gain for s in settings_of(model)} == {models.QUICK["scale_gain"]}
    assert configure_ternary_training(model, 5, 7, rule="sign", vote_max=3) == 5
    assert len(settings_of(model)) == 10
    assert {(s.accum_threshold, s.e_accum_threshold, s.rule, s.vote_max) for s in settings_of(model)} == {
        (5, 7, "sign", 3)
    }
    for extreme, e_extreme in ((1, 1), (32, 127)):
        assert configure_ternary_training(model, extreme, e_extreme) == extreme
    assert configure_ternary_training(nn.Linear(1, 1), 9) == 9


@pytest.mark.clause("ARB-RUN-009", "ARB-VOTE-004", "ARB-FIRE-003", "ARB-SCALE-003")
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        *(
            ({name: value}, ValueError)
            for name, values in (
                ("accum_threshold", (0, 33, -1)),
                ("e_accum_threshold", (0, 128, -1)),
                ("vote_max", (0, 33)),
                ("rate", (-1, 2**16)),
            )
            for value in values
        ),
        *(({"gain": value}, ValueError) for value in (-1, 2**22 + 1)),
        *(({"scale_gain": value}, ValueError) for value in (-1, 2**20 + 1)),
        *(
            ({name: value}, TypeError)
            for name in ("accum_threshold", "gain")
            for value in (32.0, True, None, "32")
        ),
        ({"rule": "nearest"}, ValueError),
        ({"threshold": 3}, TypeError),
    ],
    ids=str,
)
def test_configure_refuses_before_any_module_is_touched(
    target: Target, settings: dict[str, Any], error: type[Exception]
) -> None:
    """Also where the other settings of the call are legal and come first."""
    model = models.model_of(target)
    before = settings_of(model)
    with pytest.raises(error, match=next(iter(settings))):
        configure_ternary_training(model, **({"accum_threshold": 9, "vote_max": 9} | settings))
    assert settings_of(model) == before


def exact(gain: int, done: int, total: int, cooldown: int) -> int:
    """gain * max(2 %, min(1, what is left / cooldown)), rounded down."""
    left = Fraction(total - done, total)
    return floor(gain * max(Fraction(2, 100), min(Fraction(1), left / Fraction(cooldown, 100))))


def exact_scale(gain: int, done: int, total: int) -> int:
    """gain * max(0, 1 - what is done / 60 %), rounded down."""
    return floor(gain * max(Fraction(0), 1 - Fraction(done, total) / Fraction(60, 100)))


@pytest.mark.clause("ARB-SCHED-001", "ARB-SCHED-002")
def test_schedule() -> None:
    """Every n of small N, some of large ones, at the extremes of both gains."""
    for total, gain in itertools.product(
        [1, 2, 3, 7, 10, 100, 333], [0, 1, 49, 50, 65_536, 131_072, 2**20, 2**22]
    ):
        for done in range(total + 1):
            for cooldown in (1, 40, 80, 100):
                assert scheduled_gain(gain, done, total, cooldown) == exact(gain, done, total, cooldown)
            assert scheduled_scale_gain(gain, done, total) == exact_scale(gain, done, total)
    total = 2**32 - 1
    for done in (0, total * 6 // 10, total * 6 // 10 + 1, total // 3, total - 1, total):
        for cooldown in (1, 40, 100):
            assert scheduled_gain(2**22, done, total, cooldown) == exact(2**22, done, total, cooldown)
        assert scheduled_scale_gain(2**20, done, total) == exact_scale(2**20, done, total)
    assert [scheduled_scale_gain(600, n, 10) for n in range(11)] == [600, 500, 400, 300, 200, 100] + [0] * 5
    assert [scheduled_gain(1000, n, 10, 40) for n in range(11)] == [1000] * 7 + [750, 500, 250, 20]
    assert [scheduled_gain(800, n, 10) for n in range(11)] == [800] * 3 + [*range(700, 0, -100), 16]


@pytest.mark.clause("ARB-SCHED-003", "ARB-VOTE-004")
def test_rates() -> None:
    """Of gains, rounded down, to the largest gain there is; what is no rate is refused by name."""
    assert [rated(gain, rate) for gain, rate in ((1, 255), (3, 384), (2**22, 256), (2**22, 257))] == [
        *(0, 4, 2**22, 2**22)
    ]
    assert [TernaryLinear(4, 4, rate=rate).settings.rate for rate in (0, 0.5, 1, 255)] == [
        0,
        128,
        256,
        65_280,
    ]
    assert [module(4, 4).settings.rate for module in (TernaryLinear, TernaryEmbeddingTable)] == [256, 512]
    for wrong in (-1, 256, float("nan"), "2", True):
        with pytest.raises(ValueError, match=r"rate must be a number in 0\.\.255\.996"):
            TernaryLinear(4, 4, rate=wrong)
    with pytest.raises(ValueError, match=r"rate is in steps of 1/256, so 0\.001 would be 0"):
        TernaryLinear(4, 4, rate=0.001)


@pytest.mark.clause("ARB-SCHED-001", "ARB-SCHED-002")
def test_an_update_takes_the_gains_that_it_is_given(target: Target) -> None:
    """A gain of 0 casts no vote, a scale_gain of 0 none at all; None takes the module's own."""
    counts = {}
    chosen = ternary_modules(models.model_of(target))["head"].settings
    for gains in ((None, None), (chosen.gain, chosen.scale_gain), (0, None), (None, 0)):
        model = models.model_of(target)
        models.backward(models.loss_of(model, models.bytes_of(target, 2, 9)))
        counts[gains] = model._ternary_update_memory(gain=gains[0], scale_gain=gains[1]).totals()
    own = counts[None, None]
    assert counts[chosen.gain, chosen.scale_gain] == own
    assert counts[0, None] == own | dict.fromkeys(("votes", "fires", "flips"), 0)
    assert counts[None, 0] == own | dict.fromkeys(("scale_votes", "exponents_moved"), 0)
    assert min(own["votes"], own["scale_votes"]) > 0


def module_file(folder: Path, name: str, text: str) -> str:
    """A package of a stranger with that backend in it; its module path."""
    package = folder / f"stranger_{name}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "backend.py").write_text(text)
    return f"stranger_{name}.backend"


EVERYTHING = "from arbitor.kernels.eager import *\nfrom arbitor.kernels import eager\n" + "".join(
    f"{name} = eager.{name}\n" for name in OPERATIONS
)


@pytest.mark.clause("ARB-RUN-011")
@pytest.mark.parametrize("ask", [select, why_not, choose])
def test_unknown_names(ask: Any) -> None:
    with pytest.raises(
        ValueError, match=r"unknown backend 'trition'; known: auto, triton, tilelang, torch, reference"
    ):
        ask("trition")


@pytest.mark.clause("ARB-RUN-011")
@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        (
            "needy",
            "import no_such_package\n",
            BackendUnavailable,
            "cannot run here: no module named 'no_such_package'",
        ),
        (
            "reasoned",
            EVERYTHING + "why_not = lambda: 'no GPU of that kind'\n",
            BackendUnavailable,
            "no GPU of that kind",
        ),
        ("partial", EVERYTHING + "del pack, unpack\n", BackendUnavailable, "lacks pack, unpack"),
        ("odd", EVERYTHING + "ARRAYS = 'jax'\n", BackendUnavailable, "ARRAYS must be one of .*got 'jax'"),
        ("broken", "raise ImportError('a symbol is missing')\n", ImportError, "a symbol is missing"),
        ("worse", "raise OSError('no such library')\n", OSError, "no such library"),
    ],
)
def test_a_backend_by_name_works_or_raises(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    error: type[Exception],
    message: str,
) -> None:
    """It never falls back: not when asked directly, not by the environment, not as a model's backend."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = module_file(tmp_path, name, text)
    for ask in (lambda: select(path), lambda: choose(path), lambda: TernaryLinear(4, 4, backend=path)):
        with pytest.raises(error, match=message):
            ask()
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, path)
    for implicit in (choose, lambda: TernaryLinear(4, 4), ARBModel):
        with pytest.raises(error, match=message):
            implicit()


@pytest.mark.clause("ARB-RUN-011")
def test_a_module_path_that_does_not_exist() -> None:
    with pytest.raises(BackendUnavailable, match="no module named 'no_such_package'"):
        select("no_such_package.backend")


@pytest.mark.clause("ARB-RUN-011")
def test_a_strangers_backend_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = module_file(tmp_path, "good", EVERYTHING)
    assert choose(path).backend.module.__name__ == path
    if target.device == "cpu":
        assert models.trajectory(target, path, 2) == models.trajectory(target, target.backend.name, 2)


@pytest.mark.clause("ARB-RUN-011")
def test_auto_takes_the_first_that_works_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was passed over is named with the reason; where nothing works all reasons are."""
    monkeypatch.delenv(registry.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    fast = module_file(tmp_path, "fast", EVERYTHING + "why_not = lambda: 'needs a GPU'\n")
    needy = module_file(tmp_path, "absent", "import no_such_package\n")
    monkeypatch.setattr(registry, "BACKENDS", {"fast": fast, "needy": needy} | registry.BACKENDS)
    choice = choose()
    assert choice.backend.name == "torch"
    for part in ("torch", "fast: needs a GPU", "needy: no module named 'no_such_package'"):
        assert part in choice.reason
    assert select("auto") is choice.backend
    assert choose("auto").reason == choice.reason
    monkeypatch.setattr(registry, "BACKENDS", {"fast": fast, "needy": needy})
    with pytest.raises(
        BackendUnavailable, match=r"no backend works on cpu: fast: needs a GPU; needy: .*no_such_package"
    ):
        choose()


@pytest.mark.clause("ARB-RUN-011")
def test_auto_depends_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is slow on one type of device is passed over there, and only by `auto`."""
    monkeypatch.delenv(registry.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    slow = "why_not_auto = lambda device: 'interpreted' if device == 'cpu' else None\n"
    path = module_file(tmp_path, "gpu_first", EVERYTHING + slow)
    monkeypatch.setattr(registry, "BACKENDS", {"gpu_first": path} | registry.BACKENDS)
    assert choose().backend.name == "torch"
    assert "gpu_first: interpreted" in choose().reason
    assert choose(device="cuda").backend.name == "gpu_first"
    assert choose("gpu_first").backend.name == "gpu_first"
    assert TernaryLinear(4, 4).backend.name == "torch"
    assert TernaryLinear(4, 4, backend="gpu_first").backend.name == "gpu_first"


@pytest.mark.clause("ARB-RUN-011")
def test_the_environment_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name given in code comes before it; an empty variable is none; `auto` is a name too."""
    for name in ("torch", "reference"):
        monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, name)
        assert choose().backend.name == name
        assert f"{registry.ENVIRONMENT_VARIABLE}={name}" in choose().reason
        model = ARBModel(ARBConfig(16, 1, 2))
        assert {module.backend.name for module in ternary_modules(model).values()} == {name}
        for other in ("torch", "reference"):
            assert choose(other).backend.name == other
            assert TernaryLinear(4, 4, backend=other).backend.name == other
    for value in ("", "auto"):
        monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, value)
        assert choose().reason.startswith("auto: ")
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, "trition")
    with pytest.raises(ValueError, match="unknown backend 'trition'"):
        choose()


@pytest.mark.clause("ARB-RUN-011")
def test_the_backend_under_test_is_the_one_that_runs(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation that training needs is called on it, whatever the environment says."""
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, models.rivals(target)[0])
    called: set[str] = set()

    def spied(name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*arguments: Any, **named: Any) -> Any:
            called.add(name)
            return honest(*arguments, **named)

        return spy

    for name in OPERATIONS:
        monkeypatch.setattr(target.backend, name, spied(name, getattr(target.backend, name)))
    models.trajectory(target, target.backend.name, 1)
    assert called >= {
        "initialise", "quantise_nearest_both", "quantise_stochastic", "quantise_columns", "linear_forward",
        "input_gradient", "linear_update", "embedding_forward", "embedding_update",
    }  # fmt: skip
