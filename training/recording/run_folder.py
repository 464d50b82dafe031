"""The folder of a run: what it was started with, what it measured at each step, and a picture of that.

`runs/<name>/` holds config.json (written once, whole), metrics.jsonl and digests.jsonl (one JSON object a
line, each written at once, so that a run can be watched: lines.py), loss.png, the checkpoint, and checkpoints
that --keep-interval keeps. One process at a time has it: `with` takes a lock that ends with the process,
however it ends. A run that starts anew overwrites nothing: what an earlier one of its name left is moved to
`runs/<name>.1` first (`set_aside`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from arbitor.checkpoint import load_checkpoint
from arbitor.kernels.writing import naming, remove_leftovers, unwritable, write_whole

from .lines import Lines, first_free, read_lines
from .picture import draw

CHECKPOINT = "checkpoint.safetensors"
FILES = ("config.json", "metrics.jsonl", "digests.jsonl", "loss.png", "samples.png", CHECKPOINT)
KEPT = "checkpoints"  # the folder of those that --keep-interval keeps
LOCKS = ".locks"  # the folder beside the runs that has their locks


class RunFolder:
    """The folder ``root/name``; nothing is made or looked at before `with` is entered.

    Raises `ValueError` for a name that is not one plain component.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not name or name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in name):
            raise ValueError(
                f"run name {name!r}, expected a plain folder name without path separators or a leading dot"
            )
        self.name, self.path = name, Path(root) / name
        self.config_path = self.path / "config.json"
        self.metrics, self.digests = Lines(self.path / "metrics.jsonl"), Lines(self.path / "digests.jsonl")
        self.plot_path = self.path / "loss.png"
        self.checkpoint_path = self.path / CHECKPOINT
        self._lock: FileLock | None = None

    def __enter__(self) -> RunFolder:
        """Make the folder if it is absent, and have it alone.

        Raises `ValueError` if a file is in its place or another process has it, `OSError` for what the system
        says.
        """
        for folder in (self.path, *self.path.parents):
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{folder} is a file, expected a folder or nothing")
        with naming(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        for file in FILES:
            remove_leftovers(self.path / file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def _locked(self) -> FileLock:
        real = self.path.resolve()  # two names of one folder are one run
        place = real.parent / LOCKS / real.name
        with naming(place):
            place.parent.mkdir(exist_ok=True)
            lock = FileLock(place)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                holder = place.read_text(errors="replace").strip() or "of unknown number"
                raise ValueError(
                    f"run {self.name!r} in {self.path.parent} is in use by process {holder}: wait for its "
                    "end, or give another --name"
                ) from None
            place.write_text(f"{os.getpid()}\n")
        return lock

    def refuse_unwritable(self, resumed: bool) -> None:
        """Raise `ValueError` if a file of the run cannot be written where it has to be."""
        if not resumed and self._holds_a_run():  # which will be moved
            return
        for file in FILES:
            reason = unwritable(self.path / file)
            if reason is not None:
                raise ValueError(f"{self.path / file} {reason}")

    def kept(self, step: int) -> Path:
        """The checkpoint of a step that --keep-interval keeps; its folder is made."""
        with naming(self.path / KEPT):
            (self.path / KEPT).mkdir(exist_ok=True)
        return self.path / KEPT / f"step-{step:08d}.safetensors"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json whole or not at all."""
        write_whole(self.config_path, (json.dumps(dict(config), indent=2) + "\n").encode())

    def set_aside(self) -> str | None:
        """Move a folder that holds an earlier run to the first free of NAME.1, NAME.2, ... and start with an
        empty one; a sentence that says so, or None if it holds none. Raises `ValueError` if it cannot be
        moved."""
        if not self._holds_a_run():
            return None
        steps = ""
        with suppress(ValueError, OSError):  # damaged, and kept as it is
            steps = f" of {load_checkpoint(self.checkpoint_path).step} steps"
        aside = first_free(self.path)
        try:
            self.path.rename(aside)
            self.path.mkdir()
        except OSError as error:
            raise ValueError(
                f"{self.path} holds an earlier run and cannot be moved to {aside}: {error.strerror}"
            ) from error
        return f"{self.path} held an earlier run{steps}: it is {aside} now"

    def _holds_a_run(self) -> bool:
        files = (self.path / file for file in FILES)
        return any(map(os.path.lexists, files)) or any(self.path.glob("*.safetensors"))

    def plot(
        self, title: str, unit: str = "nats a byte", guess_name: str = "", guess: float | None = None
    ) -> Path:
        """Draw loss.png from metrics.jsonl, and return its path; a viewer that watches it never sees half.

        ``guess`` is the loss to beat. Raises `ValueError` if there is no finite loss to draw, or no
        matplotlib.
        """
        picture = draw(read_lines(self.metrics.path), title, unit, guess_name, guess)
        if picture is None:
            raise ValueError(f"{self.metrics.path} has no finite loss to draw (nothing logged yet?)")
        write_whole(self.plot_path, picture)
        return self.plot_path


def config_mismatch(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs, in the order of the keys and compared as JSON: each "KEY is OLD in the run, NEW was asked
    for"; nested keys as ``outer.inner``.

    A key that one side lacks differs, whatever its default is: what another version did without it is not
    known here.
    """
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            found.append(f"{key} is not in the run, {new[key]!r} was asked for")
        elif key not in new:
            found.append(f"{key} is {old[key]!r} in the run, none was asked for")
        elif isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            found += [f"{key}.{inner}" for inner in config_mismatch(old[key], new[key])]
        elif json.dumps(old[key], sort_keys=True) != json.dumps(new[key], sort_keys=True):
            found.append(f"{key} is {old[key]!r} in the run, {new[key]!r} was asked for")
    return found
