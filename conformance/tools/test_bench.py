"""`arbitor bench`: it times what is exact, and refuses the rest."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from arbitor.bench.cases import cases
from arbitor.bench.command import interleave, same_bits
from arbitor.cli import main
from arbitor.conformance.judge.declared import why_all_is_needed
from arbitor.conformance.judge.target import Target
from arbitor.kernels import eager, registry
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.sources import INSIDE
from arbitor.kernels.registry import Backend


def run(path: Path, *extra: str) -> tuple[int, list[dict[str, Any]]]:
    status = main(["bench", "--rounds", "1", "--out", str(path), *extra])
    return status, json.loads(path.read_text())["rows"]


def test_tiny_cases_of_the_backend(target: Target, tmp_path: Path) -> None:
    """All of them on the backend under test: exact, timed, compared with every opponent, and drawn."""
    if target.backend.arrays == "lists":
        pytest.skip("the cases are made for arrays; lists of integers take minutes")
    reason = why_all_is_needed(target.backend)
    if reason is not None:
        pytest.skip(reason)
    path = tmp_path / "bench.json"
    status, rows = run(path, "--backend", target.backend.name, "--device", target.device, "--size", "tiny")
    assert status == 0
    mine = [row for row in rows if row["exact"] is not None]
    assert len({row["case"] for row in mine}) == len(list(cases("tiny", target.device))) == 6
    for row in mine:
        assert row["exact"] is True
        assert row["ms"] > 0
        assert row["versus"]
        assert row["way"].startswith(f"{target.backend.name}: ")
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_exact_is_not_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One bit of one element: no time, exit status 1; the honest cases of the same backend have theirs."""
    module = ModuleType("almost")
    for name in OPERATIONS:
        setattr(module, name, getattr(eager, name))

    def linear_forward(*arguments: Any) -> torch.Tensor:
        y = eager.linear_forward(*arguments).clone()
        y.view(torch.int32)[-1, -1] ^= 1
        return y

    module.linear_forward = linear_forward  # type: ignore[attr-defined]
    monkeypatch.setitem(registry._loaded, "almost", Backend("almost", module))
    monkeypatch.setenv(INSIDE, "1")
    status, rows = run(tmp_path / "bench.json", "--backend", "almost")
    assert status == 1
    found = {row["case"].split(",")[0]: row for row in rows if row["exact"] is not None}
    assert [name for name, row in found.items() if not row["exact"]] == ["forward", "layer step"]
    assert found["forward"]["ms"] is None
    assert found["update"]["ms"] > 0


def test_no_such_case(tmp_path: Path) -> None:
    assert main(["bench", "--only", "nothing", "--out", str(tmp_path / "bench.json")]) == 2


def test_rounds_are_interleaved() -> None:
    """Every way once a round, in turn, after three calls that do not count."""
    calls: list[str] = []
    times = interleave({name: lambda n=name: calls.append(n) for name in "ab"}, 3, "cpu")  # type: ignore[misc]
    assert "".join(calls) == "aaabbb" + "ab" * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (torch.tensor([1.0, float("nan")]), True),
        (torch.tensor([1.0, 0.0]), False),
        (torch.tensor([1.0, float("nan")], dtype=torch.float64), False),
        (torch.tensor([[1.0, float("nan")]]), False),
    ],
)
def test_same_bits(other: torch.Tensor, same: bool) -> None:
    assert same_bits([torch.tensor([1.0, float("nan")])], [other]) is same
    assert not same_bits([other], [other, other])


def test_a_backend_with_gaps_is_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence names them, and nothing is written."""
    monkeypatch.setenv(INSIDE, "1")
    part = tmp_path / "part.py"
    part.write_text(
        "from arbitor.kernels.eager import pack\n"
        "CAPABILITIES = {'version': 1, 'operations': ['pack'], 'formats': ['codes'], 'devices': ['cpu']}\n"
    )
    assert main(["bench", "--backend", str(part), "--out", str(tmp_path / "bench.json")]) == 2
    said = capsys.readouterr().err
    assert "declares that it lacks unpack, " in said
    assert not (tmp_path / "bench.json").exists()


def test_a_backend_that_is_not_there_is_not_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name, and a device that is not here, are one sentence each."""
    out = ["--out", str(tmp_path / "bench.json")]
    assert main(["bench", "--backend", "nonsense", *out]) == 2
    assert capsys.readouterr().err.startswith("error: unknown backend 'nonsense'; known: ")
    if not torch.cuda.is_available():
        assert main(["bench", "--device", "cuda", "--size", "tiny", *out]) == 2
        assert capsys.readouterr().err == "error: --device cuda: torch sees no CUDA device here\n"
    assert list(tmp_path.iterdir()) == []
