"""Backends that are programs: how they are started, and what happens to those that die, hang or babble."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from arbitor.conformance.judge.target import CaseLost, Target, target_of
from arbitor.conformance.tools.programs import CALL, GOOD, HELLO, Made
from arbitor.kernels.plugins import program
from arbitor.kernels.plugins.answers import WrongAnswer
from arbitor.kernels.plugins.program import TIMEOUT_VARIABLE, ProgramFailed
from arbitor.kernels.registry import BackendUnavailable, select

pytestmark = pytest.mark.usefixtures("may_write")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv(TIMEOUT_VARIABLE, "20")
    return Made(tmp_path)


def test_an_answer(made: Made) -> None:
    backend = made.backend()
    assert backend.pack(**GOOD).tolist() == [[86]]
    assert backend.pack(**GOOD).tolist() == [[86]]
    assert made.starts == 1
    assert backend.arrays == "numpy"


def test_what_is_made_meanwhile_ends(made: Made, tmp_path: Path) -> None:
    """And its process is gone; what was there before runs on."""
    older = made.backend()
    older.pack(**GOOD)
    folder = tmp_path / "other"
    folder.mkdir()
    before = set(program._running)
    with program.ending():
        Made(folder).backend().pack(**GOOD)
        (younger,) = program._running - before
        assert younger._process is not None
        number = younger._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    older.pack(**GOOD)
    assert made.starts == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("os._exit(3)", "in unpack it ended with status 3"),
        ("os.kill(os.getpid(), 11)", "in unpack it died of SIGSEGV"),
        ("say('{\"id\": '); os._exit(0)", "ended with status 0 after b'{\"id\": ' without an end of line"),
        ("say('hello, world\\n')", "it wrote 'hello, world', expected a JSON object on one line"),
        ("say('\\xff\\xfe\\n')", "expected a JSON object on one line"),
        ("say('\\n')", "it wrote '', expected a JSON object"),
        ("say('[1, 2]\\n')", "it wrote '[1, 2]', expected a JSON object"),
        ("number -= 1; answer(results=GOOD)", "with the id 0, expected 1"),
        ("number = True; answer(results=GOOD)", "with the id True, expected 1"),
        ("sys.stdout.close(); os.close(1); time.sleep(9)", "closed its stdout"),
    ],
)
def test_a_program_that_is_lost_is_started_again(made: Made, other: str, message: str) -> None:
    """The call that lost it fails, with the end of stderr; the next one is answered by a new process."""
    talk = "print('about to fail', file=sys.stderr, flush=True); "
    backend = made.backend(talk + other)
    with pytest.raises(ProgramFailed) as caught:
        backend.unpack(**CALL)
    assert message in str(caught.value)
    assert str(caught.value).endswith("; its stderr ends: about to fail")
    assert backend.pack(**GOOD).tolist() == [[86]]
    assert made.starts == 2


def test_a_program_that_hangs(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that reads no further: the request is larger than a pipe holds."""
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.4")
    backend = made.backend("time.sleep(60)")
    for arguments in (CALL, CALL):
        begin = time.monotonic()
        with pytest.raises(
            ProgramFailed, match=r"in unpack it gave no answer within 0.4 s \(ARB_PROGRAM_TIM"
        ):
            backend.unpack(**arguments)
        assert 0.3 < time.monotonic() - begin < 20
        assert backend.pack(**GOOD).tolist() == [[86]]
    (made.folder / "other").mkdir()
    deaf = Made(made.folder / "other").backend(hello=HELLO + "; time.sleep(60)")
    with pytest.raises(ProgramFailed, match="gave no answer"):
        deaf.pack(torch.zeros(2000, 2000, dtype=torch.int8))


