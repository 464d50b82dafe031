"""Backends that are programs: what they may answer, and what happens to those that do not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.conformance import test_claims
from arbitor.conformance.common import HOW, int8, int32, packed
from arbitor.conformance.target import CaseLost, Target, target_of
from arbitor.kernels.answers import WrongAnswer
from arbitor.kernels.program import TIMEOUT_VARIABLE, ProgramFailed
from arbitor.kernels.registry import Backend, BackendUnavailable, configurations, select

# A program that answers `pack` of [[1, 0]] right, and anything else as the test says; it counts its starts.
PROGRAM = """#!{python} -S
import json, os, sys, time
with open({starts!r}, "a") as file:
    file.write("start\\n")
GOOD = {{"codes": {{"dtype": "uint8", "shape": [1, 1], "data": "Vg=="}}}}
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    number, operation = request["id"], request.get("operation")
    def answer(**fields):
        say(json.dumps({{"id": number, **fields}}) + "\\n")
    if "hello" in request:
        {hello}
    elif operation == "pack":
        answer(results=GOOD)
    else:
        {other}
"""
HELLO = "answer(protocol=1)"
GOOD: dict[str, Any] = {"trits": int8([[1, 0]])}
CALL: dict[str, Any] = {"codes": torch.tensor([[86]], dtype=torch.uint8), "columns": 2}


class Made:
    """A program in a folder of the test, and how often it was started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "program"
        self.starts_file = folder / "starts"

    def write(self, other: str = "pass", hello: str = HELLO) -> str:
        text = PROGRAM.format(python=sys.executable, starts=str(self.starts_file), hello=hello, other=other)
        self.path.write_text(text)
        self.path.chmod(0o755)
        return f"cmd:{self.path}"

    def backend(self, other: str = "pass", hello: str = HELLO) -> Backend:
        return select(self.write(other, hello))

    @property
    def starts(self) -> int:
        return len(self.starts_file.read_text().splitlines())


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
    """Something is always there to read, and it is no answer."""
    backend = made.backend("while True: say('x' * 4096)")
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.1")
    with pytest.raises(ProgramFailed, match=r"gave no answer within 0\.1 s"):
        backend.unpack(**CALL)
    monkeypatch.setenv(TIMEOUT_VARIABLE, "20")
    assert backend.pack(**GOOD).tolist() == [[86]]


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


TRITS = '{"dtype": "int8", "shape": [1, 2], "data": "AQA="}'


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("None", "unpack: results are None, expected trits"),
        ("{}", "unpack: results are , expected trits"),
        ('{"trits": %s, "more": %s}', "unpack: results are trits, more, expected trits"),
        ('{"trits": [1, 0]}', r"unpack: trits is \[1, 0\], expected an object of dtype, shape and data"),
        ('{"trits": {**%s, "dtype": "int32"}}', "unpack: trits has dtype int32, expected int8"),
        ('{"trits": {**%s, "shape": [2, 1]}}', r"unpack: trits has shape \[2, 1\], expected \[1, 2\]"),
        ('{"trits": {**%s, "data": "AQ=="}}', r"trits has 1 bytes of data, expected 2 for int8 \[1, 2\]"),
        ('{"trits": {**%s, "data": "!!"}}', "unpack: trits has data that is no base64"),
        ('{"trits": {**%s, "data": 7}}', "unpack: trits has data that is no base64"),
    ],
)
def test_a_wrong_answer(made: Made, results: str, message: str) -> None:
    """One sentence with what was found and expected; the program lives on."""
    backend = made.backend(f"answer(results={results.replace('%s', TRITS)})")
    with pytest.raises(WrongAnswer, match=message):
        backend.unpack(**CALL)
    assert backend.pack(**GOOD).tolist() == [[86]]
    assert made.starts == 1


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ('{"kind": "value", "message": "no"}', ValueError, "^no$"),
        ('{"kind": "type", "message": "no"}', TypeError, "^no$"),
        ('{"kind": "not implemented", "message": "no"}', NotImplementedError, "^no$"),
        ('{"kind": "failed", "message": "no"}', RuntimeError, "^no$"),
        ('{"kind": "angry", "message": "no"}', WrongAnswer, "expected a kind"),
        ('{"kind": "value"}', WrongAnswer, "and a message that is a string"),
        ('"no"', WrongAnswer, "error is 'no', expected a kind"),
    ],
)
def test_errors(made: Made, error: str, kind: type[Exception], message: str) -> None:
    backend = made.backend(f"answer(error={error})")
    with pytest.raises(kind, match=message):
        backend.unpack(**CALL)
    assert made.starts == 1


def test_nothing_is_written_before_all_is_right(made: Made) -> None:
    """The last of the arrays that come back is wrong: none of the others has reached the caller."""
    state = {
        "codes": packed(int8([[0, 0]])),
        "t_accum": int8([[3, 4]]),
        "e": int8([[0]]),
        "e_accum": int8([[0]]),
    }
    before = {name: array.clone() for name, array in state.items()}
    echo = "sent = request['arguments']; found = {n: sent[n] for n in ('codes', 't_accum', 'e', 'e_accum')}; "
    change = "found['t_accum'] = {**found['t_accum'], 'data': 'AAA='}; "
    wrong = "found['counts'] = {'dtype': 'int64', 'shape': [5], 'data': ''}; answer(results=found)"
    backend = made.backend(echo + change + wrong)
    with pytest.raises(WrongAnswer, match="counts has 0 bytes of data, expected 40"):
        backend.ternary_update(gradient=int32([[1, 1]]), **state, **HOW)
    assert all(torch.equal(before[name], state[name]) for name in state)


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


WAYS = {
    "version": 1,
    "operations": ["pack"],
    "formats": ["codes"],
    "devices": ["cpu"],
    "configurations": {"pack": ["wide", "narrow"]},
}
CHOOSING = "way = request.get('configuration'); answer(results=GOOD) if way in (None, 'wide', 'narrow') else "
REFUSING = "answer(error={'kind': 'value', 'message': f'no configuration {way}'})"


def with_ways(made: Made, otherwise: str) -> str:
    name = made.write(hello=f"answer(protocol=1, capabilities={WAYS!r})")
    text = made.path.read_text().replace("answer(results=GOOD)\n", CHOOSING + otherwise + "\n")
    made.path.write_text(text)
    return name


def test_configurations_travel_by_name(made: Made) -> None:
    name = with_ways(made, REFUSING)
    ways = configurations(name, "cpu")
    assert {operation: list(names) for operation, names in ways.items()} == {"pack": ["wide", "narrow"]}
    trits = GOOD["trits"].numpy()
    assert ways["pack"]["narrow"](trits).tolist() == [[86]]
    with pytest.raises(ValueError, match="no configuration mine"):
        select(name).module.configuration("pack", "mine")(trits)


def test_a_program_that_ignores_the_name_of_a_configuration(made: Made) -> None:
    """Its configurations would be one and the same, and all tests of them would say nothing."""
    honest = target_of(with_ways(made, REFUSING))
    test_claims.test_a_configuration_that_does_not_exist_is_refused(honest)
    (made.folder / "other").mkdir()
    careless = target_of(with_ways(Made(made.folder / "other"), "answer(results=GOOD)"))
    with pytest.raises(WrongAnswer, match=r"codes has shape \[1, 1\], expected"):
        test_claims.test_a_configuration_that_does_not_exist_is_refused(careless)


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
