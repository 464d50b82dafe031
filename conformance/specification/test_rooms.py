"""Every folder is a room: its first line says what it is for, and imports between rooms point one way.

A room and the files beside it may import each other (a backend's `__init__` puts its families together, and
they share its launcher); rooms of one house only as the table says, and no modules in a circle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from arbitor.conformance.specification.importing import ROOT, files, imported, module_of
from arbitor.kernels.operations import FAMILIES

FAMILY = {
    "packing": "",
    "random_bits": "packing",
    "quantise": "random_bits packing",
    "linear": "packing quantise",
    "update": "packing random_bits quantise linear",
    "embedding": "packing quantise update",
    "rows": "quantise",
    "losses": "rows quantise",
    "sequences": "rows quantise",
    "digests": "rows",
}
SUITE = {
    "oracle": "",
    "vectors": "",
    "mutants": "",
    "judge": "oracle",
    "draw": "judge",
    "machine": "judge draw oracle",
    "operations": "judge draw oracle",
    "training": "judge machine",
    "api": "judge machine",
    "tools": "judge draw machine operations training",
    "runtime": "judge machine training tools",
    "cheats": "judge oracle",
    "meta": "judge draw machine operations training tools cheats",
    "specification": "judge draw operations oracle",
}
# house: its rooms, and which other rooms of the house each may import
HOUSES: dict[str, dict[str, str]] = {
    "arbitor": dict.fromkeys(["gradients", "between", "judge", "inspection"], "")
    | {"api": "gradients", "bench": "judge"},
    "arbitor/judge": {"report": "", "mutants": ""},
    "conformance": SUITE,
    "conformance/draw": {"recipes": ""},
    "conformance/operations": dict.fromkeys([*FAMILIES, "wide", "refused"], "")
    | dict.fromkeys(["embedding", "losses", "packing"], "refused"),
    "conformance/tools": {"fuzzing": "", "reports": "", "strangers": ""},
    "conformance/runtime": {"model": ""},
    "conformance/training": {"tasks": "", "settings": "", "runs": "", "audit": ""},
    "kernels": {"plugins": "", "eager": "plugins", "triton": "plugins", "tilelang": "plugins"},
    "kernels/eager": FAMILY,
    "kernels/triton": FAMILY,
    "kernels/tilelang": FAMILY,
    "reference": FAMILY,
    "training": {
        **{"tasks": "", "recording": "tasks", "settings": "tasks recording", "finetuning": ""},
        "audit": "recording settings",
    },
}
# of the files beside the rooms of arbitor/ only these import them, but for the rooms beneath
BENEATH = ("gradients", "between")
FACE = ("cli", "__main__")
MOST = 24  # entries of a room that one takes in at a glance
LARGER = {"conformance/cheats"}  # a zoo: one file a cheat, listed in docs/cheats.md


def rooms_of(module: str) -> list[str]:
    """Every folder that a module of ours lies in, from the outermost: kernels, kernels/eager."""
    parts = module.split(".")
    if parts[0] == "arbitor" and len(parts) > 1 and parts[1] in HOUSES:
        del parts[0]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def crossings(path: Path, text: str) -> Iterator[str]:
    """Imports of a file that go from one room to another of the same house against the table."""
    mine = rooms_of(module_of(path))
    for line, target in imported(path, text):
        theirs = rooms_of(target)
        for house, here, there in zip(mine, mine[1:], theirs[1:], strict=False):
            rooms = HOUSES.get(house)
            if rooms is None or not there.startswith(f"{house}/") or here == there:
                continue
            own, other = here.rpartition("/")[2], there.rpartition("/")[2]
            allowed = rooms[own].split() if own in rooms else _beside(house, own, list(rooms))
            if other in rooms and other not in allowed:
                yield f"{path}:{line}: {here} imports {there}"
            break


def _beside(house: str, file: str, rooms: list[str]) -> list[str]:
    return list(BENEATH) if house == "arbitor" and file not in FACE else rooms


def in_circles(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, directly or through others."""
    left = {module: targets & set(imports) for module, targets in imports.items()}
    while leaves := [module for module, targets in left.items() if not targets & set(left)]:
        for module in leaves:
            del left[module]
    while roots := set(left) - set().union(*left.values()):
        for module in roots:
            del left[module]
    return sorted(left)


