"""Artifacts that somebody made: what a file names is not started, what it asks for is bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arbitor.cli import main
from arbitor.conformance.judge.archive import Failure, write
from arbitor.conformance.judge.archived import read
from arbitor.conformance.judge.cases import Case, FailedCall, FailedRefusal
from arbitor.conformance.machine import rules
from arbitor.conformance.machine.recorded import run_fault
from arbitor.conformance.machine.world import POISONS
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.tools.fuzzing import fuzz, replay
from arbitor.conformance.tools.fuzzing.damage import ESCAPES
from arbitor.conformance.tools.fuzzing.forged import cases, parts_of, resealed
from arbitor.judge.asked import NotUsable
from arbitor.judge.sizes import size_fault
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.registry import BACKENDS

Change = Callable[[dict[str, Any]], object]
CALL, REFUSAL, STEPS = cases()


pytestmark = pytest.mark.usefixtures("elsewhere")


def forged(case: Case, change: Change) -> Path:
    """The artifact of a case with another manifest, whose seal fits."""
    members, manifest = parts_of(write(case, Failure()))
    change(manifest)
    Path("forged.arb").write_bytes(resealed(members, manifest))
    return Path("forged.arb")


def planted_program(name: str) -> str:
    """A backend of some form that leaves a file when it is started."""
    Path("evil.py").write_text("open('started', 'w')\n")
    Path("evil.sh").write_text("#!/bin/sh\ntouch started\n")
    Path("evil.sh").chmod(0o755)
    return name


@pytest.mark.clause("ARB-RUN-011")
@pytest.mark.parametrize("case", [CALL, REFUSAL, STEPS], ids=["call", "refusal", "steps"])
@pytest.mark.parametrize(
    "name",
    ["cmd:./evil.sh", "cmd:touch started", "evil.py", "./evil.py", "evil.x", "auto", "torch_example", ""],
)
def test_what_a_file_names_is_not_started(
    case: Case, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No program, no file, no module, no package; one sentence shows what it names and what to give."""
    monkeypatch.syspath_prepend(Path.cwd())
    path = forged(case, lambda manifest: manifest.update(backend=planted_program(name)))
    seen: list[str] = []
    monkeypatch.setattr(replay, "asked_for", lambda name, *_: seen.append(name))
    message = f"it names {name!r}, and nothing is started because a file names it: give --backend NAME"
    refused(main(["replay", str(path)]), message if name else "$.backend: '' ", capsys)
    assert seen == []
    assert not Path("started").exists()


@pytest.mark.parametrize("name", BACKENDS)
def test_our_own_backends_are_taken_from_a_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def asked_for(name: str, device: str) -> None:
        seen.append(name)
        raise NotUsable("no")

    monkeypatch.setattr(replay, "asked_for", asked_for)
    assert main(["replay", str(forged(CALL, lambda manifest: manifest.update(backend=name)))]) == 2
    assert main(["replay", "forged.arb", "--backend", "mine.py"]) == 2
    assert seen == [name, "mine.py"]


def setting(*path: str, to: Any) -> Change:
    """That value at that place of a manifest."""

    def change(manifest: dict[str, Any]) -> None:
        *outer, last = path
        for name in outer:
            manifest = manifest[name]
        manifest[last] = to

    return change


