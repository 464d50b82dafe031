"""Cases that kill their process, hang or lose the GPU's context: each costs itself and says what happened."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge import isolation
from arbitor.conformance.judge.isolation import POISONED, STILLBORN, Starter, Worker, how_it_ended
from arbitor.conformance.judge.target import CaseLost
from arbitor.conformance.judge.waiving import Marks
from arbitor.conformance.tools.commands import FEW, located
from arbitor.judge.blame import CLAUSES
from arbitor.judge.report.check import verdict
from arbitor.judge.report.collected import ARTIFACT, Collected
from arbitor.judge.report.sums import CRASHED
from arbitor.judge.suite import find_suite
from arbitor.judge.verify import _Apart, _Signals

pytestmark = pytest.mark.usefixtures("may_write")

# The torch backend, but for what `pack` does in the tests that are named: by the strides and the shapes that
# they come with, for nothing tells it which test calls.
BACKEND = """
import ctypes, os, signal, time, torch
from arbitor.kernels import eager
globals().update({{name: getattr(eager, name) for name in dir(eager) if not name.startswith("_")}})
def pack(trits):
    down, across = trits.stride()
    kind = "transposed" if down == 1 else "strided" if across == 2 else "plain"
    seed = {shapes}.get(tuple(trits.shape))
    test = f"test_layouts[{{kind}}-{{seed}}]"
    {does}
    return eager.pack(trits)
"""
SHAPES = {tuple(example("pack", seed)["trits"].shape): seed for seed in range(4)}
DOES = """
    if test == "test_layouts[transposed-0]": os._exit(0)
    if test in ("test_layouts[strided-0]", "test_layouts[strided-1]"): os.kill(os.getpid(), signal.SIGSEGV)
    if test == "test_layouts[transposed-1]": ctypes.PyDLL(None).sleep(60)  # nobody else gets the interpreter
    if test in ("test_layouts[strided-2]", "test_layouts[strided-3]"): return eager.pack(trits) ^ 1
