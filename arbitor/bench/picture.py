"""The picture of `arbitor bench`: ours beside what people use, a panel an operation and bars by shape."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbitor.kernels.writing import write_whole

from .panels import GAP, TITLE, Panel, Row, columns_of, contender, others_first, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours; greys are what people use with weights of bfloat16
COLOURS = {
    "bf16": "#BBBBBB", "bf16 + AdamW": "#888888", "_int_mm": "#E69F00", "copy": "#56B4E9",
    "triton": "#0072B2", "tilelang": "#D55E00", "torch": "#009E73",
}  # fmt: skip
OTHERS = ("#CC79A7", "#000000", "#F0E442")
SHOWN = {"_int_mm": "torch._int_mm"}
SAID = "a longer bar is faster; on ours: times as fast as the first bar of the group"
NOTE = "T: tokens; rows x columns: of the weight, or of what is quantised; medians of {} rounds"
WIDTH, HEAD, SLOT, DPI = 9.0, 0.9, 0.135, 200  # inches, inches, inches a bar, dots an inch
INSIDE, MARGIN = 0.16, 1.2  # of the axis: a shorter bar has no room for its ratio; room behind the longest


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Write the PNG of a record of `arbitor bench`, whole or not at all."""
    write_whole(path, png_of(figure_of(record), DPI))


def png_of(figure: Figure, dpi: int) -> bytes:
    """A figure as a PNG of 256 colours: a third of the bytes of one of all, and the same to the eye."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    whole = Image.open(drawn).convert("RGB")
    few = whole.quantize(method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def figure_of(record: Mapping[str, Any]) -> Figure:
    """The picture of a record of `arbitor bench`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = columns_of(panels_of(record["rows"]))
    taken = [sum(panel.bars + TITLE for panel in column) for column in columns]
    figure = Figure(figsize=(WIDTH, HEAD + SLOT * max(taken)), layout="constrained")
    FigureCanvasAgg(figure)
    colours = colours_of(record["rows"])
    grid = figure.add_gridspec(1, len(columns))
    for place, column in enumerate(columns):
        rest = max(taken) - taken[place] + 0.01  # so that bars are as high as in the other column
        heights = [*(panel.bars for panel in column), rest]
        parts = grid[place].subgridspec(len(heights), 1, height_ratios=heights)
        for part, panel in enumerate(column):
            _draw_panel(figure.add_subplot(parts[part]), panel, colours)
    shown = [Patch(color=colour, label=SHOWN.get(name, name)) for name, colour in colours.items()]
    title, bold = f"{record['environment']['device']}: {SAID}", {"weight": "bold", "size": 9.5}
    where: dict[str, Any] = {"loc": "outside upper center", "ncols": 8, "fontsize": 9, "frameon": False}
    figure.legend(handles=shown, title=title, title_fontproperties=bold, **where)
    figure.supxlabel(NOTE.format(record["rounds"]), fontsize=8)
    return figure


def colours_of(rows: Iterable[Row]) -> dict[str, str]:
    """A colour for each contender, others first."""
    names = dict.fromkeys(contender(row) for row in others_first(rows))
    strangers = [name for name in names if name not in COLOURS]
    more = {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(strangers)}
    return {name: (COLOURS | more)[name] for name in names}


def _draw_panel(axes: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    longest = max(panel.length(row, rows) for rows in panel.groups.values() for row in rows)
    axes.set_xlim(0, longest * MARGIN or 1)
    place, ticks = 0.0, {}
    for name, rows in panel.groups.items():
        ticks[place + (len(rows) - 1) / 2] = name
        whose = [contender(row) for row in rows]
        for number, row in enumerate(rows):
            colour, length = colours[whose[number]], panel.length(row, rows)
            outline = whose[number] in whose[:number]  # a further way of the same one
            axes.barh(place, length, 0.86, color="white" if outline else colour, edgecolor=colour)
            _label(axes, place, row, length, panel.by_ratio, colour if outline else None)
            place += 1
        place += GAP
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize=8)
    axes.set_ylim(place - GAP - 0.5, -0.5)  # the first on top
    axes.set_title(panel.title, loc="left", fontsize=9, fontweight="bold")
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _label(axes: Axes, place: float, row: Row, length: float, by_ratio: bool, outline: str | None) -> None:
    """The ratio to the baseline on the bar, and behind it what was measured."""
    if row["speed"] is None:
        axes.text(0, place, " not exact, so not timed", va="center_baseline", fontsize=7.5, color="#D55E00")
        return
    value = row["ms"] * 1000 if by_ratio else row["speed"]
    behind = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
    ratio = f"{next(iter(row['versus'].values())):.2f}x" if row["versus"] else ""
    if ratio and length > INSIDE * axes.get_xlim()[1]:
        on: dict[str, Any] = {"ha": "right", "va": "center_baseline", "fontsize": 7.5, "fontweight": "bold"}
        axes.text(length, place, f"{ratio} ", color=outline or "white", **on)
    elif ratio:
        behind += f" ({ratio})"
    behind += f" {row['way'].partition(': ')[2]}" if outline else ""
    axes.text(length, place, behind, va="center_baseline", fontsize=7.5)
