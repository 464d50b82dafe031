"""The suite's options, its profiles of examples, the fixtures of what is under test, and its report.

The report counts every test that did not run, with the reason: what was not run is never taken for passed.

ARB_TERNARY_BACKEND names the backend where `--backend` does not. On the CPU `triton` has nothing but its
interpreter, so asking for it there is asking for that.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from arbitor.conformance.draw.extents import draw_around_tiles
from arbitor.conformance.judge import declared, isolation, selection, waiving
from arbitor.conformance.judge.artifacts import Artifacts
from arbitor.conformance.judge.counting import Counting
from arbitor.conformance.judge.target import Target, target_of
from arbitor.conformance.operations.common import Total
from arbitor.conformance.training.trainers import Runs, threads_kept
from arbitor.judge.asked import NotUsable, asked_for
from arbitor.judge.report.collected import collected_of
from arbitor.judge.suite import interpret
from arbitor.kernels.plugins.program import ending
from arbitor.kernels.plugins.reach import WRITES
from arbitor.kernels.registry import BACKENDS, ENVIRONMENT_VARIABLE, Backend

TARGET = pytest.StashKey[Target]()
# beginnings of the environment's names that the header shows
SHOWN = ("ARB", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE", "TRITON_INTERPRET")
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "quick", derandomize=True, max_examples=100, deadline=None, database=None, suppress_health_check=_SLOW
)
# not of the profile that Hypothesis takes where CI is set: what is random would be the same each time
_DEFAULT = settings.get_profile("default")
settings.register_profile("deep", _DEFAULT, max_examples=1000, deadline=None, suppress_health_check=_SLOW)
settings.register_profile(
    "unshrunk",
    settings.get_profile("quick"),
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("arbitor")
    group.addoption(
        "--backend",
        default=os.environ.get(ENVIRONMENT_VARIABLE) or "torch",
        help="name, module path, FILE.py or cmd:PROGRAM (default: ARB_TERNARY_BACKEND, or torch)",
    )
    group.addoption("--capabilities", type=Path, help="what the backend declares: FILE.toml or FILE.json")
    group.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="of the backend's arrays")
    group.addoption(
        "--waivers", type=Path, metavar="FILE", help="known failures: FILE.toml (docs/reports.md)"
    )
    group.addoption(
        "--examples",
        default="quick",
        choices=("quick", "deep", "unshrunk"),
        help="quick: 100 per property, always the same ones (default); deep: 1000 random ones; "
        "unshrunk: as quick, without looking for a smaller failure",
    )

    group.addoption(
        "--machine-code",
        action="store_true",
        help="also compile every GPU kernel for sm_90a and look at its machine code; needs no GPU",
    )

    selection.add_options(group)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """True for files of which --only needs none; None leaves it to others."""
    return selection.is_of_others(config, collection_path) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for. What stands around the kernels does not run either on a backend that
    does not declare every operation, and is counted with that reason."""
    around = selection.select(config, items)
    reason = declared.why_all_is_needed(config.stash[TARGET].backend)
    if reason is not None:
        for item in around:
            item.add_marker(pytest.mark.skip(reason))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "clause(*ids): the clauses of docs/SPEC.md that the test checks")
    config.addinivalue_line("markers", selection.MARKER)
    selection.only(config)  # refuses a name that is none
    settings.load_profile(config.getoption("--examples"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
    device = config.getoption("--device")
    name = config.getoption("--backend")
    if name not in BACKENDS:  # a warning of a stranger's code is shown; what it warns of may be right
        config.addinivalue_line("filterwarnings", "default")
    if not config.getoption("--machine-code"):
        interpret(name, device)
    try:
        declared.skip_undeclared(asked_for(name, device, config.getoption("--capabilities")))
    except NotUsable as error:
        raise pytest.UsageError(f"--backend {name}: {error}") from None
    config.stash[TARGET] = target_of(name, device)
    draw_around_tiles(config.stash[TARGET])
    config.pluginmanager.register(Counting())
    config.pluginmanager.register(Artifacts())
    isolation.register(config)
    waiving.register(config)


def _under_test(config: pytest.Config) -> str:
    target = config.stash[TARGET]
    part = selection.described(config)
    return (
        f"{target.backend.name} ({target.backend.module.__name__}) on {target.device}, "
        f"judged by {target.judge.module.__name__}, {config.getoption('--examples')} examples"
        f"{part and f', {part}'}"
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "hypothesis": hypothesis.__version__,
    }
    environment = {name: value for name, value in sorted(os.environ.items()) if name.startswith(SHOWN)}
    return [
        f"backend: {_under_test(config)}",
        "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "environment: " + (", ".join(f"{n}={v}" for n, v in environment.items()) or "no ARB variable is set"),
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    write = terminalreporter.write_line
    terminalreporter.section("arbitor")
    write(f"backend: {_under_test(config)}")
    collected = collected_of(config)
    for line in collected.lines() if collected is not None else ():
        write(line)


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """The backend under test beside its judge."""
    return pytestconfig.stash[TARGET]


@pytest.fixture(scope="session")
def backend(target: Target) -> Backend:
    """The backend under test."""
    return target.backend


@pytest.fixture(autouse=True)
def _strangers_end() -> Iterator[None]:
    """Strangers' programs that came with a test end with it: each has a torch of its own."""
    with ending():
        yield


@pytest.fixture
def domain(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Called as domain(name, size) by a test that walks a whole domain; the report shows it."""
    return lambda name, size: record_property("domain", f"{name} size {size}")


@pytest.fixture
def total(record_property: Callable[[str, object], None]) -> Total:
    """Called as total(what, number) by a test that counts something; the report shows the sums."""
    return lambda what, number: record_property("total", [what, number])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For hundreds of calls on a few tokens, in which threads would only wait for each other."""
    with threads_kept():
        torch.set_num_threads(1)
        yield


@pytest.fixture
def may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is none of ours, and leaves signs for a test to find, may write to the test's folder."""
    monkeypatch.setenv(WRITES, str(tmp_path))


@pytest.fixture
def runs(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Small runs of the trainers."""
    with threads_kept():
        yield Runs(target, tmp_path, monkeypatch)
