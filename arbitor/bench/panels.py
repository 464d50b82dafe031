"""What the picture of `arbitor bench` shows: the rows of a record by operation and shape, in two columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]  # a way to do a case, as the record has it

FEW_TOKENS = 32  # up to so many, an operation is bound by the bytes of its weights: a panel of its own
SPREAD = 10  # the fastest bar over the slowest; above it bars are ratios, so that all can be seen
TITLE, GAP = 2.6, 0.7  # bars that the title of a panel takes, and the gap after a group


@dataclass(frozen=True)
class Panel:
    """An operation: its rows by shape, the baseline's first."""

    title: str
    groups: dict[str, list[Row]]
    by_ratio: bool  # whether bars are ratios to the first of their group

    @property
    def bars(self) -> float:
        """Its height, without the title."""
        return sum(len(rows) + GAP for rows in self.groups.values())

    def length(self, row: Row, rows: Sequence[Row]) -> float:
        """Of a row's bar in its group; 0 if it was not timed."""
        return float(row["speed"] or 0) / (rows[0]["speed"] if self.by_ratio else 1)


def contender(row: Row) -> str:
    """Who did a row: a backend, or one of the others."""
    return str(row["way"] if row["exact"] is None else row["way"].partition(": ")[0])


def others_first(rows: Iterable[Row]) -> list[Row]:
    """The rows in their order, those of others before ours: the baseline is the first of a group."""
    return sorted(rows, key=lambda row: row["exact"] is not None)


def panels_of(rows: Iterable[Row]) -> list[Panel]:
    """By operation, in the order of the record."""
    found: dict[tuple[str, bool], dict[tuple[str, ...], list[Row]]] = {}
    for row in others_first(rows):
        operation, *shape = row["case"].split(", ")
        few = any(part.startswith("T ") and int(part[2:]) <= FEW_TOKENS for part in shape)
        found.setdefault((operation, few), {}).setdefault(tuple(shape), []).append(row)
    return [_panel(operation, groups) for (operation, _), groups in found.items()]


def _panel(operation: str, groups: Mapping[tuple[str, ...], list[Row]]) -> Panel:
    """What all shapes share stands in the title, once."""
    shared = [part for part in next(iter(groups)) if len(groups) > 1 and all(part in at for at in groups)]
    names = ("\n".join(part for part in shape if part not in shared) for shape in groups)
    rows = [row for group in groups.values() for row in group]
    speeds = [row["speed"] for row in rows if row["speed"]]
    by_ratio = bool(speeds) and max(speeds) > SPREAD * min(speeds)
    title = f"{', '.join([operation, *shared])}: {'microseconds' if by_ratio else rows[0]['unit']}"
    return Panel(title, dict(zip(names, groups.values(), strict=True)), by_ratio)


def columns_of(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Two columns about as long as each other, one where there is one panel; each in the order given."""
    columns: list[list[Panel]] = [[] for _ in panels[:2]]
    for panel in sorted(panels, key=lambda panel: -panel.bars):
        min(columns, key=lambda column: sum(other.bars + TITLE for other in column)).append(panel)
    return [sorted(column, key=list(panels).index) for column in columns]
