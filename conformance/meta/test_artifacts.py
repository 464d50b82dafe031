"""Failed cases as files: whole or refused, found wherever the error is, repeated on any backend, for ever."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.checkpoint import write_whole
from arbitor.cli import main
from arbitor.conformance import archive
from arbitor.conformance.archive import ArtifactError, Failure, read, write
from arbitor.conformance.arena import check_in_arena
from arbitor.conformance.cases import FailedCall, FailedRefusal, FailedSteps, carry, case_of, laid_out, way_of
from arbitor.conformance.commands import FEW, refused
from arbitor.conformance.common import float32, int8, repeated, transposed
from arbitor.conformance.compare import difference
from arbitor.conformance.meta.planted import LAYOUT, RAISES, THRESHOLD, planted
from arbitor.conformance.refusals import refusals_of
from arbitor.conformance.replay import repeat
from arbitor.conformance.strategies import example
from arbitor.conformance.target import Target, call, substituted, target_of
from arbitor.kernels.operations import OPERATIONS
from arbitor.suite import find_suite

KEPT = (
    Path(__file__).parent / "format1"
)  # written by the first version; every later one reads and repeats them


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


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        difference(name, a[name], b[name]) is None
        if isinstance(a[name], torch.Tensor)
        else a[name] == b[name]
        for name in a
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_was_written_is_read(operation: str) -> None:
    """Arguments, both answers, and where they come from; NaNs keep their payload."""
    for seed in range(3):
        arguments = example(operation, seed)
        copies = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
        found = call(target_of("torch").backend, operation, copies)
        case = FailedCall(operation, arguments, "torch", "cpu", found, found, {})
        artifact = read(write(case, Failure("a test", ["ARB-X"], "text", "lines")))
        assert isinstance(artifact.case, FailedCall)
        assert same(dict(artifact.case.arguments), arguments)
        assert same(dict(artifact.case.expected), dict(found))
        assert same(dict(artifact.case.actual), dict(found))
        assert artifact.failure == Failure("a test", ["ARB-X"], "text", "lines")
        assert artifact.manifest["machine"]["torch"]


def test_files_are_the_same_and_have_one_name() -> None:
    case = FailedCall("pack", {"trits": int8([[1, 0]])}, "torch", "cpu")
    path = write(case, Failure())
    data = path.read_bytes()
    assert write(case, Failure()).read_bytes() == data
    assert [p.name for p in Path("reports").iterdir()] == [path.name]
    others = (FailedCall("pack", {"trits": int8([[1, 1]])}, "torch", "cpu"), case)
    assert len({path, write(others[0], Failure()), write(others[1], Failure("t"))}) == 3


def test_answers_of_any_dtype_are_kept() -> None:
    """A backend answers with what it likes; what is no tensor is left to the message."""
    actual = {"a": torch.tensor([True]), "b": float32(1).bfloat16(), "c": [1], "d": torch.zeros(0).double()}
    case = FailedCall("pack", {"trits": int8([[1]])}, "torch", "cpu", {}, actual)
    found = read(write(case, Failure())).case
    assert isinstance(found, FailedCall)
    assert {n: str(t.dtype) for n, t in found.actual.items()} == {
        "a": "torch.bool", "b": "torch.bfloat16", "d": "torch.float64",
    }  # fmt: skip


def test_truncated_and_edited_files_are_refused() -> None:
    """Every cut; and every flipped byte is refused, or lies where it changes nothing that is read."""
    path = write(FailedCall("pack", {"trits": int8([[1, 0]])}, "torch", "cpu"), Failure())
    data, whole = path.read_bytes(), read(path)
    harmless = 0
    other = Path("other.arb")
    for cut in range(0, len(data), 41):
        other.write_bytes(data[:cut])
        with pytest.raises(ArtifactError, match=r"^other\.arb: "):
            read(other)
    for place in range(0, len(data), 13):
        other.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            found = read(other)
        except ArtifactError:
            continue
        harmless += 1
        assert found.manifest == whole.manifest
    assert harmless < len(data) / 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "format 2, this version of arbitor reads format 1"),
        (lambda m: m.update(format="other"), "a zip archive, but no artifact"),
        (lambda m: m.update(device="cuda"), "edited: the manifest does not hash to its seal"),
        (lambda m: m["members"].update({"x.bin": "0"}), "seal"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(change: Any, message: str) -> None:
    path = write(FailedCall("pack", {"trits": int8([[1, 0]])}, "torch", "cpu"), Failure())
    with zipfile.ZipFile(path) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    manifest = json.loads(members[archive.MANIFEST])
    change(manifest)
    write_whole(path, archive._zipped(members | {archive.MANIFEST: json.dumps(manifest).encode()}))
    with pytest.raises(ArtifactError, match=message):
        read(path)


@pytest.mark.parametrize("name", ["inputs/trits.bin", "text.txt", "more.bin"])
def test_a_member_that_was_changed_is_refused(name: str) -> None:
    """In an archive that is whole: what the manifest says of each member counts, and there is no other."""
    path = write(FailedCall("pack", {"trits": int8([[1, 0]])}, "torch", "cpu"), Failure())
    with zipfile.ZipFile(path) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    write_whole(path, archive._zipped(members | {name: b"\0\0"}))
    with pytest.raises(ArtifactError, match=f"edited: .*{name}"):
        read(path)


def test_foreign_files_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.arb").write_text("no archive")
    with zipfile.ZipFile("zip.arb", "w") as zipped:
        zipped.writestr("a", "b")
    for name, message in {
        "text.arb": "truncated, or no",
        "zip.arb": "it has no manifest",
        "gone": "No such",
    }.items():
        refused(main(["replay", name]), message, capsys)


def test_a_case_is_found_wherever_its_error_is() -> None:
    case = FailedCall("pack", {}, "torch", "cpu")
    error = AssertionError("a")
    carry(error, case)
    cause, context = RuntimeError(), RuntimeError()
    cause.__cause__, context.__context__ = error, error
    group = ExceptionGroup("two", [ValueError(), ExceptionGroup("one", [error])])
    assert [case_of(e) for e in (error, cause, context, group, ValueError())] == [case] * 4 + [None]


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
    assert main(["replay", path]) == 1
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
    assert main(["replay", path]) == 1
    assert seen in capsys.readouterr().out
    assert main(["replay", path, "--backend", "torch"]) == 0
    assert "pack: torch refuses the call as it has to" in capsys.readouterr().out


@pytest.mark.parametrize("operation", OPERATIONS)
def test_refusals_that_were_written_are_read(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, None, float64 and what else is illegal come back as they were."""
    monkeypatch.setenv("ARBITOR_COMMIT", "one")  # git is not asked for each file
    for refusal in refusals_of(operation):
        if "over the bound" in refusal.label:
            continue  # by stride 0: too large for a file
        words = (refusal.error.__name__, refusal.names, "torch", "cpu")
        case = FailedRefusal(operation, refusal.arguments, *words)
        found = read(write(case, Failure())).case
        assert isinstance(found, FailedRefusal)
        assert same(dict(found.arguments), refusal.arguments), refusal.label
        assert (found.error, tuple(found.names)) == words[:2]
        repeat(target_of("torch"), found)


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
    assert main(["replay", str(write(case, Failure()))]) == 1
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


