"""`arbitor`: the doctor names every backend, and a verification leaves a report that adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arbitor import __version__
from arbitor.cli import main
from arbitor.conformance.tools.commands import FEW, refused
from arbitor.judge import doctor
from arbitor.judge.provenance import package_version, source
from arbitor.judge.report.check import verdict
from arbitor.judge.suite import find_suite
from arbitor.kernels import registry

SELECTION = ["-k", "test_pack and test_repeats", "-n", "1", *FEW]


def run(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: pytest does not run inside pytest."""
    root = str(find_suite().parent)  # of a checkout; harmless for an installed package
    start = f"import sys; sys.path.insert(0, {root!r}); from arbitor.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"arbitor {__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["cure"], ["verify"], ["verify", "--backend", "torch", "--device", "tpu"]]
)
def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    refused(2, "(--help shows what there is)", capsys)


@pytest.mark.clause("ARB-RUN-011")
def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every backend with a verdict, the choice with its reason, settings; all of it without a CUDA device."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("ARB_TERNARY_BACKEND", "reference")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for name in [*registry.BACKENDS, *doctor.PACKAGES, "no device"]:
        assert name in shown
    assert "taken on cpu: reference (ARB_TERNARY_BACKEND=reference)" in shown
    assert "without ARB_TERNARY_BACKEND: torch (auto" in shown
    assert "linear_forward" not in shown
    monkeypatch.delenv("ARB_TERNARY_BACKEND")
    assert main(["doctor", "-v"]) == 0
    shown = capsys.readouterr().out
    assert "linear_forward" in shown
    assert f"taken on cpu: torch ({registry.choose('auto').reason})" in shown


@pytest.mark.parametrize(
    ("versions", "named"),
    [
        ({"triton": "3.6.0"}, ["transposed accumulator", "12.8.93"]),
        ({"triton": "3.7.1"}, []),
        ({"triton": "3.9.0"}, ["12.9.86"]),
        ({"triton": "3.3.1", "tilelang": None}, []),
        ({"tilelang": "0.1.15+cu130"}, ["unwrapped", "falls back", "modulo 16"]),
    ],
)
def test_doctor_warns_of_known_miscompiles(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], named: list[str]
) -> None:
    """Those of the installed versions, and no others."""
    monkeypatch.setattr(doctor, "package_version", versions.get)
    found = doctor.known_miscompiles()
    assert len(found) == len(named)
    assert all(words in line for words, line in zip(named, found, strict=True))


def test_doctor_says_why_a_backend_does_not_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing package and a broken module are reasons, not the end of the doctor."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(registry.BACKENDS, "absent", "no_such_package.backend")
    monkeypatch.setitem(registry.BACKENDS, "broken", "arbitor.schedule")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "no module named 'no_such_package'" in shown
    assert "lacks pack" in shown
    monkeypatch.setenv("ARB_TERNARY_BACKEND", "nonsense")
    assert main(["doctor"]) == 1
    assert "unknown backend 'nonsense'" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nonsense", "no_such.module"])
def test_verify_refuses_a_backend(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit status 2, no report."""
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--backend", name]) == 2
    sentence = capsys.readouterr().err
    assert name in sentence
    assert sentence.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_the_commit_that_it_is_told_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is a history, which may be another's."""
    monkeypatch.setenv("ARBITOR_COMMIT", "abc1234")
    assert source(find_suite().parent) == {"commit": "abc1234", "told by": "ARBITOR_COMMIT"}
    monkeypatch.delenv("ARBITOR_COMMIT")
    assert "told by" not in (source(find_suite().parent) or {})


def test_verify(tmp_path: Path) -> None:
    """A small selection: streamed, counted, with a footer; and what is beside it."""
    found = run("verify", "--backend", "reference", "--", *SELECTION, folder=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    files = sorted(path.name for path in (tmp_path / "reports").iterdir())
    stem = files[0].removesuffix(".badge.json")
    assert stem.startswith("verify-reference-20")
    assert files == [f"{stem}.badge.json", f"{stem}.html", f"{stem}.json", f"{stem}.xml"]
    path = Path("reports", f"{stem}.json")
    assert f"report: {path}" in found.stdout
    record = json.loads((tmp_path / path).read_bytes())
    assert record["backend"]["module"] == "arbitor.reference"
    assert record["run"]["exit_status"] == 0
    assert record["run"]["arguments"] == SELECTION
    passed = record["counts"]["passed"]
    assert passed > 0
    assert f"{passed} passed" in found.stdout
    assert record["counts"]["failed"] == record["counts"]["crashed"] == 0
    # an installed suite skips files that need the checkout
    assert record["counts"]["not_run"] == sum(record["not_run"].values())
    assert record["machine"]["torch"] == package_version("torch")
    assert record["source"] == source(find_suite().parent)
    assert verdict((tmp_path / path).read_bytes()).startswith(f"reference on cpu: {passed} passed")


def test_verify_gives_the_status_of_pytest(tmp_path: Path) -> None:
    """Nothing selected is status 5, and no report; an earlier one of that name is gone."""
    path = tmp_path / "here" / "r.json"
    path.parent.mkdir()
    path.write_text("earlier")
    words = (
        "verify",
        "--backend",
        "reference",
        "--report",
        str(path),
        "--",
        *SELECTION,
        "-k",
        "no_such_test",
    )
    ended = run(*words, folder=tmp_path)
    assert ended.returncode == 5
    assert "no report: there was no test" in ended.stdout
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["-k", "y"],
            "-k is no option of verify; -- goes before pytest's words: arbitor verify --backend x -- -k y",
        ),
        (["-n", "2", "-k", "x"], "arbitor verify --backend x -- -n 2 -k x"),
        (["--report", "r.txt"], "--report r.txt: expected a name that ends in .json"),
        (["--report", "/dev/null/r.json"], "--report /dev/null/r.json: "),
        (["--waivers", "absent.toml"], "absent.toml: No such file or directory"),
    ],
)
def test_verify_refuses_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    status = main(["verify", "--backend", "x" if "arbitor" in message else "reference", *words])
    refused(status, message, capsys)


def test_an_interrupt_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while a command is still importing what it needs."""

    def interrupted(name: str, *rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "arbitor.inspection.command", raising=False)
    with monkeypatch.context() as during:
        during.setattr("builtins.__import__", interrupted)
        status = main(["inspect", "x"])
    assert status == 130
    assert capsys.readouterr().err == "interrupted\n"
