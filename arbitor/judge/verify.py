"""`arbitor verify`: run the conformance suite on one backend and write down what became of every test.

The suite is found and started, never imported: `arbitor` depends on nothing that depends on it. It always
runs in workers of pytest-xdist, so that a case that kills its process costs that case only; this process
collects the verdicts and writes the record (report/record.py) once pytest is done, also after an interrupt.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from arbitor.kernels.plugins.sources import is_strange
from arbitor.kernels.registry import BACKENDS, Backend

from ..refusal import lacking, refuse
from .asked import NotUsable, asked_for
from .environment import said, without_pytests
from .interrupts import STATUS
from .suite import digests, find_suite, operations_named

KERNELS, EVERYTHING = "--kernels", "--all"  # options of the suite
# pytest rewrites its plugins' assertions, and warns where one is imported: by a notebook, say
IMPORTED = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
CASE_TIMEOUT = 300.0  # seconds of one test
MOST_WORKERS = 4  # on the CPU; each holds torch and the suite in memory
STOPPED = 2  # pytest's exit status if it ended before the last test
INTERNAL = 3  # pytest's exit status for an error of its own
NOTHING = 5  # pytest's exit status if no test was collected; ours, too, if none ran


@dataclass(frozen=True)
class Asked:
    """What a verification was asked for; `report` None is reports/verify-<backend>-<time>.json, and
    `capabilities` and `waivers` are files. `case_timeout` is in seconds, of one test; None is
    300, or 3000 under --examples deep. `only` are names of operations and families; without any, a backend
    that is none of ours has the tests of what kernels decide, and all of them with `everything`."""

    backend: str
    device: str = "cpu"
    report: Path | None = None
    capabilities: Path | None = None
    waivers: Path | None = None
    case_timeout: float | None = None
    only: Sequence[str] = field(default_factory=tuple)
    everything: bool = False


def verify(asked: Asked, arguments: Sequence[str] = ()) -> int:
    """Run the suite on a backend and write the record; `arguments` go to pytest. Gives pytest's exit status,
    130 if it was interrupted, or 5 if no test ran.

    If the backend cannot run, or anything that was asked for is not there, that is one sentence and status 2.
    """
    started = datetime.now(UTC)
    try:
        path = _path(asked, started)
        chosen = _selection(asked, arguments)
        backend, suite = _prepared(asked, path)
    except (NotUsable, RuntimeError, ValueError) as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(lacking(error, "the suite", "test"))
    if chosen == [KERNELS]:
        print("the backend is none of ours: only what kernels decide is judged, --all takes the whole suite")
    with _Signals() as signals:
        return _run(asked, backend, suite, path, [*chosen, *arguments], started, signals)


def _selection(asked: Asked, arguments: Sequence[str]) -> list[str]:
    """Words that choose the tests, as the record shall have them; raises ValueError for an unknown name."""
    if asked.only:
        return ["--only", ",".join(operations_named(asked.only))]
    if asked.everything:
        return [EVERYTHING]
    strange = is_strange(asked.backend, BACKENDS)
    return [KERNELS] if strange and not any(map(_selects, arguments)) else []


def _selects(argument: str) -> bool:
    """Whether an argument of pytest says itself which tests are meant: by an option of ours, or a file."""
    option = argument.partition("=")[0]
    return option in (KERNELS, EVERYTHING, "--only") or Path(argument.partition("::")[0]).exists()


def _prepared(asked: Asked, path: Path) -> tuple[Backend, Path]:
    """The backend and the folder of the suite; raises for all that keeps it from running."""
    backend = asked_for(asked.backend, asked.device, asked.capabilities)
    named = operations_named(asked.only)
    if named and set(named) <= set(backend.gaps):
        raise NotUsable(f"--only {', '.join(named)}: {backend.name!r} declares that it has none of these")
    suite = find_suite()
    for needed in ("pytest", "xdist", "pytest_timeout", "hypothesis", "jsonschema", "jinja2"):
        if find_spec(needed) is None:  # pytest imports its plugins itself
            raise ModuleNotFoundError(name=needed)
    from .report.record import beside
    from .waivers import load

    if asked.waivers is not None:
        load(asked.waivers)
    _make_room(path, beside(path).values())
    return backend, suite


def _run(
    asked: Asked,
    backend: Backend,
    suite: Path,
    path: Path,
    arguments: Sequence[str],
    started: datetime,
    signals: _Signals,
) -> int:
    from .report import record
    from .report.collected import Collected
    from .report.sums import counts_of, ran

    begin = time.monotonic()
    before = digests(suite)
    collected = Collected(asked.device)
    words = [*_layout(suite), *_words(asked, record.beside(path)["JUnit"], arguments), *arguments]
    with without_pytests() as collected.left_out:
        if collected.left_out:
            print(said(collected.left_out))
        status = _judged(words, [collected, _Apart(signals)])
    signals.held = True
    if not collected.selected:
        why = "interrupted before any test was known" if signals.caught else "there was no test"
        print(f"no report: {why}")
        return STATUS if signals.caught else status
    status = _status(status, signals.caught, ran(counts_of(collected.entries())) > 0)
    times = started, time.monotonic() - begin
    record.write(record.record_of(collected, backend, arguments, suite, times, status), path)
    status = _looked_at(path, suite, before, status)
    print(f"report: {path}")
    print(", ".join(f"{what}: {file}" for what, file in record.beside(path).items()))
    return status


def _judged(words: list[str], plugins: list[object]) -> int:
    """pytest's exit status."""
    import pytest

    try:
        return int(pytest.main(words, plugins=plugins))
    except KeyboardInterrupt:  # before the session, or a second one while pytest ended after the first
        return STATUS
    except Exception as error:  # before the session too: pytest lets a warning through that is an error
        refuse(f"pytest cannot start: {type(error).__name__}: {' '.join(str(error).split())}")
        return INTERNAL


