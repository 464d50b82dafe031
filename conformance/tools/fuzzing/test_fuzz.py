"""Planted bugs are found, shrunk and replayed: in operations, around declared tiles, in training steps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, find, settings
from hypothesis.errors import NoSuchExample

from arbitor import update
from arbitor.checkpoint import load_checkpoint
from arbitor.cli import main
from arbitor.components import TernaryModule
from arbitor.conformance.draw.extents import around, draw_around_tiles
from arbitor.conformance.draw.strategies import arguments_of
from arbitor.conformance.judge.archived import read
from arbitor.conformance.judge.cases import FailedCall, FailedSteps
from arbitor.conformance.judge.target import Arguments, target_of
from arbitor.conformance.machine import world
from arbitor.conformance.machine.rules import check_steps
from arbitor.conformance.machine.twins import Parted, run
from arbitor.conformance.machine.world import Configuration
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.tools.fuzzing import fuzz
from arbitor.conformance.tools.fuzzing.fuzz import Fuzz, TimeIsOver
from arbitor.conformance.tools.planted import STALE, TAIL, THRESHOLD, planted

SMALL = 20  # elements
CONFIGURATION = dataclasses.asdict(Configuration())
TRAIN = {
    "do": "train", "parts": [[0, 1, 0]], "uses": 1, "scale": 0, "signal": "loss", "poison": None,
    "gain": None, "scale_gain": None,
}  # fmt: skip
LOUD = {"do": "configure", "accum_threshold": 2, "e_accum_threshold": 2, "scale_gain": 1 << 16}
SAVE, RESUME = {"do": "save", "format": "dense"}, {"do": "resume"}
POISONED = TRAIN | {"poison": {"where": "middle", "value": "nan"}}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    draw_around_tiles(target_of("torch"))


@pytest.mark.parametrize(
    ("bug", "only", "smallest"),
    [(THRESHOLD, "ternary_update", {"t_accum": 1}), (TAIL, "weight_gradient", {"q_g": 97, "q_x": 97})],
)
def test_a_bug_of_an_operation(
    bug: str, only: str, smallest: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, the smallest call in an artifact, which the backend fails and the torch backend passes."""
    name = planted(tmp_path, bug, f"{only}.py")
    assert main(["fuzz", "--backend", name, "--only", only, "--seed", "3"]) == 1
    shown = capsys.readouterr().out
    (path,) = Path("reports").iterdir()
    assert f"to replay it: arbitor replay reports/{path.name} --backend {name}" in shown
    case = read(path).case
    assert isinstance(case, FailedCall)
    # Hypothesis tries constants that it finds in the tree, so a wheel's smallest is another one
    assert all(case.arguments[name].numel() <= max(size, SMALL) for name, size in smallest.items())
    assert main(["replay", str(path), "--backend", name]) == 1
    assert main(["replay", str(path), "--backend", "torch"]) == 0