ONE = {"dtype": "int8", "shape": [1]}
DEEP: Any = json.loads("[" * 32 + "]" * 32)
ARENA = {"shift": 0, "turned": []}
INPUT = ("arrays", "inputs/q_x")
STRIDES = ("way", "strides", "q_x")
# what is changed in a manifest -> words of the one sentence
WRONG_CALLS: dict[str, tuple[Change, str]] = {
    "a shape that does not fit": (setting(*INPUT, "shape", to=[5, 5]), "inputs/q_x.bin has "),
    "a huge shape": (setting(*INPUT, "shape", to=[2**31 - 1, 2**31 - 1]), "expected 4,611,686,014,132,"),
    "an extent over 2^31": (setting(*INPUT, "shape", to=[2**31]), "2147483648 is greater than the maximum"),
    "nothing by everything": (setting(*INPUT, "shape", to=[0, 2**31 - 1, 2]), "inputs/q_x.bin has "),
    "a rank": (setting(*INPUT, "shape", to=[1] * 9), "is too long"),
    "a negative extent": (setting(*INPUT, "shape", to=[-1]), "-1 is less than the minimum of 0"),
    "an extent that is no integer": (setting(*INPUT, "shape", to=[1.0, True]), "is not of type 'integer'"),
    "another dtype": (setting(*INPUT, "dtype", to="int16"), "inputs/q_x.bin has "),
    "a dtype that is none": (setting(*INPUT, "dtype", to="Tensor"), "'Tensor' is not one of"),
    "an array too many": (setting("arrays", "inputs/more", to=ONE), "inputs/more.bin is not there"),
    "another folder": (setting("arrays", "../x", to=ONE), "'../x' does not match"),
    "no arrays": (setting("arrays", to={}), "weight_gradient with , expected q_g, q_x"),
    "an argument too many": (setting("scalars", to={"columns": 5}), "columns, q_g, q_x, expected q_g, q_x"),
    "an argument twice": (setting("scalars", to={"q_x": 5}), "expected q_g, q_x"),
    "no operation": (setting("operation", to="exec"), "a call of 'exec', which there is not"),
    "an operation of another kind": (setting("operation", to=["pack"]), "is not of type 'string'"),
    "another operation": (setting("operation", to="linear_forward"), "linear_forward with q_g, q_x"),
    "another device": (setting("device", to="cuda:9"), "'cuda:9' is not one of"),
    "a kind": (setting("kind", to="pickle"), "'pickle' is not one of"),
    "a huge shift": (setting("way", to={"arena": ARENA | {"shift": 10**9}}), "1000000000 is greater than"),
    "a negative shift": (setting("way", to={"arena": ARENA | {"shift": -1}}), "-1 is less than the minimum"),
    "turned": (setting("way", to={"arena": ARENA | {"turned": ["x"]}}), "x is no matrix of it"),
    "both ways": (setting("way", "arena", to=ARENA), "should not be valid under"),
    "huge strides": (setting(*STRIDES, to=[[10**12, 1], 0]), "would take more than 268,435,456 bytes"),
    "a huge offset": (setting(*STRIDES, to=[[1, 1], 2**60]), "would take more than 268,435,456 bytes"),
    "strides of one place": (setting(*STRIDES, to=[[1, 1], 0]), "put elements that differ in one place"),
    "too few strides": (setting(*STRIDES, to=[[1], 0]), "do not fit shape"),
    "negative strides": (setting(*STRIDES, to=[[-1, 1], 0]), "-1 is less than the minimum of 0"),
    "strides of no array": (setting("way", "strides", "x", to=[[1], 0]), "x is none of its arrays"),
    "text in strides": (setting(*STRIDES, to="11"), "'11' is not of type 'array'"),
    "no seal": (setting("members", to=None), "is not of type 'object'"),
    "another member": (setting("members", "inputs/more.bin", to="0" * 64), "edited: it holds "),
    "a number in a name": (setting("test", to=3), "3 is not of type 'string'"),
    "deep": (setting("machine", to={"a": DEEP}), "more than 32 lists and objects in each other"),
    "a huge integer": (setting("machine", to={"a": 10**400}), "an integer of 401 digits"),
    "text": (setting("operation", to=ESCAPES), r"'\x1b[2J\x1b]0;x\x07\u202e\u2066\u200f\r\n\u2028' does not"),
}  # fmt: skip


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("name", WRONG_CALLS)
def test_calls_that_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = WRONG_CALLS[name]
    refused(main(["replay", str(forged(CALL, change)), "--backend", "torch"]), message, capsys)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize(
    ("operation", "scalars", "message"),
    [
        ("initialise", {"out_features": 2**31 - 1, "in_features": 2**31 - 1}, " bytes, expected at most"),
        (
            "initialise",
            {"out_features": 2**20, "in_features": 2**12},
            "1,073,741,824 bytes, expected at most",
        ),
        ("philox", {"count": 2**40}, "8,796,093,022,208 bytes, expected at most"),
        ("philox", {"count": 2**41}, "count must be in 1..1099511627776"),
        ("philox", {"count": True}, "count must be an int, got bool"),
        ("philox", {"count": 1.5}, "count must be an int, got float"),
    ],
)
@pytest.mark.parametrize("kind", ["call", "refusal"])
def test_what_a_few_numbers_ask_for(
    operation: str, scalars: dict[str, Any], message: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a call that no array bounds; as a refusal, one that is refused before it is made takes nothing."""
    small = dict.fromkeys(OPERATIONS[operation].scalars, 1)
    case: Case = FailedCall(operation, small, "torch", "cpu")
    if kind == "refusal":
        case = FailedRefusal(operation, small, "ValueError", [], "torch", "cpu")
    path = forged(case, setting("scalars", to=small | scalars))
    if kind == "refusal" and " must be " in message:
        assert isinstance(read(path).case, FailedRefusal)
    else:
        refused(main(["replay", str(path)]), message, capsys)


@pytest.mark.clause("ARB-TRAIN-004")
def test_what_small_inputs_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    """An outer product of two rows of 20,000; a product of three extents that takes hours."""
    wide = {name: torch.zeros(1, 20_000, dtype=torch.int8) for name in ("q_g", "q_x")}
    path = write(FailedCall("weight_gradient", wide, "torch", "cpu"), Failure())
    refused(main(["replay", str(path)]), "1,600,000,000 bytes, expected at most 268,435,456", capsys)
    row = torch.zeros(1, dtype=torch.int8).expand(131_071, 4_000)
    fault = size_fault(OPERATIONS["weight_gradient"], {"q_g": row, "q_x": row})
    assert fault is not None
    assert "2,097,136,000,000 products of integers, expected at most 1,099,511,627,776" in fault


WRONG_STEPS: dict[str, tuple[Change, str]] = {
    "many": (lambda m: m.update(steps=m["steps"] * 5_000), "is too long"),
    "wide": (setting("configuration", "width", to=10**6), "1000000 is greater than the maximum of 64"),
    "words": (setting("configuration", "vocabulary", to=2**31), "2147483648 is greater than the maximum"),
    "groups": (setting("configuration", "group_size", to=6), "6 is not a multiple of 4"),
    "more": (setting("configuration", "device", to="cuda"), "'device' was unexpected"),
    "fewer": (lambda m: m["configuration"].pop("seed"), "'seed' is a required property"),
    "a step that is none": (lambda m: m["steps"].append({"do": "exec"}), "'exec' is not one of"),
    "no step": (lambda m: m["steps"].append([]), "[] is not of type 'object'"),
    "resumed too early": (lambda m: m["steps"].pop(2), "step 3 resumes, and nothing was saved before it"),
    "a token": (lambda m: m["steps"][1]["parts"].append([0, 2]), "step 2 has token 2, the vocabulary is 2"),
    "one token": (lambda m: m["steps"][1]["parts"].append([0]), "[0] is too short"),
    "a token that is none": (lambda m: m["steps"][1]["parts"].append([0, -1]), "-1 is less than the minimum"),
    "a long part": (lambda m: m["steps"][1]["parts"].append([0] * 10**4), "is too long"),
    "uses": (lambda m: m["steps"][1].update(uses=10**6), "1000000 is greater than the maximum of 8"),
    "scale": (lambda m: m["steps"][1].update(scale=10**6), "1000000 is greater than the maximum of 200"),
    "signal": (lambda m: m["steps"][1].update(signal="x"), "'x' is not one of"),
    "poison": (lambda m: m["steps"][1].update(poison={"where": "head"}), "'value' is a required property"),
    "gain": (lambda m: m["steps"][1].update(gain=2**40), "1099511627776 is greater than the maximum"),
    "threshold": (lambda m: m["steps"][0].update(accum_threshold=0), "0 is less than the minimum of 1"),
    "rule": (lambda m: m["steps"][0].update(rule="x"), "'x' is not one of ['scaled', 'sign', 'adaptive']"),
    "a field": (lambda m: m["steps"][0].update(__class__=1), "'__class__' was unexpected"),
    "format": (lambda m: m["steps"][2].update(format="pickle"), "'pickle' is not one of ['2bit', 'dense']"),
    "hashes": (lambda m: m.update(hashes=["x"]), "'x' does not match"),
}


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("name", WRONG_STEPS)
def test_steps_that_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = WRONG_STEPS[name]
    refused(main(["replay", str(forged(STEPS, change)), "--backend", "torch"]), message, capsys)


@pytest.mark.parametrize("case", [CALL, REFUSAL, STEPS], ids=["call", "refusal", "steps"])
def test_where_nothing_is_changed(case: Case) -> None:
    assert main(["replay", str(forged(case, lambda manifest: None)), "--backend", "torch"]) == 0


@given(configuration=rules.CONFIGURATIONS, changed=rules.SETTINGS, step=st.data())
def test_what_is_drawn_is_within_the_bounds(
    configuration: dict[str, Any], changed: dict[str, Any], step: st.DataObject
) -> None:
    """So that every run that the state machine finds can be repeated."""
    train = {
        "do": "train",
        "parts": [[0] * 6] * 3,
        "uses": 2,
        "scale": step.draw(st.sampled_from(rules.SCALES)),
        "signal": step.draw(st.sampled_from(["loss", "none", *POISONS])),
        "poison": step.draw(st.one_of(st.none(), rules.POISON)),
        "gain": step.draw(rules.GAINS),
        "scale_gain": step.draw(rules.SCALE_GAINS),
    }
    saved = [{"do": "save", "format": "2bit"}, {"do": "resume"}, {"do": "switch"}]
    steps = [{"do": "configure", **changed}, *saved, *[train] * max(rules.STEPS, fuzz.LENGTH)]
    assert run_fault(configuration, steps) is None


@pytest.mark.parametrize("scalar", [float("nan"), float("inf"), 10**400])
def test_what_could_not_be_read_is_not_written(scalar: Any) -> None:
    with pytest.raises(ValueError, match=r"^it has "):
        write(FailedRefusal("pack", {"trits": scalar}, "TypeError", [], "torch", "cpu"), Failure())
    with pytest.raises(ValueError, match=r"its manifest leaves the schema at \$.arrays"):
        write(
            FailedRefusal("pack", {"trits": torch.zeros([1] * 9)}, "TypeError", [], "torch", "cpu"), Failure()
        )
    assert not list(Path().glob("reports/*"))


def test_text_of_a_file_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it came from, and what a backend says."""
    path = forged(CALL, lambda manifest: manifest.update(test=ESCAPES, backend="torch"))
    assert main(["replay", str(path)]) == 0
    shown = capsys.readouterr().out
    assert r"failed in \x1b[2J\x1b]0;x\x07\u202e\u2066\u200f\r\n\u2028 on torch (cpu)" in shown
    assert shown.count("\n") == 2
