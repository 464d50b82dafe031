"""Records of runs to draw pages from, and a reader of pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from arbitor.judge.report import page

VOID = ("meta", "link", "br", "input", "rect", "path", "wbr")  # elements without an end
BLOCKS = ("br", "td", "th", "tr", "li", "dt", "dd", "p", "div", "h1", "h2", "h3", "summary", "details")
MESSAGE = """target = <Target>

    def test_agrees(target):
>       assert_same(operation, arguments)
E       AssertionError: pack: codes differs in 1 of 9 elements, first at [0, 2]
E         expected [0, 0:3] trits -0+0

conformance/judge/compare.py:44: AssertionError"""


def entry(name: str, verdict: str = "passed", **more: Any) -> dict[str, Any]:
    """The entry of one test."""
    more |= {"reason": "torch sees no CUDA device"} if verdict == "not run" else {}
    more = {"message": MESSAGE} | more if verdict in ("failed", "crashed", "waived") else more
    return {"test": name, "verdict": verdict, "seconds": 0.25, "clauses": ["ARB-PACK-001"], **more}


def record_of(*verdicts: str, tests: list[dict[str, Any]] | None = None, **run: Any) -> dict[str, Any]:
    """A record of format 2 of one file of tests, with these verdicts."""
    if tests is None:
        tests = [entry(f"conformance/test_pack.py::test_{i}", kind) for i, kind in enumerate(verdicts)]
    kinds = Counter(test["verdict"].replace(" ", "_") for test in tests)
    counts = {kind: kinds[kind] for kind in ("passed", "failed", "crashed", "not_run", "waived")}
    wrong = counts["failed"] + counts["crashed"]
    return {
        "format": 2,
        "backend": {
            "name": "my_kernels.py",
            "module": "my_kernels",
            "arrays": "torch",
            "device": "cpu",
            "capabilities": {"operations": ["pack"], "tiles": {"pack": {"C": 64}}},
            "configurations": None,
        },
        "run": {
            "arguments": [],
            "examples": "quick",
            "started": "2026-11-26T06:42:37+00:00",
            "seconds": 107.0,
            "exit_status": int(wrong > 0),
            "workers": 2,
            "complete": True,
            "ended": "finished",
            **run,
        },
        "machine": {
            "arbitor": "0.1.0",
            "specification": 2,
            "python": "3.12.3",
            "numpy": "2.5.2",
            "torch": "2.11.0",
            "triton": None,
            "platform": "Linux",
            "cpu_cores": 2,
            "cuda_devices": [],
            "environment": {"ARB_X": "1"},
        },
        "source": {"commit": "0123456789abcdef", "dirty": True},
        "selection": {"tests": len(tests), "sha256": "cd" * 32},
        "counts": counts,
        "not_run": {"torch sees no CUDA device": counts["not_run"]} if counts["not_run"] else {},
        "totals": {"buffers between red zones": 8433},
        "domains": ["unpack: bytes x columns size 1024"],
        "clauses": {"ARB-PACK-001": {"failed": wrong, "ran": len(tests)}} if wrong else {},
        "waivers": [],
        "tests": tests,
        "footer": {"tests": len(tests), "counts": counts, "sha256": "ab" * 32},
    }


def waiver(state: str, link: str = "https://example.org/17") -> dict[str, str]:
    return {
        "test": "conformance/test_pack.py::test_0",
        "device": "cpu",
        "reason": "known, being mended",
        "link": link,
        "expires": "2027-01-31",
        "state": state,
    }


class Parsed(HTMLParser):
    """Elements of a page with their attributes, and its text by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._pieces: dict[str, list[str]] = {"": []}
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        self.close()
        self.text = {section: "".join(pieces) for section, pieces in self._pieces.items()}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self._pieces[self._section] += ["\n"] if tag in BLOCKS else []
        if tag == "section":
            self._section = dict(attributes)["id"] or ""
            self._pieces[self._section] = []
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._section = "" if tag == "section" else self._section
        while self._open and self._open.pop() != tag:  # td, th, li, tr may stay open
            pass

    def handle_data(self, data: str) -> None:
        kind = self._open[-1] if self._open else ""
        self._pieces[self._section] += [] if kind in ("style", "script") else [data]

    def all_of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)

    def words(self, section: str) -> str:
        """The text of a section with one blank between words."""
        return " ".join(self.text[section].split())


def shown(record: Mapping[str, Any]) -> Parsed:
    return Parsed(page.render(record, "verify.json"))


def filled(value: Any, text: str, name: str = "") -> Any:
    """The record with `text` in the place of every text that its format leaves free."""
    if isinstance(value, dict):
        free = name in ("not_run", "totals", "clauses", "environment")  # names of these are texts, too
        return {text if free else key: filled(found, text, key) for key, found in value.items()}
    if isinstance(value, list):
        return [filled(found, text, name) for found in value]
    fixed = ("verdict", "state", "started", "device", "link")
    return text if isinstance(value, str) and name not in fixed else value
