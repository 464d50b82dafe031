"""What share of the mutants was killed: by lane, by clause, and who lives.

The score is killed / (all - equivalent). What ran out of time counts as killed and is listed; what did not
run counts in the denominator, and so does a result that belongs to an older edit.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbitor.judge.seal import SEAL, sealed
from arbitor.kernels import reading
from arbitor.kernels.reading import Unreadable

from .catalogue import CPU, CUDA, CatalogueRefused, Mutant
from .run import BROKEN, KILLED, NOT_RUN, SURVIVED, TIMED_OUT, Result

FORMAT = 1
DEAD = (KILLED, TIMED_OUT)
ALIVE = "equivalent, alive"
EXPLAINED = "survived, explained"
CLAIMED = "claimed equivalent, killed"
HEADING = """# Mutants killed

Made by `arbitor mutants --page`; the edits are in `conformance/mutants/`. A mutant is killed if a
test of the clause that it breaks fails. What did not run counts against the score; beside it stands
the share of what ran. Some code runs on one device only, so a set is also counted over all its
lanes.
"""


@dataclass(frozen=True)
class Judged:
    """A mutant in one lane, with what became of it."""

    mutant: Mutant
    lane: str
    result: Result

    @property
    def kind(self) -> str:
        """The outcome, in which equivalent and explained mutants have words of their own."""
        if self.mutant.equivalent and self.result.outcome in DEAD:
            return CLAIMED
        if self.mutant.equivalent and self.result.outcome == SURVIVED:
            return ALIVE
        if self.mutant.explained and self.result.outcome == SURVIVED:
            return EXPLAINED
        return self.result.outcome

    @property
    def wrong(self) -> bool:
        """Whether somebody has to look: a survivor without a reason, a reason that is not true, an edit that
        does not run."""
        return self.kind in (SURVIVED, CLAIMED, BROKEN)

    def idle(self, device: str) -> bool:
        """Whether it could have run there and nothing did: no test of its clause, or the run was ended."""
        could = device_of(self.lane) == device and not self.mutant.lacks(device)
        return could and self.result.outcome == NOT_RUN


def read(path: Path) -> dict[str, Any]:
    """A file of results; raises CatalogueRefused for one that is missing, no JSON, edited or of another
    format."""
    try:
        record = reading.json_object(reading.file_bytes(path))
    except OSError as error:
        raise CatalogueRefused(f"{path}: {error.strerror or error}") from None
    except Unreadable as error:
        raise CatalogueRefused(f"{path} is no whole file of results: {error}") from None
    if record.get("format") != FORMAT:
        raise CatalogueRefused(f"{path} is no file of results of format {FORMAT}")
    if sealed(record)[SEAL] != record.get(SEAL):
        raise CatalogueRefused(f"{path} was edited: its seal does not fit")
    schema = json.loads(Path(__file__).with_name("results.json").read_text(encoding="utf-8"))
    fault = reading.schema_fault(record, schema)
    if fault is not None:
        raise CatalogueRefused(f"{path} leaves the schema {fault}")
    return record


def as_text(record: Mapping[str, Any]) -> str:
    """A file of results, a line a mutant: a result that changes is a line that changes."""
    rest = {name: value for name, value in record.items() if name != "mutants"}
    lines = (f"{json.dumps(id)}: {json.dumps(entry)}" for id, entry in record["mutants"].items())
    return (
        json.dumps(rest, indent=1).removesuffix("\n}") + ',\n "mutants": {\n' + ",\n".join(lines) + "\n}}\n"
    )


def judged(mutants: Sequence[Mutant], records: Iterable[Mapping[str, Any]]) -> list[Judged]:
    """Every mutant in every lane of its set that the records have; a later record has precedence."""
    found: dict[tuple[str, str], Judged] = {}
    lanes: dict[str, set[str]] = {}
    by_id = {mutant.id: mutant for mutant in mutants}
    for record in records:
        for lane in record["lanes"]:
            lanes.setdefault(lane.partition(" ")[0], set()).add(lane)
        for id, entry in record["mutants"].items():
            mutant = by_id.get(id)
            if mutant is None or entry["digest"] != mutant.digest:
                continue
            for lane, result in entry["results"].items():
                found[id, lane] = Judged(mutant, lane, Result(**result))
    cases = []
    for mutant in mutants:
        for lane in sorted(lanes.get(mutant.set, ())):
            lacking = mutant.lacks(device_of(lane))
            missing = Judged(mutant, lane, Result(NOT_RUN, message=lacking or "no result of this edit"))
            cases.append(missing if lacking else found.get((mutant.id, lane), missing))
    return cases


def device_of(lane: str) -> str:
    """The device of a lane, by its name."""
    return CUDA if lane.endswith(f" on {CUDA}") else CPU


@dataclass(frozen=True)
class Score:
    """Counts of one lane, or of one clause in one lane."""

    counts: Counter[str]

    @property
    def killed(self) -> int:
        """Killed or out of time."""
        return sum(self.counts[kind] for kind in DEAD)

    @property
    def counted(self) -> int:
        """All but the equivalent ones: the denominator."""
        return self.counts.total() - self.counts[ALIVE]

    def __str__(self) -> str:
        if not self.counted:
            return "-"
        return f"{self.killed}/{self.counted}"

    @property
    def ran(self) -> int:
        """Those that count and ran."""
        return self.counted - self.counts[NOT_RUN]

    @property
    def percent(self) -> str:
        """The share of the killed ones, rounded down, so that 100 % is all of them."""
        return _percent(self.killed, self.counted)

    @property
    def percent_of_ran(self) -> str:
        """The share of those that ran."""
        return _percent(self.killed, self.ran)


def _percent(part: int, whole: int) -> str:
    return f"{1000 * part // whole / 10:.1f} %" if whole else "-"


def score(cases: Iterable[Judged]) -> Score:
    """The counts of some cases."""
    return Score(Counter(case.kind for case in cases))


def killed_somewhere(cases: Sequence[Judged]) -> Score:
    """Of each mutant the best that became of it in any lane: killed, else alive, else not run."""
    order = (KILLED, TIMED_OUT, ALIVE, EXPLAINED, SURVIVED, BROKEN, CLAIMED, NOT_RUN)
    best: dict[str, str] = {}
    for case in cases:
        known = best.get(case.mutant.id, case.kind)
        best[case.mutant.id] = min(known, case.kind, key=order.index)
    return Score(Counter(best.values()))


def page(cases: Sequence[Judged], records: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the score of each lane, of each clause in each lane, of each kind, and all that lives."""
    lanes = sorted({case.lane for case in cases})
    parts = [
        HEADING,
        _table(lanes, cases),
        _over_all_lanes(cases),
        _sources(records),
        "## By clause\n\n"
        + _matrix("clause or file", lanes, cases, lambda case: case.mutant.clause or case.mutant.file),
        "## By kind\n\n" + _matrix("kind", lanes, cases, lambda case: case.mutant.kind),
        _alive(cases),
    ]
    return "\n".join(parts)


