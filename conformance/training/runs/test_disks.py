"""Disks that are full, read-only or too small, at any moment of a run: one sentence, and nothing lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from errno import ENOSPC
from pathlib import Path

import pytest

from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.training.started import (
    CHECKPOINT,
    Started,
    leftovers,
    lines,
    spy_on_steps,
)
from arbitor.kernels.writing import append_whole
from arbitor.training import loop
from arbitor.training.recording import lines as lines_module

pytestmark = pytest.mark.usefixtures("one_lane")


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


class Full:
    """The disk is full at the n-th time that something is put on it."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None) -> None:
        self.at, self.count = at, 0
        self.honest_sync, self.honest_append = os.fsync, append_whole
        patch.setattr(os, "fsync", self.sync)
        patch.setattr(lines_module, "append_whole", self.append)

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
    assert total == 27, "the configuration, 1 + 3 * 2 lines, three checkpoints after lines that are on disk"
    steps_of_failures = []
    for at in range(1, total + 1):
        name = f"at{at}"
        with pytest.MonkeyPatch.context() as patch:
            Full(patch, at)
            steps = spy_on_steps(patch, loop.Trainer)
            said = started.refused(1 if at > 3 else 2, "--run", name)
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


@pytest.mark.clause("ARB-TRAIN-004")
def test_a_small_disk(started: Started, small_disk: Callable[[str], Path]) -> None:
    """A real one, that checkpoint and metrics fit on but the picture does not."""
    disk = small_disk("size=80k")
    said = started.refused(1, "--runs", str(disk))
    assert said == (
        f"error: {disk}/run/loss.png: No space left on device; after step 6, {disk}/run/{CHECKPOINT} is that "
        "of step 6, the last"
    )
    assert load_checkpoint(disk / "run" / CHECKPOINT).step == 6
    assert sorted(os.listdir(disk / "run")) == [CHECKPOINT, "config.json", "digests.jsonl", "metrics.jsonl"]