""".strip()
WAIVER = """[[waiver]]
test = "{test}"
device = "cpu"
reason = "{reason}"
link = "https://example.org/1"
expires = 2999-12-31
"""
COMMAND = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "


def command(folder: Path, does: str, *words: str) -> list[str]:
    """`arbitor verify` on a backend in that folder, and its report in r.json."""
    (folder / "planted.py").write_text(BACKEND.format(does=does, shapes=SHAPES))
    root = str(find_suite().parent)
    start = f"{COMMAND}sys.path.insert(0, {root!r}); from arbitor.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, "verify", "--backend", "planted.py", "--report", "r.json", *words]


def by_test(record: dict[str, Any]) -> dict[str, Any]:
    """The tests of a record by the last part of their ids."""
    return {entry["test"].rpartition("::")[2]: entry for entry in record["tests"]}


def file_of(name: str) -> str:
    """The beginning of the ids of a file of the suite, which is the root of an installed one."""
    suite = find_suite()
    root = suite.parent if (suite.parent / "pyproject.toml").is_file() else suite
    return Path(located(name)).relative_to(root).as_posix()


def test_everything_else_is_judged(tmp_path: Path) -> None:
    """A status of 0, a signal, a hang that holds the interpreter, a wrong result, and three waivers."""
    pack = f"{file_of('test_pack.py')}::"
    waived = {"test_layouts[strided-3]": "wrong", "test_layouts[strided-1]": "dies", "test_gone": "gone"}
    text = "".join(WAIVER.format(test=pack + test, reason=reason) for test, reason in waived.items())
    (tmp_path / "w.toml").write_text(text)
    own = ("--case-timeout", "8", "--waivers", "w.toml")
    words = (*own, "--", "-n", "2", *FEW, "-k", "test_pack.py and layouts")
    ended = subprocess.run(
        command(tmp_path, DOES, *words),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    data = (tmp_path / "r.json").read_bytes()
    record = json.loads(data)
    tests = by_test(record)
    crashed = {name: tests[f"test_layouts[{name}]"] for name in ("transposed-0", "strided-0", "transposed-1")}
    assert {entry["verdict"] for entry in crashed.values()} == {"crashed"}
    assert "ended with status 0" in crashed["transposed-0"]["message"]
    assert "died of SIGSEGV; its stderr ends: " in crashed["strided-0"]["message"]
    assert "had not ended after 0:00:08" in crashed["transposed-1"]["message"]
    assert "planted.py" in crashed["strided-0"]["message"]  # the stack
    assert "apart.py" in crashed["transposed-1"]["message"]  # where the answer was waited for
    for name in ("strided-0", "transposed-1"):
        assert "ARB-UPD-003" in crashed[name]["clauses"]
    assert record["counts"] == {
        "passed": len(tests) - 6,
        "failed": 1,
        "crashed": 3,
        "not_run": 0,
        "waived": 2,
    }
    assert len(tests) > 10
    assert "pack: codes" in tests["test_layouts[strided-2]"]["message"]
    message = tests["test_layouts[strided-3]"]["message"]
    assert message.startswith("waived: wrong (https://example.org/1), until 2999-12-31\n")
    assert "died of SIGSEGV" in tests["test_layouts[strided-1]"]["message"]
    states = {waiver["test"].removeprefix(pack): waiver["state"] for waiver in record["waivers"]}
    assert states == dict.fromkeys(waived, "used") | {"test_gone": "unknown test"}
    assert record["run"]["complete"] is True
    assert ", 3 crashed, 2 waived; exit status 1" in verdict(data)
    assert "crashed: 3" in ended.stdout
    assert f"waiver unknown test: {pack}test_gone" in ended.stdout
    [suite] = ElementTree.parse(tmp_path / "r.xml").getroot().iter("testsuite")
    assert int(suite.attrib["failures"]) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_partial_report(number: signal.Signals, tmp_path: Path) -> None:
    """Also while a case hangs; what did not run says so."""
    does = 'if test == "test_layouts[strided-2]": open("hangs", "w").close(); time.sleep(60)'
    words = ("--", "-n", "1", *FEW, "-k", "test_pack.py and layouts")
    quiet = subprocess.DEVNULL
    run = subprocess.Popen(command(tmp_path, does, *words), cwd=tmp_path, stdout=quiet, stderr=quiet)
    limit = time.monotonic() + 100
    while not (tmp_path / "hangs").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    run.send_signal(number)
    assert run.wait(timeout=60) == 130
    data = (tmp_path / "r.json").read_bytes()
    record = json.loads(data)
    assert record["run"]["complete"] is False
    assert record["run"]["ended"] == "interrupted"
    assert by_test(record)["test_layouts[transposed-0]"]["verdict"] == "passed"
    assert by_test(record)["test_layouts[strided-2]"]["reason"] == "interrupted"
    counts = record["counts"]
    assert record["not_run"] == {"interrupted": counts["not_run"]}
    said = f"partial: interrupted, {counts['passed']} of {sum(counts.values())} tests ran"
    assert verdict(data).startswith(said)


def test_a_lost_context_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the test, with the failure and its artifact as last words; else nothing happens."""
    report: Any = SimpleNamespace(longreprtext="assertion at line 1", user_properties=[(ARTIFACT, "x.arb")])
    worker = Worker(tmp_path, "gw0")

    def made() -> Any:
        hook = worker.pytest_runtest_makereport()
        next(hook)
        try:
            hook.send(report)
        except StopIteration as stop:
            return stop.value

    def exits(status: int) -> None:
        raise SystemExit(status)

    assert made() is report
    with monkeypatch.context() as during:  # the worker that this test runs in asks as well
        during.setattr(os, "_exit", exits)
        during.setattr(isolation, "context_lost", lambda: "CUDA error: device-side assert triggered")
        with pytest.raises(SystemExit) as ended:
            made()
    assert ended.value.code == POISONED
    collected = Collected()
    collected.known = {"t.py::test_x": ["ARB-PACK-001"]}
    starter = Starter(collected)
    starter._folder = tmp_path
    crash: Any = SimpleNamespace(node=node("gw0", POISONED))
    starter.pytest_handlecrashitem("t.py::test_x", crash)
    assert crash.longrepr.startswith(
        "after this test the CUDA context of its process is of no more use: CUDA err"
    )
    assert "assertion at line 1" in crash.longrepr
    properties = dict(crash.user_properties)
    assert properties == {ARTIFACT: "x.arb", CRASHED: True, CLAUSES: ["ARB-PACK-001"]}
    worker.words.close()


def node(name: str, status: int) -> Any:
    """A worker as xdist has it, whose process has ended."""
    process = SimpleNamespace(wait=lambda timeout: status)
    return SimpleNamespace(gateway=SimpleNamespace(id=name, _io=SimpleNamespace(popen=process)))


