"""The picture of a run: is its loss below what frequencies alone score, did trits move (ARB-TRAIN-003)?"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]
Series = tuple[Floats, Floats]

# Okabe and Ito's colours, told apart by every kind of colour vision; lines also differ in shape.
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"


def draw(
    records: Sequence[dict[str, Any]], title: str, unit: str, guess_name: str, guess: float | None
) -> bytes | None:
    """A PNG of the keys loss, val_loss, flips and votes of the records; None without a finite loss.

    ``guess`` is the loss to beat, in ``unit``. Raises ValueError where matplotlib is not installed.
    """
    series = {key: _series(records, key) for key in ("loss", "val_loss", "flips", "votes")}
    if not any(np.isfinite(series[key][1]).any() for key in ("loss", "val_loss")):
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("it needs matplotlib, which is not installed: pip install matplotlib") from error
    activity = {key: series[key] for key in ("votes", "flips") if len(series[key][0])}
    figure = Figure(figsize=(8, 5.6 if activity else 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        2 if activity else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1][: 1 + bool(activity)]
    )
    _draw_losses(panels[0, 0], series["loss"], series["val_loss"], unit, guess_name, guess)
    panels[0, 0].set_title(title.replace("$", r"\$"), loc="left", fontsize=12, fontweight="bold")
    if activity:
        _draw_activity(panels[1, 0], activity)
    panels[-1, 0].set_xlabel("step")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _series(records: Sequence[dict[str, Any]], key: str) -> Series:
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