def _table(lanes: Sequence[str], cases: Sequence[Judged]) -> str:
    order = (KILLED, TIMED_OUT, SURVIVED, EXPLAINED, NOT_RUN, BROKEN, CLAIMED, ALIVE)
    kinds = [kind for kind in order if any(case.kind == kind for case in cases)]
    lines = [f"| lane | score | of what ran | {' | '.join(kinds)} |", "|---|---|---|" + "---|" * len(kinds)]
    for lane in lanes:
        found = score(case for case in cases if case.lane == lane)
        numbers = " | ".join(str(found.counts[kind]) for kind in kinds)
        lines.append(f"| {lane} | {found} = {found.percent} | {found.percent_of_ran} | {numbers} |")
    return "\n".join(lines) + "\n"


def _over_all_lanes(cases: Sequence[Judged]) -> str:
    lines = ["| set | killed in one lane or another | lanes |", "|---|---|---|"]
    for name in sorted({case.mutant.set for case in cases}):
        of_set = [case for case in cases if case.mutant.set == name]
        lanes = ", ".join(sorted({case.lane for case in of_set}))
        found = killed_somewhere(of_set)
        lines.append(f"| {name} | {found} = {found.percent} | {lanes} |")
    return "\n".join(lines) + "\n"


def _matrix(title: str, lanes: Sequence[str], cases: Sequence[Judged], key: Any) -> str:
    lines = [f"| {title} | {' | '.join(lanes)} |", "|---|" + "---|" * len(lanes)]
    for row in sorted({key(case) for case in cases}):
        of_row = [case for case in cases if key(case) == row]
        cells = [str(score(case for case in of_row if case.lane == lane)) for lane in lanes]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sources(records: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for record in records:
        for lane, made in record["lanes"].items():
            source = made["source"] or {}
            mark = " with edits" if source.get("dirty") else ""
            device = ", ".join(made["machine"]["cuda_devices"]) or f"{made['machine']['cpu_cores']} cores"
            commit = source.get("commit", "?")[:7] + mark
            lines.append(_item(f"{lane}: `{made['command']}`, {commit}, {device}, {made['date']}"))
    return "\n".join(lines) + "\n"


def _alive(cases: Sequence[Judged]) -> str:
    parts = []
    for kind in (SURVIVED, EXPLAINED, BROKEN, CLAIMED, ALIVE, TIMED_OUT, NOT_RUN):
        of_kind = [case for case in cases if case.kind == kind]
        if of_kind:
            parts.append(f"## {kind.capitalize()}\n")
            parts += [_line(case) for case in of_kind]
            parts.append("")
    return "\n".join(parts)


def _line(case: Judged) -> str:
    mutant = case.mutant
    why = mutant.equivalent or mutant.explained or case.result.message or mutant.why
    return _item(f"`{mutant.id}` ({mutant.clause}, {case.lane}): {why}")


def _item(text: str) -> str:
    """An item of a list of Markdown, in lines of at most 100 characters."""
    return textwrap.fill(
        f"- {text}", 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
