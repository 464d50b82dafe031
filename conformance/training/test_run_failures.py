"""What can go wrong around a run: another process in its folder, places that cannot be written, a full disk
at any moment, a kill in the middle of a write. One sentence, a status that says when, and nothing lost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.conformance.judge.target import Target
from arbitor.conformance.training.trainers import ROOT, threads_kept

entry = pytest.importorskip("training.entry", reason="the trainers do not ship")
loop = pytest.importorskip("training.loop")
run_folder = pytest.importorskip("training.run_folder")
denoising = pytest.importorskip("training.tasks.denoising")

CHECKPOINT = "checkpoint.safetensors"
FLAGS = (
    "--d-model 16 --heads 2 --layers 1 --batch 2 --ctx 8 --eval-batches 1 --threads 1 --log-interval 2 "
    "--save-interval 2 --steps 6 --backend torch --device cpu"
)


@pytest.fixture(autouse=True)
def _one_lane(target: Target) -> Iterator[None]:
    """Nothing here is a matter of the backend."""
    if target.backend.name != "torch" or target.device != "cpu":
        pytest.skip("files and processes: tested once, in the lane of torch on the CPU")
    with threads_kept():
        yield


class Started:
    """Runs on one text, by their command line."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.runs, self._capsys = folder, folder / "runs", capsys
        self.text = folder / "text.txt"
        self.text.write_text("a disk is full, a folder is taken; " * 40)

    def words(self, *flags: str) -> list[str]:
        where = ["--data", str(self.text), "--runs", str(self.runs), "--run", "run"]
        return [*FLAGS.split(), *where, *flags]

    def __call__(self, *flags: str) -> int:
        try:
            return int(entry.main("a test", self.words(*flags)))
        except SystemExit as ended:
            return int(ended.code or 0)

    def refused(self, status: int, *flags: str) -> str:
        """The one sentence that a run with these flags ends in, with that status."""
        self._capsys.readouterr()
        assert self(*flags) == status
        out, err = self._capsys.readouterr()
        assert out == ""
        said = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(said) == 1, err
        assert err.endswith(f"{said[0]}\n"), "it is the last line"
        assert "Traceback" not in err
        return said[0]

    def path(self, file: str = CHECKPOINT, name: str = "run") -> Path:
        return self.runs / name / file

    def contents(self) -> dict[str, bytes]:
        """Of every file below the folder but the locks."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and ".locks" not in path.parts]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}

    def process(self, *flags: str) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        words = [sys.executable, "-m", "training.pretrain", *self.words(*flags)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    def wait_for(self, there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 120
        while not there():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Started:
    return Started(tmp_path, capsys)


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder.RunFolder, "plot", lambda *_: None)  # takes longer than all else here


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
    lines = run_folder.read_metrics(started.path("metrics.jsonl"))
    assert [line["step"] for line in lines] == [*range(2, 2 * len(lines) + 1, 2)]
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


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("flag", ["--report", "--samples"])
@pytest.mark.parametrize("place", BAD_FILES)
def test_a_file_that_cannot_be_written(
    started: Started, flag: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known before the first step, and before anything is written; with --no-save and --resume too."""
    shown = place.format(started.folder)
    kind, flags = entry.TextTask, ["--data", str(started.text)]
    if flag == "--samples":
        kind, flags = denoising.DiffusionTask, ["--times", "2"]
    monkeypatch.setattr(loop.Trainer, "_step", lambda _: pytest.fail("it trains"))
    before, expected = started.contents(), f"error: {flag} {shown} {BAD_FILES[place]}\n"
    common = [*FLAGS.replace("--ctx 8 ", "").split(), *flags, "--runs", str(started.runs), flag, shown]
    for more in ([], ["--no-save"]):
        started._capsys.readouterr()
        assert entry.main("a test", [*common, *more], kind=kind) == 2
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
    if file == "samples.png":
        (started.path(file, "new") / "inside").mkdir(parents=True)
        assert f"{started.path(file, 'new')} is a folder, expected a file" in started.refused(
            2, "--run", "new"
        )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system in memory, with such options, if that is allowed here."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
def test_a_read_only_disk(started: Started, small_disk: Callable[[str], Path]) -> None:
    """With nothing on it, with a run to go on with, with one to set aside; for a report too."""
    disk = small_disk("size=4m")
    assert started("--runs", str(disk), "--run", "old", "--steps", "3") == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for flags in (["--run", "new"], ["--run", "old"], ["--run", "old", "--steps", "3", "--resume"]):
        said = started.refused(2, "--runs", str(disk), *flags)
        assert said.startswith(f"error: {disk}/")
        assert said.endswith("Read-only file system")
    said = started.refused(2, "--report", str(disk / "report.json"))
    assert said == f"error: --report {disk}/report.json cannot be written: Read-only file system"
    assert not started.runs.exists()
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert started("--runs", str(disk), "--run", "old", "--steps", "3", "--resume") == 0


