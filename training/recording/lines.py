"""Files of JSON lines that a run adds to while it goes on, and goes back in when it is resumed.

Lines are on disk whenever a checkpoint is that was written after them, and the checkpoint says which they are
(`Lines.mark`). Resuming from it goes back to exactly these (`rewind`): what came after them is measured
again, to the same numbers (ARB-TRAIN-002), and a file that has lost some of them is refused, not gone on with
as if it were whole.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arbitor.kernels.reading import regular
from arbitor.kernels.writing import append_whole, naming, synced


class Lines:
    """The file at `path`; nothing is made or looked at before it is added to."""

    def __init__(self, path: Path) -> None:
        self.path, self.count, self._bytes, self._hash = path, 0, 0, hashlib.sha256()

    def append(self, *records: Mapping[str, Any]) -> None:
        """Add a line for each, all or none; numbers may be NumPy's or torch's, those not finite become
        null."""
        plain = ({key: _plain(value) for key, value in record.items()} for record in records)
        lines = [json.dumps(record, allow_nan=False) for record in plain]
        data = "".join(f"{line}\n" for line in lines).encode()
        append_whole(self.path, data)
        self.count += len(lines)
        self._bytes += len(data)
        self._hash.update(data)

    def mark(self) -> dict[str, Any]:
        """What was appended so far, for a checkpoint that is written after it: it is on disk then."""
        if self._bytes:
            synced(self.path)
        return {"lines": self.count, "bytes": self._bytes, "sha256": self._hash.hexdigest()}

    def refuse_damaged(self, mark: Mapping[str, Any]) -> None:
        """Raise `ValueError` if the file does not begin with the lines of a mark."""
        size = mark["bytes"]
        try:
            with self.path.open("rb") as file:
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
        raise ValueError(f"{self.path} {what} {whole}: put it back, or go on without them with --new-metrics")

    def rewind(self, mark: Mapping[str, Any]) -> None:
        """Go back to the lines of a mark, which `refuse_damaged` has let pass."""
        self._forget()
        if self.path.exists():
            with naming(self.path):
                os.truncate(self.path, mark["bytes"])
            self._hash.update(self.path.read_bytes())
        self.count, self._bytes = mark["lines"], mark["bytes"]

    def begin(self) -> str | None:
        """Move the file to the first free of NAME.1, ... and begin with none; a sentence that says so, or
        None if there is none."""
        self._forget()
        if not os.path.lexists(self.path):
            return None
        aside = first_free(self.path)
        with naming(self.path):
            self.path.rename(aside)
        return f"{self.path} is {aside} now"

    def _forget(self) -> None:
        self.count, self._bytes, self._hash = 0, 0, hashlib.sha256()  # of what was appended


def first_free(path: Path) -> Path:
    """The first of PATH.1, PATH.2, ... that is not there."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of such a file in its order; none if the file is absent.

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


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