@pytest.mark.parametrize("answers", [[], [RuntimeError("CUDA error: unspecified launch failure\nmore")]])
def test_the_context_is_asked(answers: list[RuntimeError], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one."""

    def synchronize() -> None:
        for error in answers:
            raise error

    found = []
    for initialized in (False, True):
        with monkeypatch.context() as during:  # the worker that this test runs in asks as well
            during.setattr(torch.cuda, "synchronize", synchronize)
            during.setattr(torch.cuda, "is_initialized", lambda there=initialized: there)
            found.append(isolation.context_lost())
    assert found == ["", "CUDA error: unspecified launch failure" if answers else ""]


def test_workers_that_never_collect_end_the_run() -> None:
    """One that did collect is another matter, however often it dies."""
    starter = Starter(Collected())
    starter.collected.known = {"t.py::test_x": []}
    good, bad = node("gw0", 0), node("gw1", 3)
    starter.pytest_xdist_node_collection_finished(good)
    for _ in range(STILLBORN + 1):
        with contextlib.suppress(pytest.exit.Exception):  # which would end this run of pytest, too
            starter.pytest_testnodedown(good, "Not properly terminated")
    assert starter.stillborn == 0
    for _ in range(STILLBORN - 1):
        starter.pytest_testnodedown(bad, "Not properly terminated")
    with pytest.raises(pytest.exit.Exception, match=r"before they had collected the tests; .* status 3"):
        starter.pytest_testnodedown(bad, "Not properly terminated")


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (0, "", "the process of the test ended with status 0"),
        (-9, "", "the process of the test died of SIGKILL"),
        (None, "", "the process of the test closed its connection"),
        (-64, "", "the process of the test died of SIGRTMAX"),
    ],
)
def test_how_it_ended(status: int | None, words: str, said: str) -> None:
    assert how_it_ended(status, words) == said


def test_a_program_that_died_is_crashed() -> None:
    """As one that killed its worker is: not failed."""
    hook = Marks({}).pytest_runtest_makereport(SimpleNamespace(excinfo=SimpleNamespace(value=CaseLost("x"))))  # type: ignore[arg-type]
    next(hook)
    report: Any = SimpleNamespace(nodeid="t", user_properties=[], failed=True)
    with pytest.raises(StopIteration):
        hook.send(report)
    assert report.user_properties == [(CRASHED, True)]


@pytest.mark.parametrize(("dist", "tx"), [("no", []), ("load", []), ("no", ["popen"])])
def test_a_run_without_workers_is_refused(dist: str, tx: list[str]) -> None:
    """-n 0, --dist no: the first crash would end all, the report with it."""
    option = SimpleNamespace(collectonly=False, dist=dist, tx=tx)
    apart = _Apart(_Signals())
    with pytest.raises(pytest.UsageError, match="-n is 0, expected 1 or more"):
        apart.pytest_configure(SimpleNamespace(option=option))
    option.collectonly = True
    apart.pytest_configure(SimpleNamespace(option=option))
    option.collectonly, option.dist, option.tx = False, "load", ["popen"]
    apart.pytest_configure(SimpleNamespace(option=option))


def test_an_interrupt_that_was_swallowed_is_made_up_for() -> None:
    """By the next test that begins, at the latest."""
    signals = _Signals()
    apart = _Apart(signals)
    apart.pytest_sessionstart()
    apart.pytest_runtest_logstart()
    with signals, contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    for late in (apart.pytest_sessionstart, apart.pytest_runtest_logstart):
        with pytest.raises(KeyboardInterrupt):
            late()


def test_a_context_that_is_lost_on_cuda(tmp_path: Path) -> None:
    """A kernel whose own assertion fails takes the context of its process with it, and fails one test."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    does = 'if test == "test_layouts[strided-0]": torch.zeros(1, device="cuda")[trits.long().abs() + 9].sum()'
    words = ("--device", "cuda", "--", "-n", "1", *FEW, "-k", "test_pack.py and layouts")
    asked = command(tmp_path, does, *words)
    ended = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    tests = by_test(json.loads((tmp_path / "r.json").read_bytes()))
    assert "device-side assert" in tests["test_layouts[strided-0]"]["message"]
    verdicts = [entry["verdict"] for entry in tests.values()]
    assert verdicts.count("failed") == 1, ended.stdout
    assert verdicts.count("passed") == len(verdicts) - 1
