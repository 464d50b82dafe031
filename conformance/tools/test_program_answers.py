"""What a program answers: taken for what it is, refused by one sentence if it is none, written only whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from arbitor.conformance.judge.target import target_of
from arbitor.conformance.operations import test_claims
from arbitor.conformance.operations.common import HOW, int8, int32, packed
from arbitor.conformance.tools.programs import CALL, GOOD, Made
from arbitor.kernels.plugins.answers import WrongAnswer
from arbitor.kernels.plugins.program import TIMEOUT_VARIABLE
from arbitor.kernels.registry import configurations, select

pytestmark = pytest.mark.usefixtures("may_write")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv(TIMEOUT_VARIABLE, "20")
    return Made(tmp_path)


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
        "moment": int32([[0]]),
    }
    before = {name: array.clone() for name, array in state.items()}
    echo = f"sent = request['arguments']; found = {{n: sent[n] for n in {tuple(state)}}}; "
    change = "found['t_accum'] = {**found['t_accum'], 'data': 'AAA='}; "
    wrong = "found['counts'] = {'dtype': 'int64', 'shape': [5], 'data': ''}; answer(results=found)"
    backend = made.backend(echo + change + wrong)
    with pytest.raises(WrongAnswer, match="counts has 0 bytes of data, expected 40"):
        backend.ternary_update(gradient=int32([[1, 1]]), e_g=int8([0]), **state, **HOW)
    assert all(torch.equal(before[name], state[name]) for name in state)


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
