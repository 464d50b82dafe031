"""Nothing is forgotten: specification, table of operations, backends and suite name the same things."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from arbitor import ranks, state
from arbitor.conformance import oracle
from arbitor.conformance.draw import builders, ranges, refusals, strategies
from arbitor.conformance.judge.selection import BEYOND_OPERATIONS
from arbitor.conformance.judge.target import Target
from arbitor.conformance.oracle import checks
from arbitor.conformance.specification import traces
from arbitor.judge.blame import ALIKE
from arbitor.judge.suite import find_test
from arbitor.kernels import operations, registry
from arbitor.kernels.eager.quantise import exponents
from arbitor.kernels.operations import OPERATIONS, SCALAR_RANGES
from arbitor.reference import limits

SUITE = Path(__file__).resolve().parents[1]

# A clause that no test can name, and why. Nothing else may be without a test.
UNTESTED: dict[str, str] = {}


@pytest.fixture(scope="module")
def spec() -> str:
    if not traces.SPEC.is_file():
        pytest.skip("docs/SPEC.md does not ship")
    return traces.SPEC.read_text(encoding="utf-8")


def clauses_by_file() -> dict[str, set[str]]:
    return {
        str(path.relative_to(SUITE)): traces.named_in(path.read_text(encoding="utf-8"))
        for path in SUITE.rglob("*.py")
    }


def test_clause_ids_are_unique(spec: str) -> None:
    ids = traces.clauses()
    assert len(ids) > 60
    assert len(ids) == len(set(ids))
    assert set(traces.CLAUSE.findall(spec)) == set(ids), "a clause is mentioned that is not defined"


def test_every_clause_has_a_test(spec: str) -> None:
    tested = set().union(*clauses_by_file().values())
    missing = [clause for clause in traces.clauses() if clause not in tested]
    for clause, reason in UNTESTED.items():
        print(f"without a test: {clause}: {reason}")
    assert missing == list(UNTESTED), f"clauses without a test: {', '.join(missing)}"
    assert all(UNTESTED.values())


def test_every_clause_that_is_named_exists(spec: str, request: pytest.FixtureRequest) -> None:
    """In the files of the suite, and on the tests that were collected."""
    known = set(traces.clauses())
    assert {name: ids - known for name, ids in clauses_by_file().items() if ids - known} == {}
    for item in request.session.items:
        for mark in item.iter_markers("clause"):
            assert mark.args, f"{item.nodeid}: a clause mark without a clause"
            assert set(mark.args) <= known, item.nodeid


def test_clauses_in_prose_exist(spec: str) -> None:
    """Docstrings, comments and messages too, in all code."""
    known = set(traces.clauses())
    for folder in ("arbitor", "conformance", "kernels", "reference", "scripts", "training"):
        for path in (SUITE.parent / folder).rglob("*.py"):
            if path != Path(__file__).resolve():
                assert set(traces.CLAUSE.findall(path.read_text(encoding="utf-8"))) <= known, path


def test_the_check_of_marks_sees_what_it_should() -> None:
    text = '''"""ARB-AAA-001"""
test = agreement("pack", *("ARB-BBB-002", "ARB-CCC-003"))
x = "ARB-DDD-004"
@pytest.mark.clause("ARB-EEE-005")
def test_it():
    """ARB-FFF-006"""
'''
    assert traces.named_in(text) == {"ARB-BBB-002", "ARB-CCC-003", "ARB-EEE-005"}


@pytest.mark.parametrize("name", [*OPERATIONS, *BEYOND_OPERATIONS])
def test_what_kernels_decide_has_a_file(name: str) -> None:
    """--kernels selects by these names; one without a file would select nothing, without a word."""
    assert find_test(name).is_file()


@pytest.mark.parametrize("file", sorted(ALIKE))
def test_what_is_done_to_every_operation_has_a_file(file: str) -> None:
    """The list of clauses that failures point at goes by these names too."""
    assert find_test(file.removeprefix("test_").removesuffix(".py")).is_file()


def test_a_file_of_tests_is_known_by_its_name() -> None:
    """--kernels, waivers and the list of clauses go by it, whatever room it is in."""
    names = [path.name for path in SUITE.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("backend", [*registry.BACKENDS, "arbitor.conformance.oracle"])
def test_every_backend_has_every_operation(backend: str, operation: str) -> None:
    """Where it can be loaded; as a function of its own file where it is a package."""
    reason = registry.why_not(backend)
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")
    assert callable(getattr(registry.select(backend).module, operation))


@pytest.mark.parametrize(
    ("versions", "works"),
    [(("3.6.0", "2.4.6"), False), (("3.6.0", "2.3.5"), True), (("3.7.1", "2.10.0"), True)],
)
def test_an_interpreter_that_fails_says_so(
    versions: tuple[str, str], works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton 3.6 beside NumPy 2.4; else each of its tests would fail, for no fault of the kernels."""
    pytest.importorskip("triton")
    launch = importlib.import_module("arbitor.kernels.triton.launch")
    monkeypatch.setattr(launch, "INTERPRETED", True)
    for module, version in zip((launch.triton, launch.np), versions, strict=True):
        monkeypatch.setattr(module, "__version__", version)
    reason = launch.why_not()
    assert reason is None if works else "it needs Triton 3.7 or newer, or 'numpy<2.4'" in reason


