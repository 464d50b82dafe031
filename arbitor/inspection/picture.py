"""The picture of `arbitor inspect`: densities of the trits, exponents, accumulated votes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arbitor.kernels.plain import plain
from arbitor.kernels.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .matrices import Ternary

# Okabe and Ito's colours, told apart by every kind of colour vision
BLUE, VERMILLION, LIGHT, GREY = "#0072B2", "#D55E00", "#DDDDDD", "#555555"
TALLEST = 120.0  # inches: what has more matrices has them closer to each other
NAMED = 500  # matrices that there is room for the names of
COLOURS = {"-1": VERMILLION, "0": LIGHT, "+1": BLUE}


def draw(matrices: Sequence[Ternary], path: Path, title: str, threshold: int | None) -> None:
    """Write a PNG, whole or not at all. `threshold`: of the accumulators, None if it is not known.

    Raises `ValueError` for a path that is no .png and where there is nothing to draw, `OSError` for a path
    that cannot be written, `ModuleNotFoundError` without matplotlib.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"--picture {path}: expected a name that ends in .png")
    if not matrices:
        raise ValueError("--picture: there is no ternary matrix to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = min(max(5.0, 1.6 + 0.24 * len(matrices)), TALLEST)
    figure = Figure(figsize=(11, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["trits", "exponents"], ["trits", "votes"]])
    _densities(panels["trits"], matrices)
    _exponents(panels["exponents"], matrices)
    _votes(panels["votes"], matrices, threshold)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_whole(path, data.getvalue())


def _densities(axes: Axes, matrices: Sequence[Ternary]) -> None:
    shares = np.array([matrix.trits.numpy() / matrix.weights for matrix in matrices])
    places = np.arange(len(matrices))
    start = np.zeros(len(matrices))
    for (label, colour), share in zip(COLOURS.items(), shares.T, strict=True):
        axes.barh(places, share, left=start, color=colour, label=label, height=0.8)
        start += share
    every = 1 + len(matrices) // NAMED
    axes.set_yticks(places[::every], [_name(matrix) for matrix in matrices[::every]], fontsize=8)
    axes.set(xlim=(0, 1), xlabel="share of the trits")
    for third in (1 / 3, 2 / 3):
        line = axes.axvline(third, color="black", linewidth=1, linestyle=(0, (2, 2)))
    line.set_label("a third, as initialised")
    axes.set_ylim(len(matrices) - 0.5, -0.5)  # the first on top
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    first, *bars = axes.get_legend_handles_labels()[0]
    axes.legend(
        handles=[*bars, first], loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=9, frameon=False
    )


def _exponents(axes: Axes, matrices: Sequence[Ternary]) -> None:
    counts = np.sum([matrix.exponents.numpy() for matrix in matrices], axis=0)
    lowest = min(matrix.shape.e_base for matrix in matrices)
    highest = max(matrix.shape.e_base + matrix.shape.e_span for matrix in matrices)
    values = np.arange(lowest, highest + 1)
    found = counts[values + 128]
    axes.bar_label(axes.bar(values, found, color=BLUE, width=0.8), [f"{n:,}" if n else "" for n in found])
    axes.set_xticks(values)
    axes.set(xlabel="exponent e of a group, in all bands", ylabel="groups")
    axes.margins(y=0.12)  # for the numbers on top
    _tidy(axes)


def _votes(axes: Axes, matrices: Sequence[Ternary], threshold: int | None) -> None:
    counts = np.sum([matrix.votes.numpy() for matrix in matrices], axis=0)
    largest = int(np.abs(np.flatnonzero(counts) - 127).max())
    shown = min(127, max(largest, threshold or 0) + 2)
    values = np.arange(-shown, shown + 1)
    axes.bar(values, counts[values + 127], color=BLUE, width=1.0)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)  # one trit alone is seen
    if threshold is not None:
        for side in (-threshold, threshold):
            axes.axvline(side, color=VERMILLION, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.set_title(f"dashed: the threshold, {threshold}", loc="right", fontsize=9, color=VERMILLION)
    axes.set(xlabel="accumulated votes a", ylabel="trits")
    _tidy(axes)


def _name(matrix: Ternary) -> str:
    return plain(matrix.name).replace("$", r"\$") or "(no name)"  # no mathematics


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
