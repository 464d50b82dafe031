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

from arbitor.cli import main
from arbitor.conformance.draw.refusals import refusals_of
from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge import archive
from arbitor.conformance.judge.archive import Failure, write
from arbitor.conformance.judge.archived import ArtifactError, read
from arbitor.conformance.judge.cases import FailedCall, FailedRefusal, carry, case_of
from arbitor.conformance.judge.compare import difference
from arbitor.conformance.judge.target import call, target_of
from arbitor.conformance.operations.common import float32, int8
from arbitor.conformance.tools.commands import located, refused
from arbitor.conformance.tools.fuzzing.replay import repeat
from arbitor.conformance.tools.planted import THRESHOLD, planted
from arbitor.judge.suite import find_suite
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.writing import write_whole


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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


def test_a_test_leaves_its_shrunk_case(tmp_path: Path) -> None:
    """Of a whole run of the suite under xdist: one file, smallest arguments, named in the failure."""
    name = planted(tmp_path, THRESHOLD)
    words = ["--backend", name, "-q", "-n", "1", "-p", "no:cacheprovider"]
    suite = find_suite()
    alone = (
        []
        if (suite.parent / "pyproject.toml").is_file()
        else ["--import-mode=importlib", "--rootdir", str(suite)]
    )
    only = [located("test_ternary_update.py"), "-k", "test_agrees", *alone]
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
    assert main(["replay", str(path), "--backend", name]) == 1
    assert main(["replay", str(path), "--backend", "reference"]) == 0
