"""The page and the badge of a report: what they say of a run, and that whatever a record holds stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from arbitor.conformance.tools.reports.pages import MESSAGE, Parsed, entry, filled, record_of, shown, waiver
from arbitor.judge.report import badge, page, summary, tables

# what a page must not become, whoever wrote it into a record
HOSTILE = '</script></style><script>alert(1)</script><img src=x onerror=alert(1)>"`&amp;-->{{ 7*7 }}'
END = HOSTILE.rpartition("/")[2]  # what is left of it as a file's name
SAID = [
    (record_of("passed", "passed"), "good", "Conforms", "brightgreen", "2 passed"),
    (record_of("passed", "not run"), "good", "Conforms", "brightgreen", "1 passed, 1 not run"),
    (
        record_of("failed", "passed", "passed"),
        "bad",
        "Does not conform: 1 of 3 cases failed",
        "red",
        "1 failed, 2 passed",
    ),
    (
        record_of("failed", "crashed", "waived", "not run"),
        "bad",
        "Does not conform: 1 failed and 1 crashed of 3 cases",
        "red",
        "1 failed, 1 crashed, 1 waived, 0 passed, 1 not run",
    ),
    (record_of("crashed"), "bad", "Does not conform: 1 crashed of 1 case", "red", "1 crashed, 0 passed"),
    (
        record_of("waived", "passed"),
        "doubtful",
        "Conforms, except for 1 waived case",
        "yellow",
        "1 waived, 1 passed",
    ),
    (
        record_of("passed", "not run", complete=False, ended="interrupted", exit_status=2),
        "doubtful",
        "No verdict: the run did not finish",
        "yellow",
        "partial: 1 passed, 1 not run",
    ),
    (record_of("not run"), "bad", "No verdict: nothing ran", "red", "0 passed, 1 not run"),
    (record_of(exit_status=5), "bad", "No verdict: nothing ran", "red", "0 passed"),
    (
        record_of("passed", exit_status=1),
        "bad",
        "The run failed with exit status 1, although no case did",
        "red",
        "1 passed",
    ),
    (
        record_of("passed", arguments=["-k", "pack"]),
        "good",
        "Conforms in the part that was selected",
        "brightgreen",
        "1 passed",
    ),
]


@pytest.mark.parametrize(("record", "tone", "headline", "color", "message"), SAID)
def test_verdict_and_badge(
    record: dict[str, Any], tone: str, headline: str, color: str, message: str, tmp_path: Path
) -> None:
    schema = json.loads((Path(page.__file__).parent / "schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(record, schema)
    said = summary.verdict(record)
    assert (said.tone, said.headline) == (tone, headline)
    badge.write(record, tmp_path / "badge.json")
    written = json.loads((tmp_path / "badge.json").read_text(encoding="utf-8"))
    assert written == {"schemaVersion": 1, "label": "arbitor", "message": message, "color": color}
    found = shown(record)
    assert headline in found.text[""]
    assert {"class": f"verdict {tone}"} in list(found.all_of("div"))
    assert [svg["aria-label"] for svg in found.all_of("svg") if svg["class"] == "badge"] == [
        f"arbitor: {message}"
    ]
    for kind in tables.VERDICTS:
        number = record["counts"][kind.replace(" ", "_")]
        assert f"{number} {kind}" in found.text[""]


def test_failed_cases() -> None:
    """Failed before crashed before waived, the first one open; each with the marked lines, then all."""
    record = record_of("passed", "waived", "crashed", "failed")
    record["tests"][3]["artifact"] = "reports/my pack.arb"
    found = shown(record)
    cases = [case for case in found.all_of("details") if case.get("class") == "case"]
    assert [(case["id"], "open" in case) for case in cases] == [
        ("case-1", True),
        ("case-2", False),
        ("case-3", False),
    ]
    text = found.text["cases"]
    places = [text.index(f"conformance/test_pack.py::test_{i}") for i in (3, 2, 1)]
    assert places == sorted(places)
    assert "AssertionError: pack: codes differs in 1 of 9 elements, first at [0, 2]\n  expected [0" in text
    assert MESSAGE in text
    assert "arbitor replay 'reports/my pack.arb' --backend my_kernels.py" in text
    assert "pytest conformance/test_pack.py::test_3 --backend my_kernels.py" in text
    assert "pytest conformance/test_pack.py::test_2 --backend my_kernels.py -n 1\n" in text  # it crashed
    assert "arbitor verify --backend my_kernels.py -- --clause ARB-PACK-001" in found.text["blame"]
    links = [link["href"] for link in found.all_of("a") if link.get("class") == "ref"]
    assert links == ["#case-1", "#case-2"]  # a waived case blames nothing


def test_many_suspects_are_folded() -> None:
    record = record_of("failed", "passed")
    record["clauses"] = {f"ARB-PACK-{i:03d}": {"failed": 1, "ran": 2} for i in range(30)}
    found = shown(record)
    assert f"18 more clauses Clause Failed Ran Share Failed cases ARB-PACK-{12:03} 1 2" in found.words(
        "blame"
    )
    assert [found.words("blame").count(clause) for clause in record["clauses"]] == [2, *[1] * 29]


def test_nothing_to_complain_about() -> None:
    found = shown(record_of("passed"))
    assert not {"cases", "blame", "waivers"} & set(found.text)
    assert "Everything that was selected ran." in found.text["not-run"]
    parts = {link["href"] for link in found.all_of("a")} - {"#main"}
    assert parts == {f"#{part}" for part in found.text if part}


def test_a_partial_run_says_so_loudly() -> None:
    found = shown(record_of("passed", "not run", "not run", complete=False, ended="lost: no memory"))
    assert {"class": "warning"} in list(found.all_of("p"))
    sentence = "Partial: lost: no memory. 1 of 3 selected cases ran; nothing is known of the others."
    assert sentence in found.text[""]


def test_parts() -> None:
    """Counts by operation and by clause, reasons, domains, totals, what the backend declares, all tests; what
    only works with a script is not there before it runs."""
    tests = [
        entry("conformance/test_pack.py::test_a", "failed"),
        entry("conformance/test_pack.py::test_b", clauses=["ARB-PACK-001", "ARB-PACK-002"]),
        entry("conformance/test_unpack.py::test_c[::]", "not run", seconds=12.5),
    ]
    found = shown(record_of(tests=tests))
    assert "pack 1 0 0 1 0 unpack 0 0 0 0 1" in found.words("operations")
    cells = [cell for cell in found.all_of("td") if (cell.get("class") or "").startswith("cell")]
    assert [(cell["class"], cell["title"]) for cell in cells] == [
        ("cell failed", "ARB-PACK-001, pack: 1 failed, 1 passed"),
        ("cell not-run", "ARB-PACK-001, unpack: 1 not run"),
        ("cell passed", "ARB-PACK-002, pack: 1 passed"),
    ]
    assert "1 torch sees no CUDA device" in found.words("not-run")
    assert "unpack: bytes x columns 1,024" in found.words("covered")
    assert "buffers between red zones 8,433" in found.words("covered")
    assert "Took Test 12.5 s conformance/test_unpack.py::test_c[::]" in found.words("slowest")
    assert "triton none" in found.words("machine")
    assert "ARB_X 1" in found.words("machine")
    assert "tiles pack: C 64" in found.words("machine")
    assert "Commit 0123456789ab, with uncommitted changes" in found.words("")
    assert "Took 1 min 47 s, 2 workers" in found.words("")
    assert "failed conformance/test_pack.py::test_a 0.250 ARB-PACK-001" in found.words("tests")
    assert list(found.all_of("form")) == [{"id": "filter", "hidden": None}]
    assert list(found.all_of("button")) == []
    assert "test_c[::] torch sees no CUDA device 12.500 ARB-PACK-001" in found.words("tests")


@pytest.mark.parametrize("state", ["used", "expired", "passes", "unknown test"])
def test_waivers(state: str) -> None:
    found = shown(record_of("waived") | {"waivers": [waiver(state)]})
    row = (
        f"{state} conformance/test_pack.py::test_0 cpu known, being mended https://example.org/17 2027-01-31"
    )
    assert row in found.words("waivers")
    assert "https://example.org/17" in [link["href"] for link in found.all_of("a")]
    assert ("1 waiver of 1 is stale" in found.text[""]) == (state != "used")


def test_a_link_is_an_address() -> None:
    found = shown(record_of("waived") | {"waivers": [waiver("used", "javascript:alert(1)")]})
    assert "javascript:alert(1)" in found.text["waivers"]
    assert [link["href"] for link in found.all_of("a") if not (link["href"] or "").startswith("#")] == []


def test_whatever_a_record_holds_stays_text() -> None:
    """Every free text of a record is hostile; the page has the elements of one whose texts are not."""
    record = record_of("failed", "crashed", "waived", "passed", "not run") | {"waivers": [waiver("used")]}
    tame, hostile = shown(filled(record, "tame")), shown(filled(record, HOSTILE))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in tame.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [set(a) for _, a in tame.elements]
    for section in tame.text:
        cut = int(section == "")  # the commit
        expected = tame.text[section].count("tame") - cut
        assert hostile.text[section].count(END) == expected, section
    assert tame.text["cases"].count("tame") > 10


def test_control_characters_are_shown() -> None:
    record = record_of("failed")
    record["tests"][0]["message"] = "a\x00b\x1b[31m\x7f\ttab\r\n\ud800"
    assert "a\u2400b\u241b[31m\u2421\ttab\u240d\n" in shown(record).text["cases"]


def test_half_a_character_is_written(tmp_path: Path) -> None:
    record = record_of("failed")
    record["tests"][0]["message"] = "half: \ud800"
    page.write(record, tmp_path / "page.html")
    assert "half: \\ud800" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_nothing_from_outside() -> None:
    """No address but a waiver's link; the page's policy allows its own style and script, by their digests."""
    text = page.render(record_of("failed", "passed") | {"waivers": [waiver("used")]}, "verify.json")
    found = Parsed(text)
    assert re.findall(r"\w+:/+\S|url\(|@import|import\(", text) == ["https://e"] * 2
    assert {"src", "style", "srcset", "onclick", "onload"}.isdisjoint(n for _, a in found.elements for n in a)
    policy = next(meta["content"] or "" for meta in found.all_of("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; ")
    for kind in ("style", "script"):
        inside = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("message", ["E   x" * 4000, "short"])
def test_thousands_of_failures_stay_small(message: str) -> None:
    """Cases fill a page until there is no more room; every test is still listed."""
    names = [f"conformance/test_pack.py::test_agrees[{i}-rows and columns]" for i in range(2200)]
    found = shown(record_of(tests=[entry(name, "failed", message=message) for name in names]))
    assert sum(map(len, found.text.values())) < 1_000_000
    cases = sum(case.get("class") == "case" for case in found.all_of("details"))
    assert f"{2200 - cases:,} more cases would fill the page: verify.json" in found.words("cases")
    assert found.text["tests"].count("rows and columns") == 2200
    assert (
        len([link for link in found.all_of("a") if (link["href"] or "").startswith("#case-")]) == cases + 12
    )


def test_a_whole_run_stays_small() -> None:
    names = [f"conformance/test_pack.py::test_agrees[{i}-rows and columns]" for i in range(2200)]
    tests = [entry(name, clauses=["ARB-PACK-001", "ARB-UPD-003", "ARB-LIN-001"]) for name in names]
    assert len(page.render(record_of(tests=tests), "r")) < 1_000_000


@pytest.mark.parametrize("backend", ["torch", "a b/my kernels.py", "cmd:./program --its 'flag'"])
@pytest.mark.parametrize("test", ["conformance/test_a.py::test_b[it's $HOME]", "test_a.py::test_b[x-1]"])
def test_commands_can_be_pasted(backend: str, test: str) -> None:
    record = record_of("failed", examples="deep")
    record["backend"] |= {"name": backend, "device": "cuda"}
    failed = entry(test, "failed", artifact="reports/x y.arb")
    replay, alone = (shlex.split(line) for line in tables.commands(record, failed))
    of = ["--backend", backend, "--device", "cuda"]
    assert replay == ["arbitor", "replay", "reports/x y.arb", *of]
    if test.startswith("conformance/"):
        assert alone == ["pytest", test, *of, "--examples", "deep"]
    else:  # an installed suite
        assert alone == ["arbitor", "verify", *of, "--", "-k", "test_b[x-1]", "--examples", "deep"]


def test_a_long_message_is_shown_from_both_ends() -> None:
    """What is marked is shown even where the whole message is cut there."""
    record = record_of("failed")
    record["tests"][0]["message"] = (
        "begin" + "x\n" * 9000 + "E   AssertionError: marked\n" + "y\n" * 9000 + "end"
    )
    text = shown(record).text["cases"]
    assert "AssertionError: marked" in text
    assert "begin" in text
    assert "24,035 characters are left out here" in text
    assert "y\nend" in text


def test_essence() -> None:
    """The marked lines of every traceback; the whole of a message that has none."""
    assert (
        tables.essence("a\n\nE       one\nE         two\n\nb.py:1: X\n\nE   three") == "one\n  two\n\nthree"
    )
    assert tables.essence("Every line\nis plain") == "Every line\nis plain"
    assert tables.essence("[gw8] linux -- Python 3.12.3\nit died of SIGSEGV") == "it died of SIGSEGV"
    assert tables.essence("") == ""


@pytest.mark.parametrize("counts", [{"failed": 1, "passed": 999_999}, {"passed": 3}, {}])
def test_a_bar_shows_a_single_failure(counts: dict[str, int]) -> None:
    pieces = tables.bar(counts)
    assert [kind for kind, _, _ in pieces] == list(counts)
    assert all(width > 0.5 for _, _, width in pieces)
    assert not pieces or abs(sum(width for _, _, width in pieces) - 100) < 0.1
