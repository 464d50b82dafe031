"""The vectors are what the reference gives, the oracle agrees, and whatever was tampered with is refused."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arbitor.cli import main
from arbitor.conformance.draw.recipes import RECIPES, all_files, made, recipe
from arbitor.conformance.judge.target import ORACLE
from arbitor.judge.seal import sealed
from arbitor.judge.vector_check import PASSED, judge
from arbitor.judge.vectors import (
    FORMAT,
    MANIFEST,
    VectorsRefused,
    decode,
    default_folder,
    digest,
    encode,
    file_text,
    load,
    manifest_text,
)
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.registry import select

ROOT = Path(__file__).resolve().parents[2]
VECTORS = load(default_folder())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the vectors to break."""
    return Path(shutil.copytree(default_folder(), tmp_path / "vectors"))


def test_the_files_are_what_the_reference_gives() -> None:
    files = all_files()
    assert {path.name for path in default_folder().iterdir()} == set(files)
    for name, text in files.items():
        assert (default_folder() / name).read_text(encoding="utf-8") == text, name


def test_every_operation_has_its_vectors() -> None:
    """Legal calls and illegal ones, each with an id of its own; the whole stays small."""
    assert list(RECIPES) == list(OPERATIONS)
    for operation in OPERATIONS:
        mine = [vector for vector in VECTORS if vector.operation == operation]
        assert len([v for v in mine if v.gives]) >= 2
        assert len([v for v in mine if v.refuses]) >= 1
    assert max(Counter(vector.id for vector in VECTORS).values()) == 1
    assert all(vector.clauses and vector.why.endswith(".") for vector in VECTORS)
    assert sum(path.stat().st_size for path in default_folder().iterdir()) < 500_000


def test_their_clauses_exist() -> None:
    spec = ROOT / "docs" / "SPEC.md"
    if not spec.is_file():
        pytest.skip("docs/SPEC.md does not ship")
    known = set(
        re.findall(r"^\| (ARB-[A-Z]+-\d{3}) \|", spec.read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert {clause for vector in VECTORS for clause in vector.clauses} <= known


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_the_oracle_agrees(vector: Any) -> None:
    verdict = judge(vector, select(ORACLE))
    assert verdict.outcome == PASSED, verdict.words


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "float32"])
def test_arrays_come_back(dtype: str) -> None:
    array = np.array([[0, 1, 2], [3, 4, 127]], dtype)
    assert encode(array)["shape"] == [2, 3]
    assert np.array_equal(decode("x", encode(array)), array)
    with pytest.raises(VectorsRefused, match="x is no array"):
        decode("x", encode(array) | {"shape": [2, 2]})


def flip_a_bit(folder: Path) -> None:
    """In an expected number, so that the file is still JSON."""
    path = folder / "pack.json"
    path.write_text(path.read_text().replace('"data": [164, 85]', '"data": [165, 85]', 1))


def cut_short(folder: Path) -> None:
    path = folder / "philox.json"
    path.write_bytes(path.read_bytes()[:-40])


def edit_the_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"vectors": 8', '"vectors": 7', 1))


def cut_the_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes()[:300])


def reseal(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changes)))


def remake_the_manifest(folder: Path) -> None:
    files = {path.name: path.read_text() for path in folder.glob("*.json") if path.name != MANIFEST}
    (folder / MANIFEST).write_text(manifest_text(files))


def edit_a_vector(folder: Path) -> None:
    """With a manifest that fits: the vector's own digest shows it."""
    flip_a_bit(folder)
    remake_the_manifest(folder)


def unknown_operation(folder: Path) -> None:
    text = (folder / "pack.json").read_text().replace('"operation": "pack"', '"operation": "pack_tight"')
    (folder / "pack.json").write_text(text)
    remake_the_manifest(folder)


def unknown_refusal(folder: Path) -> None:
    entry = made("pack", RECIPES["pack"][-1])
    entry["refuses"]["seen_by"] = "nobody"
    (folder / "pack.json").write_text(file_text("pack", [entry]))
    remake_the_manifest(folder)


