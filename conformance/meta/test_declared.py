"""Declarations that are not true fail, in both directions; what is not declared is counted as not run."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from arbitor.conformance.judge.declared import why_all_is_needed
from arbitor.conformance.judge.target import Target, judge_of
from arbitor.conformance.operations.test_claims import claim_of, hidden_and_missing, sizes_around
from arbitor.conformance.tools.commands import located
from arbitor.judge.suite import find_suite, find_test
from arbitor.kernels import eager
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.capabilities import parse
from arbitor.kernels.registry import Backend, select

LIES = """
from arbitor.kernels.eager import pack, unpack, weight_gradient
CAPABILITIES = {declared!r}
def unpack_dense(dense, columns):
    raise NotImplementedError("later")
def philox(first, count, seed, step, stream, device):
    raise OSError("no generator")
def configurations(device):
    return {{"weight_gradient": {{"a": weight_gradient, "hidden": weight_gradient}}}}
"""
DECLARED: dict[str, Any] = {
    "version": 1,
    "operations": ["pack", "weight_gradient", "pack_dense", "unpack_dense"],
    "formats": ["codes", "dense"],
    "devices": ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"],
    "configurations": {"weight_gradient": ["a", "b"]},
}


def suite(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Files of the suite in a process of their own, on lies.py."""
    checkout = find_suite().parent
    settings = checkout / "pyproject.toml"
    layout = ["-c", str(settings if settings.is_file() else os.devnull), "--import-mode=importlib"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *layout]
    kept = {n: v for n, v in os.environ.items() if n not in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")}
    return subprocess.run(
        [*command, "--backend", "lies.py", *words],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_lies_fail_and_gaps_are_counted(tmp_path: Path) -> None:
    """Every kind of lie in one backend, with the sentence about it, and the right operations beside them."""
    (tmp_path / "lies.py").write_text(LIES.format(declared=DECLARED))
    ended = suite(tmp_path, *map(located, ("test_claims.py", "test_unpack.py", "test_pack.py")))
    shown = " ".join(ended.stdout.split())
    assert ended.returncode == 1, ended.stderr
    for sentence in (
        "pack_dense is declared, but not implemented (backend 'lies.py' has no function pack_dense)",
        "unpack_dense is declared, but not implemented (later)",
        "unpack is declared as missing, but it answers",
        "philox is declared as missing, but a call gives OSError: no generator, expected NotImplementedError",
        "weight_gradient: declared and not there: ['b']; there and not declared: ['hidden']",
    ):
        assert sentence in shown, sentence
    assert "5 failed" in shown
    assert re.search(r"not run: unpack is not declared: \d\d", shown)
    assert "test_pack.py" not in shown.partition("short test summary")[2]


def test_a_file_in_the_place_of_the_declaration(tmp_path: Path) -> None:
    """--capabilities: with the truth in a file the same backend has no lie left but the generator's."""
    (tmp_path / "lies.py").write_text(LIES.format(declared=DECLARED))
    truth = DECLARED | {"operations": ["pack", "unpack", "weight_gradient"], "formats": ["codes"]}
    truth["configurations"] = {"weight_gradient": ["a", "hidden"]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    ended = suite(tmp_path, "--capabilities", "truth.json", located("test_claims.py"))
    assert "1 failed" in ended.stdout
    assert "philox is declared as missing, but a call gives OSError" in " ".join(ended.stdout.split())


def test_the_whole_needs_every_operation(tmp_path: Path) -> None:
    """Models and trainers do not run on a part, and the report says how many are not."""
    (tmp_path / "lies.py").write_text(LIES.format(declared=DECLARED))
    ended = suite(tmp_path, located("test_loss_signal.py"))
    assert ended.returncode == 0
    assert (
        "not run: models, trainers and bench need all operations, and 27 are not declared: " in ended.stdout
    )
    assert " passed" not in ended.stdout


def backend(*operations: str, **functions: Any) -> Backend:
    """The torch backend with changes, and those operations declared."""
    module = ModuleType("stranger")
    vars(module).update({name: getattr(eager, name) for name in OPERATIONS} | functions)
    formats = [f for f, o in (("codes", "pack"), ("dense", "pack_dense")) if o in operations]
    declared = {"version": 1, "operations": [*operations], "formats": formats, "devices": ["cpu"]}
    return Backend("stranger", module, parse(declared, "test"))


def test_claims_one_by_one() -> None:
    def later(*arguments: Any) -> Any:
        raise NotImplementedError("later")

    def wrong(*arguments: Any) -> Any:
        return "anything"

    assert claim_of(backend("pack"), "pack", "cpu") is None
    assert claim_of(backend("pack", pack=wrong), "pack", "cpu") is None  # wrong is for the other tests
    assert claim_of(backend("pack", unpack=later), "unpack", "cpu") is None
    assert claim_of(backend("pack", pack=later), "pack", "cpu") == (
        "pack is declared, but not implemented (later)"
    )
    assert claim_of(backend("pack"), "unpack", "cpu") == "unpack is declared as missing, but it answers"


def test_reasons() -> None:
    some, every, silent = backend("pack"), backend(*OPERATIONS), select("torch")
    assert silent.lacks("pack") is some.lacks("pack") is None
    assert some.lacks("unpack") == "unpack is not declared"
    assert why_all_is_needed(silent) is why_all_is_needed(every) is None
    assert "30 are not declared" in str(why_all_is_needed(some))
    assert silent.lacks_device("cuda") is some.lacks_device("cpu") is None
    assert some.lacks_device("cuda") == "declares cpu, not cuda"


def test_an_undeclared_operation_skips_where_it_is_needed() -> None:
    target = Target(backend("pack"), judge_of("torch"))
    with pytest.raises(pytest.skip.Exception, match="unpack is not declared"):
        target.check("unpack", {})
    with pytest.raises(pytest.skip.Exception, match="unpack is not declared"):
        target.refuses("unpack", {}, ValueError)


def test_configurations_are_compared_both_ways() -> None:
    declared = parse({**DECLARED, "operations": ["weight_gradient"], "formats": []}, "test")
    two: dict[str, dict[str, Any]] = {"weight_gradient": {"a": None, "b": None}}
    assert hidden_and_missing(declared, two) is None
    assert "there: ['a', 'b']" in str(hidden_and_missing(declared, {}))
    assert "not declared: ['c']" in str(
        hidden_and_missing(declared, {"weight_gradient": {"a": 0, "b": 0, "c": 0}})
    )
    assert hidden_and_missing(declared, two | {"pack": {"x": None}}) is None  # of no declared operation


def test_sizes_around_tiles() -> None:
    found = list(sizes_around({"O": 64, "T": 1}))
    assert {o for o, _, _ in found} == {63, 64, 65, 129}
    assert {i for _, i, _ in found} == {5, 6}
    assert {t for _, _, t in found} == {1, 2, 3}


ALONE = """
from arbitor.kernels.eager import ternary_update
CAPABILITIES = {"version": 1, "operations": ["ternary_update"], "formats": ["codes"], "devices": ["cpu"]}
"""


def test_a_gap_elsewhere_skips_no_test_of_what_is_declared(tmp_path: Path) -> None:
    """One operation is judged by all of its tests, though they draw random bits and unpack trits."""
    (tmp_path / "lies.py").write_text(ALONE)
    ended = suite(tmp_path, located("test_ternary_update.py"), "-k", "not agrees and not layouts")
    assert ended.returncode == 0, ended.stdout
    assert "is not declared" not in ended.stdout


@pytest.mark.parametrize("operation", OPERATIONS)
def test_tests_of_an_operation_check_it_alone(operation: str) -> None:
    """What they need of others they ask for with `Target.aid`, which a gap does not skip."""
    tree = ast.parse(find_test(operation).read_text())
    checked = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("check", "run_both", "needs")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert checked <= {operation}