@pytest.mark.parametrize("package", registry.BACKENDS.values())
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_a_file_and_a_function(package: str, operation: str) -> None:
    if package.startswith("arbitor.kernels.t"):
        pytest.importorskip(package.rsplit(".", 1)[1])
    module = importlib.import_module(f"{package}.{OPERATIONS[operation].family}.{operation}")
    function = getattr(importlib.import_module(package), operation)
    if isinstance(function, ModuleType):  # the last import decides what the name is
        function = getattr(function, operation)
    assert function.__module__ == module.__name__
    assert function.__name__ == operation
    assert function.__doc__


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_tested(operation: str) -> None:
    assert find_test(operation).parent.name == OPERATIONS[operation].family
    assert operation in builders.BUILDERS
    assert tuple(strategies.example(operation, 0)) == OPERATIONS[operation].arguments
    assert any(True for _ in refusals.refusals_of(operation))


def test_nothing_is_more_than_the_table(target: Target) -> None:
    for names in (builders.BUILDERS, importlib.import_module("arbitor.reference").__all__, oracle.__all__):
        assert {name for name in names if name.islower()} == set(OPERATIONS)
    with pytest.raises(AttributeError, match="has no operation 'nearest'"):
        target.backend.nearest  # noqa: B018


def section_11(spec: str) -> dict[str, tuple[list[str], str]]:
    """Name: arguments in order with `state` and `how` written out, and what it gives."""
    text = spec.split("## 11. Operations")[1].split("\n## ")[0]
    short = {}
    for name, meaning in re.findall(r"`(state|how)` (?:stands )?for `([^`]+)`", text):
        short[name] = [argument.strip("! \n") for argument in meaning.split(",")]
    found = {}
    for name, arguments, gives in re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", text, flags=re.MULTILINE
    ):
        plain = re.sub(r"\[[^]]*\]", "", arguments)  # shapes have commas too
        words = [part.split()[0].rstrip("!") for part in plain.split(",")]
        found[name] = ([full for word in words for full in short.get(word, [word])], gives)
    return found


def test_section_11_is_the_table(spec: str) -> None:
    """The same operations in the same order with the same arguments, and results of the same dtypes."""
    found = section_11(spec)
    assert list(found) == list(OPERATIONS) == " ".join(operations.FAMILIES.values()).split()
    for name, operation in OPERATIONS.items():
        arguments, gives = found[name]
        assert arguments == list(operation.arguments), name
        assert re.findall(r"uint8|int8|int32|int64|float32", gives) == [
            array.dtype for array in operation.results
        ]


