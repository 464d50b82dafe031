"""Imports point one way, and every file is one module.

`reference`, `kernels` and the oracle are independent readings of the specification: what one took from
another would be no comparison. The rule is read off the syntax trees of all files, so an import inside a
function counts too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import arbitor
from arbitor.conformance.specification.importing import ROOT, SHIPPED, files, imported

OURS = ("reference", "kernels", "arbitor", "conformance", "training", "oracle")
MAY: dict[str, set[str]] = {
    "reference": set(),
    "kernels": set(),
    "oracle": set(),
    "arbitor": {"kernels"},
    "training": {"arbitor", "kernels"},
    "conformance": {"reference", "kernels", "arbitor", "oracle"},
    "conformance test": {"reference", "kernels", "arbitor", "oracle", "training", "conformance"},
}
# what these may import beside the standard library; the others may import anything
PACKAGES: dict[str, set[str]] = {"reference": {"numpy"}, "oracle": set()}
# file: packages that it may import on top
EXCEPTIONS = {"training/smoke.py": {"conformance"}, "arbitor/cli.py": {"training"}}


def owner(path: Path) -> str:
    """The package whose rule holds for a file, by its place below the root."""
    top = path.parts[0]
    if path.parts[:2] == ("conformance", "oracle"):
        return "oracle"
    if top == "conformance" and path.name.startswith(("test_", "conftest")):
        return "conformance test"
    return top


def package_of(module: str) -> str:
    """The package of ours that a module name belongs to, or its top level."""
    parts = module.split(".")
    if parts[0] == "arbitor" and len(parts) > 1 and parts[1] in SHIPPED:
        return "oracle" if parts[1:3] == ["conformance", "oracle"] else parts[1]
    return parts[0]


def violations(path: Path, text: str) -> list[str]:
    """What a file imports and may not."""
    mine = owner(path)
    allowed = MAY[mine] | {mine.split()[0]} | EXCEPTIONS.get(path.as_posix(), set())
    found = []
    for line, module in imported(path, text):
        package = package_of(module)
        top = module.split(".")[0]
        packages = PACKAGES.get(mine, {top}) | sys.stdlib_module_names
        if top in SHIPPED:
            found.append(f"{path}:{line}: {module} under a second name, expected arbitor.{module}")
        elif package not in allowed if package in OURS else top not in packages:
            found.append(f"{path}:{line}: {mine} imports {module}")
    return found


def test_imports_point_one_way() -> None:
    found = files()
    if (ROOT / "arbitor").is_dir():  # a checkout
        assert {owner(path) for path in found} == set(MAY)
    assert [
        line for path in found for line in violations(path, (ROOT / path).read_text(encoding="utf-8"))
    ] == []


def test_every_exception_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = [path for path in map(Path, EXCEPTIONS) if (ROOT / path).exists()]
    monkeypatch.setattr(sys.modules[__name__], "EXCEPTIONS", {})
    assert all(violations(path, (ROOT / path).read_text(encoding="utf-8")) for path in exceptions)


PLANTED = [
    ("reference/packing/pack.py", "import torch"),
    ("reference/packing/pack.py", "from arbitor.kernels import operations"),
    ("reference/packing/pack.py", "from arbitor import kernels"),
    ("reference/packing/pack.py", "from ...kernels.operations import RULES"),
    ("reference/packing/pack.py", "def f():\n    import safetensors"),
    ("kernels/checks.py", "from arbitor.reference.limits import POISONED"),
    ("kernels/eager/packing/pack.py", "from ....state import check_state"),
    ("kernels/eager/packing/pack.py", "from ....reference import pack"),
    ("kernels/eager/packing/pack.py", "import arbitor.state"),
    ("kernels/registry.py", "import kernels.checks"),
    ("arbitor/main.py", "from arbitor.reference import pack"),
    ("arbitor/main.py", "import arbitor.conformance.judge.target"),
    ("arbitor/main.py", "from . import conformance"),
    ("arbitor/main.py", "if TYPE_CHECKING:\n    from arbitor.training.options import Options"),
    ("arbitor/main.py", "from .training import options"),
    ("training/loop.py", "from training.options import Options"),
    ("training/loop.py", "from arbitor.reference import pack"),
    ("training/loop.py", "from reference import pack"),
    ("conformance/judge/target.py", "from arbitor.training.loop import train"),
    ("conformance/judge/target.py", "import importlib\nimportlib.import_module('arbitor.training.loop')"),
    ("conformance/training/runs/test_resume.py", "from training.loop import train"),
    ("conformance/operations/packing/test_pack.py", "from conformance.target import Target"),
    ("conformance/oracle/packing.py", "import numpy"),
    ("conformance/oracle/packing.py", "from arbitor.reference.limits import POISONED"),
    ("conformance/oracle/packing.py", "from ..strategies import example"),
]
HARMLESS = [
    ("reference/packing/pack.py", "import numpy as np\nimport operator\nfrom ..limits import wide"),
    (
        "kernels/eager/packing/pack.py",
        "import torch\nfrom ...operations import RULES\nfrom arbitor.kernels import registry",
    ),
    ("arbitor/main.py", "from arbitor.kernels import registry\nfrom .state import check_state\nimport torch"),
    ("training/loop.py", "from arbitor.main import ARBModel\nfrom .corpus import Corpus\nimport rich"),
    ("arbitor/cli.py", "from arbitor.training.commands import TRAIN"),
    (
        "conformance/operations/packing/test_pack.py",
        "from arbitor.training.loop import train\nfrom arbitor.conformance.judge.target import Target",
    ),
    ("conformance/oracle/packing.py", "import math\nfrom .checks import check"),
]


@pytest.mark.parametrize(("path", "text"), PLANTED)
def test_the_check_finds_what_is_planted(path: str, text: str) -> None:
    assert len(violations(Path(path), text)) == 1


@pytest.mark.parametrize(("path", "text"), HARMLESS)
def test_the_check_lets_the_rest_pass(path: str, text: str) -> None:
    assert violations(Path(path), text) == []


def loaded_after(statement: str) -> set[str]:
    """Modules that a new interpreter has loaded after that."""
    root = str(Path(arbitor.__file__).resolve().parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_arbitor_is_light() -> None:
    assert not {"torch", "numpy", "rich", "safetensors"} & loaded_after("import arbitor")


def test_the_reference_needs_no_torch() -> None:
    loaded = loaded_after("import arbitor.reference")
    assert "numpy" in loaded
    assert not {"torch", "arbitor.kernels"} & loaded


def test_the_oracle_needs_only_python() -> None:
    """It is in a package of its own: what is beside it is not loaded."""
    loaded = loaded_after("import arbitor.conformance.oracle")
    assert not {"torch", "numpy", "arbitor.kernels", "arbitor.reference"} & loaded


ALL = """
import importlib, json, sys
from pathlib import Path
names, missing = {}, []
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("triton", "tilelang"):  # where only the others are installed
            raise
        missing.append(name)
for name, module in list(sys.modules.items()):
    if name.split(".")[0] in ("arbitor", "kernels", "reference", "conformance", "training"):
        for place in [getattr(module, "__file__", None)]:
            names.setdefault(str(Path(place).resolve()) if place else name, []).append(name)
print(json.dumps([names, missing]))
"""


def test_no_file_is_two_modules() -> None:
    """After everything that is no test has been imported, each file has one name."""
    skipped = ("test_", "conftest", "__main__")
    names = [
        ".".join(
            (("arbitor",) if path.parts[0] in SHIPPED else ()) + path.with_suffix("").parts
        ).removesuffix(".__init__")
        for path in files()
        if not path.name.startswith(skipped) and (ROOT / "arbitor").is_dir()
    ]
    names = names or ["arbitor.kernels.registry", "arbitor.reference", "arbitor.conformance.judge.target"]
    done = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps(names)],
        cwd=ROOT if (ROOT / "arbitor").is_dir() else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]]
    found, missing = json.loads(done.stdout)
    assert {place: modules for place, modules in found.items() if len(modules) > 1} == {}
    assert len(found) >= len(names) - len(missing)
