"""The examples of docs/adding-a-backend.md, judged as their reader would: by `arbitor verify`, in a process.

One lane is enough, that of the reference: what is judged here is not the backend under test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.judge.target import REFERENCE, Target
from arbitor.judge.suite import find_suite
from arbitor.kernels.plugins.sources import GROUP

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PACKAGE = EXAMPLES / "package"


@pytest.fixture(autouse=True)
def _in_its_lane(target: Target) -> None:
    if target.backend.name != REFERENCE:
        pytest.skip("the examples of other backends are judged in the lane of the reference")
    if not EXAMPLES.is_dir():
        pytest.skip("the examples do not ship: this needs a checkout")


@pytest.fixture
def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("there is no C compiler (cc, gcc, clang) on the PATH")
    return found


def verify(folder: Path, backend: str, *words: str, **environment: str) -> tuple[dict[str, Any], str]:
    """`arbitor verify` on a backend -> its report and what it printed."""
    root = str(find_suite().parent)
    start = f"import sys; sys.path.insert(0, {root!r}); from arbitor.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "verify", "--backend", backend, "--report", "report.json"]
    plain = {n: v for n, v in os.environ.items() if n not in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")}
    ended = subprocess.run(
        [*command, "--", "-n", "1", "--tb=short", *words],
        cwd=folder,
        env=plain | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (folder / "report.json").is_file(), ended.stdout[-3000:] + ended.stderr
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert report["run"]["exit_status"] == ended.returncode
    return report, ended.stdout


def failed_of(report: dict[str, Any]) -> list[str]:
    """Tests that failed, or whose process did not live."""
    return [entry["test"] for entry in report["tests"] if entry["verdict"] in ("failed", "crashed")]


def right(report: dict[str, Any], gaps: list[str]) -> None:
    """No test failed, every gap is counted with its reason, and what is declared was tried."""
    assert failed_of(report) == []
    assert report["run"]["exit_status"] == 0
    reasons = [reason.removesuffix(" is not declared") for reason in report["not_run"]]
    assert set(gaps) <= set(reasons)
    assert not set(report["backend"]["capabilities"]["operations"]) & set(reasons)
    assert report["counts"]["passed"] > 0


def build(compiler: str, folder: Path, *flags: str) -> str:
    """The program in C as the name of a backend."""
    source = EXAMPLES / "program" / "ternary.c"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run([compiler, *strict, *flags, "-o", str(folder / "ternary"), str(source), "-lm"], check=True)
    return "cmd:./ternary"


def test_the_program_in_c(compiler: str, tmp_path: Path) -> None:
    """All tests of its five operations, in one process of the program from the first to the last."""
    report, shown = verify(tmp_path, build(compiler, tmp_path), "-q")
    right(report, ["pack_dense", "linear_update", "embedding_update"])
    assert report["counts"]["passed"] > 600
    assert "not run: linear_update is not declared: " in shown
    assert report["backend"]["module"] == "cmd:./ternary"


def test_the_transcript_of_the_page(compiler: str, tmp_path: Path) -> None:
    """What docs/adding-a-backend.md shows is what the program says, line by line."""
    text = (EXAMPLES.parent / "adding-a-backend.md").read_text(encoding="utf-8")
    lines = text.partition("```transcript\n")[2].partition("```")[0].splitlines()
    sent, expected = ([line[2:] for line in lines if line.startswith(mark)] for mark in "><")
    assert len(sent) == len(expected) == 5
    build(compiler, tmp_path)
    asked = "\n".join(sent) + "\n"
    said = subprocess.run([tmp_path / "ternary"], input=asked, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == expected


def test_a_planted_bug_is_named_by_its_clause(compiler: str, tmp_path: Path) -> None:
    """-DBUG: an accumulator at its threshold does not fire."""
    backend = build(compiler, tmp_path, "-DBUG")
    report, shown = verify(tmp_path, backend, "-q", "-k", "test_ternary_update or test_pack")
    assert report["run"]["exit_status"] == 1
    assert next(iter(report["clauses"])) == "ARB-FIRE-002"
    assert "(the failed tests say more):\n  ARB-FIRE-002: " in shown
    failed = "\n".join(failed_of(report))
    assert "test_fires_at_the_threshold_and_not_before" in failed
    assert "test_pack.py" not in failed
    assert "target_of('cmd:./ternary').check('ternary_update'" in shown  # how to repeat it


def test_the_file(tmp_path: Path) -> None:
    path = EXAMPLES / "file" / "ternary_numpy.py"
    selection = "test_pack.py or test_unpack.py or quantise_nearest or weight_gradient or claims"
    report, _ = verify(tmp_path, str(path), "-q", "-k", selection)
    right(report, ["quantise_nearest_both"])
    assert report["counts"]["passed"] > 250


def installed(folder: Path) -> str:
    """PYTHONPATH with the package as an installer leaves it: its files, and its entry points in a dist-info.

    pip itself would fetch what builds wheels; the entry points are read from the same pyproject.toml.
    """
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head)
    points = project["entry-points"][GROUP]
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    shutil.copytree(PACKAGE / "arbitor_example", folder / "arbitor_example")
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def test_the_package(tmp_path: Path) -> None:
    """By the name of its entry point, its configurations and the sizes around its tile among the tests."""
    site = tmp_path / "site"
    site.mkdir()
    selection = "pack_dense or weight_gradient or embedding_gradient or claims or configurations"
    report, shown = verify(tmp_path, "torch_example", "-q", "-k", selection, PYTHONPATH=installed(site))
    right(report, ["linear_update"])
    assert report["backend"]["module"] == "arbitor_example"
    assert "total of runs of configurations: 15" in shown
    assert "total of sizes around declared tiles: 5" in shown
