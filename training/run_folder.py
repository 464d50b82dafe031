"""The folder of a run: what it was started with, what it measured at each step, and a picture of that.

`runs/<name>/` holds config.json (written once, whole), metrics.jsonl (one JSON object a line, flushed as it
happens, so that a run can be watched and a killed one loses at most its last line) and loss.png. Resuming
from a checkpoint at step n first drops the lines after n (`RunFolder.truncate`): they are measured again, to
the same numbers (ARB-TRAIN-002). A run that starts anew overwrites nothing: what an earlier one of its name
left is moved to `runs/<name>.1` first (`RunFolder.set_aside`).

The picture answers what ARB-TRAIN-003 asks of a run: is the loss below the unigram entropy, and did trits
move at all.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arbitor.checkpoint import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]
Series = tuple[Floats, Floats]

# Okabe and Ito's colours, told apart by every kind of colour vision; lines also differ in shape.
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"


class RunFolder:
    """The folder ``root/name``, made if absent; `ValueError` for a name that is not one plain component."""

    def __init__(self, root: Path, name: str) -> None:
        if not name or name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in name):
            raise ValueError(
                f"run name {name!r}, expected a plain folder name without path separators or a leading dot"
            )
        self.path = Path(root) / name
        self.config_path = self.path / "config.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.plot_path = self.path / "loss.png"
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file, expected a folder or nothing")
        self.path.mkdir(parents=True, exist_ok=True)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json whole or not at all."""
        write_whole(self.config_path, (json.dumps(dict(config), indent=2) + "\n").encode())

    def read_config(self) -> dict[str, Any] | None:
        """What `write_config` wrote, or None if this run has not been started."""
        try:
            config = json.loads(self.config_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{self.config_path} is not JSON: {error}") from error
        if not isinstance(config, dict):
            raise ValueError(f"{self.config_path} holds a {type(config).__name__}, expected a JSON object")
        return config

    def set_aside(self) -> str | None:
        """Move a folder that holds an earlier run to the first free of NAME.1, NAME.2, ... and start with an
        empty one; a sentence that says so, or None if it holds none. Raises `ValueError` if it cannot be
        moved."""
        files = (self.config_path, self.metrics_path, self.plot_path)
        if not any(map(os.path.lexists, files)) and not any(self.path.glob("*.safetensors")):
            return None
        try:
            made = [record["step"] for record in read_metrics(self.metrics_path) if "step" in record]
        except ValueError:  # damaged, and kept as it is
            made = []
        names = (self.path.with_name(f"{self.path.name}.{number}") for number in itertools.count(1))
        aside = next(name for name in names if not os.path.lexists(name))
        try:
            self.path.rename(aside)
            self.path.mkdir()
        except OSError as error:
            raise ValueError(
                f"{self.path} holds an earlier run and cannot be moved to {aside}: {error.strerror}"
            ) from error
        steps = f" of {made[-1]} steps" if made else ""
        return f"{self.path} held an earlier run{steps}: it is {aside} now"

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl; numbers may be NumPy's or torch's, those not finite become null."""
        line = json.dumps({key: _plain(value) for key, value in record.items()}, allow_nan=False)
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def truncate(self, step: int) -> None:
        """Drop the lines whose "step" is greater than ``step``, and a last line that a kill has torn."""
        kept = [line for line, record in _parse_lines(self.metrics_path) if record.get("step", step) <= step]
        write_whole(self.metrics_path, b"".join(line + b"\n" for line in kept))

    def plot(
        self, title: str, unit: str = "nats a byte", guess_name: str = "", guess: float | None = None
    ) -> Path:
        """Draw loss.png from the keys loss, val_loss, flips and votes of metrics.jsonl, and return its path.

        ``guess`` is the loss to beat. Raises `ValueError` if there is no finite loss to draw.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        records = read_metrics(self.metrics_path)
        series = {key: _series(records, key) for key in ("loss", "val_loss", "flips", "votes")}
        if not any(np.isfinite(series[key][1]).any() for key in ("loss", "val_loss")):
            raise ValueError(f"{self.metrics_path} has no finite loss to draw (nothing logged yet?)")
        activity = {key: series[key] for key in ("votes", "flips") if len(series[key][0])}
        figure = Figure(figsize=(8, 5.6 if activity else 4.4), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(
            2 if activity else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1][: 1 + bool(activity)]
        )
        _draw_losses(panels[0, 0], series["loss"], series["val_loss"], unit, guess_name, guess)
        panels[0, 0].set_title(title, loc="left", fontsize=12, fontweight="bold")
        if activity:
            _draw_activity(panels[1, 0], activity)
        panels[-1, 0].set_xlabel("step")
        # moved into place, so that a viewer that watches the file never sees half of it
        temporary = self.plot_path.with_name(".loss.png.tmp")
        figure.savefig(temporary, format="png")
        temporary.replace(self.plot_path)
        return self.plot_path


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl in file order; none if the file is absent.

    A torn last line is left out. Any other line that is not a JSON object raises `ValueError` with its
    number.
    """
    return [record for _, record in _parse_lines(path)]


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


def _parse_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    while lines and not lines[-1].strip():
        lines.pop()
    parsed: list[tuple[bytes, dict[str, Any]]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"a JSON {type(record).__name__}")
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: {error}, expected a JSON object") from error
        parsed.append((line, record))
    return parsed


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _series(records: list[dict[str, Any]], key: str) -> Series:
    """Steps and values, both float64, of the records that have ``key``; null is NaN, a gap in the line."""
    points = [(record["step"], record[key]) for record in records if key in record and "step" in record]
    values = [math.nan if value is None else value for _, value in points]
    return np.array([step for step, _ in points], dtype=np.float64), np.array(values, dtype=np.float64)


def _smooth(values: Floats) -> Floats:
    """A running median of the finite values: unlike a mean it does not lag and does not spread a spike."""
    finite = np.isfinite(values)
    smooth = values[finite]
    half = min(len(smooth) // 80, 50)
    if half:
        padded = np.pad(
            smooth, half, mode="symmetric"
        )  # at an end, the median of the points that are near it
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    result = np.full_like(values, np.nan)
    result[finite] = smooth
    return result


def _draw_losses(
    axes: Axes, loss: Series, valid: Series, unit: str, guess_name: str, guess: float | None
) -> None:
    if len(loss[0]):
        axes.plot(*loss, color=BLUE, alpha=0.25, linewidth=0.7)
        axes.plot(loss[0], _smooth(loss[1]), color=BLUE, linewidth=1.8, label="training")
    if len(valid[0]):
        axes.plot(
            *valid,
            color=VERMILLION,
            linewidth=1.5,
            marker="o",
            markersize=4,
            label=f"validation, last {valid[1][-1]:.3f}",
        )
    if guess is not None:
        label = f"{guess_name} {guess:.3f}"
        axes.axhline(guess, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, label=label)
    values = np.concatenate([loss[1], valid[1]])
    values = values[np.isfinite(values)]
    # A diverged run must not flatten the rest of its curve; 6 is above a uniform guess, so a usual beginning
    # is always seen.
    top = max(float(np.percentile(values, 98)), min(float(values.max()), 6.0), guess or 0.0)
    bottom = min(float(values.min()), top if guess is None else guess)
    margin = 0.06 * (top - bottom) or 0.1
    axes.set_ylim(bottom - margin, top + margin)
    axes.set_ylabel(f"loss, {unit}")
    _tidy(axes)
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")


def _draw_activity(axes: Axes, activity: dict[str, Series]) -> None:
    style = {"votes": (PURPLE, "--"), "flips": (GREEN, "-")}
    for key, (steps, values) in activity.items():
        colour, line = style[key]
        axes.plot(
            steps,
            np.where(values > 0, _smooth(values), np.nan),
            color=colour,
            linestyle=line,
            linewidth=1.3,
            label=key,
        )
    if any((values > 0).any() for _, values in activity.values()):
        axes.set_yscale("log")
    axes.set_ylabel("a step")
    _tidy(axes)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, fontsize=9, frameon=False)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
