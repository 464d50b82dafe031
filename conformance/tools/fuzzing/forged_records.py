"""Valid records of every kind (reports, vectors, results, declarations, waivers) as a `Format`: it rebuilds a
file from any tree of JSON values, with seals that fit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbitor.checkpoint import SPECIFICATION
from arbitor.cli import main
from arbitor.judge import vectors, waivers
from arbitor.judge.mutants import catalogue, score
from arbitor.judge.report.sums import counts_of, reasons_of, selection_digest
from arbitor.judge.seal import FOOTER, digest_above, sealed
from arbitor.kernels.plugins import capabilities
from arbitor.refusal import refuse

Files = dict[str, bytes]
ON_CPU = ("--backend", "torch", "--device", "cpu")


@dataclass(frozen=True)
class Format:
    """One format: the content of a valid file as a tree of JSON values, how files are made of such a tree,
    and who reads them: a function of their folder that gives an exit status."""

    name: str
    tree: Any
    build: Callable[[Any], Files]
    read: Callable[[Path], int]


def records() -> list[Format]:
    """All of them."""
    return [
        _report(),
        _vectors(),
        _results(),
        _declaration("toml"),
        _declaration("json"),
        _waivers(),
        _catalogue(),
    ]


def _report() -> Format:
    tests: list[dict[str, Any]] = [
        {"test": "a.py::test_a", "verdict": "passed", "seconds": 0.5, "clauses": ["ARB-X"]},
        {"test": "a.py::test_b", "verdict": "not run", "seconds": 0, "clauses": [], "reason": "none"},
        {"test": "b.py::test_c", "verdict": "failed", "seconds": 1, "clauses": [], "message": "[1, 2]",
         "artifact": "reports/a.arb"},
    ]  # fmt: skip
    machine: dict[str, Any] = dict.fromkeys(("arbitor", "python", "numpy", "torch", "platform"), "1")
    backend: dict[str, Any] = dict.fromkeys(("name", "module", "arrays"), "torch") | {"device": "cpu"}
    schema = json.loads(Path(score.__file__).parents[1].joinpath("report", "schema.json").read_text())
    tree: dict[str, Any] = {
        "format": 2,
        "backend": backend | {"capabilities": None, "configurations": {"pack": ["a", "b"]}},
        "run": {
            "arguments": ["-k", "pack"], "examples": "quick", "started": "2026-01-01T00:00:00+00:00",
            "seconds": 1.5, "exit_status": 1, "workers": 1, "complete": True, "ended": "finished",
        },
        "machine": machine | {"cuda_devices": []},
        "source": {"commit": "abc", "dirty": True},
        "selection": {},
        "counts": {},
        "not_run": {},
        "totals": {"answers compared": 3},
        "domains": ["all trits size 3"],
        "clauses": {"ARB-X": {"failed": 1, "ran": 2}},
        "waivers": [],
        "tests": tests,
    }  # fmt: skip
    more: dict[str, Any] = {name: {} for name in schema["required"] if name not in (*tree, FOOTER)}

    def build(tree: Any) -> Files:
        record = dict(tree)
        try:
            counts = counts_of(record["tests"])
            ids = [entry["test"] for entry in record["tests"]]
            record |= {"counts": counts, "not_run": reasons_of(record["tests"])}
            record["selection"] = {"tests": len(ids), "sha256": selection_digest(ids)}
        except (KeyError, TypeError, AttributeError):
            counts = {}
        record[FOOTER] = {"tests": len(tests), "counts": counts, "sha256": digest_above(record)}
        return {"report.json": json.dumps(record).encode()}

    def read(where: Path) -> int:
        path = str(where / "report.json")
        return main(["report", "check", path]) or main(["report", "summary", path, "--out", f"{path}.out"])

    return Format("report", tree | more, build, read)


def _vectors() -> Format:
    folder = vectors.default_folder()
    tree = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("pack", "philox")}
    tree["pack"]["vectors"] = [tree["pack"]["vectors"][n] for n in (0, -1)]
    tree["philox"]["vectors"] = tree["philox"]["vectors"][:1]

    def build(tree: Any) -> Files:
        files: Files = {}
        for given, file in tree.items():
            name = re.sub(r"\W", "_", given)[:60]
            with contextlib.suppress(TypeError, KeyError, AttributeError):
                file = file | {"vectors": [v | {"digest": vectors.digest(v)} for v in file["vectors"]]}
            files[f"{name}.json"] = json.dumps(file).encode()
        named = {
            name: {
                "vectors": data.count(b'"why"'),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in files.items()
        }
        manifest = sealed({"format": vectors.FORMAT, "specification": SPECIFICATION, "files": named})
        return files | {vectors.MANIFEST: json.dumps(manifest).encode()}

    def read(where: Path) -> int:
        return main(["vectors", "check", *ON_CPU, "--vectors", str(where)])

    return Format("vectors", tree, build, read)


MUTANT = {
    **{"id": "runtime.x", "kind": "k", "file": "x.py", "old": "1", "new": "2"},
    **{"clause": "ARB-PACK-001", "why": "w"},
}


def _results() -> Format:
    mutant = catalogue.Mutant(**MUTANT)
    result = {"outcome": "killed", "test": "t", "message": "m", "seconds": 1.5}
    machine = {"cuda_devices": [], "cpu_cores": 2}
    made = {"command": "c", "date": "d", "machine": machine, "source": {"commit": "abc", "dirty": True}}
    entry = {"digest": mutant.digest, "clause": mutant.clause, "results": {"runtime on cpu": result}}
    tree = {"format": 1, "lanes": {"runtime on cpu": made}, "mutants": {mutant.id: entry}}

    def build(tree: Any) -> Files:
        return {"results.json": json.dumps(sealed(tree) if isinstance(tree, dict) else tree).encode()}

    def read(where: Path) -> int:
        record = score.read(where / "results.json")
        return len(score.page(score.judged([mutant], [record]), [record])) * 0

    return Format("results", tree, build, _refusing(read, catalogue.CatalogueRefused))


def _declaration(suffix: str) -> Format:
    tree = {
        "version": 1, "name": "n", "operations": ["pack", "weight_gradient"], "formats": ["codes"],
        "devices": ["cpu"], "tiles": {"weight_gradient": {"O": 64}}, "configurations": {"pack": ["a", "b"]},
    }  # fmt: skip

    def build(tree: Any) -> Files:
        return {f"c.{suffix}": (json.dumps(tree) if suffix == "json" else toml(tree)).encode()}

    def read(where: Path) -> int:
        capabilities.load(where / f"c.{suffix}")
        return 0

    return Format(f"capabilities-{suffix}", tree, build, _refusing(read))


def _waivers() -> Format:
    tree = {
        "waiver": [
            {"test": "t.py::test_x", "device": "cpu", "reason": "r", "link": "https://x", "expires": "date"}
        ]
    }

    def build(tree: Any) -> Files:
        return {"w.toml": toml(tree).replace('"date"', "2027-01-31").encode()}

    def read(where: Path) -> int:
        return len(waivers.load(where / "w.toml")) * 0

    return Format("waivers", tree, build, _refusing(read))


def _catalogue() -> Format:
    def build(tree: Any) -> Files:
        return {"runtime.toml": toml(tree).encode(), "x.py": b"a = 1\n"}

    def read(where: Path) -> int:
        return len(catalogue.load(where, where, ["runtime"])) * 0

    return Format("catalogue", {"mutant": [MUTANT]}, build, _refusing(read))


def _refusing(read: Callable[[Path], int], error: type[Exception] = ValueError) -> Callable[[Path], int]:
    """What a command does with a reader: its refusal is a sentence and status 2."""

    def command(where: Path) -> int:
        try:
            return read(where)
        except error as caught:
            return refuse(str(caught))

    return command


def toml(value: Any, outer: bool = True) -> str:
    """A tree of JSON values as TOML; null, which TOML has not, as nan."""
    if isinstance(value, dict):
        pairs = [f"{json.dumps(str(name))} = {toml(part, False)}" for name, part in value.items()]
        return "\n".join(pairs) + "\n" if outer else "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(part, False) for part in value) + "]"
    return "nan" if value is None else json.dumps(value)
