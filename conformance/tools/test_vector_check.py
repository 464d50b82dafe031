"""Backends that are wrong in one way each fail on the vectors, which name the vector and its clauses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from arbitor import reference
from arbitor.cli import main
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.tools.planted import planted
from arbitor.judge import vector_check
from arbitor.judge.vector_check import FAILED, PASSED, judge
from arbitor.judge.vectors import default_folder, load
from arbitor.kernels import registry
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.capabilities import declared_by
from arbitor.kernels.registry import Backend, select

VECTORS = load(default_folder())


def with_one_wrong(operation: str, function: Callable[..., Any]) -> Backend:
    """The reference with another function for one operation."""
    module = ModuleType("wrong")
    vars(module).update({name: getattr(reference, name) for name in OPERATIONS})
    vars(module).update({"ARRAYS": "numpy", operation: function})
    return Backend("wrong", module)


def off_by_one(*arguments: Any) -> Any:
    gradient = reference.weight_gradient(*arguments)
    gradient[0, 0] += 1
    return gradient


def disturbing(trits: Any) -> Any:
    packed = reference.pack(trits)
    trits[0, 0] = 0
    return packed


def crashing(*arguments: Any) -> Any:
    raise RuntimeError("out of memory")


def changing_first(trits: Any) -> Any:
    """Refuses what it has changed already."""
    trits[0, 0] = 1
    return reference.pack(trits)


def silent(trits: Any) -> Any:
    try:
        return reference.pack(trits)
    except ValueError:
        raise ValueError("no") from None


WRONG: list[tuple[str, Callable[..., Any], str, str]] = [
    ("weight_gradient", off_by_one, "weight_gradient.rails (ARB-LIN-005)",
     "gradient differs in 1 of 6 elements"),
    ("pack", changing_first, "pack.refuses-2 (ARB-PACK-004)", "the argument trits differs"),
    ("pack", silent, "pack.refuses-2 (ARB-PACK-004)", "the error should name 1, 3, 2, but says: no"),
    ("pack", disturbing, "pack.whole-bytes (ARB-PACK-001)", "the argument trits differs"),
    ("pack", lambda trits: np.full((len(trits), -(-trits.shape[1] // 4)), 85, np.uint8),
     "pack.refuses-2 (ARB-PACK-004)", "an illegal trits was taken"),
    ("unpack", crashing, "unpack.refuses-code-3-first (ARB-PACK-003)", "RuntimeError: out of memory"),
    ("philox", lambda first, count, *rest: reference.philox(first, count, *rest) + 1,
     "philox.random123-zero (ARB-RNG-001, ARB-RNG-002)", "words differs in 4 of 4"),
    ("quantise_nearest", lambda x: (reference.quantise_nearest(x)[0], np.zeros(len(x), np.int16)),
     "quantise_nearest.ties (ARB-QUANT-003, ARB-QUANT-004, ARB-QUANT-008)", "exponents"),
    ("linear_forward", lambda *a: np.where(reference.linear_forward(*a) == 0, np.float32(-0.0),
                                           reference.linear_forward(*a)),
     "linear_forward.cancelling (ARB-LIN-003)", "got 2147483648, expected 0 (32-bit patterns)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "function", "named", "words"), WRONG, ids=lambda v: getattr(v, "__name__", v)
)
def test_a_wrong_backend_fails(
    operation: str,
    function: Callable[..., Any],
    named: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The vector, its clauses and what differs are named, and no other operation fails."""
    wrong = with_one_wrong(operation, function)
    verdicts = [judge(vector, wrong) for vector in VECTORS]
    assert {v.vector.operation for v in verdicts if v.outcome == FAILED} == {operation}
    monkeypatch.setattr(registry, "select", lambda name: wrong)
    assert vector_check.check("wrong", "cpu", None) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"FAILED {named}: ")]
    assert len(lines) == 1
    assert words in lines[0]


def test_another_dtype_fails() -> None:
    """The same numbers, wider, from a backend on torch tensors, whose results nothing looks at before."""
    right = select("torch").module
    module = ModuleType("wide")
    vars(module).update({name: getattr(right, name) for name in OPERATIONS})
    vars(module)["weight_gradient"] = lambda q_g, q_x: right.weight_gradient(q_g, q_x).long()
    vector = next(vector for vector in VECTORS if vector.id == "weight_gradient.rails")
    assert judge(vector, select("torch")).outcome == PASSED
    verdict = judge(vector, Backend("wide", module))
    assert (verdict.outcome, verdict.words) == (FAILED, "gradient has dtype int64, expected int32")


def test_a_gap_is_not_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not declared is counted and never taken for passed."""
    module = ModuleType("small")
    vars(module).update({"ARRAYS": "numpy", "pack": reference.pack})
    declared = {"version": 1, "operations": ["pack"], "formats": ["codes"], "devices": ["cpu"]}
    vars(module)["CAPABILITIES"] = declared
    small = Backend("small", module, declared_by(module, "small"))
    monkeypatch.setattr(registry, "select", lambda name: small)
    assert vector_check.check("small", "cpu", None) == 0
    shown = capsys.readouterr().out
    assert "8 passed, 0 failed" in shown
    assert "unpack is not declared" in shown


@pytest.mark.parametrize(
    "command", [["vectors", "check"], ["fuzz", "--only", "unpack"]], ids=lambda words: words[0]
)
def test_a_file_of_capabilities(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands for the backend's own. A declaration stays in the process, so each command has a backend."""
    name = planted(tmp_path, "", f"{command[0]}.py")
    declared = tmp_path / "declared.toml"
    declared.write_text('version = 1\noperations = ["pack"]\nformats = ["codes"]\ndevices = ["cpu"]\n')
    asked = [*command, "--backend", name, "--capabilities", str(declared)]
    if command[0] == "fuzz":
        refused(main([*asked, "--minutes", "0.01"]), "does not declare what unpack needs", capsys)
    else:
        assert main(asked) == 0
        assert "unpack is not declared" in capsys.readouterr().out
    declared.write_text("version = 2\n")
    refused(main(asked), "version is 2, expected 1", capsys)


def test_a_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["vectors", "check", "--backend", "torch", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "error: --device cuda: torch sees no CUDA device here\n"