# -- a full disk


class Full:
    """The disk is full at the n-th time that something is put on it."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None) -> None:
        self.at, self.count = at, 0
        self.honest_sync, self.honest_append = os.fsync, run_folder.append_whole
        patch.setattr(os, "fsync", self.sync)
        patch.setattr(run_folder, "append_whole", self.append)

    def _put(self, path: str | None) -> None:
        self.count += 1
        if self.count == self.at:
            raise OSError(ENOSPC, "No space left on device", path)

    def sync(self, number: int) -> None:
        self._put(None)
        self.honest_sync(number)

    def append(self, path: Path, data: bytes) -> None:
        self._put(str(path))
        self.honest_append(path, data)


@pytest.mark.clause("ARB-TRAIN-002", "ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
def test_a_disk_that_is_full_at_any_moment(started: Started) -> None:
    """Every moment of a run: one sentence that names the file and the last whole checkpoint, status 2 before
    the first step and 1 after it; the run goes on to the end of one that had room."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Full(patch, None)
        assert started("--run", "whole") == 0
    total, whole = disk.count, load_checkpoint(started.path(name="whole"))
    assert total == 17, "the configuration, three lines, three checkpoints after lines that are on disk"
    steps_of_failures = []
    for at in range(1, total + 1):
        name = f"at{at}"
        with pytest.MonkeyPatch.context() as patch:
            Full(patch, at)
            steps = spy_on_steps(patch)
            said = started.refused(1 if at > 2 else 2, "--run", name)
        steps_of_failures.append(len(steps))
        found = started.path(name=name)
        assert ": No space left on device; after step " in said
        if found.exists():
            step = load_checkpoint(found).step
            assert f"{found} is that of step {step}, " in said
            assert started("--run", name, "--resume") == 0
        else:
            assert said.endswith(f"after step {len(steps)}, nothing is saved")
            assert started("--run", name) == 0
        assert load_checkpoint(found).digest == whole.digest
        assert lines(started, name) == lines(started, "whole")
        assert leftovers(started) == []
    assert steps_of_failures == sorted(steps_of_failures)
    assert set(steps_of_failures) == {0, 2, 4, 6}, "it stops at once"


def spy_on_steps(patch: pytest.MonkeyPatch) -> list[int]:
    steps: list[int] = []
    honest = loop.Trainer._step

    def step(trainer: Any) -> None:
        honest(trainer)
        steps.append(trainer.done)

    patch.setattr(loop.Trainer, "_step", step)
    return steps


def lines(started: Started, name: str) -> list[dict[str, Any]]:
    found = run_folder.read_metrics(started.path("metrics.jsonl", name))
    return [{key: value for key, value in line.items() if key != "items_per_s"} for line in found]


def leftovers(started: Started) -> list[Path]:
    return [*started.runs.rglob("*.tmp")]


@pytest.mark.clause("ARB-TRAIN-004")
def test_a_small_disk(started: Started, small_disk: Callable[[str], Path]) -> None:
    """A real one, that checkpoint and metrics fit on but the picture does not."""
    disk = small_disk("size=64k")
    said = started.refused(1, "--runs", str(disk))
    assert said == (
        f"error: {disk}/run/loss.png: No space left on device; after step 6, {disk}/run/{CHECKPOINT} is that "
        "of step 6, the last"
    )
    assert load_checkpoint(disk / "run" / CHECKPOINT).step == 6
    assert sorted(os.listdir(disk / "run")) == [CHECKPOINT, "config.json", "metrics.jsonl"]


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
        assert entry.main("a test", words, kind=denoising.DiffusionTask) == 1
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
    monkeypatch.undo()
    monkeypatch.setattr(run_folder.RunFolder, "plot", lambda *_: None)
    assert started("--resume") == 0


# -- kills, and files that were damaged


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("flags", [(), ("--resume",)])
def test_what_kills_left_goes_with_the_next_start(started: Started, flags: tuple[str, ...]) -> None:
    """Of files of the run's own names; what others put there stays."""
    assert started() == 0
    mine = started.path(".notes.txt.0123abcd.tmp")
    mine.write_text("mine")
    for file in run_folder.FILES:
        started.path(f".{file}.0123abcd.tmp").write_bytes(b"half of")
    assert started(*flags) == 0
    left = [path.name for path in leftovers(started)]
    assert left == [mine.name]


