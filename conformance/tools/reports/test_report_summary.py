"""`arbitor report summary`: what is kept of a report, and that none is made of one that is not whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from arbitor.cli import main
from arbitor.conformance.tools.reports.pages import entry, record_of
from arbitor.judge.records import laid_out
from arbitor.judge.report.sums import selection_digest
from arbitor.judge.seal import FOOTER, digest_above

PACK, UPDATE = "conformance/test_pack.py", "conformance/update/test_update.py"
TESTS = [
    entry(f"{PACK}::test_a"),
    entry(f"{PACK}::test_b[x::y]", "failed"),
    entry(f"{PACK}::test_c", "not run"),
    entry(f"{UPDATE}::test_a", "waived"),
    entry(f"{UPDATE}::test_b"),
]
NONE = {"passed": 0, "failed": 0, "crashed": 0, "not_run": 0, "waived": 0}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The file of a whole report of two files of tests."""
    record = record_of(tests=TESTS, arguments=["-k", "a or b"])
    record["selection"]["sha256"] = selection_digest(test["test"] for test in TESTS)
    record[FOOTER]["sha256"] = digest_above(record)
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(record, indent=1))
    return path


def test_summary(whole: Path, tmp_path: Path) -> None:
    """Counts by file, what was wrong by name, the command and both digests; the rest as it was."""
    out = tmp_path / "records" / "short.json"
    assert main(["report", "summary", str(whole), "--out", str(out)]) == 0
    found, record = json.loads(out.read_text()), json.loads(whole.read_text())
    assert found["summary_of"] == {
        "file": "whole.json",
        "bytes": whole.stat().st_size,
        "sha256": hashlib.sha256(whole.read_bytes()).hexdigest(),
        "footer_sha256": record[FOOTER]["sha256"],
    }
    assert found["says"].endswith("2 passed, 1 failed, 1 not run, 1 waived; exit status 1")
    assert found["command"] == "arbitor verify --backend my_kernels.py --device cpu -- -k 'a or b'"
    assert found["files"] == {
        PACK: NONE | {"passed": 1, "failed": 1, "not_run": 1, "seconds": 0.8},
        UPDATE: NONE | {"passed": 1, "waived": 1, "seconds": 0.5},
    }
    assert found["wrong"] == {f"{PACK}::test_b[x::y]": "failed", f"{UPDATE}::test_a": "waived"}
    assert found["domains"] == [{"domain": "unpack: bytes x columns", "size": 1024}]
    kept = ("run", "machine", "source", "selection", "counts", "not_run", "totals", "clauses", "waivers")
    assert {name: found[name] for name in kept} == {name: record[name] for name in kept}
    assert f'  "{PACK}": {{"passed": 1, ' in out.read_text().splitlines()[-8]  # a line a file


def test_no_summary_of_what_is_not_whole(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, status 1 or 2, and nothing is written."""
    out = tmp_path / "short.json"
    whole.write_text(whole.read_text().replace('"passed": 2', '"passed": 3', 1))
    assert main(["report", "summary", str(whole), "--out", str(out)]) == 1
    assert ": rejected: was edited: " in capsys.readouterr().err
    assert main(["report", "summary", str(tmp_path / "absent.json"), "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'absent.json'}: No such file or directory\n"
    assert not out.exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": {"b": {"c": [1, 2]}, "d": []}}, '{\n "a": {\n  "b": {"c": [1, 2]},\n  "d": []\n }\n}\n'),
        ({"rows": [{"a": {"b": 1}}, {}]}, '{\n "rows": [\n  {"a": {"b": 1}},\n  {}\n ]\n}\n'),
        ({"flags": ["--a", "1"]}, '{\n "flags": ["--a", "1"]\n}\n'),
        ([1, {"a": 2}], '[1, {"a": 2}]\n'),
        (None, "null\n"),
    ],
)
def test_a_line_a_member(value: Any, text: str) -> None:
    """Objects and lists of objects are opened twice, and nothing else is; it reads back as it was."""
    assert laid_out(value) == text
    assert json.loads(text) == value