def another_argument(folder: Path) -> None:
    entry = made("pack", RECIPES["pack"][0])
    entry["arguments"]["columns"] = 5
    (folder / "pack.json").write_text(file_text("pack", [entry]))
    remake_the_manifest(folder)


BROKEN: list[tuple[Callable[[Path], Any], str]] = [
    (flip_a_bit, r"pack.json was edited in pack.example \(ARB-PACK-001, ARB-PACK-002\)"),
    (cut_short, r"philox.json is cut short: \d+ bytes, the manifest has \d+"),
    (edit_the_manifest, "manifest.json was edited"),
    (cut_the_manifest, "manifest.json is no JSON"),
    (lambda folder: reseal(folder, format=2), f"is of format 2 of specification 2, expected {FORMAT} of"),
    (lambda folder: reseal(folder, specification=1), "of format 1 of specification 1, expected 1 of .* 2"),
    (lambda folder: reseal(folder, specification=9), "of specification 9, expected"),
    (edit_a_vector, "the vector pack.example was edited"),
    (unknown_operation, "of the operation 'pack_tight', which does not exist"),
    (unknown_refusal, "pack.refuses-int16 has neither results nor a refusal"),
    (another_argument, "pack.example has not the arguments of pack"),
    (lambda folder: (folder / "pack.json").unlink(), "pack.json cannot be read"),
    (lambda folder: (folder / "more.json").write_text("{}"), "more.json is not named"),
    (lambda folder: (folder / MANIFEST).unlink(), "manifest.json cannot be read"),
]


@pytest.mark.parametrize(("breaks", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", "x"))
def test_broken_files_are_refused(
    folder: Path, breaks: Callable[[Path], Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit status 2, and nothing is judged."""
    breaks(folder)
    with pytest.raises(VectorsRefused, match=sentence):
        load(folder)
    assert main(["vectors", "check", "--backend", "reference", "--vectors", str(folder)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(sentence, shown.err)
    assert shown.err.count("\n") == 1


def test_nothing_is_no_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that fits its manifest, but has no vectors."""
    for path in folder.glob("*.json"):
        path.unlink()
    remake_the_manifest(folder)
    assert main(["vectors", "check", "--backend", "reference", "--vectors", str(folder)]) == 2
    assert "no vector ran" in capsys.readouterr().err


def test_a_recipe_is_held_to_what_is_known() -> None:
    """A known number that the reference does not give, a refusal that it does not make, a name it lacks."""
    example, *_, refused = RECIPES["pack"]
    with pytest.raises(RuntimeError, match=r"pack\.example: the reference gives codes"):
        made("pack", replace(example, known={"codes": [164, 84]}))
    with pytest.raises(RuntimeError, match="the reference takes it"):
        made("pack", replace(example, refusal=recipe.Refusal("trits", ())))
    with pytest.raises(RuntimeError, match="the reference refuses it"):
        made("pack", replace(refused, refusal=None))
    with pytest.raises(RuntimeError, match="does not name"):
        made("pack", replace(refused, refusal=recipe.Refusal("trits", ("nonsense",))))


def test_the_script_says_what_differs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "scripts" / "make_vectors.py"
    if not path.is_file():
        pytest.skip("scripts/ does not ship")
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # the script replaces the first
    spec = importlib.util.spec_from_file_location("make_vectors", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--check", "--out", str(folder)]) == 0
    flip_a_bit(folder)
    (folder / "unpack.json").unlink()
    (folder / "stale.json").write_text("{}")
    capsys.readouterr()
    assert script.main(["--check", "--out", str(folder)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["stale.json: no recipe makes it", "pack.json: pack.example", "unpack.json: missing"]
    assert script.main(["--out", str(folder)]) == 0
    assert script.main(["--check", "--out", str(folder)]) == 0


def test_a_digest_covers_everything() -> None:
    entry = made("pack", RECIPES["pack"][0])
    changes: dict[str, Any] = {
        "id": "pack.other", "clauses": ["ARB-PACK-002"], "why": "No.", "arguments": {}, "gives": {},
    }  # fmt: skip
    for name, value in changes.items():
        assert digest(entry | {name: value}) != digest(entry)
    assert digest(entry | {"digest": "0"}) == digest(entry)
