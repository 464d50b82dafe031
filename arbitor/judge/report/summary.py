"""What a record of a run says about the backend, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Record = Mapping[str, Any]

WRONG = ("failed", "crashed")
_SELECTING = (
    "-k",
    "-m",
    "--clause",
    "--kernels",
    "--only",
    "--deselect",
    "--ignore",
    "--lf",
    "--last-failed",
    "--sw",
)


@dataclass(frozen=True)
class Verdict:
    """The judgement: `tone` is good, doubtful or bad; `warnings` are said loudly, `notes` are not."""

    tone: str
    headline: str
    warnings: Sequence[str]
    notes: Sequence[str]


def ran(record: Record) -> int:
    """How many tests came to an end, a crash included."""
    return int(sum(record["counts"].values()) - record["counts"]["not_run"])


def wrong(record: Record) -> int:
    """How many failed or crashed and were not waived."""
    return int(sum(record["counts"][kind] for kind in WRONG))


def counted(number: int, what: str) -> str:
    """1 case, 2,014 cases."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def verdict(record: Record) -> Verdict:
    """What the run says about the backend: "conforms" only where all that was selected was judged."""
    return Verdict(*_judgement(record), _warnings(record), _notes(record))


def _judgement(record: Record) -> tuple[str, str]:
    """Tone and headline."""
    counts, run, cases = record["counts"], record["run"], counted(ran(record), "case")
    where = " in the part that was selected" if _selected(record) else ""
    if counts["crashed"]:
        failed = f"{counts['failed']:,} failed and " if counts["failed"] else ""
        return "bad", f"Does not conform: {failed}{counts['crashed']:,} crashed of {cases}"
    if counts["failed"]:
        return "bad", f"Does not conform: {counts['failed']:,} of {cases} failed"
    if not ran(record):
        return "bad", "No verdict: nothing ran"
    if not run["complete"]:
        return "doubtful", "No verdict: the run did not finish"
    if run["exit_status"]:
        return "bad", f"The run failed with exit status {run['exit_status']}, although no case did"
    if counts["waived"]:
        return "doubtful", f"Conforms{where}, except for {counted(counts['waived'], 'waived case')}"
    return "good", f"Conforms{where}"


def _selected(record: Record) -> list[str]:
    """Words to pytest that left out a part of the suite."""
    return [word for word in record["run"]["arguments"] if word.startswith(_SELECTING) or "::" in word]


def _warnings(record: Record) -> list[str]:
    said = []
    run = record["run"]
    if not run["complete"]:
        ended, all_of_it = run["ended"], record["selection"]["tests"]
        said.append(
            f"Partial: {ended}. {ran(record):,} of {counted(all_of_it, 'selected case')} ran; "
            "nothing is known of the others."
        )
    stale = [waiver for waiver in record["waivers"] if waiver["state"] != "used"]
    if stale:
        are = "is" if len(stale) == 1 else "are"
        waivers = f"{counted(len(stale), 'waiver')} of {len(record['waivers']):,}"
        said.append(f"{waivers} {are} stale: expired, for a test that passes, or for none.")
    return said


def _notes(record: Record) -> list[str]:
    counts = record["counts"]
    said = []
    if ran(record):
        said.append(f"{counts['passed']:,} of {counted(ran(record), 'case')} that ran passed, bit for bit.")
    if counts["not_run"]:
        said.append(f"{counts['not_run']:,} did not run; that is not passing, and the reasons are below.")
    if _selected(record):
        words = " ".join(record["run"]["arguments"])
        said.append(f"This is a part of the suite: pytest was given {words}")
    return said


def facts(record: Record) -> dict[str, str]:
    """What was judged, on what and how, for the head of the page."""
    backend, run, machine = record["backend"], record["run"], record["machine"]
    cores = machine.get("cpu_cores")  # not every system tells
    on = machine["cuda_devices"] if backend["device"] != "cpu" else [counted(cores, "core")] if cores else []
    made_with = dict.fromkeys(("arbitor", "torch", backend["name"], "python"))
    versions = [f"{name} {machine[name]}" for name in made_with if isinstance(machine.get(name), str)]
    return {
        "Backend": backend["name"],
        "Module": backend["module"],
        "Device": ", ".join([backend["device"], *on]),
        "Commit": _commit(record["source"]),
        "Versions": ", ".join(versions),
        "Started": moment(run["started"]),
        "Took": f"{seconds(run['seconds'])}, {counted(run['workers'], 'worker')}",
        "Examples": run["examples"],
        "Arguments to pytest": " ".join(run["arguments"]) or "none",
    }


def _commit(source: Mapping[str, Any] | None) -> str:
    if source is None:
        return "unknown: not a checkout"
    return str(source["commit"])[:12] + (", with uncommitted changes" if source.get("dirty") else "")


def seconds(number: float) -> str:
    """0.012 s, 12.3 s, 2 min 5 s."""
    if number < 1:
        return f"{number:.3f} s"
    if number < 60:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest} s"


def moment(text: str) -> str:
    """An ISO time as 2026-11-26 06:41:55 UTC."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S %Z").strip()
