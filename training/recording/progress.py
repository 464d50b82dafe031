"""The progress of a run: per cent and time left, loss, votes, trits flipped a step, items a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar on a terminal, one line a logged record elsewhere."""

    def __init__(self, steps: int, done: int, item: str, console: Console) -> None:
        self._console, self._item = console, item
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[share]}"),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=steps, completed=done, share="", note="")
        self._steps, self._done, self._first = steps, done, done
        self._began = self._since = time.monotonic()
        self._items = 0
        self.rate = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, steps: int, items: int, record: Mapping[str, Any]) -> None:
        """So many steps of so many items done; `record` is what was logged after them, or empty."""
        self._done += steps
        self._items += steps * items
        if record:
            now = time.monotonic()
            self.rate = self._items / max(now - self._since, 1e-9)
            self._since, self._items = now, 0
            self._bar.update(self._task, note=self._note(record))
        self._bar.update(self._task, completed=self._done, share=self._share())
        if record and not self._console.is_terminal:
            line = f"{self._done}/{self._steps}  {self._share()}  {self._note(record)}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _share(self) -> str:
        """Per cent, and the time that is left if the rest goes as this session has gone so far."""
        passed = time.monotonic() - self._began
        left = round(passed * (self._steps - self._done) / (self._done - self._first))
        minutes, seconds = divmod(left, 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"{100 * self._done // self._steps} %  {clock} left"

    def _note(self, record: Mapping[str, Any]) -> str:
        parts = [
            f"{name} {record[key]:.4f}"
            for key, name in (("loss", "loss"), ("val_loss", "valid"))
            if key in record
        ]
        if "iterations" in record:
            parts.append(f"passes {record['iterations']:.2f} busiest expert {record['busiest expert']:.0%}")
        if record.get("votes"):
            parts.append(f"votes {record['votes']:,.0f} flips {record['flips']:,.1f}")
        return "  ".join([*parts, f"{self.rate:,.0f} {self._item}/s"])
