"""The badge of a report: shields.io's endpoint JSON, and the same badge as SVG for the page.

What did not run is on it: a badge that only says "passing" hides it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from arbitor.kernels.writing import write_whole

from .summary import ran, wrong

LABEL = "arbitor"
_FILL = {
    "brightgreen": "#2c7a3f",
    "yellow": "#8a6100",
    "red": "#b3261e",
}  # 4.5 to 1 and more under white text
_SVG = Markup(
    '<svg class="badge" role="img" aria-label="{label}: {message}" '
    'width="{width}" height="20" viewBox="0 0 {width} 20">'
    '<rect width="{width}" height="20" rx="3" fill="{fill}"/>'
    '<path d="M3 0h{flat}v20h-{flat}a3 3 0 0 1-3-3v-14a3 3 0 0 1 3-3z" fill="#444b54"/>'
    '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">'
    '<text x="7" y="14" textLength="{label_length}">{label}</text>'
    '<text x="{at}" y="14" textLength="{message_length}">{message}</text></g></svg>'
)


def message(record: Mapping[str, Any]) -> str:
    """Counts in words: what is wrong first, then what passed, then what did not run."""
    counts = record["counts"]
    said = [f"{counts[kind]} {kind}" for kind in ("failed", "crashed", "waived") if counts[kind]]
    said.append(f"{counts['passed']} passed")
    said += [f"{counts['not_run']} not run"] if counts["not_run"] else []
    return ("" if record["run"]["complete"] else "partial: ") + ", ".join(said)


def color(record: Mapping[str, Any]) -> str:
    """Red: the run failed, or nothing ran; yellow: waived cases, or a partial run; brightgreen else."""
    run = record["run"]
    if wrong(record) or not ran(record) or (run["complete"] and run["exit_status"]):
        return "red"
    return "yellow" if record["counts"]["waived"] or not run["complete"] else "brightgreen"


def write(record: Mapping[str, Any], path: Path) -> None:
    """Write the record's badge to `path`, in shields.io's endpoint schema."""
    badge = {"schemaVersion": 1, "label": LABEL, "message": message(record), "color": color(record)}
    write_whole(path, (json.dumps(badge) + "\n").encode())


def svg(record: Mapping[str, Any]) -> Markup:
    """The badge as an SVG element that needs nothing from outside."""
    text = message(record)
    left, right = _pixels(LABEL) + 12, _pixels(text) + 14
    return _SVG.format(
        label=LABEL,
        message=text,
        fill=_FILL[color(record)],
        width=left + right,
        flat=left - 3,
        at=left + 7,
        label_length=left - 12,
        message_length=right - 14,
    )


def _pixels(text: str) -> int:
    """About the width of a text in Verdana of 11 px; textLength makes the browser keep to it."""
    narrow = sum(letter in "ijlt,:. r" for letter in text)
    return round(7 * (len(text) - narrow) + 4.3 * narrow)