@pytest.mark.clause("ARB-TRAIN-002", "ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("damage", ["deleted", "emptied", "torn", "a hole"])
def test_metrics_that_have_lost_lines(started: Started, damage: str) -> None:
    """--resume is refused in one sentence, and everything stays as it is; --new-metrics goes on, and says
    what became of the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_interruptible", interrupted_in_step_5(patch))
        assert started() == entry.INTERRUPTED
    path = started.path("metrics.jsonl")
    data = path.read_bytes()
    assert data.count(b"\n") == 2
    path.unlink()
    if damage != "deleted":
        kept = {"emptied": b"", "torn": data[:-3], "a hole": data[data.index(b"\n") + 1 :]}[damage]
        path.write_bytes(kept)
    before = started.contents()
    said = started.refused(2, "--resume")
    assert f"error: {path} " in said
    assert "put it back, or go on without them with --new-metrics" in said
    assert started.contents() == before
    started._capsys.readouterr()
    assert started("--resume", "--new-metrics") == 0
    shown = started._capsys.readouterr().err
    assert (f"{path} is {path}.1 now\n" in shown) == (damage != "deleted")
    assert [line["step"] for line in lines(started, "run")] == [6]
    assert started("--run", "whole") == 0
    assert load_checkpoint(started.path()).digest == load_checkpoint(started.path(name="whole")).digest
    assert lines(started, "run") == lines(started, "whole")[-1:]
    assert "--new-metrics goes with --resume" in started.refused(2, "--new-metrics")


def interrupted_in_step_5(patch: pytest.MonkeyPatch) -> Any:
    caught: list[int] = []
    honest = loop.Trainer._step

    def step(trainer: Any) -> None:
        if trainer.done == 4:
            caught.append(signal.SIGINT)
        honest(trainer)

    patch.setattr(loop.Trainer, "_step", step)
    return loop.contextmanager(lambda: iter([caught]))


DAMAGED: dict[str, Any] = {
    "gone": None,
    "empty": {},
    "a list": [],
    "no counts": lambda pending: pending.pop("counts"),
    "counts in a list": lambda pending: pending.update(counts=[0] * 5),
    "a count less": lambda pending: pending["counts"].popitem(),
    "a count of 2^70": lambda pending: pending["counts"].update(votes=2**63),
    "a count in words": lambda pending: pending["counts"].update(votes="many"),
    "a loss too large": lambda pending: pending.update(losses=["0x1.0000000000000p+5000"]),
    "a loss in words": lambda pending: pending.update(losses=["much"]),
    "a loss that is a number": lambda pending: pending.update(losses=[0.5]),
    "a loss more": lambda pending: pending["losses"].append((0.5).hex()),
    "no losses": lambda pending: pending["losses"].clear(),
    "no mark": lambda pending: pending.pop("metrics"),
    "a mark without bytes": lambda pending: pending["metrics"].pop("bytes"),
    "a mark of 2^62 bytes": lambda pending: pending["metrics"].update(bytes=2**62),
    "a mark of another hash": lambda pending: pending["metrics"].update(sha256="0" * 64),
}


@pytest.mark.clause("ARB-TRAIN-004", "ARB-TRAIN-002")
@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.usefixtures("no_picture")
def test_a_resealed_checkpoint_with_another_pending(started: Started, case: str) -> None:
    """One sentence that names the checkpoint, or the metrics that do not fit to it; all files stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_interruptible", interrupted_in_step_5(patch))
        assert started() == entry.INTERRUPTED
    found = load_checkpoint(started.path())
    pending = json.loads(json.dumps(found.config["pending"]))
    assert len(pending["losses"]) == 1
    config = dict(found.config)
    if callable(DAMAGED[case]):
        DAMAGED[case](pending)
        config["pending"] = pending
    elif DAMAGED[case] is None:
        del config["pending"]
    else:
        config["pending"] = DAMAGED[case]
    save_checkpoint(started.path(), found.tensors, config, found.step)
    before = started.contents()
    said = started.refused(2, "--resume")
    of_metrics = case in ("a mark of 2^62 bytes", "a mark of another hash")
    assert said.startswith(f"error: {started.path('metrics.jsonl' if of_metrics else CHECKPOINT)}")
    assert started.contents() == before


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("step", [7, 2**40])
@pytest.mark.usefixtures("no_picture")
def test_a_resealed_checkpoint_of_another_step(started: Started, step: int) -> None:
    assert started() == 0
    found = load_checkpoint(started.path())
    save_checkpoint(started.path(), found.tensors, found.config, step)
    assert f"step {step} is none of a run of 6" in started.refused(2, "--resume")


def test_wrong_flags(started: Started) -> None:
    """One sentence, without lines of usage before it."""
    for flags in (["--stepz", "3"], ["--steps", "many"], ["--baseline", "what"], ["--steps", "0"], ["x"]):
        started._capsys.readouterr()
        assert started(*flags) == 2
        err = started._capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


@pytest.mark.usefixtures("no_picture")
def test_lines_are_not_broken(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash and a path can be copied from any terminal, and the hash is seen whole on one of 80 columns."""
    monkeypatch.setenv("COLUMNS", "40")
    started._capsys.readouterr()
    assert started() == 0
    shown = started._capsys.readouterr().err.splitlines()
    digest = load_checkpoint(started.path()).digest
    assert f"state sha256 {digest}" in shown
    assert len(f"state sha256 {digest}") <= 80
    assert any(line.endswith(f"  {started.runs / 'run'}") for line in shown)