def test_a_program_that_writes_on_and_on(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is always there to read, because the reader takes sips, and it is no answer: time is up all
    the same, long before there is too much of it."""
    read = os.read

    def slowly(number: int, size: int) -> bytes:
        time.sleep(0.01)
        return read(number, min(size, 16))

    backend = made.backend("while True: say('x' * 65536)")
    monkeypatch.setattr(os, "read", slowly)
    monkeypatch.setattr(program, "SLACK", 16 * 200)
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.2")
    with pytest.raises(ProgramFailed, match=r"gave no answer within 0\.2 s"):
        backend.unpack(**CALL)
    monkeypatch.setenv(TIMEOUT_VARIABLE, "20")
    assert backend.pack(**GOOD).tolist() == [[86]]


def test_a_program_that_writes_too_much(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has an end too."""
    monkeypatch.setattr(program, "SLACK", 1 << 16)
    with pytest.raises(ProgramFailed, match=r"wrote \d+ bytes without an end of line"):
        made.backend("while True: say('x' * 4096)").unpack(**CALL)


def test_it_may_end_by_itself(made: Made) -> None:
    """When stdin ends: what it still has to say, it says; and it may be asked again."""
    end = made.folder / "end"
    name = made.write()
    made.path.write_text(made.path.read_text() + f"time.sleep(0.2)\nopen({str(end)!r}, 'w').write('ended')\n")
    backend = select(name)
    assert backend.pack(**GOOD).tolist() == [[86]]
    backend.module.PROGRAM.close()
    assert end.read_text() == "ended"
    assert backend.pack(**GOOD).tolist() == [[86]]
    assert made.starts == 2


def test_what_it_started_ends_with_it(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that keeps the pipe open would hold up the next process."""
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.4")
    pid = made.folder / "pid"
    fork = f"child = os.fork(); child or time.sleep(60); open({str(pid)!r}, 'w').write(str(child)); "
    backend = made.backend(fork + "time.sleep(60)")
    with pytest.raises(ProgramFailed, match="gave no answer"):
        backend.unpack(**CALL)
    assert backend.pack(**GOOD).tolist() == [[86]]
    child = int(pid.read_text())
    for _ in range(100):
        if not _alive(child):
            break
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    """Whether the process runs; a dead one that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_more_than_it_was_asked(made: Made) -> None:
    """A second line is no answer to the next request."""
    backend = made.backend("answer(results={}); answer(results={})")
    with pytest.raises(WrongAnswer):
        backend.unpack(**CALL)
    time.sleep(0.1)
    with pytest.raises(ProgramFailed, match=r"before it was asked|with the id 1, expected 2"):
        backend.pack(**GOOD)
    assert backend.pack(**GOOD).tolist() == [[86]]


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        ("answer(protocol=2)", "its hello has protocol 2, expected 1"),
        ("answer()", "its hello has protocol None, expected 1"),
        ("os._exit(1)", "in its hello it ended with status 1; its stderr is empty"),
        ("say('usage: program\\n')", "in its hello it wrote 'usage: program', expected a JSON object"),
        ('answer(protocol=1, capabilities={"version": 9})', "version is 9, expected 1"),
        ("answer(protocol=1, capabilities=[])", r"is \[\], expected a table"),
    ],
)
def test_a_program_without_a_hello(made: Made, hello: str, message: str) -> None:
    with pytest.raises(BackendUnavailable, match=message):
        made.backend(hello=hello)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "no program is named"),
        ("'", "is no command line"),
        ("./absent", "no such file: ./absent"),
        ("./plain", r"./plain is not executable \(chmod \+x ./plain\)"),
        ("./folder", "./folder is no file"),
        ("no_such_program_here", "no program 'no_such_program_here' on the PATH"),
        ("./text", r"it cannot be started: Exec format error; a script begins with #!"),
    ],
)
def test_what_is_no_program(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("x")
    (tmp_path / "text").write_text("x")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BackendUnavailable, match=message):
        select(f"cmd:{command}")


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "inf", "nan"])
def test_a_limit_that_is_none(made: Made, seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT_VARIABLE, seconds)
    with pytest.raises(BackendUnavailable, match=f"ARB_PROGRAM_TIMEOUT is '{seconds}', expected seconds"):
        made.backend()


def test_it_is_started_where_it_was_found(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Arguments stay words, and a test that has gone elsewhere finds it again."""
    made.write("os._exit(len(sys.argv[1]) + len(os.getcwd()))")
    monkeypatch.chdir(tmp_path)
    backend = select("cmd:./program 'two words'")
    monkeypatch.chdir("/")
    for _ in range(2):
        with pytest.raises(ProgramFailed, match=f"ended with status {9 + len(os.fspath(tmp_path))}"):
            backend.unpack(**CALL)


def test_the_suite_loses_one_case(made: Made) -> None:
    """What is no Exception ends a test at once: no example is shrunk, and no refusal is seen in it."""
    assert not issubclass(CaseLost, Exception)
    target: Target = target_of(made.write("os._exit(7)"))
    with pytest.raises(CaseLost, match=r"(?s)in unpack it ended with status 7.*to repeat it:.*'unpack'"):
        target.check("unpack", CALL)
    with pytest.raises(CaseLost):
        target.refuses("unpack", CALL, ValueError)
    assert target.check("pack", GOOD)["codes"].tolist() == [[86]]