def _looked_at(path: Path, suite: Path, before: Mapping[str, str], status: int) -> int:
    """The exit status: 0 only where `arbitor report check` gives 0 too, and the suite is what it was."""
    from .report.check import verdict

    now = digests(suite)
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        print(f"the suite itself changed during the run, so its verdict is none: {', '.join(changed[:3])}")
        return status or 1
    try:
        verdict(path.read_bytes())
    except (ValueError, OSError) as error:
        print(f"{path} is rejected: {error}")
        return status or 1
    return status


def _status(status: int, interrupted: bool, some: bool) -> int:
    """Our exit status for that of pytest; `some` says that a test ran."""
    if interrupted:
        return STATUS
    if status == STOPPED:  # at a failure, as it was told to
        status = 1
    return status or (0 if some else NOTHING)


def _path(asked: Asked, started: datetime) -> Path:
    """Where the record goes; raises ValueError for a name whose neighbours could not have theirs."""
    if asked.report is None:
        return Path("reports", f"verify-{_file_name(asked.backend)}-{started:%Y-%m-%dT%H-%M-%SZ}.json")
    if asked.report.suffix != ".json":
        raise ValueError(f"--report {asked.report}: expected a name that ends in .json; others go beside it")
    return asked.report


def _file_name(name: str) -> str:
    """The name of a backend as a part of a file's name: a path or a command line is none."""
    return re.sub(r"[^\w.-]+", "_", name.removeprefix("cmd:")).strip("._") or "backend"


def _make_room(path: Path, others: Iterable[Path]) -> None:
    """Make the folder, and take away an earlier report of that name: a run that is killed leaves none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in (path, *others):
            file.unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass  # the folder can be written to
    except OSError as error:
        raise ValueError(f"--report {path}: {error.strerror}") from None


def _words(asked: Asked, junit: Path, arguments: Sequence[str]) -> list[str]:
    """pytest's arguments that are ours; those of the user come after them, so that they win."""
    deep = "--examples deep" in " ".join(arguments).replace("=", " ")
    seconds = asked.case_timeout or CASE_TIMEOUT * (10 if deep else 1)
    words = ["--backend", asked.backend, "--device", asked.device, "--timeout", f"{seconds:g}"]
    words += ["-n", str(min(len(os.sched_getaffinity(0)), MOST_WORKERS)), "--junitxml", str(junit)]
    words += ["-W", IMPORTED]
    words += ["--capabilities", str(asked.capabilities)] if asked.capabilities is not None else []
    return words + (["--waivers", str(asked.waivers)] if asked.waivers is not None else [])


def _layout(suite: Path) -> list[str]:
    """Arguments that name the suite and its settings: the checkout's own, or stand-ins when installed."""
    if (suite.parent / "pyproject.toml").is_file():
        return [str(suite)]
    # Not the settings of whatever project lies above; and nothing is written into the package.
    alone = ["-c", os.devnull, "--rootdir", str(suite), "-p", "no:cacheprovider", "--import-mode=importlib"]
    return [str(suite), *alone]


class _Signals:
    """SIGINT, SIGTERM and SIGHUP are interrupts; `held`, they wait until the report is written."""

    def __init__(self) -> None:
        self.caught = self.held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # as nohup and shells in the background ask for
                self._before[number] = before
                signal.signal(number, self._catch)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = True
        if not self.held:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self.caught:
            raise KeyboardInterrupt


class _Apart:
    """A pytest plugin that refuses a run in this process: what ends the process would end the report.

    It also sees to an interrupt that something swallowed, as imports of C extensions may.
    """

    def __init__(self, signals: _Signals) -> None:
        self.signals = signals

    def pytest_configure(self, config: Any) -> None:
        import pytest

        if not config.option.collectonly and (config.option.dist == "no" or not config.option.tx):
            raise pytest.UsageError("-n is 0, expected 1 or more: verify judges in processes of their own")

    def pytest_sessionstart(self) -> None:
        self.signals.check()

    def pytest_runtest_logstart(self) -> None:
        self.signals.check()
