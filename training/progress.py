"""The progress bar of a run: loss, votes, trits flipped a step, tokens a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar on a terminal, one line a logged record elsewhere."""

    def __init__(self, steps: int, done: int, console: Console) -> None:
        self._console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=steps, completed=done, note="")
        self._steps, self._done = steps, done
        self._since, self._tokens = time.monotonic(), 0
        self.rate = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, steps: int, tokens: int, record: Mapping[str, Any]) -> None:
        """So many steps of so many tokens done; `record` is what was logged after them, or empty."""
        self._done += steps
        self._tokens += steps * tokens
        if record:
            now = time.monotonic()
            self.rate = self._tokens / max(now - self._since, 1e-9)
            self._since, self._tokens = now, 0
            self._bar.update(self._task, note=_note(record, self.rate))
        self._bar.advance(self._task, steps)
        if record and not self._console.is_terminal:
            self._console.print(f"{self._done}/{self._steps}  {_note(record, self.rate)}", highlight=False)


def _note(record: Mapping[str, Any], rate: float) -> str:
    parts = [
        f"{name} {record[key]:.4f}"
        for key, name in (("loss", "loss"), ("val_loss", "valid"))
        if key in record
    ]
    if record.get("votes"):
        parts.append(f"votes {record['votes']:,.0f} flips {record['flips']:,.1f}")
    return "  ".join([*parts, f"{rate:,.0f} tok/s"])