def test_section_11_says_what_is_written_in_place(spec: str) -> None:
    text = spec.split("## 11. Operations")[1].split("\n## ")[0]
    marked = set(re.findall(r"(\w+)!", text))
    assert marked == {array.name for o in OPERATIONS.values() for array in o.arrays if array.in_place}


def test_constants_agree() -> None:
    """They are written down several times on purpose; here they meet."""
    assert limits.POISONED == exponents.POISONED == ranks.POISONED == 127
    assert limits.EXPONENT_MIN == exponents.LOWEST == ranks.EXPONENT_MIN == -100
    assert limits.RULES == operations.RULES == ("scaled", "sign", "adaptive")
    assert limits.GRADIENT_EXPONENT_MAX == ranges.ELEMENTS["e_g"][1] == limits.EXPONENT_MAX + 3 == 125
    assert limits.INT32_MAX == operations.INT32_MAX == 2**31 - 1
    assert limits.BOUNDS["tokens"] == (1, operations.MAX_TOKENS) == (1, checks.MAX_TOKENS) == (1, 2**20)
    summed = (1, operations.MAX_SUMMED_TOKENS)
    assert limits.BOUNDS["summed_tokens"] == summed == (1, checks.MAX_SUMMED_TOKENS) == (1, 131_071)
    shared = set(limits.BOUNDS) & set(SCALAR_RANGES)
    assert shared >= {
        "e_base",
        "e_span",
        "group_size",
        "tensor_id",
        "seed",
        "step",
        "stream",
        "first_row",
        "first",
    }
    assert {name: limits.BOUNDS[name] for name in shared} == {name: SCALAR_RANGES[name] for name in shared}
    for name, (lowest, highest) in ranges.BOUNDS.items():
        assert highest is None or (lowest, highest) == SCALAR_RANGES[name]
    own = {name: bounds for name, bounds in state.NUMBERS.items() if name in SCALAR_RANGES}
    assert own == {name: SCALAR_RANGES[name] for name in ("e_base", "e_span", "group_size", "tensor_id")}
    assert state.NUMBERS["updates"] == SCALAR_RANGES["step"]


RANGES = {
    "e_span": r"`e_span` in (\d+)\.\.(\d+)",
    "e_base": r"`e_base` in (-\d+)\.\.(\d+)",
    "group_size": r"`group_size` a multiple of 4 in (\d+)\.\.(\d+)",
    "tensor_id": r"`tensor_id` in (\d+)\.\.2\^(\d+)-1",
    "seed": r"`seed` in (\d+)\.\.2\^(\d+)-1",
    "step": r"`step` and `stream` in (\d+)\.\.2\^(\d+)-1",
    "stream": r"`step` and `stream` in (\d+)\.\.2\^(\d+)-1",
    "first_row": r"`first_row` in (\d+)\.\.(\d+)",
    "window": r"`window` in (\d+)\.\.2\^(\d+)-1",
    "first": r"`first` in (\d+)\.\.2\^(\d+)",
    "gain": r"`gain` is Q16 \(1\.0 = 65536\) in (\d+)\.\.2\^(\d+)",
    "vote_max": r"`vote_max` in (\d+)\.\.(\d+)",
    "accum_threshold": r"`accum_threshold` in (\d+)\.\.(\d+)",
    "scale_gain": r"`scale_gain` is Q16 in (\d+)\.\.2\^(\d+)",
    "e_accum_threshold": r"`e_accum_threshold` in (\d+)\.\.(\d+)",
}


def test_ranges_are_those_of_the_specification(spec: str) -> None:
    """Read from its words."""
    for name, pattern in RANGES.items():
        match = re.search(pattern, spec)
        assert match, name
        lowest, highest = (int(number) for number in match.groups())
        if r"2\^" in pattern:
            highest = 2**highest - pattern.endswith("-1")
        assert SCALAR_RANGES[name] == (lowest, highest), name
    assert set(SCALAR_RANGES) - set(RANGES) == {"columns", "rows", "out_features", "in_features", "count"}