def folders() -> list[str]:
    """Every folder of ours with Python files, by its path below the root."""
    found = {path.parent.as_posix() for path in files() if (ROOT / "arbitor").is_dir()}
    return sorted(found | {house for house in HOUSES if found})


@pytest.mark.parametrize("folder", folders())
def test_a_room_says_what_it_is_for(folder: str) -> None:
    """On the first line, with what it may import of the other rooms of its house."""
    house, _, name = folder.rpartition("/")
    first = _first_line(ROOT / folder)
    assert len(first) > 20, first
    for room in HOUSES.get(house, {}).get(name, "").split():
        assert room in first, f"{folder} may import {room}, and its first line does not say so"


def _first_line(folder: Path) -> str:
    init, readme = folder / "__init__.py", folder / "README.md"
    text = ast.get_docstring(ast.parse(init.read_text())) if init.is_file() else readme.read_text()
    lines = [line for line in (text or "").splitlines() if line and not line.startswith("#")]
    return lines[0] if lines else ""


@pytest.mark.parametrize("folder", folders())
def test_a_room_is_taken_in_at_a_glance(folder: str) -> None:
    entries = [
        path.name for path in (ROOT / folder).iterdir() if not path.name.startswith(("__pycache__", "."))
    ]
    assert (len(entries) > MOST) == (folder in LARGER), sorted(entries)


def test_every_room_is_in_the_table() -> None:
    rooms = {f"{house}/{room}" for house, found in HOUSES.items() for room in found}
    assert [folder for folder in folders() if "/" in folder and folder not in rooms] == []


def test_rooms_import_as_the_table_says() -> None:
    found = [line for path in files() for line in crossings(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert found == []


def test_no_modules_import_each_other() -> None:
    names = {module_of(path) for path in files()}
    imports: dict[str, set[str]] = {}
    for path in files():
        targets = {target for _, target in imported(path, (ROOT / path).read_text(encoding="utf-8"))}
        near = {name if name in names else name.rpartition(".")[0] for name in targets}
        imports[module_of(path)] = near - {module_of(path)}
    assert in_circles(imports) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("reference/linear/weights.py", "from ..update.rules import clamp"),
        ("kernels/triton/packing/pack.py", "from ..quantise.exponents import row_exponent"),
        ("kernels/triton/linear/gemm.py", "from arbitor.kernels.eager.linear import exact_matmul"),
        ("kernels/eager/__init__.py", "from ..triton.launch import why_not"),
        ("arbitor/main.py", "from .judge.seal import sealed"),
        ("arbitor/inspection/command.py", "from arbitor.judge import suite"),
        ("conformance/judge/target.py", "def f():\n    from arbitor.conformance.draw import strategies"),
        (
            "conformance/operations/linear/test_linear_forward.py",
            "import arbitor.conformance.runtime.model.test_moe",
        ),
        ("training/tasks/corpus.py", "from arbitor.training.finetuning import text"),
    ],
)
def test_a_wrong_arrow_is_seen(path: str, text: str) -> None:
    assert len(list(crossings(Path(path), text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("reference/update/rules.py", "from ..limits import Ints\nfrom ..linear.weights import weight"),
        (
            "kernels/triton/__init__.py",
            "from .linear.gemm import CONFIGS\nfrom ..plugins import x",
        ),
        ("arbitor/cli.py", "from .judge.verify import verify\nfrom .bench import command"),
        ("conformance/judge/target.py", "import torch\nfrom arbitor.kernels.triton import launch"),
    ],
)
def test_a_right_arrow_is_none(path: str, text: str) -> None:
    assert list(crossings(Path(path), text)) == []


def test_a_circle_is_seen() -> None:
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": set()}) == ["b", "c"]
    assert in_circles({"a": {"b", "numpy"}, "b": {"c"}, "c": set()}) == []