def test_a_bug_of_the_second_update(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by drawn steps, shrunk, written as plain steps and repeated."""
    name = planted(tmp_path, STALE)
    monkeypatch.setattr(fuzz, "LENGTH", 6)
    assert main(["fuzz", "--backend", name, "--only", "steps", "--seed", "1"]) == 1
    (path,) = Path("reports").iterdir()
    case = read(path).case
    assert isinstance(case, FailedSteps)
    kinds = [step["do"] for step in case.steps]
    assert "train" in kinds
    assert len(kinds) <= 4
    assert json.loads(json.dumps(case.steps)) == case.steps
    capsys.readouterr()
    assert main(["replay", str(path), "--backend", name]) == 1
    assert f"after step {len(kinds)}, train: " in capsys.readouterr().out
    assert main(["replay", str(path), "--backend", "torch"]) == 0


def lost(name: str) -> Any:
    """A checkpoint's loading that forgets one array."""
    honest = load_checkpoint

    def load(path: Path) -> Any:
        found = honest(path)
        for key, tensor in found.tensors.items():
            if key.endswith(name):
                tensor.zero_()
        return found

    return load


def uncounted() -> Any:
    """An update after which no module has counted it."""
    honest = update.update_memory

    def update_memory(model: Any, **how: Any) -> Any:
        report = honest(model, **how)
        for module in update.ternary_modules(model).values():
            module.updates = 0
        return report

    return update_memory


BREAKS: dict[str, tuple[tuple[Any, str, Any], list[dict[str, Any]], str]] = {
    "e_accum is not restored": (
        (world, "load_checkpoint", lost(".e_accum")),
        [LOUD | {"e_accum_threshold": 100}, TRAIN, SAVE, RESUME],
        r"after step 4, resume: \w+\.e_accum differs",
    ),
    "a poisoned step is made": (
        (update, "_refusal", lambda *given: (None, [] if given[3] is None else given[3].flatten().tolist())),
        [LOUD, POISONED],
        "after step 2, train: the update was made, expected that it was skipped",
    ),
    "captures stay": (
        (TernaryModule, "clear_captures", lambda self: None),
        [TRAIN],
        "after step 1, train: captures are left in embedding, middle, head",
    ),
    "updates do not count": (
        (world, "update_memory", uncounted()),
        [TRAIN],
        "_extra_state differs",
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_bugs_of_the_library_part_the_twins(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin does not share them; it names step, tensor and element."""
    (where, name, lie), steps, message = BREAKS[broken]
    run(target_of("torch"), CONFIGURATION, steps)
    monkeypatch.setattr(where, name, lie)
    with pytest.raises(Parted, match=message):
        run(target_of("torch"), CONFIGURATION, steps)


def test_drawn_steps_find_a_checkpoint_that_loses_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "load_checkpoint", lost(".t_accum"))
    with pytest.raises(Parted, match=r"resume: \w+\.t_accum differs"):
        check_steps(target_of("torch"), 60, derandomize=True, database=None, phases=[Phase.generate])


def test_the_same_seed_gives_the_same_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs, and how long it takes; another seed gives others."""

    def drawn(seed: int, names: list[str]) -> list[str]:
        target, found = target_of("torch"), []
        monkeypatch.setattr(target, "check", lambda name, arguments: found.append(f"{name} {arguments}"))
        fuzzed = Fuzz(target, None, names, seed)
        for number in (0, 1):
            fuzzed._batch("pack", number)
        return found

    first = drawn(7, ["pack"])
    assert len(first) > fuzz.BATCH
    assert drawn(7, ["unpack", "pack"]) == first
    assert drawn(8, ["pack"]) != first


def test_the_end_of_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The time is over: 0. Ctrl-C: 130. Both say how many cases each operation had."""
    assert main(["fuzz", "--backend", "torch", "--minutes", "0.002", "--seed", "1", "--only", "pack"]) == 0
    shown = capsys.readouterr().out
    assert "--seed 1 repeats these cases" in shown
    assert "no case failed: " in shown
    assert "pack" in shown

    def interrupted(self: Fuzz, name: str, number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Fuzz, "_batch", interrupted)
    assert main(["fuzz", "--backend", "torch"]) == 130
    assert "interrupted; no case failed: 0 cases" in capsys.readouterr().out
    assert not Path("reports").exists()


@pytest.mark.parametrize("name", ["pack", "steps"])
@pytest.mark.parametrize("end", [TimeIsOver, KeyboardInterrupt])
def test_a_run_ends_in_the_middle(
    name: str, end: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch, where Hypothesis has begun to draw: the reason is what comes out."""

    def count(self: Fuzz, name: str, failed: bool, new: int = 1) -> None:
        self.cases[name] += new
        if new and self.cases[name] > 3:
            raise end

    monkeypatch.setattr(Fuzz, "_count", count)
    with pytest.raises(end):
        Fuzz(target_of("torch"), None, [name], 1).run()


def test_time_does_not_end_the_shrinking() -> None:
    fuzzed = Fuzz(target_of("torch"), 0.0, ["pack"], 0)
    fuzzed._count("pack", failed=True)
    with pytest.raises(TimeIsOver):
        fuzzed._count("pack", failed=False)


def test_bad_use_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refused(main(["fuzz", "--backend", "torch", "--only", "unpak"]), "--only unpak: expected", capsys)
    refused(main(["fuzz", "--backend", "nothing"]), "unknown backend 'nothing'", capsys)
    name = planted(tmp_path, TAIL, "tail.py")
    refused(main(["fuzz", "--backend", name, "--only", "pack"]), "does not declare what pack needs", capsys)
    refused(main(["fuzz", "--backend", name, "--only", "steps"]), "does not declare what steps needs", capsys)


def has_tokens(number: int) -> Callable[[Arguments], bool]:
    """Whether a call has that many tokens."""
    return lambda arguments: len(arguments["q_g"]) == number


def test_extents_around_a_declared_tile_come(tmp_path: Path) -> None:
    """B - 1, B, B + 1 and 2 B of every declared tile, and ordinary extents beside them; without, none."""
    how = settings(max_examples=2000, derandomize=True, database=None, deadline=None)
    draw_around_tiles(target_of(planted(tmp_path, TAIL, "tiles.py")))
    for extent in (*around(96), 5):
        find(arguments_of("weight_gradient"), has_tokens(extent), settings=how)
    assert around(96) == [96, 97, 95, 192]
    draw_around_tiles(target_of("torch"))
    with pytest.raises(NoSuchExample):
        find(arguments_of("weight_gradient"), has_tokens(97), settings=settings(how, max_examples=300))
