"""One HTML page that shows a record: nothing from outside, readable without JavaScript, pleasant to print.

Whatever a record holds is shown as text. jinja2 escapes it, control characters become their symbols, and the
page's own policy lets no script run but ours and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from arbitor.kernels.writing import write_whole

from . import badge, summary, tables

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PARTS = (
    ("blame", "Suspects"),
    ("cases", "Cases"),
    ("operations", "Operations"),
    ("matrix", "Clauses"),
    ("not-run", "Not run"),
    ("covered", "Covered"),
    ("waivers", "Waivers"),
    ("slowest", "Slowest"),
    ("machine", "Environment"),
    ("tests", "All tests"),
)
_SIZE = re.compile(r"(.*) size (\d+)", re.DOTALL)


def write(record: Mapping[str, Any], path: Path) -> None:
    """Write the page of a record of format 2 to `path`; the record's JSON is said to lie beside it."""
    write_whole(path, render(record, path.with_suffix(".json").name).encode("utf-8", "backslashreplace"))


def render(record: Mapping[str, Any], name: str) -> str:
    """The page as text; `name` is the file of the record."""
    environment = _environment()
    style, script = (Markup(environment.get_template(file).render()) for file in ("page.css", "page.js"))
    cases, left_out = tables.cases(record)
    counts = {kind: record["counts"][kind.replace(" ", "_")] for kind in tables.VERDICTS}
    there = {"blame": record["clauses"], "cases": cases, "waivers": record["waivers"]}
    empty = [part for part, found in there.items() if not found]
    return environment.get_template("page.html.j2").render(
        r=record,
        name=name,
        style=style,
        script=script,
        policy=_policy(style, script),
        verdict=summary.verdict(record),
        badge=badge.svg(record),
        verdicts=tables.VERDICTS,
        parts=[(part, title) for part, title in _PARTS if part not in empty],
        facts=summary.facts(record),
        counts=counts,
        bar=tables.bar(counts),
        cases=cases,
        left_out=left_out,
        blamed=tables.cases_of_clauses(cases),
        clause_command=tables.clause_command(record),
        share=lambda failed, ran: tables.bar({"failed": failed, "passed": ran - failed}),
        case_of={case.test: case.number for case in cases},
        operations=tables.operations(record),
        matrix=tables.matrix(record),
        slowest=tables.slowest(record),
        domains=[_domain(text) for text in record["domains"]],
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("arbitor.judge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: symbols(value) if type(value) is str else value,
    )
    environment.filters |= {"number": "{:,}".format, "seconds": summary.seconds, "plural": summary.counted}
    environment.filters["told"] = told
    environment.tests["address"] = lambda text: re.fullmatch(r"https?://\S+", text) is not None
    return environment


def told(value: Any, inside: bool = False) -> str:
    """A value of a record in words: lists and names with their values, one level `inside` another."""
    if isinstance(value, Mapping):
        parts = [f"{name}{'' if inside else ':'} {told(part, True)}" for name, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [str(part) for part in value]
    else:
        return "none" if value is None else str(value)
    return (", " if inside else "; ").join(parts) or "none"


def _policy(style: str, script: str) -> str:
    """A content security policy: these two, by their digests, and nothing else."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def symbols(text: str) -> str:
    """Control characters other than tab and newline as their symbols, so that they are seen."""
    return _CONTROLS.sub(lambda found: "\u2421" if found[0] == "\x7f" else chr(0x2400 + ord(found[0])), text)


def _domain(text: str) -> tuple[str, int | None]:
    """The name of a walked domain and its size, as the suite says them."""
    found = _SIZE.fullmatch(text)
    return (found[1], int(found[2])) if found else (text, None)
