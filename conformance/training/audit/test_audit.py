"""A recorded run is made again by its digests; what was changed is found at its step and tensor."""

from __future__ import annotations

import shutil

import pytest

from arbitor.cli import main
from arbitor.conformance.training.audit.audits import KEPT, RECORD, audited
from arbitor.conformance.training.started import Started
from arbitor.training import loop
from arbitor.training.commands import Command

pytestmark = pytest.mark.usefixtures("one_lane", "no_picture")
FEATURES = ("--experts", "2", "--max-moe-iters", "2", "--window", "3", "--layers", "2")


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_run_is_what_it_recorded(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = audited(made, capsys)
    assert status == 0
    assert "steps 1 to 6: made again and the same" in said
    assert said.endswith("every digest agrees: 31 tensors, 6 updates asked for\n")


@pytest.mark.clause("ARB-TRAIN-006", "ARB-TRAIN-001")
def test_the_reference_makes_the_same(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """From the checkpoint before it."""
    status, said = audited(made, capsys, "--steps", "4", "--backend", "reference")
    assert status == 0, said
    assert "made again by reference on cpu" in said
    assert "steps 3 to 4: made again and the same" in said


@pytest.mark.clause("ARB-TRAIN-006")
@pytest.mark.parametrize(
    ("words", "count"), [("--random 3 --seed 1", 3), ("--steps 2..5", 4), ("--steps 6", 1)]
)
def test_some_of_its_updates(
    made: Started, capsys: pytest.CaptureFixture[str], words: str, count: int
) -> None:
    status, said = audited(made, capsys, *words.split())
    assert status == 0, said
    assert f" {count} update{'s' * (count > 1)} asked for" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-RUN-013")
@pytest.mark.parametrize(
    "flags",
    [FEATURES, ("--accumulate", "exact", "--accum", "2"), ("--preserve-state",), ("--control", "frozen")],
    ids=" ".join,
)
def test_runs_of_every_sort(
    started: Started, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    assert started(*KEPT, *flags) == 0
    status, said = audited(started, capsys)
    assert status == 0, said
    assert "every digest agrees" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-RUN-010")
def test_a_run_whose_kv_state_goes_on(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in no checkpoint, so an audit begins at the beginning, whatever was kept."""
    assert started(*KEPT, "--preserve-state") == 0
    status, said = audited(started, capsys, "--steps", "5")
    assert status == 0, said
    assert "steps 1 to 5: made again and the same" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-TRAIN-002")
def test_a_resumed_run_records_what_one_that_was_not_does(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, also where it was stopped behind its last checkpoint."""
    assert started("--run", "whole") == 0
    honest = loop.Trainer._goes_on
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_goes_on", lambda t, caught: honest(t, [2] if t.done == 3 else []))
        assert started() == 130
    assert started("--resume") == 0
    files = [started.path("digests.jsonl", name).read_bytes() for name in ("whole", "run")]
    assert files[0] == files[1]
    assert files[0].count(b"\n") == 1 + 1 + 6


@pytest.mark.clause("ARB-TRAIN-006")
def test_two_runs_part_where_they_do(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """The same on another backend; with another cooldown from the step on at which it shows."""
    assert made("--run", "again", "--backend", "reference", "--steps", "6") == 0
    assert made("--run", "other", "--cooldown", "100", *KEPT) == 0
    capsys.readouterr()
    runs = {name: str(made.runs / name) for name in ("run", "again", "other")}
    assert main(["diff", runs["run"], runs["again"]]) == 0
    assert capsys.readouterr().out.endswith("all 7 common steps agree, 0 to 6\n")
    assert main(["diff", runs["run"], runs["other"]]) == 1
    said = capsys.readouterr().out
    assert "cooldown is " in said
    assert f" and 100 in {runs['other']}\n" in said
    assert "\nstep 2: " in said
    assert "elements differ" in said


def test_diff_of_other_models(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert made("--run", "other", "--layers", "2") == 0
    capsys.readouterr()
    assert main(["diff", str(made.runs / "run"), str(made.runs / "other")]) == 1
    said = capsys.readouterr().out
    assert "they have other tensors\n" in said
    assert "/other alone has blocks.1.attention.out.codes, " in said


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_twin_has_no_record(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert started("--baseline", "float") == 0
    assert not started.path("digests.jsonl").exists()
    status, said = audited(started, capsys)
    assert status == 2
    assert "a ternary run writes it since there is arbitor audit, a twin does not" in said


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_run_can_be_moved(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """To another place, and its data to another one."""
    shutil.move(made.runs / "run", made.runs / "moved")
    data = made.text.rename(made.folder / "elsewhere.txt")
    status, said = audited(made, capsys, run="moved")
    assert status == 2
    status, said = audited(made, capsys, "--data", str(data), "--steps", "3", run="moved")
    assert status == 0, said


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_record_that_ends_early(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a line is left out and said, and so is a checkpoint behind it."""
    record = made.path(RECORD)
    record.write_bytes(record.read_bytes()[:-40])
    status, said = audited(made, capsys)
    assert status == 0, said
    assert "steps 0 to 5 of 6" in said
    assert "the record ends in half a line, which is left out" in said
    assert f"{made.path()} is of step 6, which is not in the record: not compared" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-TRAIN-002")
def test_a_record_that_begins_late(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that went on with --new-metrics; what was kept before is gone on from. --resume keeps on."""
    honest = loop.Trainer._goes_on
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_goes_on", lambda t, caught: honest(t, [2] if t.done == 3 else []))
        assert started(*KEPT) == 130
    started.path("digests.jsonl").unlink()
    assert started("--resume", "--new-metrics") == 0
    assert started.path("checkpoints/step-00000006.safetensors").is_file()
    status, said = audited(started, capsys)
    assert status == 0, said
    assert "steps 3 to 6 of 6" in said
    assert "step-00000002.safetensors is of step 2, which is not in the record" in said
    assert "3 updates asked for" in said


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_finetuning(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """With --keep-interval its beginning is kept; without, it is said what can be made again."""
    words = [*made.words(), "--init", str(made.path()), *KEPT]
    assert Command("finetuning", finetuning=True).main([*words, "--run", "kept"]) == 0
    status, said = audited(made, capsys, run="kept")
    assert status == 0, said
    made.path("checkpoints/step-00000000.safetensors", "kept").unlink()
    status, said = audited(made, capsys, run="kept")
    assert status == 2
    assert "step 1 cannot be made again: the beginning of a finetuning is in no other file" in said
    assert "those from 3 on can: --steps 3..6" in said
    status, said = audited(made, capsys, "--random", "4", run="kept")
    assert status == 0, said
    assert ": 3, 4, 5, 6\n" in said


@pytest.mark.clause("ARB-TRAIN-006")
def test_data_that_no_batch_has(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte of what is validated on is another: it is said, and the updates are made."""
    data = bytearray(made.text.read_bytes())
    data[-1] ^= 1
    made.text.write_bytes(bytes(data))
    status, said = audited(made, capsys, "--steps", "5")
    assert status == 0, said
    assert "; every batch of the run is in them\n" in said


@pytest.mark.parametrize("place", ["nowhere", "text.txt"])
def test_what_is_no_folder(started: Started, capsys: pytest.CaptureFixture[str], place: str) -> None:
    capsys.readouterr()
    assert main(["audit", str(started.folder / place)]) == 2
    what = "no folder" if place == "text.txt" else "not there"
    assert f"{started.folder / place} is {what}, expected a run's" in capsys.readouterr().err
