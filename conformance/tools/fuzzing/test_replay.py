"""`arbitor replay`: a failed case again, on any backend, in the layout and configuration that it had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.cli import main
from arbitor.conformance.draw.strategies import sized_example
from arbitor.conformance.judge.archive import Failure, write
from arbitor.conformance.judge.archived import read
from arbitor.conformance.judge.arena import check_in_arena
from arbitor.conformance.judge.cases import FailedCall, FailedRefusal, FailedSteps, case_of, laid_out, way_of
from arbitor.conformance.judge.compare import difference
from arbitor.conformance.judge.configured import in_configuration, say_where
from arbitor.conformance.judge.target import Target, call, substituted, target_of
from arbitor.conformance.operations.common import busy, int8, repeated, transposed
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.tools.fuzzing.replay import repeat
from arbitor.conformance.tools.planted import CONFIGURED, LAYOUT, RAISES, planted
from arbitor.kernels.registry import configurations

# written by the first version; every later one reads and repeats them
KEPT = Path(__file__).parent / "format1"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def failed(target: Target, operation: str, arguments: dict[str, Any], **how: Any) -> FailedCall:
    """The case of a call that fails."""
    with pytest.raises((AssertionError, RuntimeError)) as caught:
        target.check(operation, arguments, **how)
    case = case_of(caught.value)
    assert isinstance(case, FailedCall)
    return case


@pytest.mark.parametrize("way", [transposed, repeated, lambda t: t.repeat(2, 2)[1::2, 1::2]])
def test_a_layout_is_repeated(way: Any) -> None:
    tensor = way(int8([[1, 2, 3], [4, 5, 6]])[:, :2])
    strides = way_of({"a": tensor})["strides"]["a"]
    again = laid_out(tensor.contiguous(), *strides)
    assert [list(again.stride()), again.storage_offset()] == strides
    assert difference("a", tensor, again) is None
    with pytest.raises(ValueError, match="in one place"):
        laid_out(int8([[1, 2], [3, 4]]), [0, 1], 0)


def test_replay(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On the backend that failed, on one that is right, and once the bug is gone."""
    name = planted(tmp_path, LAYOUT)
    case = failed(
        target_of(name), "pack", {"trits": int8([[1, 0], [-1, 1]])}, layout=lambda _, t: transposed(t)
    )
    path = str(write(case, Failure("test_x")))
    assert main(["replay", path, "--backend", name]) == 1
    shown = capsys.readouterr().out
    assert "failed in test_x" in shown
    assert "codes differs in 2 of 2 elements, first at [0, 0]: 86, expected, but got 82" in shown
    assert main(["replay", path, "--backend", "torch"]) == 0
    assert "same bytes" in capsys.readouterr().out
    refused(main(["replay", path, "--backend", "nothing"]), "unknown backend", capsys)
    refused(main(["replay", path, "--backend", "cmd:/no/such"]), "cannot run here", capsys)


@pytest.mark.parametrize(
    ("source", "illegal", "error", "seen"),
    [
        (
            "def pack(trits):\n    return eager.pack(trits.clamp(-1, 1))",
            int8([[0, 2]]),
            ValueError,
            "answered an",
        ),
        ("def pack(trits):\n    raise ValueError('no')", int8([[0, 2]]), ValueError, "should name [0, 1, 2]"),
        ("def pack(trits):\n    raise KeyError(1)", int8([[0, 2]]), ValueError, "KeyError: 1"),
        (
            "def pack(trits):\n    trits[:] = 1\n    raise ValueError('0 1 2')",
            int8([[0, 2]]),
            ValueError,
            "changed tri",
        ),
    ],
)
def test_replay_of_a_call_that_is_not_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    illegal: torch.Tensor,
    error: type[Exception],
    seen: str,
) -> None:
    """It is answered, refused with other words or another error, or changes something before."""
    name = planted(tmp_path, source)
    with pytest.raises((AssertionError, KeyError)) as caught:
        target_of(name).refuses("pack", {"trits": illegal}, error, 0, 1, 2)
    case = case_of(caught.value)
    assert isinstance(case, FailedRefusal)
    path = str(write(case, Failure("test_refuses")))
    assert main(["replay", path, "--backend", name]) == 1
    assert seen in capsys.readouterr().out
    assert main(["replay", path, "--backend", "torch"]) == 0
    assert "pack: torch refuses the call as it has to" in capsys.readouterr().out


