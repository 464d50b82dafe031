"""digests.jsonl of a run as data (ARB-TRAIN-006): what each digest is of, and the lines by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbitor.kernels.reading import schema_fault

from ..recording.lines import read_lines
from ..recording.recorder import FORMAT

DIGITS = 16  # of a digest
_TEXT = {"type": "string", "maxLength": 200}
HEADER: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["format", "kind", "tensors", "by"],
    "properties": {
        "format": {"const": FORMAT},
        "kind": _TEXT,
        "tensors": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "array",
                "minItems": 2,
                "maxItems": 3,
                "prefixItems": [_TEXT],
                "items": {"type": "integer", "minimum": 0},
            },
        },
        "by": {
            "type": "object",
            "additionalProperties": False,
            "required": ["arbitor", "backend", "device", "torch", "python", "ranks"],
            "properties": {
                **dict.fromkeys(("arbitor", "backend", "device", "torch", "python"), _TEXT),
                "ranks": {"type": "integer", "minimum": 1},
            },
        },
    },
}
LINE: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["step", "state"],
    "properties": {
        "step": {"type": "integer", "minimum": 0},
        "batch": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "loss": _TEXT,
        "state": {"type": "string", "pattern": "^([0-9a-f]{16})+$"},
    },
}


@dataclass(frozen=True)
class Line:
    """One update: the step behind it, the digest of its batches and its loss, None at a beginning, and the
    digests of the state by tensor."""

    step: int
    batch: str | None
    loss: str | None
    state: Mapping[str, str]

    @classmethod
    def of(cls, found: Mapping[str, Any], names: Iterable[str]) -> Line:
        """A legal line of the file, whose tensors have these names."""
        text = found["state"]
        digests = (text[place : place + DIGITS] for place in range(0, len(text), DIGITS))
        state = dict(zip(names, digests, strict=True))
        return cls(found["step"], found.get("batch"), found.get("loss"), state)

    @property
    def state_alone(self) -> Line:
        """Without what led to it."""
        return Line(self.step, None, None, self.state)


@dataclass(frozen=True)
class Record:
    """All lines of a run by step, in order; its names of tensors, the kind of its data, what made it."""

    path: Path
    names: tuple[str, ...]
    kind: str
    by: Mapping[str, Any]
    lines: Mapping[int, Line]
    torn: bool  # whether the file ends in half a line, which is left out

    @property
    def first(self) -> int:
        """The step at which the record begins."""
        return next(iter(self.lines))

    @property
    def last(self) -> int:
        """The step at which it ends."""
        return [*self.lines][-1]

    @property
    def made_by(self) -> str:
        """In words."""
        by = self.by
        ranks = f", {by['ranks']} ranks" if by["ranks"] > 1 else ""
        return f"{by['backend']} on {by['device']}, torch {by['torch']}{ranks}"


def read_record(folder: Path) -> Record:
    """The record of the run in a folder. Raises ValueError for one that is not there or not whole."""
    path = folder / "digests.jsonl"
    if not folder.is_dir():
        raise ValueError(f"{folder} is {'no folder' if folder.exists() else 'not there'}, expected a run's")
    if not path.is_file():
        raise ValueError(
            f"there is no {path}: a ternary run writes it since there is arbitor audit, a twin does not"
        )
    header, *rest = read_lines(path) or [{}]
    fault = schema_fault(header, HEADER)
    if fault is not None:
        raise ValueError(f"{path} is no record of a run; line 1, {fault}")
    names, steps = tuple(header["tensors"]), [found.get("step") for found in rest]
    lines: dict[int, Line] = {}
    for number, found in enumerate(rest, start=2):
        fault = schema_fault(found, LINE) or _fault(found, len(names), steps[: number - 2])
        if fault is not None:
            raise ValueError(f"{path}, line {number}: {fault}")
        lines[found["step"]] = Line.of(found, names)
    if not lines:
        raise ValueError(f"{path} has no line of a step")
    with path.open("rb") as file:
        torn = not file.read().endswith(b"\n")
    return Record(path, names, header["kind"], header["by"], lines, torn)


def _fault(line: Mapping[str, Any], tensors: int, before: Sequence[Any]) -> str | None:
    """What is wrong with a line of a legal form, behind lines of these steps; updates have equal lengths."""
    if before and line["step"] <= before[-1]:
        return f"step {line['step']} behind step {before[-1]}"
    if len(before) > 1 and line["step"] != 2 * before[-1] - before[-2]:
        return f"step {line['step']} behind step {before[-1]}, expected {2 * before[-1] - before[-2]}"
    if len(line["state"]) != DIGITS * tensors:
        return f"{len(line['state']) / DIGITS:g} digests, expected those of {tensors} tensors"
    if before and not {"batch", "loss"} <= set(line):
        return "an update without its batch and its loss"
    return None


def first_difference(mine: Line, theirs: Line, losses: bool = True) -> str | None:
    """What differs in one update, in words: its batch, from which all else follows, or its loss and the first
    tensor of the state. None where nothing does."""
    if mine.batch != theirs.batch:
        return "batch"
    found = (
        [f"loss ({_number(mine.loss)} and {_number(theirs.loss)})"]
        if losses and mine.loss != theirs.loss
        else []
    )
    wrong = [name for name, digest in mine.state.items() if theirs.state.get(name) != digest]
    if wrong:
        more = f" (the first of {len(wrong)} tensors of {len(mine.state)})" if len(wrong) > 1 else ""
        found.append(f"{wrong[0]}{more}")
    return " and ".join(found) or None


def _number(text: str | None) -> str:
    return "none" if text is None else f"{float.fromhex(text):.9g}"
