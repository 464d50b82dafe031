"""The page of a report in a headless browser: it opens without a complaint, filters, and asks nobody for
anything."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.tools.reports.pages import Parsed, entry, filled, record_of, waiver
from arbitor.judge.report import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--dump-dom",
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here")


def opened(record: dict[str, Any], folder: Path, hash_: str = "") -> tuple[Parsed, str]:
    """The document that a browser made of the record's page, its script run, and the browser's complaints."""
    file = folder / "page.html"
    page.write(record, file)
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", file.as_uri() + hash_]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return Parsed(done.stdout), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def shown_rows(found: Parsed) -> list[str]:
    """Names of the tests whose rows are not hidden."""
    rows = re.findall(r"\n(passed|failed|not run)\n(\S+::\S+)\n", found.text["tests"])
    hidden = ["hidden" in row for row in found.all_of("tr")][-len(rows) :]
    return [name for (_, name), gone in zip(rows, hidden, strict=True) if not gone]


def test_opens_and_filters(tmp_path: Path) -> None:
    tests = [
        entry(f"conformance/test_pack.py::test_{i}", "failed" if i in (7, 8) else "passed") for i in range(20)
    ]
    tests += [entry(f"conformance/test_unpack.py::test_{i}", "not run") for i in range(8)]
    record = record_of(tests=tests)
    found, complaints = opened(record, tmp_path, "#filter=arb-pack TEST_7&verdict=failed")
    assert complaints == ""
    html = next(found.all_of("html"))
    assert html["data-ready"] == "true"
    assert "1 of 28 tests" in found.words("tests")
    assert shown_rows(found) == ["conformance/test_pack.py::test_7"]
    assert [("open" in part) for part in found.all_of("details") if part.get("id") == "all"] == [True]
    assert "Does not conform: 2 of 20 cases failed" in found.words("")
    buttons = list(found.all_of("button"))
    commands = [div for div in found.all_of("div") if div.get("class") == "command"]
    assert len(buttons) == len(commands) == 4


def test_a_link_opens_its_case(tmp_path: Path) -> None:
    found, complaints = opened(record_of("failed", "failed", "failed"), tmp_path, "#case-2")
    assert complaints == ""
    cases = [part for part in found.all_of("details") if part.get("class") == "case"]
    assert ["open" in case for case in cases] == [True, True, False]
    assert shown_rows(found) == [f"conformance/test_pack.py::test_{i}" for i in range(3)]


def test_asks_nobody_for_anything(tmp_path: Path) -> None:
    """Texts of a record that would load something, were they no texts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        hostile = f'"><img src={address}><script src={address}></script><link rel=stylesheet href={address}>'
        record = filled(record_of("failed", "passed"), hostile) | {"waivers": [waiver("used", address)]}
        found, complaints = opened(record, tmp_path)
        assert complaints == ""
        assert hostile in found.text["cases"]
        assert next(found.all_of("html"))["data-ready"] == "true"
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
