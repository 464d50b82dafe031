"""What can go wrong around a run: another process in its folder, places that cannot be written, a full disk
at any moment, a kill in the middle of a write. One sentence, a status that says when, and nothing lost.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch

from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.training.started import (
    CHECKPOINT,
    FLAGS,
    Started,
    lines,
    spy_on_steps,
)
from arbitor.training import entry, learners, loop
from arbitor.training.commands import Command
from arbitor.training.recording import run_folder
from arbitor.training.tasks.task import TextTask

pytestmark = pytest.mark.usefixtures("one_lane")

# -- two processes


@pytest.mark.clause("ARB-TRAIN-002", "ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
def test_two_processes_of_one_run(started: Started) -> None:
    """The second is refused by the holder's number, begun anew or resumed or through a link; a third too. The
    first loses nothing. What is killed holds nothing, and goes on."""
    endless = ("--steps", "1000000", "--eval-interval", "0")
    with started.process(*endless) as first:
        started.wait_for(lambda: started.path().is_file(), first)
        (started.folder / "link").symlink_to(started.runs / "run")
        for flags in (
            (),
            ("--resume",),
            (*endless, "--resume"),
            ("--runs", str(started.folder), "--run", "link"),
        ):
            said = started.refused(2, *flags)
            name = "link" if "link" in flags else "run"
            assert f"run '{name}' in " in said
            assert f"is in use by process {first.pid}: wait for its end, or give another --name" in said
        assert first.poll() is None
        assert started("--run", "another") == 0
        assert started("--no-save", "--steps", "1") == 0
        first.kill()
        first.communicate()
    assert not (started.runs / "run.1").exists()
    steps = [line["step"] for line in lines(started, "run")]
    assert steps == [*range(2, 2 * len(steps) + 1, 2)]
    step = load_checkpoint(started.path()).step
    with started.process(*endless, "--resume") as again:
        started.wait_for(lambda: load_checkpoint(started.path()).step > step, again)
        again.send_signal(signal.SIGTERM)
        _, said = again.communicate(timeout=120)
    assert again.returncode == entry.INTERRUPTED, said


@pytest.mark.usefixtures("no_picture")
def test_a_lock_ends_with_its_run(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it ends: in a process there may be one after another."""
    assert started() == 0
    assert started("--steps", "3") == 0
    assert "was started with other settings" in started.refused(2, "--resume", "--seed", "3")
    monkeypatch.setattr(loop.Trainer, "_step", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        started()
    monkeypatch.undo()
    assert started() == 0
    assert sorted(os.listdir(started.runs)) == [".locks", "run", "run.1", "run.2", "run.3"]


# -- places that cannot be written

BAD_FILES = {
    "{}": "is a folder, expected a file",
    "{}/text.txt/r.json": "cannot be written: Not a directory",
    "/proc/x": "cannot be written: No such file or directory",
    "/dev/null": "is a pipe or a device, expected a file",
    "{}/" + "n" * 300: "cannot be written: File name too long",
}
BAD_RUNS = {
    "{}/text.txt": "text.txt is a file, expected a folder or nothing",
    "{}/text.txt/deeper": "text.txt is a file, expected a folder or nothing",
    "/proc/x": "/proc/x/run: No such file or directory",
    "{}/" + "n" * 300: "File name too long",
}


def flags_of(started: Started, flag: str) -> tuple[str, list[str]]:
    """The kind of data that has this flag, and what it needs besides."""
    if flag == "--samples":
        return "diffusion", ["--times", "2"]
    return "text", ["--data", str(started.text)]


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("flag", ["--report", "--samples"])
@pytest.mark.parametrize("file", ["metrics.jsonl", "config.json", CHECKPOINT, "loss.png"])
def test_an_output_that_is_a_file_of_the_run(started: Started, flag: str, file: str) -> None:
    """By whatever way it is named; it would be lost."""
    kind, flags = flags_of(started, flag)
    way = started.runs / "run" / ".." / "run" / file
    words = [*FLAGS.replace("--ctx 8 ", "").split(), *flags, "--runs", str(started.runs), "--run", "run"]
    started._capsys.readouterr()
    assert Command("a test", kind).main([*words, flag, str(way)]) == 2
    said = started._capsys.readouterr().err
    assert said == f"error: {flag} {way} is a file of the run itself, and would replace it\n"
    assert not started.path(file).exists()


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("flag", ["--report", "--samples"])
@pytest.mark.parametrize("place", BAD_FILES)
def test_a_file_that_cannot_be_written(
    started: Started, flag: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known before the first step, and before anything is written; with --no-save and --resume too."""
    shown = place.format(started.folder)
    kind, flags = flags_of(started, flag)
    monkeypatch.setattr(loop.Trainer, "_step", lambda _: pytest.fail("it trains"))
    before, expected = started.contents(), f"error: {flag} {shown} {BAD_FILES[place]}\n"
    common = [*FLAGS.replace("--ctx 8 ", "").split(), *flags, "--runs", str(started.runs), flag, shown]
    for more in ([], ["--no-save"]):
        started._capsys.readouterr()
        assert Command("a test", kind).main([*common, *more]) == 2
        assert started._capsys.readouterr().err == expected
        assert started.contents() == before
        assert not started.runs.exists()


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("place", BAD_RUNS)
def test_a_folder_that_cannot_be_made(started: Started, place: str) -> None:
    """A file where one should be, on the way or at the end."""
    before = started.contents()
    said = started.refused(2, "--runs", place.format(started.folder))
    assert BAD_RUNS[place] in said
    assert started.contents() == before


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("file", ["config.json", "metrics.jsonl", "loss.png", "samples.png", CHECKPOINT])
@pytest.mark.usefixtures("no_picture")
def test_a_folder_where_a_file_should_be(started: Started, file: str) -> None:
    """Of a run that is gone on with it is refused; one that starts anew sets it aside, or refuses it too."""
    assert started() == 0
    started.path(file).unlink(missing_ok=True)
    (started.path(file) / "inside").mkdir(parents=True)
    before = started.contents()
    said = started.refused(2, "--resume")
    assert f"{started.path(file)} is a folder" in said or "--resume: there is no" in said
    assert started.contents() == before
    assert started() == 0
    assert (started.path(file, "run.1") / "inside").is_dir()


# -- a full disk


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("what", ["report", "samples"])
def test_what_is_written_last(started: Started, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of it vanishes during the training: the run is whole, the status is 1."""
    place = started.folder / "out"
    place.mkdir()
    path = place / "file"
    honest = loop.Trainer._after_step

    def vanish(trainer: Any, progress: Any) -> None:
        honest(trainer, progress)
        if place.is_dir():
            place.rmdir()
            place.touch()

    monkeypatch.setattr(loop.Trainer, "_after_step", vanish)
    if what == "report":
        said = started.refused(1, "--report", str(path))
        assert said == f"error: --report {place}: File exists; the run is at its end"
    else:
        flags = [*FLAGS.replace("--ctx 8 ", "").split(), "--times", "2", "--samples", str(path)]
        words = [*flags, "--runs", str(started.runs), "--run", "run"]
        assert Command("a test", "diffusion").main(words) == 1
        assert f"error: {place}: File exists; after step 6, " in started._capsys.readouterr().err
    assert load_checkpoint(started.path()).step == 6


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory.\nmore"), MemoryError()])
def test_a_device_without_memory(started: Started, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the fourth step: the checkpoint of the second is there, and is said."""
    honest = loop.Trainer._loss

    def fails(trainer: Any, *rest: Any, **named: Any) -> torch.Tensor:
        if trainer.done == 3:
            raise error
        loss: torch.Tensor = honest(trainer, *rest, **named)
        return loss

    monkeypatch.setattr(loop.Trainer, "_loss", fails)
    said = started.refused(1)
    what = "CUDA out of memory." if str(error) else "out of memory"
    expected = f"error: {what}; after step 3, {started.path()} is that of step 2, from which --resume goes on"
    assert said == expected
    monkeypatch.setattr(loop.Trainer, "_loss", honest)
    assert started("--resume") == 0


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory.\nmore"), MemoryError()])
@pytest.mark.parametrize("place", ["learner.state", "task.finish", "plot"])
def test_no_memory_for_what_is_written(
    started: Started, place: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a checkpoint or after the last step: what there is is said, and the status is that of a failure."""
    owner: Any
    owner, name = {
        "learner.state": (learners.TernaryLearner, "state"),
        "task.finish": (TextTask, "finish"),
        "plot": (run_folder.RunFolder, "plot"),
    }[place]
    steps = spy_on_steps(monkeypatch, loop.Trainer)

    def fails(*_: Any) -> None:
        raise error

    if place == "learner.state":
        honest = owner.state
        monkeypatch.setattr(owner, name, lambda self: fails() if len(steps) == 4 else honest(self))
    else:
        monkeypatch.setattr(owner, name, fails)
    done = 4 if place == "learner.state" else 6
    left = f"{started.path()} is that of step {done - 2 if done == 4 else 6}, "
    left += "from which --resume goes on" if done == 4 else "the last"
    what = "CUDA out of memory." if str(error) else "out of memory"
    assert started.refused(1) == f"error: {what}; after step {done}, {left}"
