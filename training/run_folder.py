"""The folder of a run: what it was started with, what it measured at each step, and a picture of that.

`runs/<name>/` holds config.json (written once, whole), metrics.jsonl (one JSON object a line, each written at
once, so that a run can be watched), loss.png and the checkpoint. One process at a time has it: `with` takes a
lock that ends with the process, however it ends.

Lines are on disk whenever a checkpoint is that was written after them, and the checkpoint says which they are
(`RunFolder.mark`). Resuming from it goes back to exactly these (`rewind`): lines after them are measured
again, to the same numbers (ARB-TRAIN-002), and a file that has lost some of them is refused, not gone on with
as if it were whole. A run that starts anew overwrites nothing: what an earlier one of its name left is moved
to `runs/<name>.1` first (`set_aside`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from arbitor.checkpoint import load_checkpoint
from arbitor.kernels.reading import regular
from arbitor.kernels.writing import (
    append_whole,
    naming,
    remove_leftovers,
    synced,
    unwritable,
    write_whole,
)

from .picture import draw

CHECKPOINT = "checkpoint.safetensors"
FILES = ("config.json", "metrics.jsonl", "loss.png", "samples.png", CHECKPOINT)
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
        self.metrics_path = self.path / "metrics.jsonl"
        self.plot_path = self.path / "loss.png"
        self.checkpoint_path = self.path / CHECKPOINT
        self._lock: FileLock | None = None
        self._lines, self._bytes, self._hash = 0, 0, hashlib.sha256()  # of what was appended

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
        aside = _first_free(self.path)
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

    # -- metrics.jsonl

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl, whole or not at all; numbers may be NumPy's or torch's, those not
        finite become null."""
        text = json.dumps({key: _plain(value) for key, value in record.items()}, allow_nan=False)
        line = f"{text}\n".encode()
        append_whole(self.metrics_path, line)
        self._lines += 1
        self._bytes += len(line)
        self._hash.update(line)

    def mark(self) -> dict[str, Any]:
        """What was appended so far, for a checkpoint that is written after it: it is on disk then."""
        if self._bytes:
            synced(self.metrics_path)
        return {"lines": self._lines, "bytes": self._bytes, "sha256": self._hash.hexdigest()}

    def refuse_damaged(self, mark: Mapping[str, Any]) -> None:
        """Raise `ValueError` if metrics.jsonl does not begin with the lines of a mark."""
        size = mark["bytes"]
        try:
            with self.metrics_path.open("rb") as file:
                found = file.read(min(size, os.fstat(file.fileno()).st_size))
        except FileNotFoundError:
            found = None
        if hashlib.sha256(found or b"").hexdigest() == mark["sha256"] and len(found or b"") == size:
            return
        whole = f"the {mark['lines']} lines ({size} bytes) that the checkpoint was written after"
        what = (
            "is not there, expected"
            if found is None
            else f"ends after {found.count(10)} of"
            if found.count(10) < mark["lines"]
            else "has other bytes than"
        )
        raise ValueError(
            f"{self.metrics_path} {what} {whole}: put it back, or go on without them with --new-metrics"
        )

    def rewind(self, mark: Mapping[str, Any]) -> None:
        """Go back to the lines of a mark, which `refuse_damaged` has let pass."""
        self._forget()
        if self.metrics_path.exists():
            with naming(self.metrics_path):
                os.truncate(self.metrics_path, mark["bytes"])
            self._hash.update(self.metrics_path.read_bytes())
        self._lines, self._bytes = mark["lines"], mark["bytes"]

    def begin_metrics(self) -> str | None:
        """Move metrics.jsonl to the first free of metrics.jsonl.1, ... and begin with none; a sentence that
        says so, or None if there is none."""
        self._forget()
        if not os.path.lexists(self.metrics_path):
            return None
        aside = _first_free(self.metrics_path)
        with naming(self.metrics_path):
            self.metrics_path.rename(aside)
        return f"{self.metrics_path} is {aside} now"

    def _forget(self) -> None:
        self._lines, self._bytes, self._hash = 0, 0, hashlib.sha256()

    def plot(
        self, title: str, unit: str = "nats a byte", guess_name: str = "", guess: float | None = None
    ) -> Path:
        """Draw loss.png from metrics.jsonl, and return its path; a viewer that watches it never sees half.

        ``guess`` is the loss to beat. Raises `ValueError` if there is no finite loss to draw, or no
        matplotlib.
        """
        picture = draw(read_metrics(self.metrics_path), title, unit, guess_name, guess)
        if picture is None:
            raise ValueError(f"{self.metrics_path} has no finite loss to draw (nothing logged yet?)")
        write_whole(self.plot_path, picture)
        return self.plot_path


def _first_free(path: Path) -> Path:
    """The first of PATH.1, PATH.2, ... that is not there."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl in file order; none if the file is absent.

    A torn last line is left out. Any other line that is not a JSON object raises `ValueError` with its
    number.
    """
    if not path.exists():
        return []
    with regular(path) as file:
        lines = file.read().split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"a JSON {type(record).__name__}")
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: {error}, expected a JSON object") from error
        records.append(record)
    return records


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


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
