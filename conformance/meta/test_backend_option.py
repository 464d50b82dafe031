"""Which backend the suite judges: `--backend`, else ARB_TERNARY_BACKEND, else torch; never another one."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arbitor.conformance.tools.commands import located
from arbitor.conformance.tools.planted import planted
from arbitor.judge.suite import find_suite
from arbitor.kernels.registry import ENVIRONMENT_VARIABLE, why_not

TEST = "test_captured_in_backward_and_not_before"
UNSET = (ENVIRONMENT_VARIABLE, "TRITON_INTERPRET", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")


def suite(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One test of the captures in a process of its own, with no other setting of a backend than these."""
    checkout = find_suite().parent
    settings = checkout / "pyproject.toml"
    layout = ["-c", str(settings if settings.is_file() else os.devnull), "--import-mode=importlib"]
    test = located(f"test_gradient_capture.py::{TEST}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *layout, *words, test]
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return subprocess.run(
        command, cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.clause("ARB-RUN-011")
@pytest.mark.parametrize(
    ("words", "environment", "module"),
    [
        ((), {}, "torch (arbitor.kernels.eager) on cpu"),
        ((), {ENVIRONMENT_VARIABLE: ""}, "torch (arbitor.kernels.eager) on cpu"),
        ((), {ENVIRONMENT_VARIABLE: "reference"}, "reference (arbitor.reference) on cpu"),
        (("--backend", "torch"), {ENVIRONMENT_VARIABLE: "reference"}, "torch (arbitor.kernels.eager) on cpu"),
    ],
)
def test_what_is_judged(
    tmp_path: Path, words: tuple[str, ...], environment: dict[str, str], module: str
) -> None:
    ended = suite(tmp_path, *words, **environment)
    assert ended.returncode == 0, ended.stdout
    assert f"backend: {module}, judged by" in ended.stdout
    assert "1 passed" in ended.stdout


@pytest.mark.clause("ARB-RUN-011")
def test_triton_on_a_cpu_is_its_interpreter(tmp_path: Path) -> None:
    """Asked for by the variable alone, as by the one who only reads what the suite prints."""
    reason = why_not("triton")
    if reason is not None and "no module" in reason:
        pytest.skip(f"triton: {reason}")
    refused = importlib.import_module("arbitor.kernels.triton.launch").why_not_interpreted()
    if refused is not None:
        pytest.skip(f"triton: {refused}")
    ended = suite(tmp_path, **{ENVIRONMENT_VARIABLE: "triton"})
    assert ended.returncode == 0, ended.stdout
    assert "backend: triton (arbitor.kernels.triton) on cpu, judged by arbitor.reference" in ended.stdout
    assert "1 passed" in ended.stdout


@pytest.mark.clause("ARB-RUN-011")
def test_a_backend_that_is_not_there_is_no_other(tmp_path: Path) -> None:
    """Usage error with the name, and no test runs."""
    ended = suite(tmp_path, **{ENVIRONMENT_VARIABLE: "nonsense"})
    assert ended.returncode == 4
    assert "unknown backend 'nonsense'" in ended.stderr
    assert "passed" not in ended.stdout


def test_a_warning_of_a_strangers_code_is_shown_and_no_failure(tmp_path: Path) -> None:
    """NumPy warns of casts whose results are right; ours have to be free of them."""
    warns = "warnings.warn('odd', RuntimeWarning)"
    warning = f"import warnings\ndef pack(trits):\n    {warns}\n    return eager.pack(trits)\n"
    done = suite(tmp_path, "--backend", planted(tmp_path, warning), located("test_pack.py"))
    assert done.returncode == 0, done.stdout
    assert "RuntimeWarning: odd" in done.stdout
