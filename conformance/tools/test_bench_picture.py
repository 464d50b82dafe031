"""The picture of `arbitor bench`: every contender of a record has its bar, its colour and its ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arbitor.bench.panels import columns_of, panels_of
from arbitor.bench.picture import draw, figure_of

BASELINES = {"forward": ("bf16", "_int_mm"), "update": ("bf16 + AdamW",), "quantise": ("copy",)}


def row(case: str, way: str, speed: float | None, **more: Any) -> dict[str, Any]:
    """A row as the record has it; a way with a colon is a backend's, twice as fast as its baseline."""
    others = BASELINES[case.split(",")[0]]
    ours = way not in others
    found = {"case": case, "way": way, "exact": True if ours else None, "unit": "TOPS", "speed": speed}
    compared = {"ms": 1 / speed if speed else None, "versus": dict.fromkeys(others, 2.0) if ours else {}}
    return found | compared | more


def rows_of(case: str, *ours: str) -> list[dict[str, Any]]:
    """A group: the others at 100, then ours at 200."""
    others = BASELINES[case.split(",")[0]]
    return [row(case, way, 100.0) for way in others] + [row(case, way, 200.0) for way in ours]


FORWARD = [f"{name}: forward" for name in ("triton", "tilelang", "torch", "my_kernels.py")]
RECORD: dict[str, Any] = {
    "environment": {"device": "NVIDIA H200"},
    "rounds": 21,
    "rows": [
        *rows_of("update, T 64, 8 x 8", "triton: update", "triton: unfused"),
        *rows_of("forward, T 64, 8 x 8", *FORWARD),
        *rows_of("forward, T 64, 8 x 16", *FORWARD),
        row(
            "quantise, 8 x 8", "torch", None, exact=False, versus={}
        ),  # before the others, as run_case has it
        *rows_of("quantise, 8 x 8", "triton: both"),
        row("forward, T 1, 8 x 8", "bf16", 1.0),
        row("forward, T 1, 8 x 8", "triton: forward", 50.0),
    ],
}


def test_every_contender_is_in_the_picture() -> None:
    """Its name in the one legend, a bar for each of its rows in its own colour, and each ratio of ours."""
    figure = figure_of(RECORD)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "bf16 + AdamW", "bf16", "torch._int_mm", "copy", "triton", "tilelang", "torch", "my_kernels.py",
    ]  # fmt: skip
    of = {
        text.get_text(): patch.get_facecolor()
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert len(set(of.values())) == len(of)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert set(panels) == {
        "update: TOPS", "forward, T 64: TOPS", "quantise: TOPS", "forward: microseconds",
    }  # fmt: skip
    bars: dict[str, list[Any]] = {title: list(axes.patches) for title, axes in panels.items()}
    shown = [(bar.get_width(), bar.get_edgecolor()) for bar in bars["forward, T 64: TOPS"]]
    assert shown == 2 * [
        *((100, of[name]) for name in ("bf16", "torch._int_mm")),
        *((200, of[name]) for name in ("triton", "tilelang", "torch", "my_kernels.py")),
    ]
    assert sum(len(found) for found in bars.values()) == len(RECORD["rows"])
    texts = [text.get_text().strip() for axes in figure.axes for text in axes.texts]
    assert texts.count("2.00x") == sum(bool(row["versus"]) for row in RECORD["rows"])
    assert "200 unfused" in texts
    assert "not exact, so not timed" in texts


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (
            RECORD["rows"],
            [["forward, T 64: TOPS"], ["update: TOPS", "quantise: TOPS", "forward: microseconds"]],
        ),
        (RECORD["rows"][:3], [["update: TOPS"]]),
    ],
)
def test_columns_are_about_as_long(rows: list[dict[str, Any]], columns: list[list[str]]) -> None:
    """No column waits for one long panel, and one panel has the whole width."""
    found = columns_of(panels_of(rows))
    assert [[panel.title for panel in column] for column in found] == columns


def test_draw(tmp_path: Path) -> None:
    """A record of which nothing is left to compare is drawn, too."""
    path = tmp_path / "folder" / "bench.png"
    draw(RECORD | {"rows": [row("update, T 64, 8 x 8", "bf16 + AdamW", 1.0)]}, path)
    assert path.read_bytes().startswith(b"\x89PNG")