def test_replay_says_where_the_judge_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"codes": torch.zeros(1, 1, dtype=torch.uint8)}
    path = write(FailedCall("pack", {"trits": int8([[1]])}, "torch", "cpu", wrong, wrong), Failure())
    assert main(["replay", str(path)]) == 0
    assert "the judge's answer is not what was recorded: codes differs" in capsys.readouterr().out


def test_replay_of_what_a_backend_raises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = planted(tmp_path, RAISES)
    case = failed(
        target_of(name), "unpack", {"codes": torch.full((1, 3), 85, dtype=torch.uint8), "columns": 9}
    )
    assert case.expected
    assert not case.actual
    assert main(["replay", str(write(case, Failure())), "--backend", name]) == 1
    assert "RuntimeError: no kernel for more than 8 columns" in capsys.readouterr().out


def test_replay_between_red_zones() -> None:
    """What is wrong outside an array only is seen again."""
    honest = target_of("torch")

    def function(trits: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = honest.backend.module.pack(trits)
        trits.as_strided((1,), (1,), trits.storage_offset() + trits.numel()).fill_(7)
        return found

    broken = substituted(honest, "pack", function)
    with pytest.raises(AssertionError) as caught:
        check_in_arena(broken, "pack", {"trits": int8([[1, 0]])}, shift=1)
    case = case_of(caught.value)
    assert isinstance(case, FailedCall)
    assert case.way == {"arena": {"shift": 1, "turned": []}}
    with pytest.raises(AssertionError, match="red zone behind"):
        repeat(broken, read(write(case, Failure())).case)
    repeat(honest, case)


def test_a_configuration_is_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one that is wrong, which the backend itself does not choose."""
    name = planted(tmp_path, CONFIGURED)
    ways = configurations(name, "cpu")["weight_gradient"]
    target, arguments = target_of(name), busy(sized_example("weight_gradient", 0, (3, 5, 2), 4))
    right = call(target.judge, "weight_gradient", dict(arguments))
    with pytest.raises(AssertionError) as caught, in_configuration("wrong"):
        say_where(substituted(target, "weight_gradient", ways["wrong"]), "weight_gradient", arguments, right)
    case = case_of(caught.value)
    assert isinstance(case, FailedCall)
    path = str(write(case, Failure()))
    assert main(["replay", path, "--backend", name]) == 1
    assert "gradient differs in 1 of 15 elements, first at [2, 4]" in capsys.readouterr().out
    assert main(["replay", path, "--backend", "torch"]) == 0
    with pytest.raises(AssertionError, match="differs") as caught, in_configuration("wrong"):
        check_in_arena(substituted(target, "weight_gradient", ways["wrong"]), "weight_gradient", arguments)
    case = case_of(caught.value)
    assert isinstance(case, FailedCall)
    assert case.way == {"arena": {"shift": 0, "turned": []}, "configuration": "wrong"}


# a call that specification 2 has no arguments for
OF_SPECIFICATION_1 = "ternary_update-ed57b4e45ec0.arb"


def test_a_call_of_specification_1_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence that says so: what it had to give is no longer what it has to give."""
    status = main(["replay", str(KEPT / OF_SPECIFICATION_1), "--backend", "torch"])
    refused(status, "a call of ternary_update of specification 1, which has neither e_g nor moment", capsys)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(KEPT.glob("*.arb")) if path.name != OF_SPECIFICATION_1],
    ids=lambda path: path.name,
)
def test_format_1_is_read_and_repeated(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of the first version, of a bug in a backend that is not there: any other one repeats them."""
    artifact = read(path)
    kind = {"call": FailedCall, "refusal": FailedRefusal, "steps": FailedSteps}[artifact.manifest["kind"]]
    assert isinstance(artifact.case, kind)
    assert main(["replay", str(path), "--backend", "torch"]) == 0
    said = "refuses the call" if kind is FailedRefusal else "same bytes"
    assert said in capsys.readouterr().out


def test_there_are_files_of_format_1() -> None:
    """Of every kind, and one that is refused."""
    names = sorted(path.name.partition("-")[0] for path in KEPT.glob("*.arb"))
    assert names == ["pack", "steps", "ternary_update", "ternary_update"]