def test_a_test_leaves_its_shrunk_case(tmp_path: Path) -> None:
    """Of a whole run of the suite under xdist: one file, smallest arguments, named in the failure."""
    name = planted(tmp_path, THRESHOLD)
    words = ["--backend", name, "-q", "-n", "1", *(word.replace("!p", "!t") for word in FEW)]
    suite = find_suite()
    alone = (
        []
        if (suite.parent / "pyproject.toml").is_file()
        else ["--import-mode=importlib", "--rootdir", str(suite)]
    )
    only = [str(suite / "test_ternary_update.py"), "-k", "test_agrees", *alone]
    command = [sys.executable, "-m", "pytest", *only, *words]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 1, found.stdout
    (path,) = Path("reports").iterdir()
    assert f"to replay it: arbitor replay reports/{path.name} --backend {name}" in found.stdout
    artifact = read(path)
    assert isinstance(artifact.case, FailedCall)
    assert artifact.case.arguments["t_accum"].numel() <= 20
    assert artifact.failure.test.endswith("test_ternary_update.py::test_agrees")
    assert "ARB-FIRE-002" in artifact.failure.clauses
    assert main(["replay", str(path)]) == 1
    assert main(["replay", str(path), "--backend", "reference"]) == 0


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.arb")), ids=lambda path: path.name)
def test_format_1_is_read_and_repeated(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of the first version, of a bug in a backend that is not there: any other one repeats them."""
    artifact = read(path)
    kind = {"call": FailedCall, "refusal": FailedRefusal, "steps": FailedSteps}[artifact.manifest["kind"]]
    assert isinstance(artifact.case, kind)
    assert main(["replay", str(path), "--backend", "torch"]) == 0
    said = "refuses the call" if kind is FailedRefusal else "same bytes"
    assert said in capsys.readouterr().out


def test_there_are_files_of_format_1() -> None:
    assert {path.name.partition("-")[0] for path in KEPT.glob("*.arb")} == {
        "ternary_update",
        "pack",
        "steps",
    }
