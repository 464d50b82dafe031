"""Every cheat of the zoo is stopped by the test that it names, for the reason that it names, and an honest
backend passes the same tests.

Each is judged in a process of its own, forked from one that has imported everything and computed nothing.
"""

from __future__ import annotations

import ast
import os
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.conformance import cheats
from arbitor.conformance.tools.apart import Seen, run
from arbitor.conformance.tools.commands import located
from arbitor.judge.suite import find_suite
from arbitor.kernels.plugins import keeper

PACKAGE = cheats.__name__
HERE = Path(str(cheats.__file__)).parent
NAMES = sorted(found.name for found in pkgutil.iter_modules([str(HERE)]) if found.name != "lies")
START = "conftest.py::pytest_configure"
ON_GPU = ("wrong_stream",)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "cheats.md"


@cache
def about(name: str) -> dict[str, Any]:
    """The CHEAT of a module, read and not imported: some do harm as soon as they are."""
    tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    (found,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CHEAT"
    )
    assert isinstance(found, ast.Dict)
    keys = [ast.literal_eval(key) for key in found.keys if key is not None]
    values = [
        ast.get_docstring(tree) if isinstance(value, ast.Name) else ast.literal_eval(value)
        for value in found.values
    ]
    return dict(zip(keys, values, strict=True))


def suite(backend: str, *parts: str, device: str = "cpu", workers: int = 0) -> list[str]:
    """Words of pytest for parts of the suite, FILE::TEST."""
    checkout = find_suite().parent
    settings = checkout / "pyproject.toml"
    layout = ["-c", str(settings if settings.is_file() else os.devnull), "--import-mode=importlib"]
    spread = ["-n", str(workers)] if workers else ["-p", "no:xdist"]
    options = [
        "-q",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        *spread,
        "--examples",
        "unshrunk",
        "--device",
        device,
    ]
    return [*layout, *options, "--backend", backend, *map(located, parts)]


def listed(special: bool, gpu: bool = False) -> list[str]:
    """Names of cheats whose test is one of the suite, or is not; and which need a GPU, or do not."""
    return [
        name for name in NAMES if (about(name)["stopped_by"] == START) == special and (name in ON_GPU) == gpu
    ]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)


def is_stopped(name: str, seen: Seen) -> None:
    """By the test that it names, which says what it says, and checks the clause."""
    cheat = about(name)
    assert seen.status == 1, seen.printed
    failed = [test for test in seen.failed if test == cheat["stopped_by"] or _of(test) == cheat["stopped_by"]]
    assert failed, f"{sorted(seen.failed)} failed, expected {cheat['stopped_by']}"
    either = (cheat["says"], cheat.get("or_says", cheat["says"]))  # of what depends on the time
    said = [seen.failed[test] for test in failed]
    assert any(all(part in text for part in words) for words in either for text in said), seen.printed
    if cheat["clause"] is not None:
        assert all(cheat["clause"] in seen.clauses[test] for test in failed)


def _of(test: str) -> str:
    """The test without its parameters."""
    return test.partition("[")[0]


@pytest.mark.parametrize("name", listed(special=False))
def test_is_stopped(name: str, tmp_path: Path) -> None:
    if name == "writes_to_its_parent" and keeper.version() < keeper.SIGNALS_FROM:
        pytest.skip("this kernel's Landlock does not keep it from signals")
    is_stopped(name, run(tmp_path, *suite(f"{PACKAGE}.{name}", about(name)["stopped_by"])))


@pytest.mark.parametrize("name", listed(special=False, gpu=True))
def test_is_stopped_on_a_gpu(name: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device: there is no other stream")
    is_stopped(name, run(tmp_path, *suite(f"{PACKAGE}.{name}", about(name)["stopped_by"], device="cuda")))


def test_an_honest_backend_passes_the_same(tmp_path: Path) -> None:
    """All tests that stop a cheat, on the backend that the cheats are made from."""
    parts = sorted({about(name)["stopped_by"] for name in listed(special=False)})
    seen = run(tmp_path, *suite("torch", *parts))
    assert (seen.status, seen.failed) == (0, {}), seen.printed
    assert {part for part in parts if part not in seen.passed | set(map(_of, seen.passed))} == set()


@pytest.mark.parametrize("name", listed(special=True))
def test_the_judge_cannot_be_imported(name: str, tmp_path: Path) -> None:
    """Before the first test, as a usage error."""
    seen = run(tmp_path, *suite(f"{PACKAGE}.{name}", "test_pack.py"))
    assert (seen.status, seen.passed) == (4, set()), seen.printed
    assert all(words in seen.printed for words in about(name)["says"]), seen.printed


def test_every_cheat_is_on_the_page() -> None:
    if not PAGE.is_file():
        pytest.skip("docs/ does not ship: this needs a checkout")
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for name in NAMES:
        (line,) = (line for line in lines if line.startswith(f"| `{name}` |"))
        assert about(name)["how"].rstrip(".") in line, line
        assert f"`{about(name)['stopped_by']}`" in line, line
