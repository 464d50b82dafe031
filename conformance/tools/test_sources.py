"""How a stranger's backend is named, what is said of a name that leads nowhere, and what it may give back."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from arbitor.cli import main
from arbitor.conformance.operations.common import int8
from arbitor.conformance.tools.commands import refused
from arbitor.kernels import registry
from arbitor.kernels.plugins import sources
from arbitor.kernels.plugins.answers import WrongAnswer
from arbitor.kernels.plugins.capabilities import parse
from arbitor.kernels.registry import Backend, BackendUnavailable, select

DECLARED = {"version": 1, "operations": ["pack"], "formats": ["codes"], "devices": ["cpu"]}
PACK = 'def pack(trits): return trits.view("uint8")[:, :1].copy()\n'
ONE = f'ARRAYS = "numpy"\nCAPABILITIES = {DECLARED!r}\n{PACK}'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_file() -> None:
    """Loaded once, under a name that shadows nothing."""
    Path("numpy.py").write_text(ONE)
    found = select("numpy.py")
    assert found.module.__name__.startswith("backend_numpy_")
    assert found.pack(int8([[7, 1]])).tolist() == [[7]]
    assert select("./numpy.py").module is found.module
    with pytest.raises(NotImplementedError, match=r"backend 'numpy.py' has no function unpack"):
        found.unpack(codes=found.pack(int8([[7, 1]])), columns=2)


def points(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    found = [EntryPoint("offered", value, sources.GROUP) for value in values]
    monkeypatch.setattr(sources, "installed", lambda group: found)


def test_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, which no name of ours gives way to, and in the list of what is known."""
    points(monkeypatch, "arbitor.kernels.eager", "arbitor.kernels.eager")
    assert select("offered").module.__name__ == "arbitor.kernels.eager"
    registry._loaded.pop("offered")
    with pytest.raises(
        ValueError, match="known: auto, triton, tilelang, torch, reference, offered, or a mod"
    ):
        select("wanted")
    monkeypatch.setattr(
        sources, "installed", lambda group: [EntryPoint("torch", "arbitor.reference", sources.GROUP)]
    )
    assert sources.load("torch", registry.BACKENDS).__name__ == "arbitor.kernels.eager"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["arbitor.kernels.eager:pack"], "its entry point 'arbitor.kernels.eager:pack' is no module"),
        (["arbitor.kernels.eager", "arbitor.reference"], r"several packages offer that name \(arbitor.ker"),
        (["no_such_package"], "no module named 'no_such_package'"),
    ],
)
def test_an_entry_point_that_leads_nowhere(
    values: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points(monkeypatch, *values)
    with pytest.raises(BackendUnavailable, match=message):
        select("offered")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "unknown backend 'nonsense'; known: auto, triton, tilelang, torch, reference"),
        ("no.such.module", "no module named 'no'"),
        ("absent.py", "backend 'absent.py' cannot run here: there is no such file"),
        ("folder.py", "backend 'folder.py' cannot run here: it is a folder"),
        ("./program", "backend './program' is no FILE.py; a program is asked for as cmd:./program"),
        ("empty.py", "lacks pack, unpack"),
        ("typo.py", "backend 'typo.py' cannot be imported: SyntaxError: "),
        ("raises.py", "backend 'raises.py' cannot be imported: ZeroDivisionError: "),
        ("needs.py", "no module named 'no_such_package'"),
        ("some.py", "lacks unpack, "),
        ("lies.py", "operations[0] is 'mul', expected one of pack"),
        ("odd.py", "ARRAYS must be one of torch, numpy, lists, got 'jax'"),
        ("cmd:./absent", "backend 'cmd:./absent' cannot run here: no such file: ./absent"),
        ("cmd:./empty.py", "./empty.py is not executable (chmod +x ./empty.py)"),
    ],
)
def test_the_command_refuses_with_one_sentence(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 and no report."""
    Path("folder.py").mkdir()
    Path("empty.py").write_text("")
    Path("typo.py").write_text("def pack(trits:\n")
    Path("raises.py").write_text("1 / 0")
    Path("needs.py").write_text("import no_such_package")
    Path("some.py").write_text("def pack(trits): ...")
    Path("lies.py").write_text(f"CAPABILITIES = {DECLARED | {'operations': ['mul']}!r}\n")
    Path("odd.py").write_text(ONE + "ARRAYS = 'jax'\n")
    before = sorted(Path().iterdir())
    refused(main(["verify", "--backend", name]), message, capsys)
    assert sorted(path for path in Path().iterdir() if path.name != "__pycache__") == before


def backend(arrays: str, answer: Any) -> Backend:
    module = ModuleType("stranger")
    vars(module).update(ARRAYS=arrays, pack=lambda trits: answer)
    return Backend("stranger", module, parse(DECLARED, "test"))


BYTE = np.array([[86]], np.uint8)


@pytest.mark.parametrize(
    ("arrays", "answer", "message"),
    [
        (
            "numpy",
            BYTE.astype(np.int64),
            r"pack: codes has dtype int64, expected a NumPy array uint8 \[R, C/4\]",
        ),
        ("numpy", BYTE.astype(np.float32), "pack: codes has dtype float32"),
        ("numpy", [[86]], "pack: codes is a list, expected a NumPy array uint8"),
        ("numpy", None, "pack: codes is a NoneType"),
        ("numpy", (BYTE, BYTE), "pack gave 2 results, expected 1: codes"),
        ("lists", [[86.0]], "pack: codes has elements of float32, expected integers"),
        ("lists", [[True]], "pack: codes has elements of bool, expected integers"),
        ("lists", [[256]], r"pack: codes has elements in 256\.\.256, which do not fit uint8"),
        ("lists", [[-1]], "which do not fit uint8"),
        ("lists", [[1], [1, 2]], "pack: codes is no array of integers"),
        ("lists", [["86"]], "pack: codes is no array of integers"),
    ],
)
def test_an_answer_is_taken_for_what_it_is(arrays: str, answer: Any, message: str) -> None:
    """Nothing is converted, so that a wrong dtype cannot pass; and none of it looks like a refusal."""
    with pytest.raises(WrongAnswer, match=message):
        backend(arrays, answer).pack(int8([[1, 0]]))


@pytest.mark.parametrize(
    ("arrays", "answer"),
    [("numpy", BYTE), ("numpy", np.broadcast_to(BYTE, (1, 1))), ("numpy", BYTE[::-1]), ("lists", [[86]])],
)
def test_right_answers_of_every_kind(arrays: str, answer: Any) -> None:
    assert backend(arrays, answer).pack(int8([[1, 0]])).tolist() == [[86]]


def test_a_path_that_begins_like_a_module_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a file, and a stranger's."""
    monkeypatch.chdir(tmp_path)
    Path("arbitor.mine").mkdir()
    Path("arbitor.mine/b.py").write_text(ONE)
    assert sources.is_strange("arbitor.mine/b.py", registry.BACKENDS)
    assert registry.select("arbitor.mine/b.py").gaps
