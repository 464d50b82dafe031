"""Waivers: failures that are known, each with a reason, a link and a day on which it ends (docs/reports.md).

A waiver names one test by its id and one device. The folders before the file's name do not count: a test that
moves to another room of the suite, or an installed suite, has the same waivers. A waiver is stale, and fails
the run, once it has expired, once its test passes, and if there is no such test.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from arbitor.kernels import reading
from arbitor.kernels.reading import Unreadable, said

DEVICES = ("cpu", "cuda")
USED, EXPIRED, PASSES, UNKNOWN = "used", "expired", "passes", "unknown test"
STALE = (EXPIRED, PASSES, UNKNOWN)
NEWLY = "a file of waivers has [[waiver]] tables with test, device, reason, link and expires"


@dataclass(frozen=True)
class Waiver:
    """One known failure: id of its test, "cpu" or "cuda", why, where it is followed up, its last day."""

    test: str
    device: str
    reason: str
    link: str
    expires: date

    @property
    def key(self) -> str:
        """What tells the test apart from all others."""
        return without_folders(self.test)

    def expired(self) -> bool:
        """Whether its last day, in UTC, is over."""
        return self.expires < datetime.now(UTC).date()

    def __str__(self) -> str:
        return f"{self.reason} ({self.link}), until {self.expires}"


def without_folders(test: str) -> str:
    """`test_pack.py::test_agrees` of `conformance/operations/packing/test_pack.py::test_agrees`."""
    file, colons, name = test.partition("::")
    return file.rpartition("/")[2] + colons + name


def load(path: Path) -> list[Waiver]:
    """The waivers of a TOML file. Raises ValueError with one sentence for anything that it may not be."""
    try:
        data = reading.toml_of(reading.file_bytes(path, reading.MEGABYTE))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except Unreadable as error:
        raise ValueError(f"{path}: {error}") from None
    tables = data.get("waiver")
    if set(data) - {"waiver"} or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise ValueError(f"{path}: has {', '.join(data) or 'nothing'}; {NEWLY}")
    found: dict[tuple[str, str], Waiver] = {}
    for number, table in enumerate(tables, start=1):
        try:
            waiver = _waiver(table)
            if (waiver.key, waiver.device) in found:
                raise ValueError(f"{waiver.test} on {waiver.device} is waived twice")
        except ValueError as error:
            raise ValueError(f"{path}: waiver {number}: {error}") from None
        found[waiver.key, waiver.device] = waiver
    return list(found.values())


def _waiver(table: Mapping[str, Any]) -> Waiver:
    names = [field.name for field in fields(Waiver)]
    if set(table) != set(names):
        missing, extra = sorted(set(names) - set(table)), sorted(set(table) - set(names))
        wrong = [*(f"lacks {name}" for name in missing), *(f"has {name}" for name in extra)]
        raise ValueError(f"{', '.join(wrong)}; expected {', '.join(names)}")
    for name in names[:-1]:
        if not isinstance(table[name], str) or not table[name].strip():
            raise ValueError(f"{name} is {said(table[name])}, expected text")
    if table["device"] not in DEVICES:
        raise ValueError(f"device is {said(table['device'])}, expected {' or '.join(DEVICES)}")
    if not table["link"].startswith(("http://", "https://")):
        raise ValueError(f"link is {said(table['link'])}, expected http:// or https://")
    if type(table["expires"]) is not date:
        raise ValueError(f"expires is {said(table['expires'])}, expected a date such as 2027-01-31")
    return Waiver(**table)


def states(
    waivers: Collection[Waiver], device: str, verdicts: Mapping[str, str], known: Collection[str], suite: Path
) -> list[dict[str, str]]:
    """What became of the waivers that concern a run, as its record has them.

    `verdicts` are those of the tests that were selected, `known` all tests that were collected, by their ids;
    `suite` is the folder of all test files.
    One for another device concerns it as little as one whose test was left out or did not run, unless it has
    expired; one whose file was not collected may be of another part of the suite.
    """
    verdicts = {without_folders(test): verdict for test, verdict in verdicts.items()}
    known = {without_folders(test) for test in known} | set(verdicts)
    files = {test.partition("::")[0] for test in known}
    found = []
    for waiver in waivers:
        if waiver.device == device:
            state = _state(waiver, verdicts) if waiver.key in known else _absent(waiver, files, suite)
            if state is not None:
                found.append(asdict(waiver) | {"expires": waiver.expires.isoformat(), "state": state})
    return found


def _absent(waiver: Waiver, files: Collection[str], suite: Path) -> str | None:
    file = waiver.key.partition("::")[0]
    return UNKNOWN if file in files or file not in {path.name for path in suite.rglob("*.py")} else None


def _state(waiver: Waiver, verdicts: Mapping[str, str]) -> str | None:
    if waiver.expired():
        return EXPIRED
    return {"waived": USED, "passed": PASSES}.get(verdicts.get(waiver.key, ""))
